//! One row a sequence.

use super::product;
use crate::context::On;
use crate::cpu::{self, rows};
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::{Context, SequenceLayout, Tensor};

/// How the rows of a sequence become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolMode {
    /// The first row.
    First,
    /// The last row.
    Last,
    /// The sum over the count.
    Mean,
    /// The sum over the square root of the count.
    MeanSqrtLen,
    /// The sum weighted with 1-based positions, over the sum of those positions.
    WeightedMean,
    /// The largest value in each column.
    Max,
}

/// `[rows, hidden]` -> `[sequences, hidden]`. Rows of an excluded prompt are left out;
/// [`PoolMode::WeightedMean`] counts positions from the sequence's start.
///
/// # Errors
/// As for all [operations](super).
pub fn segment_pool(
    ctx: &Context,
    x: &Tensor,
    layout: &SequenceLayout,
    mode: PoolMode,
) -> Result<Tensor> {
    const OP: &str = "segment-pool";
    let &[rows_of_x, hidden] = x.shape() else {
        bail!(
            ShapeMismatch,
            "{OP}: x is {:?}, not [rows, hidden]",
            x.shape()
        );
    };
    if layout.end() > rows_of_x {
        bail!(
            ShapeMismatch,
            "{OP}: sequences reach to row {} of {rows_of_x}",
            layout.end()
        );
    }
    let shape = Shape::new(OP, &[layout.sequences(), hidden])?;
    ctx.charge(OP, product(&[layout.rows(), hidden]))?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let x = cpu.readable(OP, x)?;
            let mut out = cpu.allocate(OP, &shape)?;
            let x = rows(OP, &x)?;
            cpu::segment_pool(cpu.device, x, layout.spans(), mode, out.as_mut_slice());
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.segment_pool(x, layout, mode, shape),
    }
}
