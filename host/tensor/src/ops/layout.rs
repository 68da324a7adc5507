//! Slices, concatenation and other dimensions.

use super::product;
use crate::context::On;
use crate::cpu;
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::{Context, Tensor};

/// The most tensors of one [`concat`].
const MAX_PARTS: usize = 64;

/// `length` entries of dimension `axis` from `start` on: a view, no copy.
///
/// # Errors
/// As for all [operations](super).
pub fn slice(
    ctx: &Context,
    x: &Tensor,
    axis: usize,
    start: usize,
    length: usize,
) -> Result<Tensor> {
    const OP: &str = "slice";
    let Some(&dim) = x.shape().get(axis) else {
        bail!(
            InvalidArgument,
            "{OP}: axis {axis} of rank {}",
            x.shape().len()
        );
    };
    if length == 0 || start.checked_add(length).is_none_or(|end| end > dim) {
        bail!(
            InvalidArgument,
            "{OP}: {length} entries from {start} on in a dimension of {dim}"
        );
    }
    ctx.charge(OP, 1)?;
    let shape = x.checked_shape().with_dim(OP, axis, length)?;
    Ok(x.view(shape, axis, start))
}

/// The same elements in the same order with other dimensions: a view, or a copy where `x` is
/// a slice of wider rows.
///
/// # Errors
/// As for all [operations](super).
pub fn reshape(ctx: &Context, x: &Tensor, shape: &[usize]) -> Result<Tensor> {
    const OP: &str = "reshape";
    let shape = Shape::new(OP, shape)?;
    if shape.elements() != x.checked_shape().elements() {
        bail!(ShapeMismatch, "{OP}: {:?} to {shape:?}", x.shape());
    }
    ctx.charge(OP, product(&[shape.elements()]))?;
    if let Some(reshaped) = x.reshaped(shape) {
        return Ok(reshaped);
    }
    match ctx.on() {
        On::Cpu(cpu) => {
            let mut out = cpu.allocate(OP, &shape)?;
            cpu::read(OP, x, out.as_mut_slice())?;
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => Ok(Tensor::new(cuda.copied(OP, x)?.storage().clone(), shape)),
    }
}

/// 1 to 64 tensors one after the other along `axis`; their other dimensions are equal.
///
/// # Errors
/// As for all [operations](super).
pub fn concat(ctx: &Context, parts: &[&Tensor], axis: usize) -> Result<Tensor> {
    const OP: &str = "concat";
    let (Some(first), true) = (parts.first(), parts.len() <= MAX_PARTS) else {
        bail!(
            InvalidArgument,
            "{OP}: {} tensors, not 1 to {MAX_PARTS}",
            parts.len()
        );
    };
    let rank = first.shape().len();
    if axis >= rank {
        bail!(InvalidArgument, "{OP}: axis {axis} of rank {rank}");
    }
    let mut sum = 0usize;
    for part in parts {
        let fits = |index: usize| index == axis || part.shape()[index] == first.shape()[index];
        if part.shape().len() != rank || !(0..rank).all(fits) {
            let (a, b) = (first.shape(), part.shape());
            bail!(ShapeMismatch, "{OP}: {a:?} and {b:?} along axis {axis}");
        }
        sum = sum.saturating_add(part.shape()[axis]);
    }
    let shape = first.checked_shape().with_dim(OP, axis, sum)?;
    ctx.charge(OP, product(&[shape.elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let mut out = cpu.allocate(OP, &shape)?;
            let strides = shape.strides();
            let mut start = 0;
            for part in parts {
                let out = &mut out.as_mut_slice()[start * strides[axis]..];
                cpu::read_strided(OP, part, out, &strides)?;
                start += part.shape()[axis];
            }
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.concat(OP, parts, axis, shape),
    }
}
