//! A back half without a sandbox: the guest code of a model and of pooling, compiled natively.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use pooling_standard::Standard;
use tenon::batch::{BatchOutput, ExecuteError, Executor, PackedBatch};
use tenon::bundles::Bundle;
use tenon::sandbox::SandboxLimits;
use tenon_sdk::native::{Batch, Environment, enter};
use tenon_sdk::{Model, Pooling as _};
use tenon_tensor::{Account, Context, Device, Weights};

/// An executor whose model is `M`.
pub fn executor<M: Model + Send>(
    bundle: &Bundle,
    device: &Device,
    weights: &Weights,
) -> Result<Box<dyn Executor>> {
    let environment = |role| environment(bundle, role, device, weights);
    let for_model = environment(&bundle.role_config.model);
    let for_pooling = environment(&bundle.role_config.pooling);
    let refused = |error: String| anyhow!(error);
    let (model, info) = enter(for_model.clone(), M::load).map_err(refused)?;
    let load = || Standard::load(info.hidden_size);
    let (pooling, _) = enter(for_pooling.clone(), load).map_err(refused)?;
    Ok(Box::new(NativeBack {
        for_model,
        model,
        for_pooling,
        pooling,
    }))
}

/// What the host knows on behalf of a role with these settings.
pub fn environment(
    bundle: &Bundle,
    role: &serde_json::Value,
    device: &Device,
    weights: &Weights,
) -> Arc<Environment> {
    let context = Context {
        device: device.clone(),
        // What a store may hold in the sandbox too.
        account: Account::new(SandboxLimits::default().device_bytes),
        dtype: weights.dtype(),
    };
    Arc::new(Environment {
        context,
        weights: weights.clone(),
        checkpoint: bundle.checkpoint_config.clone(),
        role: role.to_string(),
    })
}

struct NativeBack<M> {
    for_model: Arc<Environment>,
    model: M,
    for_pooling: Arc<Environment>,
    pooling: Standard,
}

impl<M: Model + Send> Executor for NativeBack<M> {
    fn execute(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        let run = || {
            let input = Batch::packed(batch.token_ids.clone(), &batch.cu_seqlens, Vec::new())?;
            let hidden = enter(self.for_model.clone(), || self.model.forward(&input))?;
            let layout = input.layout();
            let pool = || self.pooling.pool(&hidden, &layout, None);
            enter(self.for_pooling.clone(), pool)?.native().to_f32()
        };
        let values = run().map_err(|error| ExecuteError::Component(error.to_string()))?;
        let width = values.len() / batch.sequences();
        let rows = values.chunks_exact(width).map(|row| Ok(row.to_vec()));
        Ok(BatchOutput {
            rows: rows.collect(),
            forward: Duration::ZERO,
            pooling: Duration::ZERO,
            sandbox: Duration::ZERO,
        })
    }
}
