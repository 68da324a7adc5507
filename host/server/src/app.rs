//! Joins the parts into a running server: the only place that knows them all.

mod load;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tenon_tensor::Device;
use tokio::runtime::{Builder, Runtime};

use crate::bundles;
use crate::config::{DeviceChoice, ServeOptions};
use crate::http::{Lifecycle, Server, StopSignals};
use crate::media::{FetchLimits, Fetcher};
use crate::observability::{self, Metrics};
use crate::sandbox::{Sandbox, SandboxLimits};
use crate::scheduler::{Scheduler, SchedulerOptions};
use crate::service::{ImageReader, RequestLimits, Service};

pub use load::Loader;

/// How long a deployment's worker may take to end after the last request is answered.
const WORKER_DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// Serves until the process is told to stop.
pub fn serve(options: &ServeOptions) -> anyhow::Result<()> {
    observability::init_logs(options.logs())?;
    let started = Instant::now();
    let keys = options.keys()?;
    let fetcher = Fetcher::new(options.image_hosts()?, FetchLimits::default())?;
    let threads = options.threads.unwrap_or_else(tenon_tensor::available_cpus);
    let device = device(options.device, threads)?;
    let metrics = Arc::new(Metrics::new());
    let lifecycle = Lifecycle::new();
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
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

    let sandbox = Sandbox::new(SandboxLimits::default())?;
    let loader = Loader::new(
        device.clone(),
        sandbox,
        metrics.clone(),
        options.scheduler(),
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
    eprintln!(
        "tenon ready: http://{address}  model {}  {}, {} threads, {} MiB resident, {:.1} s",
        models.join(", "),
        device.name(),
        device.threads(),
        observability::resident_bytes().unwrap_or(0) >> 20,
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
    let loader = Loader::new(
        device(DeviceChoice::Auto, tenon_tensor::available_cpus())?,
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

fn device(choice: DeviceChoice, threads: usize) -> anyhow::Result<Device> {
    match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => {
            if choice == DeviceChoice::Auto {
                eprintln!("tenon: computing on the CPU: {}", why_no_cuda());
            }
            Device::cpu(threads).context("cannot set up the CPU as a device")
        }
        DeviceChoice::Cuda(ordinal) => {
            // Without a cache folder kernels are compiled at every start.
            let cache = bundles::pull::cache_root().ok();
            let cache = cache.map(|root| root.join("kernels"));
            Device::cuda(ordinal, cache.as_deref())
                .with_context(|| format!("cannot set up CUDA device {ordinal}"))
        }
    }
}

/// Why nobody but who asks for it gets a CUDA device.
fn why_no_cuda() -> String {
    match Device::cuda_count() {
        Ok(0) => "cuda: the driver finds no device".to_owned(),
        Ok(count) => format!("of {count} CUDA devices one is used with --device cuda only"),
        Err(error) => error.to_string(),
    }
}
