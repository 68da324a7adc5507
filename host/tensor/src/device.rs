//! Devices: which backend computes, with how many threads.

use std::path::Path;
use std::sync::Arc;

use crate::batch::Batch;
use crate::cpu::{self, CpuDevice, Level};
use crate::cuda::{self, CudaDevice, Recorder, Recording, product_flops};
use crate::dtype::DType;
use crate::error::{Result, bail};

/// The closed set of backends.
#[derive(Clone)]
pub(crate) enum Backend {
    Cpu(Arc<CpuDevice>),
    Cuda(Arc<CudaDevice>),
}

/// A device, what computes on it and its memory; shared by all deployments, cheap to clone.
#[derive(Clone)]
pub struct Device {
    backend: Backend,
    /// What records its operations; none where they are done.
    recorder: Option<Arc<Recorder>>,
}

impl Device {
    /// The processor, with `threads` threads and the widest instructions that it has.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] where `threads` is not in 1..=1024;
    /// [`crate::Error::Other`] where threads cannot be started.
    pub fn cpu(threads: usize) -> Result<Self> {
        Self::cpu_with_level(threads, Level::best())
    }

    /// As [`Device::cpu`] with instructions no wider than `level`: for tests and benchmarks.
    ///
    /// # Errors
    /// As [`Device::cpu`]; [`crate::Error::Unsupported`] where the processor lacks `level`.
    pub fn cpu_with_level(threads: usize, level: Level) -> Result<Self> {
        let backend = Backend::Cpu(Arc::new(CpuDevice::new(threads, level)?));
        Ok(Self {
            backend,
            recorder: None,
        })
    }

    /// How many CUDA devices there are.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] where the driver or a library is missing or finds none; the
    /// text says which.
    pub fn cuda_count() -> Result<usize> {
        cuda::device_count()
    }

    /// The CUDA device of this number. Its kernels are compiled at the first start, which takes
    /// seconds; `cache`, a folder of this user's, keeps them for the next.
    ///
    /// # Errors
    /// As [`Device::cuda_count`]; [`crate::Error::Unsupported`] where there is no such device or
    /// it is older than compute capability 8.0; [`crate::Error::Other`] where its kernels cannot
    /// be compiled; [`crate::Error::DeviceLost`].
    pub fn cuda(ordinal: usize, cache: Option<&Path>) -> Result<Self> {
        let backend = Backend::Cuda(Arc::new(CudaDevice::open(ordinal, cache)?));
        Ok(Self {
            backend,
            recorder: None,
        })
    }

    /// What the device is, e.g. `cpu (avx2)` or `cuda:0 (NVIDIA H100)`.
    pub fn name(&self) -> String {
        match &self.backend {
            Backend::Cpu(cpu) => format!("cpu ({})", cpu.level().name()),
            Backend::Cuda(cuda) => cuda.name(),
        }
    }

    /// Whether weights can be served in this dtype.
    pub fn supports(&self, weights: DType) -> bool {
        self.check_weight_dtype(weights).is_ok()
    }

    /// Refuses a dtype that weights cannot be served in, and says why.
    pub(crate) fn check_weight_dtype(&self, weights: DType) -> Result<()> {
        let name = self.name();
        match (weights, &self.backend) {
            (DType::F32 | DType::BF16, _) | (DType::F16, Backend::Cuda(_)) => Ok(()),
            (DType::FP8, Backend::Cuda(cuda)) => cuda.check_fp8(),
            (DType::FP8, Backend::Cpu(_)) => {
                bail!(
                    Unsupported,
                    "weights: fp8 is for CUDA devices, not for {name}"
                )
            }
            _ => bail!(Unsupported, "weights: {name} does not serve {weights}"),
        }
    }

    /// The dtype that weights are served in where nothing else is asked for: bf16 where the
    /// device multiplies it at twice the rate of f32, else f32.
    pub fn preferred_weight_dtype(&self) -> DType {
        match &self.backend {
            Backend::Cpu(cpu) if !cpu.level().has_bf16_products() => DType::F32,
            _ => DType::BF16,
        }
    }

    /// How many threads compute; 1 for a CUDA device, which one thread feeds.
    pub fn threads(&self) -> usize {
        match &self.backend {
            Backend::Cpu(cpu) => cpu.threads(),
            Backend::Cuda(_) => 1,
        }
    }

    /// How many batches to work on at a time: two on a CUDA device, so that it computes one while
    /// the host queues the next.
    pub fn batches_in_flight(&self) -> usize {
        match &self.backend {
            Backend::Cpu(_) => 1,
            Backend::Cuda(_) => 2,
        }
    }

    /// The limit of matrix products in `dtype`: floating-point operations a second. It is measured
    /// at each call: what a benchmark compares with. On the processor, for some 10 ms, in
    /// registers on all threads, as it multiplies what is served in `dtype`; on a CUDA device as
    /// cuBLASLt multiplies large matrices.
    ///
    /// # Errors
    /// [`crate::Error::Other`] where the device has no memory left; [`crate::Error::DeviceLost`].
    pub fn measure_flops(&self, dtype: DType) -> Result<f64> {
        match &self.backend {
            Backend::Cpu(cpu) => Ok(cpu::flops(cpu, dtype)),
            Backend::Cuda(cuda) => product_flops(cuda, dtype),
        }
    }

    /// Whether forward passes can be recorded, to run again at less cost to the host.
    pub fn records(&self) -> bool {
        matches!(self.backend, Backend::Cuda(_))
    }

    /// Begins to record the pass over a batch of text: see [`Recording`].
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] where the device records nothing or the batch has images;
    /// [`crate::Error::DeviceLost`].
    pub fn record(&self, batch: &Batch) -> Result<Recording> {
        match &self.backend {
            Backend::Cpu(_) => bail!(Unsupported, "recording: the processor records nothing"),
            Backend::Cuda(cuda) => Recording::begin(cuda, batch),
        }
    }

    /// The CUDA device, whose operations are recorded.
    pub(crate) fn recording(device: &Arc<CudaDevice>, recorder: &Arc<Recorder>) -> Self {
        Self {
            backend: Backend::Cuda(device.clone()),
            recorder: Some(recorder.clone()),
        }
    }

    /// What records its operations.
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_deref()
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {} threads", self.name(), self.threads())
    }
}

/// How many processors this process may use: its affinity and its cgroup's quota, rounded
/// up, whichever is less.
pub fn available_cpus() -> usize {
    // The standard library reads sched_getaffinity and the quotas of cgroup v1 and v2.
    std::thread::available_parallelism().map_or(1, usize::from)
}
