//! The speed of each model family: its tiny checkpoint, and one in the sizes of a known model.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tenon_tensor::Device;
use tenon_tests::server::Server;
use tenon_tests::tools::root;

use crate::matrices::Matrices;
use crate::peak;
use crate::servers::peer_python;

/// Tokens of an input, where the model takes as many.
const INPUT_TOKENS: u64 = 256;
/// How often a row is measured, and the machine's limit before it.
const ROUNDS: u32 = 4;

/// Where families are measured.
struct Place {
    device: Device,
    /// What the server is told.
    name: &'static str,
    /// Tokens of a request, and of a batch.
    request_tokens: u64,
    /// So many that one request waits while one is computed, or two on a device of its own.
    clients: usize,
}

impl Place {
    fn new(cuda: bool) -> Result<Self> {
        if cuda {
            return Ok(Self {
                device: Device::cuda(0, None)?,
                name: "cuda",
                request_tokens: 16_384,
                clients: 3,
            });
        }
        let threads = std::thread::available_parallelism()?.get();
        Ok(Self {
            device: Device::cpu(threads)?,
            name: "cpu",
            request_tokens: 1024,
            clients: 2,
        })
    }
}

/// Measures all families for `time` each and prints a table.
pub fn run(cuda: bool, time: Duration) -> Result<()> {
    let real = root().join("target/families");
    println!("making checkpoints of real sizes in {}", real.display());
    let script = root().join("tests/bench/families/make_checkpoints.py");
    let status = Command::new(peer_python()?)
        .arg(script)
        .arg(&real)
        .status()?;
    ensure!(status.success(), "make_checkpoints.py ended with {status}");
    let models: BTreeMap<String, String> =
        serde_json::from_slice(&fs::read(real.join("models.json"))?)?;

    let place = Place::new(cuda)?;
    println!("{}", place.device.name());
    println!("GFLOP/s are those of the weights' products alone, without attention;");
    println!("the peak is the mean of readings between the {ROUNDS} rounds of each row");
    println!(
        "\n{:<14} {:<40} {:>5} {:>7} {:>10} {:>9} {:>7}",
        "family", "checkpoint", "dtype", "tokens", "tokens/s", "GFLOP/s", "of peak"
    );
    for (family, model) in &models {
        let folders = ["families", "multimodal"].map(|it| root().join("tests").join(it));
        let tiny = folders
            .map(|it| it.join(family))
            .into_iter()
            .find(|it| it.is_dir());
        let tiny = tiny.with_context(|| format!("{family}: no tiny checkpoint"))?;
        row(&place, family, "tiny", &tiny, time)?;
        row(&place, family, model, &real.join(family), time)?;
    }
    Ok(())
}

fn row(place: &Place, family: &str, model: &str, path: &Path, time: Duration) -> Result<()> {
    let weights = Matrices::read(&path.join("model.safetensors"))
        .with_context(|| format!("{}", path.display()))?;
    let directory = path.to_str().context("a path in UTF-8")?;
    let tokens = place.request_tokens.to_string();
    let server = Server::start(&[
        "--model",
        directory,
        "--dtype",
        weights.dtype,
        "--device",
        place.name,
        "--max-batch-tokens",
        &tokens,
    ]);
    let load = Load::new(&server, place)?;
    load.ask(&server)?;
    let (mut rate, mut peak) = (0.0, 0.0);
    for _ in 0..ROUNDS {
        peak += peak::flops(&place.device, weights.products())? / f64::from(ROUNDS);
        rate += load.tokens_per_s(&server, time / ROUNDS)? / f64::from(ROUNDS);
    }
    let flops = rate * weights.flop_per_token;
    println!(
        "{family:<14} {model:<40} {:>5} {:>7} {rate:>10.0} {:>9.1} {:>6.0}%",
        weights.dtype,
        load.input_tokens,
        flops / 1e9,
        100.0 * flops / peak
    );
    Ok(())
}

/// Requests that fill a batch with inputs as long as the model takes.
struct Load {
    body: Value,
    /// Tokens of one input.
    input_tokens: u64,
    /// How many ask.
    clients: usize,
}

impl Load {
    fn new(server: &Server, place: &Place) -> Result<Self> {
        let models = server.get("/v1/models").json();
        let model = &models["data"][0];
        let limit = model["max_model_len"].as_u64().context("max_model_len")?;
        let input_tokens = limit.min(INPUT_TOKENS);
        let input: Vec<u64> = (0..input_tokens)
            .map(|index| 10 + index * 7 % 100)
            .collect();
        let inputs = vec![input; (place.request_tokens / input_tokens) as usize];
        Ok(Self {
            body: json!({"model": model["id"], "input": inputs, "encoding_format": "base64"}),
            input_tokens,
            clients: place.clients,
        })
    }

    /// Tokens that are answered a second while all clients ask without a pause, from the first
    /// request to the last answer.
    fn tokens_per_s(&self, server: &Server, time: Duration) -> Result<f64> {
        let started = Instant::now();
        let client = || {
            let mut tokens = 0;
            while started.elapsed() < time {
                tokens += self.ask(server)?;
            }
            Ok(tokens)
        };
        let counts: Vec<Result<u64>> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients).map(|_| scope.spawn(client)).collect();
            let joined = clients.into_iter().map(|client| client.join());
            joined.map(|count| count.expect("a client")).collect()
        });
        let elapsed = started.elapsed().as_secs_f64();
        let total: u64 = counts.into_iter().sum::<Result<u64>>()?;
        Ok(total as f64 / elapsed)
    }

    fn ask(&self, server: &Server) -> Result<u64> {
        let answer = server.embeddings(&self.body);
        ensure!(answer.status == 200, "{:.500}", answer.text());
        let tokens = answer.json()["usage"]["prompt_tokens"].as_u64();
        tokens.context("usage")
    }
}
