//! A weight of rank 2 or more: mapped bytes, and what operations made of them.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::file::TensorFile;
use crate::Device;
use crate::convert::{read_f32, write_f32};
use crate::cpu::{CpuDevice, Format, PackedWeight, TableRow};
use crate::cuda::{CudaDevice, DeviceBuffer, Fp8Matrix, fits_fp8};
use crate::device::Backend;
use crate::dtype::DType;
use crate::error::{Result, bail};
use crate::shape::Shape;

/// Bytes of a weight that are copied to a device at a time.
const STAGED_BYTES: usize = 8 << 20;

/// Resident bytes of a checkpoint's weights against a limit. Components choose what to fuse
/// and use: without a limit they could make the host keep many copies of everything.
pub(super) struct Ledger {
    resident: AtomicU64,
    limit: AtomicU64,
}

impl Ledger {
    /// Nothing is resident, nothing allowed.
    pub fn new() -> Self {
        Self {
            resident: AtomicU64::new(0),
            limit: AtomicU64::new(0),
        }
    }

    /// Allows more.
    pub fn extend(&self, bytes: u64) {
        self.limit.fetch_add(bytes, Relaxed);
    }

    /// Bytes that are resident.
    pub fn resident(&self) -> u64 {
        self.resident.load(Relaxed)
    }

    /// Takes bytes before they are allocated; `name` is named in the error.
    pub fn take(&self, name: &str, bytes: u64) -> Result<()> {
        let limit = self.limit.load(Relaxed);
        let add = |resident: u64| resident.checked_add(bytes).filter(|&sum| sum <= limit);
        match self.resident.fetch_update(Relaxed, Relaxed, add) {
            Ok(_) => Ok(()),
            Err(resident) => bail!(
                QuotaExceeded,
                "weights: {bytes} bytes for {name} on top of {resident} are over the limit of \
                 {limit}"
            ),
        }
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&self, bytes: u64) {
        self.resident.fetch_sub(bytes, Relaxed);
    }
}

/// Some rows of a weight, one after the other in a file.
pub(super) struct Part {
    pub file: Arc<TensorFile>,
    pub range: Range<usize>,
    pub dtype: DType,
    pub rows: usize,
}

/// A weight: rows of its first dimension, from one tensor or several.
pub(crate) struct Weight {
    name: String,
    shape: Shape,
    /// What its elements are in, but for products in 8 bits.
    dtype: DType,
    /// What it is served in.
    served: DType,
    parts: Vec<Part>,
    device: Device,
    ledger: Arc<Ledger>,
    packed: OnceLock<PackedWeight>,
    table: OnceLock<Table>,
    uploaded: OnceLock<Arc<DeviceBuffer>>,
    quantized: OnceLock<Fp8Matrix>,
    making: Mutex<()>,
}

/// The rows of a weight that is an embedding table.
enum Table {
    /// As they are in the files.
    Mapped,
    /// Rounded to bfloat16, because the files hold f32 and bfloat16 is served.
    Bf16(Vec<u8>),
}

impl Weight {
    pub(super) fn new(
        name: String,
        shape: Shape,
        served: DType,
        parts: Vec<Part>,
        device: &Device,
        ledger: &Arc<Ledger>,
    ) -> Self {
        Self {
            name,
            shape,
            dtype: served.of_tensors(),
            served,
            parts,
            device: device.clone(),
            ledger: ledger.clone(),
            packed: OnceLock::new(),
            table: OnceLock::new(),
            uploaded: OnceLock::new(),
            quantized: OnceLock::new(),
            making: Mutex::new(()),
        }
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What its elements are in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Elements of one entry of the first dimension.
    pub fn width(&self) -> usize {
        self.shape.elements() / self.height()
    }

    fn height(&self) -> usize {
        self.shape.dims()[0]
    }

    /// The stored bytes of a row, which is there.
    fn stored_row(&self, row: usize) -> (DType, &[u8]) {
        let mut row = row;
        for part in &self.parts {
            if row < part.rows {
                let bytes = self.width() * part.dtype.size();
                let start = part.range.start + row * bytes;
                return (part.dtype, part.file.bytes(&(start..start + bytes)));
            }
            row -= part.rows;
        }
        (DType::F32, &[])
    }

    /// Reads a row, which is there, as f32. What is served in bfloat16 is rounded to it.
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        let (dtype, bytes) = self.stored_row(row);
        read_f32(dtype, bytes, out);
    }

    fn release(&self) {
        for part in &self.parts {
            part.file.release(&part.range);
        }
    }

    /// The weight packed for its device, `[out, in]`; made once, at the first use.
    pub fn packed(&self) -> Result<&PackedWeight> {
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let device = self.cpu_device()?;
        let format = Format::of(self.dtype, device.level());
        let (n, k) = (self.height(), self.width());
        let bytes = PackedWeight::bytes_of(device.level(), format, [n, k]);
        self.ledger.take(&self.name, bytes)?;
        let read = |row: usize, out: &mut [f32]| self.read_row(row, out);
        let packed = PackedWeight::new(device, None, format, [n, k], read)
            .inspect_err(|_| self.ledger.give_back(bytes))?;
        self.release();
        Ok(self.packed.get_or_init(|| packed))
    }

    fn cpu_device(&self) -> Result<&Arc<CpuDevice>> {
        match self.device.backend() {
            Backend::Cpu(device) => Ok(device),
            Backend::Cuda(_) => bail!(
                InvalidArgument,
                "weights: {} is on another device than its operation",
                self.name
            ),
        }
    }

    /// The weight in a CUDA device's memory, as its elements are; made once, at the first use.
    pub fn uploaded(&self, device: &Arc<CudaDevice>) -> Result<&Arc<DeviceBuffer>> {
        if let Some(uploaded) = self.uploaded.get() {
            return Ok(uploaded);
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(uploaded) = self.uploaded.get() {
            return Ok(uploaded);
        }
        let bytes = (self.shape.elements() * self.dtype.size()) as u64;
        self.ledger.take(&self.name, bytes)?;
        let uploaded = self
            .upload(device)
            .inspect_err(|_| self.ledger.give_back(bytes))?;
        self.release();
        Ok(self.uploaded.get_or_init(|| Arc::new(uploaded)))
    }

    /// The weight for products in 8 bits, none where it is not served so or has another shape;
    /// made once, at the first use. What only products use has no other copy on the device.
    pub fn quantized(&self, device: &Arc<CudaDevice>) -> Result<Option<&Fp8Matrix>> {
        if self.served != DType::FP8 || !fits_fp8(&self.shape) {
            return Ok(None);
        }
        if let Some(quantized) = self.quantized.get() {
            return Ok(Some(quantized));
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(quantized) = self.quantized.get() {
            return Ok(Some(quantized));
        }
        let shape = [self.height(), self.width()];
        let bytes = Fp8Matrix::bytes_of(shape);
        self.ledger.take(&self.name, bytes)?;
        let quantize = || {
            let quantized = Fp8Matrix::for_weight(&self.name, device, shape)?;
            self.each_staged(|first, rows| quantized.write_rows(&self.name, first, rows))?;
            Ok(quantized)
        };
        let quantized = quantize().inspect_err(|_| self.ledger.give_back(bytes))?;
        self.release();
        Ok(Some(self.quantized.get_or_init(|| quantized)))
    }

    fn upload(&self, device: &Arc<CudaDevice>) -> Result<DeviceBuffer> {
        let (elements, size) = (self.shape.elements(), self.dtype.size());
        let buffer = DeviceBuffer::new(&self.name, device, None, self.dtype, elements)?;
        self.each_staged(|first, rows| {
            buffer.write(&self.name, first * self.width() * size, rows)
        })?;
        Ok(buffer)
    }

    /// Calls `write` with some rows after the other, as their elements are: the first one's number,
    /// and their bytes.
    fn each_staged(&self, mut write: impl FnMut(usize, &[u8]) -> Result<()>) -> Result<()> {
        let size = self.dtype.size();
        let mut staged = Vec::new();
        let mut row = vec![0.0; self.width()];
        let mut first = 0;
        for index in 0..self.height() {
            let (stored, bytes) = self.stored_row(index);
            if stored == self.dtype {
                staged.extend_from_slice(bytes);
            } else {
                let start = staged.len();
                staged.resize(start + self.width() * size, 0);
                read_f32(stored, bytes, &mut row);
                write_f32(self.dtype, &row, &mut staged[start..]);
            }
            if staged.len() >= STAGED_BYTES || index + 1 == self.height() {
                write(first, &staged)?;
                first = index + 1;
                staged.clear();
                self.release();
            }
        }
        Ok(())
    }

    /// The weight as an embedding table; made once, at the first use.
    pub fn table(&self) -> Result<TableRows<'_>> {
        if let Some(table) = self.table.get() {
            return Ok(TableRows {
                weight: self,
                table,
            });
        }
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = self.table.get() {
            return Ok(TableRows {
                weight: self,
                table,
            });
        }
        let stored: usize = self.parts.iter().map(|part| part.range.len()).sum();
        let rounds =
            self.dtype == DType::BF16 && self.parts.iter().any(|part| part.dtype == DType::F32);
        let bytes = if rounds {
            self.shape.elements() * 2
        } else {
            stored
        };
        self.ledger.take(&self.name, bytes as u64)?;
        let table = if rounds {
            Table::Bf16(self.rounded())
        } else {
            Table::Mapped
        };
        Ok(TableRows {
            weight: self,
            table: self.table.get_or_init(|| table),
        })
    }

    /// All rows in bfloat16, letting go of the mapped pages on the way.
    fn rounded(&self) -> Vec<u8> {
        const RELEASE_BYTES: usize = 8 << 20;
        let width = self.width();
        let mut bytes = vec![0; self.shape.elements() * 2];
        let mut row = vec![0.0; width];
        let mut unreleased = 0;
        for (index, out) in bytes.chunks_exact_mut(width * 2).enumerate() {
            self.read_row(index, &mut row);
            write_f32(DType::BF16, &row, out);
            unreleased += width * 4;
            if unreleased >= RELEASE_BYTES {
                self.release();
                unreleased = 0;
            }
        }
        self.release();
        bytes
    }
}

/// The rows of an embedding table.
pub(crate) struct TableRows<'a> {
    weight: &'a Weight,
    table: &'a Table,
}

impl<'a> TableRows<'a> {
    /// A row, which is there.
    pub fn row(&self, row: usize) -> TableRow<'a> {
        match self.table {
            Table::Mapped => {
                let (dtype, bytes) = self.weight.stored_row(row);
                TableRow::Bytes(dtype, bytes)
            }
            Table::Bf16(bytes) => {
                let width = self.weight.width() * 2;
                TableRow::Bytes(DType::BF16, &bytes[row * width..][..width])
            }
        }
    }
}
