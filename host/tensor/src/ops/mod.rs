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

pub(crate) use attention::MAX_HEAD_DIM;
pub use attention::{AttentionInput, AttentionOptions, attention};
pub use elementwise::{Activation, activate, add, gated, mul, scale};
pub use embedding::embedding;
pub use layout::{concat, reshape, slice};
pub use linear::linear;
pub use norm::{l2_normalize, layer_norm, rms_norm};
pub use pixels::{PixelOptions, pixels};
pub use pooling::{PoolMode, segment_pool};
pub use rotary::{HeadNorms, rotary, rotary_table};

use crate::Tensor;
use crate::error::{Result, bail};

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

/// Refuses a weight-offset that is not finite.
fn check_weight_offset(op: &str, weight_offset: f32) -> Result<()> {
    if !weight_offset.is_finite() {
        bail!(
            InvalidArgument,
            "{op}: weight-offset is {weight_offset}, not finite"
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

/// Refuses an optional operand (bias, norm weight, residual) of another shape.
fn check_optional(op: &str, what: &str, tensor: Option<&Tensor>, wanted: &[usize]) -> Result<()> {
    match tensor {
        Some(tensor) => check_shape(op, what, tensor, wanted),
        None => Ok(()),
    }
}
