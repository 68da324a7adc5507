//! The operations: argument checks, accounting and dispatch, one file a family.
//!
//! Every operation charges its multiply-adds and its elements to the batch before it runs
//! and its result's bytes to the account. Errors are [`Error::InvalidArgument`] for a
//! parameter out of range, [`Error::ShapeMismatch`] for shapes that do not fit, and
//! [`Error::QuotaExceeded`]; each text names the operation, the value and the limit.
//!
//! [`Error::InvalidArgument`]: crate::Error::InvalidArgument
//! [`Error::ShapeMismatch`]: crate::Error::ShapeMismatch
//! [`Error::QuotaExceeded`]: crate::Error::QuotaExceeded

mod attention;
mod elementwise;
mod embedding;
mod layout;
mod linear;
mod norm;
mod pixels;
mod pooling;
mod rotary;

pub use attention::{AttentionInput, AttentionOptions, attention};
pub use elementwise::{Activation, activate, add, gated, mul, scale};
pub use embedding::embedding;
pub use layout::{concat, reshape, slice};
pub use linear::linear;
pub use norm::{l2_normalize, layer_norm, rms_norm};
pub use pixels::{PixelOptions, pixels};
pub use pooling::{PoolMode, segment_pool};
pub use rotary::{rotary, rotary_table};

use crate::cpu::Rows;
use crate::error::{Error, Result, bail};
use crate::{Context, Tensor};

/// A saturating product: what an operation costs.
fn product(factors: &[usize]) -> u64 {
    factors
        .iter()
        .fold(1, |product, &factor| product.saturating_mul(factor as u64))
}

/// Refuses an eps that is negative or not finite.
fn check_eps(op: &str, eps: f32) -> Result<()> {
    if !eps.is_finite() || eps < 0.0 {
        bail!(
            InvalidArgument,
            "{op}: eps is {eps}, not finite and at least 0"
        );
    }
    Ok(())
}

/// Refuses a tensor of another shape.
fn check_shape(op: &str, what: &str, tensor: &Tensor, wanted: &[usize]) -> Result<()> {
    if tensor.shape() != wanted {
        bail!(
            ShapeMismatch,
            "{op}: {what} is {:?}, not {wanted:?}",
            tensor.shape()
        );
    }
    Ok(())
}

/// A vector parameter (bias, norm weight) that can be read as one slice.
fn vector(
    ctx: &Context,
    op: &str,
    what: &str,
    tensor: Option<&Tensor>,
    len: usize,
) -> Result<Option<Tensor>> {
    let Some(tensor) = tensor else {
        return Ok(None);
    };
    check_shape(op, what, tensor, &[len])?;
    tensor.readable(ctx, op).map(Some)
}

/// A residual of the result's shape, readable as rows.
fn residual(
    ctx: &Context,
    op: &str,
    tensor: Option<&Tensor>,
    shape: &[usize],
) -> Result<Option<Tensor>> {
    let Some(tensor) = tensor else {
        return Ok(None);
    };
    check_shape(op, "residual", tensor, shape)?;
    tensor.readable(ctx, op).map(Some)
}

/// The rows of what [`Tensor::readable`] returned.
fn rows<'a>(op: &str, tensor: &'a Tensor) -> Result<Rows<'a>> {
    tensor
        .rows()
        .ok_or_else(|| Error::Other(format!("{op}: {tensor:?} has no rows in place")))
}

/// The rows of an optional operand.
fn optional_rows<'a>(op: &str, tensor: &'a Option<Tensor>) -> Result<Option<Rows<'a>>> {
    tensor.as_ref().map(|tensor| rows(op, tensor)).transpose()
}

/// The elements of an optional vector.
fn optional_slice(tensor: &Option<Tensor>) -> Option<&[f32]> {
    tensor.as_ref().and_then(Tensor::contiguous)
}
