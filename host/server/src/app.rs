//! Joins the parts into a running server: the only place that knows them all.

mod load;

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use tenon_tensor::Device;

use crate::config::ServeOptions;
use crate::observability::{self, Metrics};
use crate::sandbox::{Sandbox, SandboxLimits};
use crate::service::{RequestLimits, Service};

use load::Loader;

/// Serves until the process is told to stop.
pub fn serve(options: ServeOptions) -> anyhow::Result<()> {
    observability::init_logging(options.log_format)?;
    let started = Instant::now();
    // Bound first: a port in use is told before a model is loaded.
    let listener = TcpListener::bind((options.host.as_str(), options.port))
        .with_context(|| format!("cannot listen on {}:{}", options.host, options.port))?;
    let address = listener.local_addr()?;

    let device = device(options.threads)?;
    let sandbox = Sandbox::new(SandboxLimits::default())?;
    let metrics = Arc::new(Metrics::new());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(device.threads())
        .thread_name("tenon-io")
        .enable_all()
        .build()?;

    let loader = Loader::new(device.clone(), sandbox, metrics.clone(), options.scheduler());
    let mut deployments = Vec::new();
    for bundle in options.bundles()? {
        deployments.push(Arc::new(loader.deploy(&bundle)?));
    }
    let models: Vec<String> = deployments
        .iter()
        .map(|deployment| format!("{} ({})", deployment.card.name, deployment.card.dtype))
        .collect();
    let service = Arc::new(Service::new(deployments, RequestLimits::default(), metrics.clone())?);
    eprintln!(
        "tenon ready: http://{address}  model {}  {}, {} threads, {} MiB resident, {:.1} s",
        models.join(", "),
        device.name(),
        device.threads(),
        observability::resident_bytes().unwrap_or(0) >> 20,
        started.elapsed().as_secs_f64(),
    );
    runtime.block_on(async move {
        crate::http::serve(listener, options.http(), service.clone(), metrics).await?;
        service.drain().await;
        anyhow::Ok(())
    })
}

/// Loads a bundle or a model directory as `serve` would, and prints what it found.
pub fn check(target: &Path) -> anyhow::Result<()> {
    let device = device(None)?;
    let sandbox = Sandbox::new(SandboxLimits::default())?;
    let bundle = crate::bundles::open(target)?;
    let scheduler = ServeOptions::default().scheduler();
    let loader = Loader::new(device, sandbox, Arc::new(Metrics::new()), scheduler);
    let deployment = loader.deploy(&bundle)?;
    let card = &deployment.card;
    println!(
        "{}: ok\n  weights     {} ({})\n  max tokens  {}\n  dimensions  {}{}",
        card.name,
        card.source,
        card.dtype,
        card.max_tokens,
        card.dimensions,
        if card.matryoshka { " (Matryoshka)" } else { "" },
    );
    for (role, component) in bundle.roles.iter() {
        println!("  {:<17} {component}", role.name());
    }
    Ok(())
}

fn device(threads: Option<usize>) -> anyhow::Result<Device> {
    let threads = threads.unwrap_or_else(tenon_tensor::available_cpus);
    Device::cpu(threads).context("cannot set up the CPU device")
}
