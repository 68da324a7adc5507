//! Devices: which backend computes, with how many threads.

use std::sync::Arc;

use crate::cpu::{CpuDevice, Level, f32_flops};
use crate::dtype::DType;
use crate::error::Result;

/// The closed set of backends.
#[derive(Clone)]
enum Backend {
    Cpu(Arc<CpuDevice>),
}

/// A device, its threads and its buffer pool; shared by all deployments, cheap to clone.
#[derive(Clone)]
pub struct Device {
    backend: Backend,
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
        Ok(Self { backend })
    }

    /// What the device is, e.g. `cpu (avx2)`.
    pub fn name(&self) -> String {
        format!("cpu ({})", self.cpu_device().level().name())
    }

    /// Whether weights can be served in this dtype.
    pub fn supports(&self, weights: DType) -> bool {
        matches!(weights, DType::F32 | DType::BF16)
    }

    /// The dtype that weights are served in where nothing else is asked for: bf16 where the
    /// processor multiplies it at twice the rate of f32, else f32.
    pub fn preferred_weight_dtype(&self) -> DType {
        match self.cpu_device().level() {
            Level::Avx512Bf16 => DType::BF16,
            _ => DType::F32,
        }
    }

    /// How many threads compute.
    pub fn threads(&self) -> usize {
        self.cpu_device().threads()
    }

    /// The limit of f32 products: floating-point operations a second in registers on all
    /// threads. It is measured at each call, for some 10 ms: what a benchmark compares with.
    pub fn measure_f32_flops(&self) -> f64 {
        f32_flops(self.cpu_device())
    }

    pub(crate) fn cpu_device(&self) -> &Arc<CpuDevice> {
        let Backend::Cpu(cpu) = &self.backend;
        cpu
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
