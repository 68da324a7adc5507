//! What is measured of one model, and in which order: whatever is compared is measured close
//! together, since a device that is hot is slower than one that is not.

use std::thread;

use anyhow::{Context as _, Result, anyhow};
use tenon::bundles::{self, Bundle};
use tenon_tensor::{DType, Device, Weights};

use super::executors::{Executors, Passes, batch};
use super::models::{Cost, Model};
use super::options::{Options, Part};
use super::peer::Peer;
use super::report::{Figure, Latency, Measured, Tax, Throughput};
use super::serving::{Serving, Texts};

/// Tokens of an input in the comparison with native code.
const TAX_TOKENS: usize = 128;
/// Components and native code in turn, so often.
const TAX_ROUNDS: u32 = 4;
/// Texts that sentence-transformers batches.
const MAX_ENCODE_BATCH: usize = 512;

/// The benchmark's means.
pub struct Bench {
    /// What the command line asks for.
    pub options: Options,
    device: Device,
    peer: Option<Peer>,
}

/// A model, loaded by all who run it.
struct Loaded {
    model: Model,
    bundle: Bundle,
    weights: Weights,
    executors: Executors,
    /// The same without recorded passes, where inputs alone are measured.
    plain: Option<Executors>,
    serving: Option<Serving>,
    /// Whether the peer has it too.
    torch: bool,
}

impl Bench {
    /// Of a device, beside a peer.
    pub fn new(options: Options, device: Device, peer: Option<Peer>) -> Self {
        Self {
            options,
            device,
            peer,
        }
    }

    /// Measures one model.
    pub fn model(&mut self, model: &Model) -> Result<Measured> {
        let mut measured = Measured {
            name: model.name,
            ..Measured::default()
        };
        if !self.options.has_time() {
            println!("\nSKIPPED {}: the time is up", model.name);
            return Ok(measured);
        }
        let folder = model.folder(&self.options.checkpoints);
        let cost = Cost::read(&folder)?;
        println!(
            "\n{} in batches of {} tokens",
            model.name, model.batch_tokens
        );
        let mut loaded = self.load(model).context(model.name)?;
        Throughput::headline();
        for &tokens in model.lengths {
            if !self.options.has_time() {
                println!("SKIPPED {tokens} tokens: the time is up");
                continue;
            }
            let row = self.throughput(&mut loaded, tokens, cost.flop_per_token(tokens));
            row.row();
            measured.throughput.push(row);
        }
        for &tokens in model.alone {
            if self.options.wants(Part::Latency) {
                let row = self.latency(&mut loaded, tokens);
                row.row();
                measured.latency.push(row);
            }
        }
        if self.options.wants(Part::Tax)
            && let Some(components) = loaded.plain.take()
        {
            let tax = figure("sandbox tax", self.tax(&loaded, components));
            measured.tax = tax.inspect(Tax::row);
        }
        Ok(measured)
    }

    /// All load it at a time.
    fn load(&mut self, model: &Model) -> Result<Loaded> {
        let folder = model.folder(&self.options.checkpoints);
        let bundle = bundles::from_directory(&folder, Some(model.name))?;
        let wants_http = self.options.wants(Part::Http);
        let (device, peer) = (&self.device, self.peer.as_mut());
        let (executors, serving, torch) = thread::scope(|scope| {
            let serving =
                wants_http.then(|| scope.spawn(|| Serving::start(model, &folder, &bundle)));
            let torch = peer.map(|peer| scope.spawn(|| peer.load(&folder)));
            let executors = Weights::open(device, &bundle.weights_dir, DType::BF16)
                .map_err(anyhow::Error::from)
                .and_then(|weights| {
                    let run = |passes| Executors::sandboxed(&bundle, device, &weights, passes);
                    let executors = run(Passes::Recorded)?;
                    let plain = match model.alone.is_empty() {
                        true => None,
                        false => Some(run(Passes::Plain)?),
                    };
                    Ok((weights, executors, plain))
                });
            let serving = serving.and_then(|it| figure("HTTP", joined(it.join())));
            let torch = torch.and_then(|it| figure("torch", joined(it.join())));
            (executors, serving, torch)
        });
        let (weights, executors, plain) = executors?;
        if let Some(torch) = &torch {
            println!("beside {torch}");
        }
        Ok(Loaded {
            model: *model,
            bundle,
            weights,
            executors,
            plain,
            serving,
            torch: torch.is_some(),
        })
    }

    /// Packed batches of inputs of one length: the device before and after the others.
    fn throughput(&mut self, on: &mut Loaded, tokens: usize, flop_per_token: f64) -> Throughput {
        let time = self.options.time;
        let batch = batch(tokens, on.model.batch_tokens);
        let peak_before = self.peak(&on.model);
        let warm = on.executors.warm_up(&batch);
        let before = warm.and_then(|()| on.executors.tokens_per_s(&batch, time / 2));
        let before = figure("device", before);
        let torch = self.torch(on, |peer| {
            peer.tokens_per_s(batch.sequences(), tokens, time)
        });
        let serving = on.serving.as_ref();
        let http = serving
            .filter(|_| self.options.wants(Part::Http))
            .and_then(|serving| {
                let expected = before.unwrap_or(1.0);
                figure(
                    "HTTP",
                    serving.tokens_per_s(&on.model, tokens, expected, time),
                )
            });
        let after = figure("device", on.executors.tokens_per_s(&batch, time / 2));
        let peak_after = self.peak(&on.model);
        let encode = self.encode(on, tokens, batch.sequences());
        Throughput {
            tokens,
            flop_per_token,
            peak: mean(peak_before, peak_after),
            device: mean(before, after),
            http,
            torch,
            encode,
        }
    }

    /// One input alone.
    fn latency(&mut self, on: &mut Loaded, tokens: usize) -> Latency {
        let time = self.options.time / 2;
        let alone = batch(tokens, tokens);
        let mut device = Vec::new();
        let recorded = ("recorded", &mut on.executors);
        let plain = on.plain.as_mut().map(|plain| ("plain", plain));
        for (way, executors) in std::iter::once(recorded).chain(plain) {
            let warm = executors.warm_up(&alone);
            let median = warm.and_then(|()| executors.latency_ms(&alone, time));
            device.push((way, figure(way, median)));
        }
        let serving = on.serving.as_ref();
        let http = serving.and_then(|serving| figure("HTTP", serving.p50_ms(tokens, time)));
        Latency {
            tokens,
            device,
            http,
            torch: self.torch(on, |peer| peer.latency_ms(tokens, time)),
        }
    }

    /// Components and native code in turn, on the same weights. Passes are not recorded: those that
    /// are run without either.
    fn tax(&self, on: &Loaded, mut components: Executors) -> Result<Tax> {
        let tokens = TAX_TOKENS.min(on.model.batch_tokens / 2);
        let mut native = Executors::native(on.model.guest, &on.bundle, &self.device, &on.weights)?;
        let (full, alone) = (batch(tokens, on.model.batch_tokens), batch(tokens, tokens));
        for executors in [&mut components, &mut native] {
            executors.warm_up(&full)?;
            executors.warm_up(&alone)?;
        }
        let time = self.options.time / 2;
        let (mut tokens_per_s, mut latency_ms) = ([0.0; 2], [0.0; 2]);
        for _ in 0..TAX_ROUNDS {
            for (index, executors) in [&mut components, &mut native].into_iter().enumerate() {
                let rounds = f64::from(TAX_ROUNDS);
                tokens_per_s[index] += executors.tokens_per_s(&full, time)? / rounds;
                latency_ms[index] += executors.latency_ms(&alone, time / 2)? / rounds;
            }
        }
        Ok(Tax {
            tokens,
            tokens_per_s: Some(tokens_per_s.into()),
            latency_ms: Some(latency_ms.into()),
        })
    }

    fn encode(&mut self, on: &Loaded, tokens: usize, count: usize) -> Figure {
        if !self.options.wants(Part::Encode) || !on.torch {
            return None;
        }
        let texts = || -> Result<(Vec<String>, usize)> {
            let texts = Texts::of(&on.bundle)?;
            let texts = (0..count).map(|seed| texts.text(tokens, seed));
            let texts: Vec<(String, usize)> = texts.collect::<Result<_>>()?;
            let tokens = texts.iter().map(|(_, tokens)| tokens).sum();
            Ok((texts.into_iter().map(|(text, _)| text).collect(), tokens))
        };
        let (texts, all_tokens) = figure("texts", texts())?;
        let (time, size) = (self.options.time, count.min(MAX_ENCODE_BATCH));
        let per_s = self.torch(on, |peer| peer.texts_per_s(&texts, size, time))?;
        Some(per_s * all_tokens as f64 / texts.len() as f64)
    }

    fn torch(&mut self, on: &Loaded, ask: impl FnOnce(&mut Peer) -> Result<f64>) -> Figure {
        let peer = self.peer.as_mut().filter(|_| on.torch)?;
        figure("torch", ask(peer))
    }

    /// Floating-point operations a second of products in bf16.
    fn peak(&self, model: &Model) -> Figure {
        // Products as large take an emulated device hours.
        if model.tiny {
            return None;
        }
        let peak = self.device.measure_flops(DType::BF16);
        figure("peak", peak.map_err(anyhow::Error::from))
    }
}

/// A figure; what went wrong is printed, and the rest goes on.
fn figure<T>(what: &str, result: Result<T>) -> Option<T> {
    result
        .inspect_err(|error| println!("FAILED {what}: {error:#}"))
        .ok()
}

fn joined<T>(result: thread::Result<Result<T>>) -> Result<T> {
    result.unwrap_or_else(|_| Err(anyhow!("it panicked")))
}

fn mean(one: Figure, other: Figure) -> Figure {
    Some((one? + other?) / 2.0)
}
