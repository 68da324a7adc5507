//! Tensors as operands on a device: rows that kernels read, and buffers for results.

use std::sync::Arc;

use super::driver::Queue;
use super::launch::{Argument, Grid, arguments};
use super::recording::{Recorder, Source};
use super::{CudaDevice, DeviceBuffer};
use crate::convert::{read_f32, write_f32};
use crate::dtype::DType;
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::tensor::{Storage, Tensor};
use crate::{Account, Indices};

/// Elements that a thread of most kernels handles.
pub(super) const CHUNK: usize = 8;

/// Threads of a block of most kernels.
pub(super) const THREADS: usize = 256;

/// A device, who pays, and what activations are kept in.
#[derive(Clone, Copy)]
pub(crate) struct OnCuda<'a> {
    pub device: &'a Arc<CudaDevice>,
    pub account: Option<&'a Arc<Account>>,
    pub dtype: DType,
    /// What is being recorded; none where work is done at once.
    pub recorder: Option<&'a Recorder>,
}

/// Rows of the last dimension as kernels read them.
pub(super) struct Rows {
    /// Lives until the kernels that read it are queued.
    pub buffer: Arc<DeviceBuffer>,
    pub address: u64,
    pub dtype: DType,
    /// Elements from one row to the next.
    pub stride: i64,
    pub rows: i32,
    pub width: i32,
}

impl<'a> OnCuda<'a> {
    /// The same, but that work is done at once.
    fn unrecorded(self) -> Self {
        Self {
            recorder: None,
            ..self
        }
    }

    /// Where work is queued.
    pub(super) fn queue(&self) -> Queue<'a> {
        match self.recorder {
            Some(recorder) => recorder.queue(),
            None => self.device.stream().queue(),
        }
    }

    /// Queues a kernel.
    pub(super) fn launch(
        &self,
        op: &str,
        name: &str,
        grid: Grid,
        arguments: &mut [Argument],
    ) -> Result<()> {
        let kernels = self.device.kernels();
        kernels.launch(self.queue(), op, name, grid, arguments)
    }

    /// A buffer for a tensor of this shape.
    pub(super) fn allocate(&self, op: &str, dtype: DType, shape: &Shape) -> Result<DeviceBuffer> {
        self.buffer_of(op, dtype, shape.elements())
    }

    fn buffer_of(&self, op: &str, dtype: DType, elements: usize) -> Result<DeviceBuffer> {
        let pool = self.recorder.map(|_| self.device.recorded());
        DeviceBuffer::within(pool, op, self.device, self.account, dtype, elements)
    }

    /// A buffer with these bytes in it, which belong to one batch only.
    pub(super) fn upload_bytes(&self, op: &str, bytes: &[u8]) -> Result<DeviceBuffer> {
        if self.recorder.is_some() {
            bail!(Unsupported, "{op}: its operands cannot be recorded");
        }
        let buffer = self.buffer_of(op, DType::U8, bytes.len())?;
        buffer.write(op, 0, bytes)?;
        Ok(buffer)
    }

    /// A buffer with these numbers in it, which a recording gets from `source`.
    pub(super) fn upload_words(
        &self,
        op: &str,
        source: Source,
        words: impl IntoIterator<Item = u32>,
    ) -> Result<DeviceBuffer> {
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        let buffer = self.buffer_of(op, DType::U8, bytes.len())?;
        match self.recorder {
            Some(recorder) => recorder.upload(op, source, &bytes, buffer.address())?,
            None => buffer.write(op, 0, &bytes)?,
        }
        Ok(buffer)
    }

    /// A buffer with the numbers of an index list, all below `limit`.
    pub(super) fn upload_list(
        &self,
        op: &str,
        list: &Indices,
        limit: Option<u32>,
    ) -> Result<DeviceBuffer> {
        let source = Source::List(list.source(), limit);
        self.upload_words(op, source, list.values().iter().copied())
    }

    /// A tensor of the host's values: vectors in f32, all others in what activations are kept in.
    pub fn upload(&self, op: &str, shape: Shape, values: &[f32]) -> Result<Tensor> {
        let dtype = match shape.dims() {
            [_] => DType::F32,
            _ => self.dtype,
        };
        let mut bytes = vec![0; values.len() * dtype.size()];
        write_f32(dtype, values, &mut bytes);
        let buffer = self.unrecorded().allocate(op, dtype, &shape)?;
        buffer.write(op, 0, &bytes)?;
        Ok(on_device(buffer, shape))
    }

    /// The memory of a tensor of this device.
    pub(super) fn buffer(&self, op: &str, tensor: &Tensor) -> Result<Arc<DeviceBuffer>> {
        let buffer = match tensor.storage() {
            Storage::Cuda(buffer) => buffer,
            Storage::Weight(weight) => weight.uploaded(self.device)?,
            Storage::Buffer(_) => return Err(tensor.elsewhere(op)),
        };
        if !Arc::ptr_eq(buffer.device(), self.device) {
            return Err(tensor.elsewhere(op));
        }
        Ok(buffer.clone())
    }

    /// The tensor's rows where they lie, or in a copy where they have no common stride.
    pub(super) fn rows(&self, op: &str, tensor: &Tensor) -> Result<Rows> {
        let Some(stride) = tensor.row_stride() else {
            return self.rows(op, &self.copied(op, tensor)?);
        };
        let buffer = self.buffer(op, tensor)?;
        let dtype = buffer.dtype();
        let shape = tensor.checked_shape();
        let address = buffer.address() + (tensor.offset() * dtype.size()) as u64;
        let [rows, width] = [shape.rows(), shape.width()].map(i32::try_from);
        let (Ok(rows), Ok(width)) = (rows, width) else {
            bail!(
                Unsupported,
                "{op}: {tensor:?} has more than {} rows or columns",
                i32::MAX
            );
        };
        Ok(Rows {
            buffer,
            address,
            dtype,
            stride: stride as i64,
            rows,
            width,
        })
    }

    /// As [`OnCuda::rows`], in `dtype`.
    pub(super) fn rows_as(&self, op: &str, tensor: &Tensor, dtype: DType) -> Result<Rows> {
        self.rows(op, &self.cast(op, tensor, dtype)?)
    }

    /// The tensor, or a copy without gaps, in `dtype`.
    pub(super) fn cast(&self, op: &str, tensor: &Tensor, dtype: DType) -> Result<Tensor> {
        if self.buffer(op, tensor)?.dtype() == dtype {
            return Ok(tensor.clone());
        }
        let rows = self.rows(op, tensor)?;
        let shape = *tensor.checked_shape();
        let out = self.allocate(op, dtype, &shape)?;
        let mut arguments = arguments![
            rows.address,
            rows.stride,
            out.address(),
            rows.rows,
            rows.width
        ];
        let name = format!("cast_{}_{dtype}", rows.dtype);
        self.launch_chunks(op, &name, &rows, &mut arguments)?;
        Ok(on_device(out, shape))
    }

    /// The elements in `dtype`, one after the other without gaps.
    pub(super) fn gapless_as(&self, op: &str, tensor: &Tensor, dtype: DType) -> Result<Rows> {
        if tensor.is_contiguous() {
            return self.rows_as(op, tensor, dtype);
        }
        self.rows_as(op, &self.copied(op, tensor)?, dtype)
    }

    /// The address of an optional operand as [`OnCuda::gapless_as`] gives it; 0 without one.
    pub(super) fn optional_f32(&self, op: &str, tensor: Option<&Tensor>) -> Result<Optional> {
        let rows = tensor.map(|tensor| self.gapless_as(op, tensor, DType::F32));
        Ok(Optional(rows.transpose()?))
    }

    /// The rows of an optional operand in `dtype`.
    pub(super) fn optional_rows(
        &self,
        op: &str,
        tensor: Option<&Tensor>,
        dtype: DType,
    ) -> Result<Optional> {
        let rows = tensor.map(|tensor| self.rows_as(op, tensor, dtype));
        Ok(Optional(rows.transpose()?))
    }

    /// A vector as products add it: without gaps, in `dtype`. Of a weight it is rounded once.
    pub(super) fn vector(&self, op: &str, tensor: &Tensor, dtype: DType) -> Result<Rows> {
        let buffer = self.buffer(op, tensor)?;
        let whole =
            tensor.is_contiguous() && tensor.checked_shape().elements() == buffer.elements();
        if buffer.dtype() == dtype || !buffer.is_weight() || !whole {
            return self.gapless_as(op, tensor, dtype);
        }
        if let Some(rounded) = buffer.rounded().filter(|it| it.dtype() == dtype) {
            let shape = *tensor.checked_shape();
            return self.rows(op, &Tensor::new(Storage::Cuda(rounded.clone()), shape));
        }
        let weights = Self {
            account: None,
            ..self.unrecorded()
        };
        let rows = weights.rows_as(op, tensor, dtype)?;
        buffer.keep_rounded(rows.buffer.clone());
        Ok(rows)
    }

    /// Launches a kernel with a thread for each chunk of `of`'s rows.
    pub(super) fn launch_chunks(
        &self,
        op: &str,
        name: &str,
        of: &Rows,
        arguments: &mut [Argument],
    ) -> Result<()> {
        let chunks = (of.width as usize).div_ceil(CHUNK);
        self.launch_threads(op, name, of.rows as usize * chunks, THREADS, arguments)
    }

    /// Launches a kernel with so many threads, in blocks of `block`.
    pub(super) fn launch_threads(
        &self,
        op: &str,
        name: &str,
        threads: usize,
        block: usize,
        arguments: &mut [Argument],
    ) -> Result<()> {
        let grid = Grid {
            blocks: [self.blocks_of(op, threads, block)?, 1, 1],
            threads: block as u32,
            shared_bytes: 0,
        };
        self.launch(op, name, grid, arguments)
    }

    /// Blocks of `block` threads for so many threads.
    pub(super) fn blocks_of(&self, op: &str, threads: usize, block: usize) -> Result<u32> {
        // Kernels count threads in 32 bits.
        if threads.next_multiple_of(block) > i32::MAX as usize {
            bail!(Unsupported, "{op}: {threads} threads, 2^31 is the limit");
        }
        Ok(threads.div_ceil(block) as u32)
    }
}

/// Rows that need not be there.
pub(super) struct Optional(Option<Rows>);

impl Optional {
    /// Where they are; 0, which kernels take for none.
    pub fn address(&self) -> u64 {
        self.0.as_ref().map_or(0, |rows| rows.address)
    }

    /// Elements from one to the next.
    pub fn stride(&self) -> i64 {
        self.0.as_ref().map_or(0, |rows| rows.stride)
    }
}

/// A tensor of all of a buffer, without gaps.
pub(super) fn on_device(buffer: DeviceBuffer, shape: Shape) -> Tensor {
    Tensor::new(Storage::Cuda(Arc::new(buffer)), shape)
}

/// The elements of a tensor in a device's memory, row by row.
pub(crate) fn download(tensor: &Tensor, device: &Arc<CudaDevice>) -> Result<Vec<f32>> {
    const OP: &str = "read-back";
    let cuda = OnCuda {
        device,
        account: None,
        dtype: DType::F32,
        recorder: None,
    };
    let rows = cuda.gapless_as(OP, tensor, DType::F32)?;
    let mut values = vec![0.0; tensor.checked_shape().elements()];
    let bytes = device.read(OP, rows.address, values.len() * 4)?;
    read_f32(DType::F32, &bytes, &mut values);
    Ok(values)
}
