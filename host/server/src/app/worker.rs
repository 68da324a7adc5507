//! `tenon worker`: the process that holds a CUDA device for the server that started it.

use std::io::stdin;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use indicatif::ProgressBar;
use tenon_tensor::Device;
use tokio::runtime::Builder;

use super::back;
use super::components::Components;
use crate::config::WorkerOptions;
use crate::http::StopSignals;
use crate::observability;
use crate::replica::{BackPlan, DeviceFacts, Host, Loaded, Report, Reporter, serve};
use crate::sandbox::{OnFailure, Sandbox, SandboxLimits};

/// Serves the server at the other end of the standard input until that is closed.
pub fn worker(options: &WorkerOptions) -> anyhow::Result<()> {
    observability::init_logs(options.logs())?;
    // A service's manager sends them to every process; the server drains first, and then
    // closes the socket. Their handlers stay when this is dropped.
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let in_runtime = runtime.enter();
    let _ignored = StopSignals::install().context("cannot listen for signals")?;
    drop(in_runtime);
    let socket = stdin().as_fd().try_clone_to_owned()?;
    let (ordinal, kernels) = (options.ordinal, options.kernels.clone());
    serve(UnixStream::from(socket), move |reporter| CudaHost {
        ordinal,
        kernels,
        reporter,
        open: None,
    })
    .context("the server's socket")
}

/// Loads back halves onto a CUDA device.
struct CudaHost {
    ordinal: usize,
    kernels: Option<PathBuf>,
    reporter: Reporter,
    open: Option<(Device, Components)>,
}

impl CudaHost {
    fn device(&self) -> anyhow::Result<(Device, Components)> {
        let ordinal = self.ordinal;
        let device = Device::cuda(ordinal, self.kernels.as_deref())
            .with_context(|| format!("cannot set up CUDA device {ordinal}"))?;
        let sandbox = Sandbox::new(SandboxLimits::default())?;
        Ok((device, Components::new(sandbox)))
    }
}

impl Host for CudaHost {
    fn open(&mut self) -> Result<DeviceFacts, String> {
        let (device, components) = self.device().map_err(|error| format!("{error:#}"))?;
        let facts = DeviceFacts {
            name: device.name(),
            batches_in_flight: device.batches_in_flight() as u32,
        };
        self.open = Some((device, components));
        Ok(facts)
    }

    fn load(&mut self, plan: &BackPlan) -> Result<Loaded, String> {
        let (device, components) = self.open.as_ref().ok_or("the device is not open")?;
        let reporter = self.reporter.clone();
        let on_failure: OnFailure =
            Arc::new(move |failure| reporter.send(&Report::Failed(failure.clone())));
        back::load(
            plan,
            device,
            components,
            &on_failure,
            &ProgressBar::hidden(),
        )
        .map_err(|error| format!("{error:#}"))
    }
}
