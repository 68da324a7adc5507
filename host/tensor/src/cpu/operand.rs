//! Tensors as operands on the processor: rows that are read in place, and buffers for results.

use std::sync::Arc;

use super::{Buffer, CpuDevice, Rows, copy_strided};
use crate::Account;
use crate::error::{Error, Result};
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::{Storage, Tensor};
use crate::weights::Weight;

/// The processor and who pays.
#[derive(Clone, Copy)]
pub(crate) struct OnCpu<'a> {
    pub device: &'a Arc<CpuDevice>,
    pub account: &'a Arc<Account>,
}

impl OnCpu<'_> {
    /// A buffer for a tensor of this shape, charged to the account. Its contents are
    /// whatever was there: the caller overwrites all of it.
    pub fn allocate(&self, op: &str, shape: &Shape) -> Result<Buffer> {
        self.scratch(op, shape.elements())
    }

    /// As [`OnCpu::allocate`], for scratch of `words` elements.
    pub fn scratch(&self, op: &str, words: usize) -> Result<Buffer> {
        self.device.allocate(op, words, Some(self.account))
    }

    /// The tensor, or a copy, such that [`rows`] can read it in place.
    pub fn readable(&self, op: &str, tensor: &Tensor) -> Result<Tensor> {
        if matches!(tensor.storage(), Storage::Buffer(_)) && tensor.row_stride().is_some() {
            return Ok(tensor.clone());
        }
        let shape = *tensor.checked_shape();
        let mut buffer = self.allocate(op, &shape)?;
        read(op, tensor, buffer.as_mut_slice())?;
        Ok(Tensor::from_buffer(buffer, shape))
    }

    /// As [`OnCpu::readable`], of an operand that need not be there.
    pub fn optional(&self, op: &str, tensor: Option<&Tensor>) -> Result<Option<Tensor>> {
        tensor.map(|tensor| self.readable(op, tensor)).transpose()
    }
}

/// The rows of what [`OnCpu::readable`] returned.
pub(crate) fn rows<'a>(op: &str, tensor: &'a Tensor) -> Result<Rows<'a>> {
    let found = match (tensor.storage(), tensor.row_stride()) {
        (Storage::Buffer(buffer), Some(stride)) => buffer
            .as_slice()
            .get(tensor.offset()..)
            .map(|data| (data, stride)),
        _ => None,
    };
    let Some((data, stride)) = found else {
        return Err(Error::Other(format!(
            "{op}: {tensor:?} has no rows in place"
        )));
    };
    let shape = tensor.checked_shape();
    Ok(Rows::new(data, shape.rows(), shape.width(), stride))
}

/// The rows of an optional operand.
pub(crate) fn optional_rows<'a>(op: &str, tensor: &'a Option<Tensor>) -> Result<Option<Rows<'a>>> {
    tensor.as_ref().map(|tensor| rows(op, tensor)).transpose()
}

/// The elements of an optional vector that [`OnCpu::optional`] returned.
pub(crate) fn optional_slice(tensor: &Option<Tensor>) -> Option<&[f32]> {
    let tensor = tensor.as_ref()?;
    let Storage::Buffer(buffer) = tensor.storage() else {
        return None;
    };
    let elements = tensor.checked_shape().elements();
    tensor
        .is_contiguous()
        .then(|| buffer.as_slice().get(tensor.offset()..)?.get(..elements))?
}

/// Copies the elements of a tensor, row by row, into `out` of as many.
pub(crate) fn read(op: &str, tensor: &Tensor, out: &mut [f32]) -> Result<()> {
    read_strided(op, tensor, out, &tensor.checked_shape().strides())
}

/// Copies the elements of a tensor into `out` with other strides, of which the last is 1.
pub(crate) fn read_strided(
    op: &str,
    tensor: &Tensor,
    out: &mut [f32],
    out_strides: &[usize; MAX_RANK],
) -> Result<()> {
    let rank = tensor.shape().len();
    let (strides, out_strides) = (&tensor.strides()[..rank], &out_strides[..rank]);
    match tensor.storage() {
        Storage::Buffer(buffer) => {
            let from = &buffer.as_slice()[tensor.offset()..];
            copy_strided(tensor.shape(), from, strides, out, out_strides);
        }
        Storage::Weight(weight) => {
            let (rows, offset) = rows_of_view(weight, tensor);
            copy_strided(tensor.shape(), &rows[offset..], strides, out, out_strides);
        }
        Storage::Cuda(_) => return Err(tensor.elsewhere(op)),
    }
    Ok(())
}

/// The rows of a weight that a view of it touches, and where the view begins in them.
fn rows_of_view(weight: &Weight, view: &Tensor) -> (Vec<f32>, usize) {
    // A view of a weight begins and ends inside of the weight's rows.
    let width = weight.width();
    let first = view.offset() / width;
    let reach = view
        .shape()
        .iter()
        .zip(view.strides())
        .map(|(d, s)| (d - 1) * s);
    let last = (view.offset() + reach.sum::<usize>()) / width;
    let mut rows = vec![0.0; (last + 1 - first) * width];
    for (index, row) in rows.chunks_exact_mut(width).enumerate() {
        weight.read_row(first + index, row);
    }
    (rows, view.offset() - first * width)
}
