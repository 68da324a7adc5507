//! Packed batches on the device, without a server: through the sandboxed components, and through
//! the same guest code compiled natively.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use model_bert::Bert;
use model_decoder::TextDecoder;
use tenon::batch::{BatchOutput, Executor, PackedBatch, Sequence};
use tenon::bundles::{Bundle, ComponentSource, builtin};
use tenon::role::Role;
use tenon::sandbox::{BackHalf, RoleConfig, Sandbox, SandboxLimits};
use tenon_tensor::{Device, Weights};

use super::models::Guest;
use crate::native;

/// Batches before anything is timed: the first allocate and choose algorithms, and the second of a
/// short one is recorded.
const WARM_UP_BATCHES: usize = 3;
/// The least number of readings of a latency.
const MIN_READINGS: usize = 20;

/// How short batches are run.
#[derive(Debug, Clone, Copy)]
pub enum Passes {
    /// As they are served: recorded when they come again.
    Recorded,
    /// Operation by operation.
    Plain,
}

/// As many executors as the device works on batches at a time.
pub struct Executors(Vec<Box<dyn Executor>>);

impl Executors {
    /// The components of a bundle, in their sandbox.
    pub fn sandboxed(
        bundle: &Bundle,
        device: &Device,
        weights: &Weights,
        passes: Passes,
    ) -> Result<Self> {
        let sandbox = Sandbox::new(SandboxLimits::default())?;
        let part = |role: Role| {
            let ComponentSource::Builtin(name) = bundle.roles.get(role) else {
                return Err(anyhow!("the role {role} is not a built-in component's"));
            };
            let component = builtin::component(name).context("a built-in component")?;
            let config = RoleConfig {
                checkpoint: bundle.checkpoint_config.as_str().into(),
                role: bundle.role_config.get(role).to_string().into(),
            };
            Ok((sandbox.compile(name, component.wasm)?, config))
        };
        let (model, pooling) = (part(Role::Model)?, part(Role::Pooling)?);
        let back_half = || -> Result<Box<dyn Executor>> {
            let (back, ..) = BackHalf::new(
                &sandbox,
                &bundle.name,
                model.clone(),
                pooling.clone(),
                weights.clone(),
                device.clone(),
            )?;
            Ok(Box::new(match passes {
                Passes::Recorded => back,
                Passes::Plain => back.without_recording(),
            }))
        };
        let backs = (0..device.batches_in_flight()).map(|_| back_half());
        Ok(Self(backs.collect::<Result<_>>()?))
    }

    /// The same guest code without a sandbox.
    pub fn native(
        guest: Guest,
        bundle: &Bundle,
        device: &Device,
        weights: &Weights,
    ) -> Result<Self> {
        let back_half = |_| match guest {
            Guest::Bert => native::executor::<Bert>(bundle, device, weights),
            Guest::Decoder => native::executor::<TextDecoder>(bundle, device, weights),
        };
        let backs = (0..device.batches_in_flight()).map(back_half);
        Ok(Self(backs.collect::<Result<_>>()?))
    }

    /// Runs a batch some times on each executor.
    pub fn warm_up(&mut self, batch: &PackedBatch) -> Result<()> {
        for executor in &mut self.0 {
            for _ in 0..WARM_UP_BATCHES {
                execute(executor.as_mut(), batch)?;
            }
        }
        Ok(())
    }

    /// Tokens a second while all executors run the batch without a pause, from the first start to
    /// the last end.
    pub fn tokens_per_s(&mut self, batch: &PackedBatch, time: Duration) -> Result<f64> {
        let started = Instant::now();
        let run = |executor: &mut Box<dyn Executor>| {
            let mut batches = 0;
            while started.elapsed() < time {
                execute(executor.as_mut(), batch)?;
                batches += 1;
            }
            anyhow::Ok(batches)
        };
        let counts: Vec<Result<usize>> = thread::scope(|scope| {
            let running = self.0.iter_mut().map(|it| scope.spawn(move || run(it)));
            let running: Vec<_> = running.collect();
            let joined = running.into_iter().map(|thread| thread.join());
            joined
                .map(|count| count.map_err(|_| anyhow!("an executor panicked"))?)
                .collect()
        });
        let elapsed = started.elapsed().as_secs_f64();
        let batches: usize = counts.into_iter().sum::<Result<_>>()?;
        Ok((batches * batch.token_ids.len()) as f64 / elapsed)
    }

    /// The median of the milliseconds that one executor takes for the batch, until its vectors
    /// are on the host.
    pub fn latency_ms(&mut self, batch: &PackedBatch, time: Duration) -> Result<f64> {
        let executor = self.0.first_mut().context("an executor")?;
        let started = Instant::now();
        let mut readings = Vec::new();
        while started.elapsed() < time || readings.len() < MIN_READINGS {
            let begin = Instant::now();
            execute(executor.as_mut(), batch)?;
            readings.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        readings.sort_by(f64::total_cmp);
        Ok(readings[readings.len() / 2])
    }
}

/// Inputs of so many tokens each, as many as a batch holds and at least one.
pub fn batch(input_tokens: usize, batch_tokens: usize) -> PackedBatch {
    let sequence = |seed: usize| Sequence {
        token_ids: (0..input_tokens)
            .map(|index| (10 + (seed * 31 + index * 7) % 100) as u32)
            .collect(),
        ..Sequence::default()
    };
    let count = (batch_tokens / input_tokens).max(1);
    let sequences: Vec<Sequence> = (0..count).map(sequence).collect();
    PackedBatch::pack(&sequences)
}

fn execute(executor: &mut dyn Executor, batch: &PackedBatch) -> Result<BatchOutput> {
    let output = executor.execute(batch)?;
    if let Some(Err(error)) = output.rows.iter().find(|row| row.is_err()) {
        return Err(anyhow!("{error}"));
    }
    Ok(output)
}
