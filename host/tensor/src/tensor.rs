//! Immutable tensors and strided views of them.

use std::sync::Arc;

use crate::Context;
use crate::cpu::{Buffer, Rows, copy_strided};
use crate::dtype::DType;
use crate::error::{Result, bail};
use crate::shape::{MAX_RANK, Shape};
use crate::weights::Weight;

/// Where a tensor's elements are: a closed set, one entry a backend and kind.
#[derive(Clone)]
pub(crate) enum Storage {
    /// Activations, and weights of rank 1, in f32.
    Buffer(Arc<Buffer>),
    /// A weight of a checkpoint, of rank 2 or more.
    Weight(Arc<Weight>),
}

/// An immutable tensor on a device: rank 1 to 8, no dimension of 0. Cheap to clone. Its
/// bytes go back to the account and the device's pool when the last clone and view of it
/// are dropped.
#[derive(Clone)]
pub struct Tensor {
    storage: Storage,
    shape: Shape,
    strides: [usize; MAX_RANK],
    offset: usize,
}

impl Tensor {
    /// A tensor of `f32` values, row by row.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] for a shape with a dimension of 0 or a rank that is
    /// not 1 to 8; [`crate::Error::ShapeMismatch`] where `values` has another length;
    /// [`crate::Error::QuotaExceeded`].
    pub fn from_f32(ctx: &Context, shape: &[usize], values: &[f32]) -> Result<Self> {
        let shape = Shape::new("tensor", shape)?;
        if values.len() != shape.elements() {
            bail!(
                ShapeMismatch,
                "tensor: {} values for shape {shape:?}",
                values.len()
            );
        }
        let mut buffer = ctx.allocate("tensor", &shape)?;
        buffer.as_mut_slice().copy_from_slice(values);
        Ok(Self::from_buffer(buffer, shape))
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The element type: `f32`, or what a weight of rank 2 or more is served in.
    pub fn dtype(&self) -> DType {
        match &self.storage {
            Storage::Buffer(_) => DType::F32,
            Storage::Weight(weight) => weight.dtype(),
        }
    }

    /// Its elements on the host, row by row.
    ///
    /// # Errors
    /// [`crate::Error::Other`] where a weight cannot be read.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.shape.elements()];
        self.read(&mut out);
        Ok(out)
    }

    /// A tensor of a whole buffer, laid out without gaps.
    pub(crate) fn from_buffer(buffer: Buffer, shape: Shape) -> Self {
        Self::new(Storage::Buffer(Arc::new(buffer)), shape)
    }

    /// A tensor of all of a storage, laid out without gaps.
    pub(crate) fn new(storage: Storage, shape: Shape) -> Self {
        Self {
            storage,
            shape,
            strides: shape.strides(),
            offset: 0,
        }
    }

    /// The shape.
    pub(crate) fn checked_shape(&self) -> &Shape {
        &self.shape
    }

    /// The weight that this is, whole.
    pub(crate) fn weight(&self) -> Option<&Arc<Weight>> {
        match &self.storage {
            Storage::Weight(weight) if weight.shape() == self.shape => Some(weight),
            _ => None,
        }
    }

    /// A view of `length` entries of dimension `axis` from `start` on, which are there.
    pub(crate) fn view(&self, shape: Shape, axis: usize, start: usize) -> Self {
        let offset = self.offset + start * self.strides[axis];
        Self {
            shape,
            offset,
            ..self.clone()
        }
    }

    /// This tensor, or a copy, such that [`Tensor::rows`] can read it in place.
    pub(crate) fn readable(&self, ctx: &Context, op: &str) -> Result<Self> {
        if matches!(self.storage, Storage::Buffer(_)) && self.row_stride().is_some() {
            return Ok(self.clone());
        }
        let mut buffer = ctx.allocate(op, &self.shape)?;
        self.read(buffer.as_mut_slice());
        Ok(Self::from_buffer(buffer, self.shape))
    }

    /// The elements as rows of the last dimension; none where they must be copied first.
    pub(crate) fn rows(&self) -> Option<Rows<'_>> {
        let Storage::Buffer(buffer) = &self.storage else {
            return None;
        };
        let data = buffer.as_slice().get(self.offset..)?;
        Some(Rows::new(
            data,
            self.shape.rows(),
            self.shape.width(),
            self.row_stride()?,
        ))
    }

    /// The same elements with other dimensions, of as many elements; none where they must be
    /// copied first.
    pub(crate) fn reshaped(&self, shape: Shape) -> Option<Self> {
        self.contiguous()?;
        Some(Self {
            storage: self.storage.clone(),
            shape,
            strides: shape.strides(),
            offset: self.offset,
        })
    }

    /// All elements as one slice; none where they must be copied first.
    pub(crate) fn contiguous(&self) -> Option<&[f32]> {
        let Storage::Buffer(buffer) = &self.storage else {
            return None;
        };
        let stride = self.row_stride()?;
        let gapless = self.shape.rows() == 1 || stride == self.shape.width();
        gapless.then(|| {
            buffer
                .as_slice()
                .get(self.offset..)?
                .get(..self.shape.elements())
        })?
    }

    /// Copies the elements, row by row, into `out` of as many.
    pub(crate) fn read(&self, out: &mut [f32]) {
        self.read_strided(out, &self.shape.strides());
    }

    /// Copies the elements into `out` with other strides, of which the last is 1.
    pub(crate) fn read_strided(&self, out: &mut [f32], out_strides: &[usize; MAX_RANK]) {
        let rank = self.shape.dims().len();
        let (strides, out_strides) = (&self.strides[..rank], &out_strides[..rank]);
        match &self.storage {
            Storage::Buffer(buffer) => {
                let from = &buffer.as_slice()[self.offset..];
                copy_strided(self.shape.dims(), from, strides, out, out_strides);
            }
            Storage::Weight(weight) => {
                // Only rows that the view touches are read; a view of a weight begins and
                // ends inside of the weight's rows.
                let width = weight.width();
                let first = self.offset / width;
                let reach = self
                    .shape
                    .dims()
                    .iter()
                    .zip(strides)
                    .map(|(d, s)| (d - 1) * s);
                let last = (self.offset + reach.sum::<usize>()) / width;
                let mut rows = vec![0.0; (last + 1 - first) * width];
                for (index, row) in rows.chunks_exact_mut(width).enumerate() {
                    weight.read_row(first + index, row);
                }
                let from = &rows[self.offset - first * width..];
                copy_strided(self.shape.dims(), from, strides, out, out_strides);
            }
        }
    }

    /// The distance of rows of the last dimension, where there is one for all.
    fn row_stride(&self) -> Option<usize> {
        let dims = self.shape.dims();
        let rank = dims.len();
        if self.strides[rank - 1] != 1 {
            return None;
        }
        let mut expected = None;
        for axis in (0..rank - 1).rev().filter(|&axis| dims[axis] > 1) {
            match expected {
                None => {}
                Some((_, stride)) if stride == self.strides[axis] => {}
                Some(_) => return None,
            }
            let first = expected.map_or(self.strides[axis], |(first, _)| first);
            expected = Some((first, self.strides[axis] * dims[axis]));
        }
        Some(expected.map_or(self.shape.width(), |(first, _)| first))
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.dtype(), self.shape)
    }
}
