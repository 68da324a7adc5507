//! Which devices compute: the processor in this process, or CUDA devices in processes of
//! their own.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tenon_tensor::Device;

use crate::bundles;
use crate::config::DeviceChoice;
use crate::http::Lifecycle;
use crate::observability::{Metrics, resident_bytes, resident_bytes_of};
use crate::replica::{Program, Replica, ReplicaLimits, ReplicaObserver};
use crate::sandbox::OnFailure;

/// What computes.
pub enum Devices {
    /// The processor; in benchmarks any device of this process.
    Cpu(Device),
    /// One replica of every deployment a device.
    Cuda(Vec<Replica>),
}

/// Who is told what of devices.
pub struct DeviceEvents {
    /// Logs and counts a component's failure.
    pub on_failure: OnFailure,
    /// Counts restarts, and says when no device is usable.
    pub observer: Arc<dyn ReplicaObserver>,
}

impl Devices {
    /// Opens what the operator chose.
    pub fn open(
        choice: &DeviceChoice,
        threads: usize,
        log_format: &str,
        events: &DeviceEvents,
    ) -> anyhow::Result<Self> {
        let cuda = |ordinal| open_cuda(ordinal, log_format, events);
        match choice {
            DeviceChoice::Cpu => {}
            DeviceChoice::Auto => match first_usable(cuda) {
                Ok(replica) => return Ok(Self::Cuda(vec![replica])),
                Err(reason) => eprintln!("tenon: computing on the CPU: {reason}"),
            },
            DeviceChoice::Cuda(ordinals) => return Self::all(ordinals, cuda),
            DeviceChoice::AllCuda => {
                let count = Device::cuda_count().context("cannot find CUDA devices")?;
                anyhow::ensure!(count > 0, "cannot find CUDA devices: the driver finds none");
                return Self::all(&Vec::from_iter(0..count), cuda);
            }
        }
        let device = Device::cpu(threads).context("cannot set up the CPU as a device")?;
        Ok(Self::Cpu(device))
    }

    /// Tokens in one batch: enough that all of a device is at work, and on the processor few
    /// enough to stay in its caches.
    pub fn batch_tokens(&self) -> usize {
        match self {
            Self::Cpu(_) => 1024,
            Self::Cuda(_) => 16_384,
        }
    }

    /// All of these, at the same time: each may take seconds.
    fn all(
        ordinals: &[usize],
        open: impl Fn(usize) -> Result<Replica, String> + Sync,
    ) -> anyhow::Result<Self> {
        let replicas = at_once(ordinals, |&ordinal| open(ordinal));
        let replicas: Result<Vec<Replica>, String> = replicas.into_iter().collect();
        Ok(Self::Cuda(replicas.map_err(anyhow::Error::msg)?))
    }

    /// What they are, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu(device) => format!("{}, {} threads", device.name(), device.threads()),
            Self::Cuda(replicas) => {
                let names: Vec<String> = replicas.iter().map(Replica::name).collect();
                names.join(", ")
            }
        }
    }

    /// Resident bytes of this process and of every one that was started.
    pub fn resident_bytes(&self) -> u64 {
        let ids = self.replicas().iter().filter_map(Replica::process_id);
        let others = ids.filter_map(resident_bytes_of);
        resident_bytes().unwrap_or(0) + others.sum::<u64>()
    }

    /// From here on a device that is lost is brought back.
    pub fn supervise(&self) -> anyhow::Result<()> {
        for replica in self.replicas() {
            let name = replica.device();
            replica
                .supervise()
                .with_context(|| format!("cannot start the thread that watches {name}"))?;
        }
        Ok(())
    }

    /// Ends every process that was started.
    pub fn stop(&self) {
        at_once(self.replicas(), Replica::stop);
    }

    fn replicas(&self) -> &[Replica] {
        match self {
            Self::Cpu(_) => &[],
            Self::Cuda(replicas) => replicas,
        }
    }
}

/// Does the same for each, all at the same time.
pub fn at_once<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = items
            .iter()
            .map(|item| scope.spawn(move || work(item)))
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, R>| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        threads.into_iter().map(join).collect()
    })
}

fn open_cuda(ordinal: usize, log_format: &str, events: &DeviceEvents) -> Result<Replica, String> {
    // Without a cache folder kernels are compiled at every start.
    let kernels = bundles::pull::cache_root().ok();
    let kernels = kernels.map(|root| root.join("kernels"));
    Replica::start(
        &format!("cuda:{ordinal}"),
        Program::cuda(ordinal, kernels, log_format),
        ReplicaLimits::default(),
        events.observer.clone(),
        events.on_failure.clone(),
    )
}

/// The first CUDA device that can be set up; or why there is none.
fn first_usable(open: impl Fn(usize) -> Result<Replica, String>) -> Result<Replica, String> {
    let count = Device::cuda_count().map_err(|error| error.to_string())?;
    let mut reason = "cuda: the driver finds no device".to_owned();
    for ordinal in 0..count {
        match open(ordinal) {
            Ok(replica) => return Ok(replica),
            Err(why) => reason = why,
        }
    }
    Err(reason)
}

/// Turns readiness with the devices, and counts.
pub struct Readiness {
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
    usable: Mutex<BTreeSet<String>>,
}

impl Readiness {
    /// With no device usable yet.
    pub fn new(lifecycle: Lifecycle, metrics: Arc<Metrics>) -> Self {
        Self {
            lifecycle,
            metrics,
            usable: Mutex::default(),
        }
    }
}

impl ReplicaObserver for Readiness {
    fn usable(&self, device: &str, usable: bool) {
        // It is shown from the first time on, at zero.
        self.metrics.worker_restarts(device);
        // Nobody panics with the lock.
        let mut devices = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        match usable {
            true => devices.insert(device.to_owned()),
            false => devices.remove(device),
        };
        match devices.is_empty() {
            true => self.lifecycle.recover(),
            false => self.lifecycle.recovered(),
        }
    }

    fn restarted(&self, device: &str) {
        self.metrics.worker_restarts(device).inc();
    }
}
