//! Embedding gather.

use super::{check_optional, product};
use crate::context::On;
use crate::cpu::{self, OnCpu, TableRow, optional_rows, rows};
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::{Context, Indices, Tensor};

const OP: &str = "embedding";

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
    residual: Option<&Tensor>,
) -> Result<Tensor> {
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
    check_optional(OP, "residual", residual, shape.dims())?;
    match ctx.on() {
        On::Cpu(cpu) => on_cpu(&cpu, table, ids, residual, shape),
        On::Cuda(cuda) => cuda.embedding(table, ids, residual, shape),
    }
}

fn on_cpu(
    cpu: &OnCpu,
    table: &Tensor,
    ids: &Indices,
    residual: Option<&Tensor>,
    shape: Shape,
) -> Result<Tensor> {
    let residual = cpu.optional(OP, residual)?;
    let residual = optional_rows(OP, &residual)?;
    let (device, width) = (cpu.device, shape.width());
    let mut out = cpu.allocate(OP, &shape)?;
    match table.weight() {
        Some(weight) => {
            let table = weight.table()?;
            let row = |row| table.row(row);
            let out = out.as_mut_slice();
            cpu::embedding(device, width, ids.values(), row, residual, out);
        }
        None => {
            let table = cpu.readable(OP, table)?;
            let table = rows(OP, &table)?;
            let row = |row| TableRow::F32(table.row(row));
            let out = out.as_mut_slice();
            cpu::embedding(device, width, ids.values(), row, residual, out);
        }
    }
    Ok(Tensor::from_buffer(out, shape))
}
