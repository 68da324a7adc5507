//! Layer norm, RMS norm and L2 normalisation over the last dimension.

use super::{check_eps, check_optional, check_weight_offset, product};
use crate::context::On;
use crate::cpu::{self, LayerNorm, RmsNorm, optional_rows, optional_slice, rows};
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
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    const OP: &str = "layer-norm";
    check_eps(OP, eps)?;
    let shape = *x.checked_shape();
    check_optional(OP, "weight", weight, &[shape.width()])?;
    check_optional(OP, "bias", bias, &[shape.width()])?;
    check_optional(OP, "residual", residual, shape.dims())?;
    ctx.charge(OP, product(&[2, shape.elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let (weight, bias) = (cpu.optional(OP, weight)?, cpu.optional(OP, bias)?);
            let (x, residual) = (cpu.readable(OP, x)?, cpu.optional(OP, residual)?);
            let mut out = cpu.allocate(OP, &shape)?;
            let op = LayerNorm {
                x: rows(OP, &x)?,
                residual: optional_rows(OP, &residual)?,
                weight: optional_slice(&weight),
                bias: optional_slice(&bias),
                eps,
            };
            cpu::layer_norm(cpu.device, op, out.as_mut_slice());
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.layer_norm(x, weight, bias, eps, residual),
    }
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
    check_weight_offset(OP, weight_offset)?;
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
    ctx.charge(OP, product(&[2, shape.elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let weight = cpu.optional(OP, Some(weight))?;
            let x = cpu.readable(OP, x)?;
            let mut out = cpu.allocate(OP, &shape)?;
            let Some(weight) = optional_slice(&weight) else {
                bail!(Other, "{OP}: weight is not readable in place");
            };
            let op = RmsNorm {
                x: rows(OP, &x)?,
                weight,
                weight_offset,
                eps,
            };
            cpu::rms_norm(cpu.device, op, out.as_mut_slice());
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.rms_norm(x, weight, run, eps, weight_offset),
    }
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
    match ctx.on() {
        On::Cpu(cpu) => {
            let x = cpu.readable(OP, x)?;
            let mut out = cpu.allocate(OP, &shape)?;
            cpu::l2_normalize(cpu.device, rows(OP, &x)?, eps, out.as_mut_slice());
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.l2_normalize(x, eps),
    }
}
