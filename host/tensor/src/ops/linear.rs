//! Linear layers.

use super::{Activation, optional_rows, optional_slice, product, residual, rows, vector};
use crate::cpu::{self, Format, Linear, PackedWeight};
use crate::error::{Result, bail};
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
    residual_of: Option<&Tensor>,
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
    let bias = vector(ctx, OP, "bias", bias, n)?;
    let residual = residual(ctx, OP, residual_of, out_shape.dims())?;
    let x = x.readable(ctx, OP)?;

    let device = ctx.device.cpu_device();
    let packed_now;
    let cached = match weight.weight() {
        Some(weight) => weight.packed()?.panels(device.level()),
        None => None,
    };
    let panels = match cached {
        Some(panels) => panels,
        None => {
            let weight = weight.readable(ctx, OP)?;
            let rows = rows(OP, &weight)?;
            let read = |row: usize, out: &mut [f32]| out.copy_from_slice(rows.row(row));
            let account = Some(&ctx.account);
            packed_now = PackedWeight::new(device, account, Format::F32, [n, k], read)?;
            match packed_now.panels(device.level()) {
                Some(panels) => panels,
                None => bail!(Other, "{OP}: weight is packed for another processor"),
            }
        }
    };
    let mut out = ctx.allocate(OP, &out_shape)?;
    let op = Linear {
        x: rows(OP, &x)?,
        weight: panels,
        bias: optional_slice(&bias),
        activation,
        residual: optional_rows(OP, &residual)?,
    };
    let mut scratch = ctx.scratch(OP, op.scratch_words(device.threads()))?;
    cpu::linear(device, &op, scratch.as_mut_slice(), out.as_mut_slice());
    Ok(Tensor::from_buffer(out, out_shape))
}
