//! The back half: a deployment's model and pooling components in one store, which lives
//! until one of them fails.

mod state;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenon_tensor::{Account, Context, Device, SequenceLayout, Tensor, Weights};
use wasmtime::Store;
use wasmtime::component::{InstancePre, Linker, Resource};

pub use crate::host_api::model::ModelInfo;
pub use crate::host_api::pooling::PoolingInfo;
use state::{BackState, HasConfig, HasTensor};

use super::engine::{Component, Sandbox};
use super::failure::{ComponentFailure, LoadError, clip, reason};
use super::guest::{Guest, WhenDue, set_deadline, store};
use super::link::Place;
use crate::batch::{BatchOutput, ExecuteError, Executor, PackedBatch, RowError};
use crate::host_api::imports::tensor::Error as TensorError;
use crate::host_api::{GuestBatch, RoleConfig, imports, model, pooling};
use crate::role::Role;

/// Told of every failure, to log and count it.
pub type OnFailure = Arc<dyn Fn(&ComponentFailure) + Send + Sync>;

/// The back half of one bundle, as an executor of batches.
pub struct BackHalf {
    recipe: Recipe,
    on_failure: OnFailure,
    live: Option<Live>,
    /// Failures in a row, and when the next store may be built.
    failures: u32,
    retry_at: Instant,
}

/// All that a store is built of, again and again.
struct Recipe {
    sandbox: Sandbox,
    bundle: Arc<str>,
    model: (Component, RoleConfig),
    pooling: (Component, RoleConfig),
    model_pre: model::ModelRolePre<BackState>,
    pooling_pre: pooling::PoolingRolePre<BackState>,
    weights: Weights,
    device: Device,
}

/// A store whose components are loaded.
struct Live {
    store: Store<BackState>,
    model: model::ModelRole,
    pooling: pooling::PoolingRole,
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
        on_failure: OnFailure,
    ) -> Result<(Self, ModelInfo, PoolingInfo), LoadError> {
        let model_pre = link(sandbox, bundle, Role::Model, &model.0, |pre| {
            model::ModelRolePre::new(pre)
        })?;
        let pooling_pre = link(sandbox, bundle, Role::Pooling, &pooling.0, |pre| {
            pooling::PoolingRolePre::new(pre)
        })?;
        let recipe = Recipe {
            sandbox: sandbox.clone(),
            bundle: bundle.into(),
            model,
            pooling,
            model_pre,
            pooling_pre,
            weights,
            device,
        };
        let (live, model_info, pooling_info) = recipe.build()?;
        let back = Self {
            recipe,
            on_failure,
            live: Some(live),
            failures: 0,
            retry_at: Instant::now(),
        };
        Ok((back, model_info, pooling_info))
    }

    /// A live store, built anew if the last one failed and its wait is over.
    fn live(&mut self) -> Result<Live, ExecuteError> {
        if let Some(live) = self.live.take() {
            return Ok(live);
        }
        let now = Instant::now();
        if now < self.retry_at {
            return Err(ExecuteError::Unavailable(format!(
                "the components of {:?} failed and are replaced in {} ms",
                self.recipe.bundle,
                (self.retry_at - now).as_millis()
            )));
        }
        self.recipe.build().map(|(live, ..)| live).map_err(|error| {
            self.back_off();
            ExecuteError::Unavailable(error.to_string())
        })
    }

    fn back_off(&mut self) {
        let limits = &self.recipe.sandbox.limits;
        // The first replacement is at once: a single bad shape costs nobody else.
        let wait = match self.failures {
            0 => Duration::ZERO,
            failures => limits
                .rebuild_backoff
                .saturating_mul(1 << (failures - 1).min(20))
                .min(limits.max_rebuild_backoff),
        };
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Instant::now() + wait;
    }
}

impl Executor for BackHalf {
    fn execute(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
        let mut live = self.live()?;
        let device = self.recipe.device.clone();
        let recipe = &self.recipe;
        // On a thread of the device, so that operations need not change threads.
        let result = device.install(|| live.run(recipe, batch));
        match result {
            Ok(output) => {
                self.live = Some(live);
                self.failures = 0;
                Ok(output)
            }
            Err(failure) => {
                self.back_off();
                (self.on_failure)(&failure);
                Err(ExecuteError::Component(failure.to_string()))
            }
        }
    }
}

impl Recipe {
    fn build(&self) -> Result<(Live, ModelInfo, PoolingInfo), LoadError> {
        let limits = &self.sandbox.limits;
        let context = Context {
            device: self.device.clone(),
            account: Account::new(limits.device_bytes),
        };
        let state = BackState {
            guest: Guest::new(limits, self.bundle.clone(), Role::Model),
            config: self.model.1.clone(),
            context,
            weights: self.weights.clone(),
            host_time: Duration::ZERO,
        };
        let mut store = store(&self.sandbox.engine, limits, state, WhenDue::GoOn);

        let place = self.place(Role::Model);
        set_deadline(&mut store, limits.load_deadline);
        let trapped = |error: wasmtime::Error| place.refuse(reason(&error));
        let model = self.model_pre.instantiate(&mut store).map_err(trapped)?;
        let model_info = model
            .tenon_embed_model()
            .call_load(&mut store)
            .map_err(trapped)?
            .map_err(|error| place.refuse(clip(&error, 2048)))?;

        let place = self.place(Role::Pooling);
        store.data_mut().config = self.pooling.1.clone();
        set_deadline(&mut store, limits.load_deadline);
        let trapped = |error: wasmtime::Error| place.refuse(reason(&error));
        let pooling = self.pooling_pre.instantiate(&mut store).map_err(trapped)?;
        let pooling_info = pooling
            .tenon_embed_pooling()
            .call_load(&mut store, model_info.hidden_size)
            .map_err(trapped)?
            .map_err(|error| place.refuse(clip(&error, 2048)))?;
        Ok((
            Live {
                store,
                model,
                pooling,
            },
            model_info,
            pooling_info,
        ))
    }

    fn place(&self, role: Role) -> Place<'_> {
        let component = &self.component(role).0;
        Place {
            bundle: &self.bundle,
            role,
            component,
        }
    }

    fn component(&self, role: Role) -> &(Component, RoleConfig) {
        match role {
            Role::Pooling => &self.pooling,
            _ => &self.model,
        }
    }

    fn failure(&self, role: Role, reason: String) -> ComponentFailure {
        ComponentFailure {
            bundle: self.bundle.to_string(),
            role,
            component: self.component(role).0.name.to_string(),
            reason,
        }
    }
}

impl Live {
    fn run(
        &mut self,
        recipe: &Recipe,
        batch: &PackedBatch,
    ) -> Result<BatchOutput, ComponentFailure> {
        let limits = &recipe.sandbox.limits;
        let state = self.store.data_mut();
        state.host_time = Duration::ZERO;
        state.context.account.start_batch(limits.batch_op_cost);

        let excluded: Vec<u32> = batch.pool.iter().map(|pool| pool.excluded_tokens).collect();
        let layout = SequenceLayout::packed(&batch.cu_seqlens, &excluded)
            .map_err(|error| recipe.failure(Role::Model, error.to_string()))?;

        let started = Instant::now();
        let hidden = self
            .forward(recipe, batch, &layout)
            .map_err(|reason| recipe.failure(Role::Model, reason))?;
        let forward = started.elapsed();

        let started = Instant::now();
        let rows = self
            .pool(recipe, batch, &layout, hidden)
            .map_err(|reason| recipe.failure(Role::Pooling, reason))?;
        let pooling = started.elapsed();

        let sandbox = (forward + pooling).saturating_sub(self.store.data().host_time);
        Ok(BatchOutput {
            rows,
            forward,
            pooling,
            sandbox,
        })
    }

    fn forward(
        &mut self,
        recipe: &Recipe,
        batch: &PackedBatch,
        layout: &SequenceLayout,
    ) -> Result<Tensor, String> {
        let store = &mut self.store;
        store.data_mut().config = recipe.model.1.clone();
        set_deadline(store, recipe.sandbox.limits.back_deadline);
        let input = GuestBatch::new(
            batch.token_ids.clone(),
            batch.cu_seqlens.clone(),
            layout.clone(),
        );
        let input = store
            .data_mut()
            .guest
            .table
            .push(input)
            .map_err(|e| e.to_string())?;
        let borrowed = Resource::new_borrow(input.rep());
        let hidden = self
            .model
            .tenon_embed_model()
            .call_forward(&mut *store, borrowed)
            .map_err(|error| reason(&error))?
            .map_err(op_error)?;
        let table = &mut store.data_mut().guest.table;
        table.delete(input).map_err(|error| error.to_string())?;
        let hidden = table.delete(hidden).map_err(|error| error.to_string())?;
        match hidden.shape() {
            [rows, _] if *rows == batch.token_ids.len() => Ok(hidden),
            shape => Err(format!(
                "forward returned hidden states of shape {shape:?} for {} tokens",
                batch.token_ids.len()
            )),
        }
    }

    /// One pooling call for each length of vector that is asked for, as a rule one.
    fn pool(
        &mut self,
        recipe: &Recipe,
        batch: &PackedBatch,
        layout: &SequenceLayout,
        hidden: Tensor,
    ) -> Result<Vec<Result<Vec<f32>, RowError>>, String> {
        let mut rows = vec![Err(RowError::NotFinite); batch.sequences()];
        let mut groups: std::collections::BTreeMap<Option<u32>, Vec<u32>> = Default::default();
        for (sequence, options) in batch.pool.iter().enumerate() {
            groups
                .entry(options.dimensions)
                .or_default()
                .push(sequence as u32);
        }
        for (dimensions, sequences) in groups {
            let layout = match sequences.len() == batch.sequences() {
                true => layout.clone(),
                false => layout
                    .select(&sequences)
                    .map_err(|error| error.to_string())?,
            };
            let vectors = self.pool_group(recipe, &hidden, layout, dimensions)?;
            let (count, width) = match *vectors.shape() {
                [count, width] => (count, width),
                ref shape => return Err(format!("pool returned vectors of shape {shape:?}")),
            };
            if count != sequences.len() || dimensions.is_some_and(|wanted| wanted as usize != width)
            {
                return Err(format!(
                    "pool returned vectors of shape [{count}, {width}] for {} sequences{}",
                    sequences.len(),
                    dimensions.map_or(String::new(), |wanted| format!(" and {wanted} dimensions")),
                ));
            }
            let values = vectors.to_f32().map_err(|error| error.to_string())?;
            for (sequence, row) in sequences.into_iter().zip(values.chunks_exact(width)) {
                if row.iter().all(|value| value.is_finite()) {
                    rows[sequence as usize] = Ok(row.to_vec());
                }
            }
        }
        Ok(rows)
    }

    fn pool_group(
        &mut self,
        recipe: &Recipe,
        hidden: &Tensor,
        layout: SequenceLayout,
        dimensions: Option<u32>,
    ) -> Result<Tensor, String> {
        let store = &mut self.store;
        store.data_mut().config = recipe.pooling.1.clone();
        set_deadline(store, recipe.sandbox.limits.back_deadline);
        let table = &mut store.data_mut().guest.table;
        let hidden = table
            .push(hidden.clone())
            .map_err(|error| error.to_string())?;
        let layout = table.push(layout).map_err(|error| error.to_string())?;
        let (hidden_borrow, layout_borrow) = (
            Resource::new_borrow(hidden.rep()),
            Resource::new_borrow(layout.rep()),
        );
        let vectors = self
            .pooling
            .tenon_embed_pooling()
            .call_pool(&mut *store, hidden_borrow, layout_borrow, dimensions)
            .map_err(|error| reason(&error))?
            .map_err(op_error)?;
        let table = &mut store.data_mut().guest.table;
        table.delete(hidden).map_err(|error| error.to_string())?;
        table.delete(layout).map_err(|error| error.to_string())?;
        table.delete(vectors).map_err(|error| error.to_string())
    }
}

/// An operation's error that a component handed on.
fn op_error(error: TensorError) -> String {
    let text = match error {
        TensorError::InvalidArgument(text)
        | TensorError::ShapeMismatch(text)
        | TensorError::Unsupported(text)
        | TensorError::QuotaExceeded(text)
        | TensorError::DeviceLost(text)
        | TensorError::Other(text) => text,
    };
    clip(&text, 1024)
}

fn link<P>(
    sandbox: &Sandbox,
    bundle: &str,
    role: Role,
    component: &Component,
    pre: impl FnOnce(InstancePre<BackState>) -> wasmtime::Result<P>,
) -> Result<P, LoadError> {
    let place = Place {
        bundle,
        role,
        component,
    };
    place.check(sandbox)?;
    linker(sandbox, role)
        .and_then(|linker| linker.instantiate_pre(&component.inner))
        .and_then(pre)
        .map_err(|error| place.refuse(reason(&error)))
}

/// Links the interfaces of the back half that `role` may import.
fn linker(sandbox: &Sandbox, role: Role) -> wasmtime::Result<Linker<BackState>> {
    let mut linker = Linker::new(&sandbox.engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker)?;
    for capability in role.capabilities() {
        match *capability {
            "config" => {
                imports::config::add_to_linker::<_, HasConfig>(&mut linker, BackState::config)?;
            }
            "tensor" => {
                imports::tensor::add_to_linker::<_, HasTensor>(&mut linker, BackState::tensor)?;
            }
            "weights" => {
                imports::weights::add_to_linker::<_, HasTensor>(&mut linker, BackState::tensor)?;
            }
            "batches" => {
                imports::batches::add_to_linker::<_, HasTensor>(&mut linker, BackState::tensor)?;
            }
            other => wasmtime::bail!("{other} is not an interface of the back half"),
        }
    }
    Ok(linker)
}
