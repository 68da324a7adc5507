//! Rows of a table, picked by index.

use super::device::ELEMENT_COST;
use super::{CpuDevice, Rows};
use crate::convert::read_f32;
use crate::dtype::DType;

/// A row as it is stored.
pub(crate) enum TableRow<'a> {
    F32(&'a [f32]),
    Bytes(DType, &'a [u8]),
}

/// Rows `ids` of a table, plus `residual`, into `out`.
pub(crate) fn embedding<'a>(
    device: &CpuDevice,
    width: usize,
    ids: &[u32],
    row: impl Fn(usize) -> TableRow<'a> + Sync,
    residual: Option<Rows>,
    out: &mut [f32],
) {
    assert!(out.len() == ids.len() * width);
    device.parallel_rows(out, width, width * ELEMENT_COST, |first, out| {
        for (index, out) in out.chunks_exact_mut(width).enumerate() {
            match row(ids[first + index] as usize) {
                TableRow::F32(row) => out.copy_from_slice(row),
                TableRow::Bytes(dtype, bytes) => read_f32(dtype, bytes, out),
            }
            if let Some(residual) = residual {
                for (out, r) in out.iter_mut().zip(residual.row(first + index)) {
                    *out += r;
                }
            }
        }
    });
}
