//! Rotary position embeddings: a table of angles a batch, and the rotation of heads.

use super::{check_shape, product};
use crate::context::On;
use crate::cpu::{self, rows};
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::{Context, Indices, Tensor};

/// The most frequencies of a table.
const MAX_FREQUENCIES: usize = 4096;

/// Cosines and sines of position * inverse frequency, times `factor`: `[positions, 2 n]`,
/// the n cosines of a position first.
///
/// # Errors
/// As for all [operations](super).
pub fn rotary_table(
    ctx: &Context,
    positions: &Indices,
    inverse_frequencies: &[f32],
    factor: f32,
) -> Result<Tensor> {
    const OP: &str = "rotary-table";
    let n = inverse_frequencies.len();
    if !(1..=MAX_FREQUENCIES).contains(&n) {
        bail!(
            InvalidArgument,
            "{OP}: {n} frequencies, not in 1..={MAX_FREQUENCIES}"
        );
    }
    let finite = |x: &f32| x.is_finite();
    if let Some(frequency) = inverse_frequencies.iter().find(|x| !finite(x)) {
        bail!(
            InvalidArgument,
            "{OP}: an inverse frequency is {frequency}, not finite"
        );
    }
    if !factor.is_finite() {
        bail!(InvalidArgument, "{OP}: factor is {factor}, not finite");
    }
    let shape = Shape::new(OP, &[positions.len(), 2 * n])?;
    ctx.charge(OP, product(&[16, shape.elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let mut out = cpu.allocate(OP, &shape)?;
            cpu::rotary_table(
                cpu.device,
                positions.values(),
                inverse_frequencies,
                factor,
                out.as_mut_slice(),
            );
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.rotary_table(positions, inverse_frequencies, factor, shape),
    }
}

/// Rotates the pairs (i, i + n) of the first `heads` heads of `head_dim` by angle i of its
/// row's entry in `table` `[rows, 2 n]`; the rest of x `[rows, width]` stays.
///
/// # Errors
/// As for all [operations](super).
pub fn rotary(
    ctx: &Context,
    x: &Tensor,
    table: &Tensor,
    heads: usize,
    head_dim: usize,
) -> Result<Tensor> {
    const OP: &str = "rotary";
    let &[height, width] = x.shape() else {
        bail!(ShapeMismatch, "{OP}: x is {:?}, not of rank 2", x.shape());
    };
    let rotated = heads.checked_mul(head_dim);
    if rotated.is_none_or(|rotated| rotated == 0 || rotated > width) {
        bail!(
            ShapeMismatch,
            "{OP}: {heads} heads of {head_dim} are not among the {width} columns of x"
        );
    }
    let angles = match *table.shape() {
        [_, angles] if angles.is_multiple_of(2) && angles <= head_dim => angles,
        _ => bail!(
            ShapeMismatch,
            "{OP}: table is {:?}, not two of at most {} angles a row",
            table.shape(),
            head_dim / 2
        ),
    };
    check_shape(OP, "table", table, &[height, angles])?;
    let shape = *x.checked_shape();
    ctx.charge(OP, product(&[2, shape.elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let (x, table) = (cpu.readable(OP, x)?, cpu.readable(OP, table)?);
            let mut out = cpu.allocate(OP, &shape)?;
            let (x, table) = (rows(OP, &x)?, rows(OP, &table)?);
            let heads = [heads, head_dim];
            cpu::rotary(cpu.device, x, table, heads, out.as_mut_slice());
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.rotary(x, table, heads, head_dim),
    }
}
