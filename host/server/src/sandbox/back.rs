//! The back half: a deployment's model and pooling components in one store, which lives
//! until one of them fails and is then built anew.

mod backoff;
mod cause;
mod live;
mod pool;
mod replay;
mod state;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tenon_tensor::{Device, Weights};

pub use crate::host_api::model::ModelInfo;
pub use crate::host_api::pooling::PoolingInfo;
use backoff::Backoff;
use cause::Stop;
use live::{Live, Recipe};

use super::compile::Component;
use super::engine::Sandbox;
use super::failure::{ComponentFailure, LoadError};
use crate::batch::{BatchOutput, ExecuteError, Executor, PackedBatch};
use crate::host_api::RoleConfig;

/// Told of every failure of a component, to log and count it.
pub type OnFailure = Arc<dyn Fn(&ComponentFailure) + Send + Sync>;

/// The back half of one bundle, as an executor of batches.
pub struct BackHalf {
    recipe: Recipe,
    live: Option<Live>,
    backoff: Backoff,
    on_failure: Option<OnFailure>,
}

impl BackHalf {
    /// Checks, links and loads the components of `bundle`.
    pub fn new(
        sandbox: &Sandbox,
        bundle: &str,
        model: (Component, RoleConfig),
        pooling: (Component, RoleConfig),
        weights: Weights,
        device: Device,
    ) -> Result<(Self, ModelInfo, PoolingInfo), LoadError> {
        let recipe = Recipe::new(sandbox, bundle, model, pooling, weights, device)?;
        let (live, model_info, pooling_info) = recipe.build()?;
        let limits = sandbox.limits();
        let backoff = Backoff::new(limits.rebuild_backoff, limits.max_rebuild_backoff);
        let back = Self {
            recipe,
            live: Some(live),
            backoff,
            on_failure: None,
        };
        Ok((back, model_info, pooling_info))
    }

    /// The same, but that no pass is recorded: every batch is computed operation by operation.
    pub fn without_recording(mut self) -> Self {
        self.recipe = self.recipe.without_recording();
        self.live = self.live.map(Live::without_recording);
        self
    }

    /// Tells `on_failure` of every failure from here on.
    pub fn with_on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = Some(on_failure);
        self
    }

    /// Device bytes that the components hold now, besides weights.
    pub fn device_bytes(&self) -> u64 {
        self.live.as_ref().map_or(0, Live::device_bytes)
    }

    /// Handles that the components hold now.
    pub fn handles(&mut self) -> usize {
        self.live.as_mut().map_or(0, Live::handles)
    }

    /// The live store, built anew if the last one failed and its wait is over.
    fn take_live(&mut self) -> Result<Live, ExecuteError> {
        if let Some(live) = self.live.take() {
            return Ok(live);
        }
        let bundle = self.recipe.bundle();
        let now = Instant::now();
        if let Some(wait) = self.backoff.wait(now) {
            return Err(ExecuteError::Unavailable(format!(
                "the components of bundle {bundle:?} failed and are loaded again in {} ms",
                wait.as_millis()
            )));
        }
        match self.recipe.build() {
            Ok((live, ..)) => {
                tracing::info!(%bundle, "components loaded again");
                Ok(live)
            }
            Err(error) => {
                self.backoff.failed(now);
                tracing::error!(%bundle, %error, "components cannot be loaded again");
                Err(ExecuteError::Unavailable(error.to_string()))
            }
        }
    }

    fn report(&self, failure: &ComponentFailure) {
        if let Some(on_failure) = &self.on_failure {
            on_failure(failure);
        }
    }
}

impl Executor for BackHalf {
    fn execute(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        let mut live = self.take_live()?;
        let recipe = &self.recipe;
        // A panic of an operation costs its batch and the store that it left half done.
        let run = AssertUnwindSafe(|| live.run(recipe, batch));
        let result = catch_unwind(run).unwrap_or_else(|_| Err(recipe.panicked()));
        match result {
            Ok(output) => {
                self.live = Some(live);
                self.backoff.succeeded();
                Ok(output)
            }
            Err(Stop::Refused(failure)) => {
                self.live = Some(live);
                self.report(&failure);
                Err(ExecuteError::Component(failure.to_string()))
            }
            Err(Stop::Broken(failure)) => {
                self.backoff.failed(Instant::now());
                self.report(&failure);
                Err(ExecuteError::Component(failure.to_string()))
            }
            Err(Stop::DeviceLost(what)) => {
                tracing::error!(bundle = %recipe.bundle(), error = %what, "device lost");
                Err(ExecuteError::Lost(what))
            }
        }
    }
}
