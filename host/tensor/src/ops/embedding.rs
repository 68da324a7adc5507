//! Embedding gather.

use super::{optional_rows, product, residual, rows};
use crate::cpu::{self, TableRow};
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::{Context, Indices, Tensor};

/// Rows of `table` `[vocabulary, hidden]` picked by `ids` -> `[len, hidden]`, plus
/// `residual` of that shape.
///
/// # Errors
/// As for all [operations](super); an id that the table has no row for is
/// [`crate::Error::InvalidArgument`].
pub fn embedding(
    ctx: &Context,
    table: &Tensor,
    ids: &Indices,
    residual_of: Option<&Tensor>,
) -> Result<Tensor> {
    const OP: &str = "embedding";
    let &[vocabulary, hidden] = table.shape() else {
        bail!(
            ShapeMismatch,
            "{OP}: table is {:?}, not [vocabulary, hidden]",
            table.shape()
        );
    };
    if ids.max() as usize >= vocabulary {
        bail!(
            InvalidArgument,
            "{OP}: id {} of a table of {vocabulary} rows",
            ids.max()
        );
    }
    let shape = Shape::new(OP, &[ids.len(), hidden])?;
    ctx.charge(OP, product(&[shape.elements()]))?;
    let residual = residual(ctx, OP, residual_of, shape.dims())?;
    let residual = optional_rows(OP, &residual)?;
    let device = ctx.device.cpu_device();
    let mut out = ctx.allocate(OP, &shape)?;
    match table.weight() {
        Some(weight) => {
            let table = weight.table()?;
            let row = |row| table.row(row);
            cpu::embedding(
                device,
                hidden,
                ids.values(),
                row,
                residual,
                out.as_mut_slice(),
            );
        }
        None => {
            let table = table.readable(ctx, OP)?;
            let table = rows(OP, &table)?;
            let row = |row| TableRow::F32(table.row(row));
            cpu::embedding(
                device,
                hidden,
                ids.values(),
                row,
                residual,
                out.as_mut_slice(),
            );
        }
    }
    Ok(Tensor::from_buffer(out, shape))
}
