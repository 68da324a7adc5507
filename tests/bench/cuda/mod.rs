//! The benchmark on a GPU, `cargo xtask bench --device=cuda`: models in the sizes that are in use,
//! with random weights in bf16, on the device alone and over HTTP, beside torch in the same run.

mod executors;
mod measure;
mod models;
mod options;
mod peer;
mod report;
mod serving;

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tenon::bundles::pull::cache_root;
use tenon_tensor::Device;
use tenon_tests::tools::root;

use crate::servers::{cpu, peer_python};
use measure::Bench;
use models::Cost;
use options::{Options, Part};
use peer::Peer;

/// Whether the command line asks for this benchmark.
pub fn is_wanted(arguments: &[String]) -> bool {
    let has = |wanted| arguments.iter().any(|argument| argument == wanted);
    has("--device=cuda") && !has("--families")
}

/// Measures all models that the command line names, and prints tables.
pub fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    // As the server does, so that kernels are compiled once.
    let cache = cache_root().ok().map(|root| root.join("kernels"));
    let device = Device::cuda(0, cache.as_deref()).context("no benchmark on a GPU")?;
    let threads = std::thread::available_parallelism()?;
    println!("{}, {threads} threads of {}", device.name(), cpu());
    make_checkpoints(&options)?;
    let peer = match options.wants(Part::Torch) {
        true => Peer::start()
            .inspect_err(|error| println!("SKIPPED torch: {error:#}"))
            .ok(),
        false => None,
    };
    println!("random weights in bf16; {}", Cost::DEFINITION);
    println!(
        "of peak: of large products of cuBLASLt, read before and after each row (TFLOP/s: both)"
    );
    println!("HTTP and s-t (sentence-transformers' encode): texts to vectors; others: token ids");

    let mut bench = Bench::new(options, device, peer);
    let (mut all, mut failed) = (Vec::new(), Vec::new());
    for model in bench.options.models.clone() {
        match bench.model(&model) {
            Ok(measured) => all.push(measured),
            Err(error) => {
                println!("FAILED {}: {error:#}", model.name);
                failed.push(model.name);
            }
        }
    }
    report::ratios(&all);
    println!("{} s in all", bench.options.elapsed().as_secs());
    ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

/// Makes the checkpoints that are missing.
fn make_checkpoints(options: &Options) -> Result<()> {
    let missing = options.models.iter().filter(|model| {
        let weights = model.folder(&options.checkpoints).join("model.safetensors");
        !weights.exists()
    });
    let missing: Vec<&str> = missing.map(|model| model.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let status = Command::new(peer_python()?)
        .arg(root().join("tests/bench/families/make_checkpoints.py"))
        .arg(&options.checkpoints)
        .args(missing)
        .status()?;
    ensure!(status.success(), "make_checkpoints.py ended with {status}");
    Ok(())
}
