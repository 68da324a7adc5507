//! Layer norm, RMS norm and L2 normalisation over the last dimension.

use super::{check_eps, optional_rows, optional_slice, product, residual, rows, vector};
use crate::cpu::{self, LayerNorm, RmsNorm};
use crate::error::{Result, bail};
use crate::{Context, Tensor};

/// (v - mean v) / sqrt(var v + eps) * weight + bias, where v = x + residual.
///
/// `weight` and `bias` are `[hidden]`; without them 1 and 0. `residual` has x's shape.
///
/// # Errors
/// As for all [operations](super).
pub fn layer_norm(
    ctx: &Context,
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f32,
    residual_of: Option<&Tensor>,
) -> Result<Tensor> {
    const OP: &str = "layer-norm";
    check_eps(OP, eps)?;
    let shape = *x.checked_shape();
    let weight = vector(ctx, OP, "weight", weight, shape.width())?;
    let bias = vector(ctx, OP, "bias", bias, shape.width())?;
    let residual = residual(ctx, OP, residual_of, shape.dims())?;
    ctx.charge(OP, product(&[2, shape.elements()]))?;
    let x = x.readable(ctx, OP)?;
    let mut out = ctx.allocate(OP, &shape)?;
    let op = LayerNorm {
        x: rows(OP, &x)?,
        residual: optional_rows(OP, &residual)?,
        weight: optional_slice(&weight),
        bias: optional_slice(&bias),
        eps,
    };
    cpu::layer_norm(ctx.device.cpu_device(), op, out.as_mut_slice());
    Ok(Tensor::from_buffer(out, shape))
}

/// x / sqrt(mean x^2 + eps) * (weight + weight_offset), each run of `weight`'s length in the
/// last dimension by itself.
///
/// # Errors
/// As for all [operations](super).
pub fn rms_norm(
    ctx: &Context,
    x: &Tensor,
    weight: &Tensor,
    eps: f32,
    weight_offset: f32,
) -> Result<Tensor> {
    const OP: &str = "rms-norm";
    check_eps(OP, eps)?;
    if !weight_offset.is_finite() {
        bail!(
            InvalidArgument,
            "{OP}: weight-offset is {weight_offset}, not finite"
        );
    }
    let shape = *x.checked_shape();
    let run = match *weight.shape() {
        [run] if shape.width().is_multiple_of(run) => run,
        _ => bail!(
            ShapeMismatch,
            "{OP}: weight is {:?}, whose length does not divide the {} of x",
            weight.shape(),
            shape.width()
        ),
    };
    let weight = vector(ctx, OP, "weight", Some(weight), run)?;
    ctx.charge(OP, product(&[2, shape.elements()]))?;
    let x = x.readable(ctx, OP)?;
    let mut out = ctx.allocate(OP, &shape)?;
    let Some(weight) = optional_slice(&weight) else {
        bail!(Other, "{OP}: weight is not readable in place");
    };
    let op = RmsNorm {
        x: rows(OP, &x)?,
        weight,
        weight_offset,
        eps,
    };
    cpu::rms_norm(ctx.device.cpu_device(), op, out.as_mut_slice());
    Ok(Tensor::from_buffer(out, shape))
}

/// x / max(||x||, eps).
///
/// # Errors
/// As for all [operations](super).
pub fn l2_normalize(ctx: &Context, x: &Tensor, eps: f32) -> Result<Tensor> {
    const OP: &str = "l2-normalize";
    check_eps(OP, eps)?;
    let shape = *x.checked_shape();
    ctx.charge(OP, product(&[2, shape.elements()]))?;
    let x = x.readable(ctx, OP)?;
    let mut out = ctx.allocate(OP, &shape)?;
    cpu::l2_normalize(
        ctx.device.cpu_device(),
        rows(OP, &x)?,
        eps,
        out.as_mut_slice(),
    );
    Ok(Tensor::from_buffer(out, shape))
}
