//! Immutable tensors and strided views of them.

use std::sync::Arc;

use crate::Context;
use crate::context::On;
use crate::cpu::{self, Buffer};
use crate::cuda::{self, DeviceBuffer};
use crate::dtype::DType;
use crate::error::{Error, Result, bail};
use crate::shape::{MAX_RANK, Shape};
use crate::weights::Weight;

/// Where a tensor's elements are: a closed set, one entry a backend and kind.
#[derive(Clone)]
pub(crate) enum Storage {
    /// Activations, and weights of rank 1, in f32 on the processor.
    Buffer(Arc<Buffer>),
    /// A weight of a checkpoint, of rank 2 or more, on the processor.
    Weight(Arc<Weight>),
    /// Activations and weights on a CUDA device.
    Cuda(Arc<DeviceBuffer>),
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
        const OP: &str = "tensor";
        let shape = Shape::new(OP, shape)?;
        if values.len() != shape.elements() {
            bail!(
                ShapeMismatch,
                "{OP}: {} values for shape {shape:?}",
                values.len()
            );
        }
        match ctx.on() {
            On::Cpu(cpu) => {
                let mut buffer = cpu.allocate(OP, &shape)?;
                buffer.as_mut_slice().copy_from_slice(values);
                Ok(Self::from_buffer(buffer, shape))
            }
            On::Cuda(cuda) => cuda.upload(OP, shape, values),
        }
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The element type: what a weight of rank 2 or more is served in, and what activations
    /// are kept in: `f32`, but on a CUDA device what the weights are served in.
    pub fn dtype(&self) -> DType {
        match &self.storage {
            Storage::Buffer(_) => DType::F32,
            Storage::Weight(weight) => weight.dtype(),
            Storage::Cuda(buffer) => buffer.dtype(),
        }
    }

    /// Its elements on the host, row by row. Waits for the device.
    ///
    /// # Errors
    /// [`crate::Error::Other`] where a weight cannot be read; [`crate::Error::DeviceLost`].
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        if let Storage::Cuda(buffer) = &self.storage {
            return cuda::download(self, buffer.device());
        }
        let mut out = vec![0.0; self.shape.elements()];
        cpu::read("read-back", self, &mut out)?;
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

    /// Where its elements are.
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The first element's place in the storage.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Elements from one entry of a dimension to the next, outermost first.
    pub(crate) fn strides(&self) -> &[usize; MAX_RANK] {
        &self.strides
    }

    /// The weight that this is, whole.
    pub(crate) fn weight(&self) -> Option<&Arc<Weight>> {
        match &self.storage {
            Storage::Weight(weight) if weight.shape() == self.shape => Some(weight),
            _ => None,
        }
    }

    /// Why an operation on another device refuses this.
    pub(crate) fn elsewhere(&self, op: &str) -> Error {
        Error::InvalidArgument(format!("{op}: {self:?} is on another device"))
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

    /// The same elements with other dimensions, of as many elements; none where they must be
    /// copied first.
    pub(crate) fn reshaped(&self, shape: Shape) -> Option<Self> {
        let in_place = !matches!(self.storage, Storage::Weight(_)) && self.is_contiguous();
        in_place.then(|| Self {
            storage: self.storage.clone(),
            shape,
            strides: shape.strides(),
            offset: self.offset,
        })
    }

    /// Whether its elements follow each other without gaps.
    pub(crate) fn is_contiguous(&self) -> bool {
        self.row_stride()
            .is_some_and(|stride| self.shape.rows() == 1 || stride == self.shape.width())
    }

    /// The distance of rows of the last dimension, where there is one for all.
    pub(crate) fn row_stride(&self) -> Option<usize> {
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
