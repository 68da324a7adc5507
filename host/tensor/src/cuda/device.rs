//! A CUDA device: its stream, its kernels, its matrix products.

use std::path::Path;
use std::sync::Arc;

use super::compile::{FP8_KERNELS, KERNELS, with_code};
use super::cublas::Product;
use super::driver::{Queue, Stream, device_count};
use super::fp8::Layers;
use super::launch::Kernels;
use super::matmul::Matmul;
use super::memory::{Allocation, ReadBack, Staging};
use super::pool::Pool;
use crate::error::{Result, bail};

/// What kernels need at least: the tensor cores' products of bf16.
const MIN_CAPABILITY: (i32, i32) = (8, 0);

/// What products of e4m3 need, and its conversions.
const FP8_CAPABILITY: (i32, i32) = (8, 9);

/// Architectures whose code only runs on themselves, and has instructions that others lack.
const SPECIFIC: [(i32, i32); 1] = [(9, 0)];

/// A device and what its operations share.
pub(crate) struct CudaDevice {
    ordinal: usize,
    name: String,
    capability: (i32, i32),
    kernels: Kernels,
    matmul: Matmul,
    layers: Layers,
    staging: Staging,
    read_back: ReadBack,
    recorded: Arc<Pool>,
    invalid: Allocation,
    stream: Arc<Stream>,
}

impl CudaDevice {
    /// Opens a device and gets its kernels ready; `cache` keeps their code for the next start.
    pub fn open(ordinal: usize, cache: Option<&Path>) -> Result<Self> {
        let count = device_count()?;
        if ordinal >= count {
            bail!(
                Unsupported,
                "cuda: there is no device {ordinal}, the driver has {count}"
            );
        }
        let stream = Arc::new(Stream::open(ordinal)?);
        let name = stream.name()?;
        let (major, minor) = stream.compute_capability()?;
        if (major, minor) < MIN_CAPABILITY {
            let (least, fraction) = MIN_CAPABILITY;
            bail!(
                Unsupported,
                "cuda: {name} has compute capability {major}.{minor}, {least}.{fraction} is needed"
            );
        }
        let suffix = if SPECIFIC.contains(&(major, minor)) {
            "a"
        } else {
            ""
        };
        let architecture = format!("sm_{major}{minor}{suffix}");
        let mut kernels = Kernels::new(&stream);
        let fp8: &[_] = match (major, minor) >= FP8_CAPABILITY {
            true => FP8_KERNELS,
            false => &[],
        };
        for source in KERNELS.iter().chain(fp8) {
            with_code(source, &architecture, cache, |code| kernels.load(code))?;
        }
        Ok(Self {
            ordinal,
            name,
            capability: (major, minor),
            kernels,
            matmul: Matmul::new(&stream)?,
            layers: Layers::default(),
            staging: Staging::default(),
            read_back: ReadBack::default(),
            recorded: Arc::default(),
            invalid: Allocation::zeros("cuda", &stream, 4)?,
            stream,
        })
    }

    /// E.g. `cuda:0 (NVIDIA H100)`.
    pub fn name(&self) -> String {
        format!("cuda:{} ({})", self.ordinal, self.name)
    }

    /// Refuses products of e4m3 where the device has none.
    pub fn check_fp8(&self) -> Result<()> {
        let (major, minor) = self.capability;
        if self.capability < FP8_CAPABILITY {
            let (least, fraction) = FP8_CAPABILITY;
            bail!(
                Unsupported,
                "weights: fp8 needs compute capability {least}.{fraction}, {} has {major}.{minor}",
                self.name()
            );
        }
        Ok(())
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub(super) fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Queues a matrix product.
    pub(super) fn multiply(&self, queue: Queue<'_>, op: &str, product: &Product) -> Result<()> {
        self.matmul.multiply(queue, op, self, product)
    }

    /// The products of this device.
    pub(super) fn matmul(&self) -> &Matmul {
        &self.matmul
    }

    /// What linear layers in 8 bits came down to.
    pub(super) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The memory of recordings.
    pub(super) fn recorded(&self) -> &Arc<Pool> {
        &self.recorded
    }

    /// What uploads go through.
    pub(super) fn staging(&self) -> &Staging {
        &self.staging
    }

    /// The address of a number that kernels set where they find an index out of range.
    pub(super) fn invalid(&self) -> u64 {
        self.invalid.address()
    }

    /// Waits for the device and reads bytes from an address in a live allocation.
    pub(super) fn read(&self, op: &str, address: u64, bytes: usize) -> Result<Vec<u8>> {
        let sources = [(address, bytes), (self.invalid(), 4)];
        let mut read = self.read_back.bytes(op, &self.stream, &sources)?;
        check_invalid(op, &read.split_off(bytes))?;
        Ok(read)
    }
}

/// Whether kernels found an index out of range: what they set, as read back. The host has checked
/// every index, so this would be a mistake of the host's.
pub(super) fn check_invalid(op: &str, invalid: &[u8]) -> Result<()> {
    if invalid != [0; 4] {
        bail!(DeviceLost, "{op}: a kernel found an index out of range");
    }
    Ok(())
}
