//! Joins the parts into a running server: the only place that knows them all.

mod back;
mod components;
mod devices;
mod load;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tenon_tensor::Device;
use tokio::runtime::{Builder, Runtime};

use crate::bundles;
use crate::config::ServeOptions;
use crate::http::{Lifecycle, Server, StopSignals};
use crate::media::{FetchLimits, Fetcher};
use crate::observability::{self, Metrics};
use crate::sandbox::{OnFailure, Sandbox, SandboxLimits};
use crate::scheduler::{Scheduler, SchedulerOptions};
use crate::service::{ImageReader, RequestLimits, Service};

use devices::{DeviceEvents, Devices, Readiness};
pub use load::Loader;
pub use worker::worker;

/// How long a deployment's worker may take to end after the last request is answered.
const WORKER_DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// How many of the processors answer requests: half of them are enough. Where they compute as
/// well, a thread that answers takes one from the middle of its work, for which the others wait.
pub fn answering_threads(threads: usize) -> usize {
    threads.div_ceil(2)
}

/// Serves until the process is told to stop.
pub fn serve(options: &ServeOptions) -> anyhow::Result<()> {
    observability::init_logs(options.logs())?;
    let started = Instant::now();
    let keys = options.keys()?;
    let fetcher = Fetcher::new(options.image_hosts()?, FetchLimits::default())?;
    let threads = options.threads.unwrap_or_else(tenon_tensor::available_cpus);
    let metrics = Arc::new(Metrics::new());
    let lifecycle = Lifecycle::new();
    let runtime = Builder::new_multi_thread()
        .worker_threads(answering_threads(threads))
        .thread_name("tenon-io")
        .enable_all()
        .build()?;

    // Listens first: a port in use is told before a model is loaded, and probes are
    // answered while it is.
    let server = runtime
        .block_on(Server::bind(
            (options.host.as_str(), options.port),
            options.http(),
            keys,
            lifecycle.clone(),
            metrics.clone(),
        ))
        .with_context(|| format!("cannot listen on {}:{}", options.host, options.port))?;
    let address = server.address();
    drain_on_signal(&runtime, lifecycle.clone())?;
    let serving = runtime.spawn(server.run());

    let events = DeviceEvents {
        on_failure: on_failure(metrics.clone()),
        observer: Arc::new(Readiness::new(lifecycle.clone(), metrics.clone())),
    };
    let log_format = options.log_format.name();
    let devices = Devices::open(&options.device, threads, log_format, &events)?;
    let devices = Arc::new(devices);
    let sandbox = Sandbox::new(SandboxLimits::default())?;
    let loader = Loader::onto(
        devices.clone(),
        sandbox,
        metrics.clone(),
        events.on_failure.clone(),
        options.scheduler(devices.batch_tokens()),
    );
    let mut deployments = Vec::new();
    for bundle in options.bundles()? {
        deployments.push(Arc::new(loader.deploy(&bundle)?));
    }
    let models: Vec<String> = deployments
        .iter()
        .map(|deployment| format!("{} ({})", deployment.card.name, deployment.card.dtype))
        .collect();
    let schedulers: Vec<Scheduler> = deployments
        .iter()
        .map(|deployment| deployment.scheduler.clone())
        .collect();
    for scheduler in schedulers.clone() {
        // A worker that died is repaired by a restart only; `/ready` says so.
        let lifecycle = lifecycle.clone();
        runtime.spawn(async move {
            scheduler.stopped().await;
            lifecycle.fail();
        });
    }
    let service = Arc::new(Service::new(
        deployments,
        RequestLimits::default(),
        ImageReader::new(fetcher, options.image_limits(), threads),
    )?);
    lifecycle.ready(service.clone());
    // Only now, so that a device that is lost already takes readiness back.
    devices.supervise()?;
    eprintln!(
        "tenon ready: http://{address}  model {}  {}, {} MiB resident, {:.1} s",
        models.join(", "),
        devices.name(),
        devices.resident_bytes() >> 20,
        started.elapsed().as_secs_f64(),
    );
    runtime
        .block_on(serving)
        .context("the HTTP server failed")?;
    for scheduler in &schedulers {
        // Every request has been answered or cut off; what still runs is nobody's.
        let drained = async { tokio::time::timeout(WORKER_DRAIN_LIMIT, scheduler.drain()).await };
        if runtime.block_on(drained).is_err() {
            tracing::warn!(
                limit_s = WORKER_DRAIN_LIMIT.as_secs(),
                "a worker did not end in time"
            );
        }
    }
    devices.stop();
    // A worker that hangs must not keep the process.
    runtime.shutdown_background();
    Ok(())
}

fn drain_on_signal(runtime: &Runtime, lifecycle: Lifecycle) -> anyhow::Result<()> {
    let _in_runtime = runtime.enter();
    let mut signals = StopSignals::install().context("cannot listen for signals")?;
    runtime.spawn(async move {
        signals.next().await;
        lifecycle.drain();
        // A second one does not wait for anything.
        signals.next().await;
        std::process::exit(1);
    });
    Ok(())
}

/// Loads a bundle or a model's folder as `serve` would, and prints what it found.
pub fn check(target: &Path) -> anyhow::Result<()> {
    let bundle = bundles::open(target)?;
    // On the processor, which every machine has.
    let device = Device::cpu(tenon_tensor::available_cpus());
    let loader = Loader::new(
        device.context("cannot set up the CPU as a device")?,
        Sandbox::new(SandboxLimits::default())?,
        Arc::new(Metrics::new()),
        SchedulerOptions::default(),
    );
    let card = loader.deploy(&bundle)?.card;
    println!("{}: ok", card.name);
    println!("  weights           {} ({})", card.source, card.dtype);
    println!("  max tokens        {}", card.max_tokens);
    let matryoshka = if card.matryoshka { " (Matryoshka)" } else { "" };
    println!("  dimensions        {}{matryoshka}", card.dimensions);
    for (role, component) in bundle.roles.iter() {
        println!("  {:<17} {component}", role.name());
    }
    Ok(())
}

/// Logs a component's failure, and counts it.
fn on_failure(metrics: Arc<Metrics>) -> OnFailure {
    Arc::new(move |failure| {
        metrics.trap(&failure.bundle, failure.role, &failure.component);
        tracing::error!(
            bundle = %failure.bundle, role = %failure.role,
            component = %failure.component, reason = %failure.reason,
            "component failed"
        );
    })
}
