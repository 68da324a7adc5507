//! Linear layers.

use super::{Activation, check_optional, product};
use crate::context::On;
use crate::cpu::{self, Format, Linear, OnCpu, PackedWeight, optional_rows, optional_slice, rows};
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::{Context, Tensor};

const OP: &str = "linear";

/// activation(x weight^T + bias) + residual.
///
/// `x` is `[.., in]`, `weight` `[out, in]`, `bias` `[out]`, `residual` `[.., out]`; the
/// result is `[.., out]`. A weight of a checkpoint is packed at its first use; any other
/// tensor is packed for this call, charged to the account.
///
/// # Errors
/// As for all [operations](super).
pub fn linear(
    ctx: &Context,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let &[n, k] = weight.shape() else {
        bail!(
            ShapeMismatch,
            "{OP}: weight is {:?}, not [out, in]",
            weight.shape()
        );
    };
    let shape = *x.checked_shape();
    if shape.width() != k {
        bail!(
            ShapeMismatch,
            "{OP}: x is {shape:?}, but weight is {:?}",
            weight.shape()
        );
    }
    let out_shape = shape.with_dim(OP, shape.dims().len() - 1, n)?;
    ctx.charge(
        OP,
        product(&[shape.rows(), n, k]).saturating_add(product(&[shape.rows(), n])),
    )?;
    check_optional(OP, "bias", bias, &[n])?;
    check_optional(OP, "residual", residual, out_shape.dims())?;
    match ctx.on() {
        On::Cpu(cpu) => on_cpu(&cpu, x, weight, bias, activation, residual, out_shape),
        On::Cuda(cuda) => cuda.linear(x, weight, bias, activation, residual, out_shape),
    }
}

fn on_cpu(
    cpu: &OnCpu,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    residual: Option<&Tensor>,
    shape: Shape,
) -> Result<Tensor> {
    let (bias, residual) = (cpu.optional(OP, bias)?, cpu.optional(OP, residual)?);
    let x = cpu.readable(OP, x)?;
    let device = cpu.device;
    let packed_now;
    let cached = match weight.weight() {
        Some(weight) => weight.packed()?.panels(device.level()),
        None => None,
    };
    let panels = match cached {
        Some(panels) => panels,
        None => {
            let (n, k) = (shape.width(), x.checked_shape().width());
            let weight = cpu.readable(OP, weight)?;
            let rows = rows(OP, &weight)?;
            let read = |row: usize, out: &mut [f32]| out.copy_from_slice(rows.row(row));
            let account = Some(cpu.account);
            packed_now = PackedWeight::new(device, account, Format::F32, [n, k], read)?;
            match packed_now.panels(device.level()) {
                Some(panels) => panels,
                None => bail!(Other, "{OP}: weight is packed for another processor"),
            }
        }
    };
    let mut out = cpu.allocate(OP, &shape)?;
    let op = Linear {
        x: rows(OP, &x)?,
        weight: panels,
        bias: optional_slice(&bias),
        activation,
        residual: optional_rows(OP, &residual)?,
    };
    let mut scratch = cpu.scratch(OP, op.scratch_words(device.threads()))?;
    cpu::linear(device, &op, scratch.as_mut_slice(), out.as_mut_slice());
    Ok(Tensor::from_buffer(out, shape))
}
