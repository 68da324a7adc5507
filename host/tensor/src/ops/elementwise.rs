//! Functions of one or two elements.

use super::{check_shape, product, rows};
use crate::cpu;
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::{Context, Tensor};

/// Functions of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x
    Identity,
    /// max(x, 0)
    Relu,
    /// x/2 (1 + erf(x / sqrt 2)): the exact form
    GeluErf,
    /// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
    GeluTanh,
    /// x sigmoid(1.702 x)
    GeluQuick,
    /// x sigmoid(x)
    Silu,
    /// tanh(x)
    Tanh,
}

/// The activation of every element, of any shape.
///
/// # Errors
/// As for all [operations](super).
pub fn activate(ctx: &Context, x: &Tensor, activation: Activation) -> Result<Tensor> {
    const OP: &str = "activate";
    let shape = *x.checked_shape();
    ctx.charge(OP, product(&[shape.elements()]))?;
    let x = x.readable(ctx, OP)?;
    let mut out = ctx.allocate(OP, &shape)?;
    cpu::activate(
        ctx.device.cpu_device(),
        rows(OP, &x)?,
        activation,
        out.as_mut_slice(),
    );
    Ok(Tensor::from_buffer(out, shape))
}

/// activation(left) * right, where x `[.., 2 n]` is left and right side by side.
///
/// # Errors
/// As for all [operations](super).
pub fn gated(ctx: &Context, x: &Tensor, activation: Activation) -> Result<Tensor> {
    const OP: &str = "gated";
    let mut dims = x.shape().to_vec();
    let half = match dims.last_mut() {
        Some(width) if width.is_multiple_of(2) => {
            *width /= 2;
            *width
        }
        _ => bail!(
            ShapeMismatch,
            "{OP}: x is {:?}, which has no two halves",
            x.shape()
        ),
    };
    let shape = Shape::new(OP, &dims)?;
    ctx.charge(OP, product(&[3, shape.elements()]))?;
    let x = x.readable(ctx, OP)?;
    let mut out = ctx.allocate(OP, &shape)?;
    let x = rows(OP, &x)?;
    let device = ctx.device.cpu_device();
    cpu::gated(device, x, half, activation, out.as_mut_slice());
    Ok(Tensor::from_buffer(out, shape))
}

/// a + b, of one shape.
///
/// # Errors
/// As for all [operations](super).
pub fn add(ctx: &Context, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    const OP: &str = "add";
    check_shape(OP, "b", b, a.shape())?;
    let shape = *a.checked_shape();
    ctx.charge(OP, product(&[shape.elements()]))?;
    let (a, b) = (a.readable(ctx, OP)?, b.readable(ctx, OP)?);
    let mut out = ctx.allocate(OP, &shape)?;
    cpu::add(
        ctx.device.cpu_device(),
        rows(OP, &a)?,
        rows(OP, &b)?,
        out.as_mut_slice(),
    );
    Ok(Tensor::from_buffer(out, shape))
}

/// a * b, elementwise, of one shape.
///
/// # Errors
/// As for all [operations](super).
pub fn mul(ctx: &Context, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    const OP: &str = "mul";
    check_shape(OP, "b", b, a.shape())?;
    let shape = *a.checked_shape();
    ctx.charge(OP, product(&[shape.elements()]))?;
    let (a, b) = (a.readable(ctx, OP)?, b.readable(ctx, OP)?);
    let mut out = ctx.allocate(OP, &shape)?;
    cpu::mul(
        ctx.device.cpu_device(),
        rows(OP, &a)?,
        rows(OP, &b)?,
        out.as_mut_slice(),
    );
    Ok(Tensor::from_buffer(out, shape))
}

/// x times a finite number.
///
/// # Errors
/// As for all [operations](super).
pub fn scale(ctx: &Context, x: &Tensor, factor: f32) -> Result<Tensor> {
    const OP: &str = "scale";
    if !factor.is_finite() {
        bail!(InvalidArgument, "{OP}: factor is {factor}, not finite");
    }
    let shape = *x.checked_shape();
    ctx.charge(OP, product(&[shape.elements()]))?;
    let x = x.readable(ctx, OP)?;
    let mut out = ctx.allocate(OP, &shape)?;
    cpu::scale(
        ctx.device.cpu_device(),
        rows(OP, &x)?,
        factor,
        out.as_mut_slice(),
    );
    Ok(Tensor::from_buffer(out, shape))
}
