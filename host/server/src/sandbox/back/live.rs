//! A back-half store whose components are loaded, and how it is made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenon_tensor::{
    Account, Batch, Context, Device, RecordedPass, SequenceLayout, Tensor, Weights,
};
use wasmtime::Store;
use wasmtime::component::Resource;

use super::cause::{Cause, Stop};
use super::pool::groups;
use super::replay::{Filled, PassShape, Passes, Plan};
use super::state::{BackState, linker};
use super::{ModelInfo, PoolingInfo};
use crate::batch::{BatchOutput, PackedBatch, RowError};
use crate::host_api::{RoleConfig, model, pooling};
use crate::role::Role;
use crate::sandbox::compile::Component;
use crate::sandbox::engine::Sandbox;
use crate::sandbox::failure::{LoadError, clip, reason};
use crate::sandbox::guest::{Budget, Guest, begin, run, store};
use crate::sandbox::link::Linked;

/// All that a store is built of, again and again.
pub struct Recipe {
    sandbox: Sandbox,
    bundle: Arc<str>,
    model: Linked<model::ModelRolePre<BackState>>,
    pooling: Linked<pooling::PoolingRolePre<BackState>>,
    weights: Weights,
    device: Device,
    records: bool,
}

/// A store whose components are loaded.
pub struct Live {
    store: Store<BackState>,
    model: model::ModelRole,
    pooling: pooling::PoolingRole,
    hidden_size: u32,
    /// Whether the model gives one row a sequence.
    pooled: bool,
    dimensions: u32,
    /// The tokens that a sequence may have, where the model has a limit.
    max_tokens: Option<usize>,
    /// None where every pass is computed plainly.
    passes: Option<Passes>,
}

impl Recipe {
    /// Checks and links the components of `bundle`.
    pub fn new(
        sandbox: &Sandbox,
        bundle: &str,
        model: (Component, RoleConfig),
        pooling: (Component, RoleConfig),
        weights: Weights,
        device: Device,
    ) -> Result<Self, LoadError> {
        let bundle: Arc<str> = bundle.into();
        let model = Linked::new(
            sandbox,
            &bundle,
            Role::Model,
            model,
            linker,
            model::ModelRolePre::new,
        )?;
        let pooling = Linked::new(
            sandbox,
            &bundle,
            Role::Pooling,
            pooling,
            linker,
            pooling::PoolingRolePre::new,
        )?;
        Ok(Self {
            sandbox: sandbox.clone(),
            bundle,
            model,
            pooling,
            weights,
            records: device.records(),
            device,
        })
    }

    /// The same, but that no pass is recorded.
    pub fn without_recording(self) -> Self {
        Self {
            records: false,
            ..self
        }
    }

    /// The bundle's name.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// What is said of a batch in which the host panicked.
    pub fn panicked(&self) -> Stop {
        Stop::Broken(
            self.model
                .failure("an operation of the host panicked".into()),
        )
    }

    /// A fresh store with both components loaded.
    pub fn build(&self) -> Result<(Live, ModelInfo, PoolingInfo), LoadError> {
        let limits = &*self.sandbox.limits;
        let account = Account::new(limits.device_bytes);
        account.start_batch(limits.batch_op_cost);
        let state = BackState {
            guest: Guest::new(limits),
            config: self.model.config.clone(),
            context: Context {
                device: self.device.clone(),
                account,
                dtype: self.weights.dtype(),
            },
            weights: self.weights.clone(),
            condemned: false,
            lists_left: 0,
        };
        let broken = |error: wasmtime::Error| self.model.refusal(reason(&error));
        let mut store = store(&self.sandbox.engine, limits, state).map_err(broken)?;

        begin(
            &mut store,
            limits,
            &self.model.label,
            Budget::exclusive(limits, limits.load_time),
        );
        let (model, model_info) = run(async {
            let instance = self.model.pre.instantiate_async(&mut store).await?;
            let info = instance.tenon_embed_model().call_load(&mut store).await?;
            Ok((instance, info))
        })
        .map_err(broken)?;
        let model_info = model_info.map_err(|error| self.model.refusal(clip(&error, 2048)))?;

        let hidden_size = model_info.hidden_size;
        store.data_mut().config = self.pooling.config.clone();
        begin(
            &mut store,
            limits,
            &self.pooling.label,
            Budget::exclusive(limits, limits.load_time),
        );
        let (pooling, pooling_info) = run(async {
            let instance = self.pooling.pre.instantiate_async(&mut store).await?;
            let info = instance
                .tenon_embed_pooling()
                .call_load(&mut store, hidden_size)
                .await?;
            Ok((instance, info))
        })
        .map_err(|error| self.pooling.refusal(reason(&error)))?;
        let pooling_info =
            pooling_info.map_err(|error| self.pooling.refusal(clip(&error, 2048)))?;

        let dimensions = pooling_info.dimensions;
        if hidden_size == 0 || model_info.vocab_size == 0 {
            return Err(self
                .model
                .refusal("it has a hidden size or a vocabulary of 0"));
        }
        if dimensions == 0 {
            return Err(self.pooling.refusal("it makes vectors of 0 dimensions"));
        }
        Ok((
            Live {
                store,
                model,
                pooling,
                hidden_size,
                pooled: model_info.pooled,
                dimensions,
                max_tokens: model_info.max_tokens.map(|limit| limit as usize),
                passes: self.records.then(Passes::default),
            },
            model_info,
            pooling_info,
        ))
    }
}

impl Live {
    /// The same, but that no pass is recorded.
    pub fn without_recording(self) -> Self {
        Self {
            passes: None,
            ..self
        }
    }

    /// Device bytes that the components hold.
    pub fn device_bytes(&self) -> u64 {
        self.store.data().context.account.used_bytes()
    }

    /// Handles that the components hold.
    pub fn handles(&mut self) -> usize {
        self.store.data_mut().guest.table.iter_mut().count()
    }

    /// Runs one batch.
    pub fn run(&mut self, recipe: &Recipe, batch: &PackedBatch) -> Result<BatchOutput, Stop> {
        let Some(passes) = &mut self.passes else {
            return self.run_plainly(recipe, batch);
        };
        let Some(Filled { shape, batch: full }) = Filled::new(batch, self.max_tokens) else {
            return self.run_plainly(recipe, batch);
        };
        let mut recorded = None;
        let started = Instant::now();
        let pass = match passes.plan(shape) {
            Plan::Plainly => return self.run_plainly(recipe, batch),
            Plan::Run(pass) => pass,
            Plan::Record => match self.record(recipe, &full, shape) {
                Ok(pass) => recorded.insert(pass),
                Err(Stop::Refused(failure)) => {
                    tracing::debug!(reason = %failure.reason, "a pass is not recorded");
                    self.passes.iter_mut().for_each(|it| it.refuse(shape));
                    return self.run_plainly(recipe, batch);
                }
                Err(stop) => return Err(stop),
            },
        };
        let input = packed(&full, shape.max_rows);
        let values = input.and_then(|input| pass.run(&input));
        let values = values.map_err(|error| Cause::from(error).of(&recipe.model))?;
        if let (Some(pass), Some(passes)) = (recorded, &mut self.passes) {
            tracing::debug!(bundle = %recipe.bundle, ?shape, "a pass is recorded");
            passes.keep(shape, pass);
        }
        let Some(values) = values else {
            return self.run_plainly(recipe, batch);
        };
        let width = values.len() / full.sequences();
        let rows = values.chunks_exact(width).map(finite);
        Ok(BatchOutput {
            rows: rows.take(batch.sequences()).collect(),
            forward: started.elapsed(),
            pooling: Duration::ZERO,
            sandbox: Duration::ZERO,
        })
    }

    /// Records the pass of a batch and all others of its shape.
    fn record(
        &mut self,
        recipe: &Recipe,
        batch: &PackedBatch,
        shape: PassShape,
    ) -> Result<RecordedPass, Stop> {
        let context = &mut self.store.data_mut().context;
        context
            .account
            .start_batch(recipe.sandbox.limits.batch_op_cost);
        let refused = |error| Cause::from(error).of(&recipe.model);
        let input = packed(batch, shape.max_rows).map_err(refused)?;
        let layout = self.rows_of(&input).map_err(refused)?;
        let recording = recipe.device.record(&input).map_err(refused)?;
        self.store.data_mut().context.device = recording.device();
        let vectors = self.vectors(recipe, input, layout, shape.dimensions);
        self.store.data_mut().context.device = recipe.device.clone();
        recording.finish(&vectors?).map_err(refused)
    }

    /// The vectors of all sequences, on the device.
    fn vectors(
        &mut self,
        recipe: &Recipe,
        input: Batch,
        layout: SequenceLayout,
        dimensions: Option<u32>,
    ) -> Result<Tensor, Stop> {
        let hidden = self
            .forward(recipe, input, layout.rows())
            .map_err(|cause| self.judge(cause).of(&recipe.model))?;
        let vectors = self
            .pool_group(recipe, &hidden, layout, dimensions)
            .map_err(|cause| self.judge(cause).of(&recipe.pooling))?;
        self.check_condemned(recipe)?;
        Ok(vectors)
    }

    /// Where the rows that pooling sees begin and end.
    fn rows_of(&self, input: &Batch) -> tenon_tensor::Result<SequenceLayout> {
        match self.pooled {
            false => Ok(input.layout().clone()),
            true => single_rows(input.layout().sequences()),
        }
    }

    fn check_condemned(&self, recipe: &Recipe) -> Result<(), Stop> {
        if self.store.data().condemned {
            let what = "it went on after a quota was exceeded".to_owned();
            return Err(Cause::Broken(what).of(&recipe.model));
        }
        Ok(())
    }

    /// Runs one batch, operation by operation.
    fn run_plainly(&mut self, recipe: &Recipe, batch: &PackedBatch) -> Result<BatchOutput, Stop> {
        let limits = &recipe.sandbox.limits;
        let context = &self.store.data().context;
        context.account.start_batch(limits.batch_op_cost);

        let refused = |error| Cause::from(error).of(&recipe.model);
        let input = packed(batch, 0).map_err(refused)?;
        let layout = self.rows_of(&input).map_err(refused)?;

        let started = Instant::now();
        let hidden = self
            .forward(recipe, input, layout.rows())
            .map_err(|cause| self.judge(cause).of(&recipe.model))?;
        let forward = started.elapsed();
        let mut host_time = self.store.data().guest.host_time;

        let started = Instant::now();
        let rows = self
            .pool(recipe, batch, &layout, &hidden, &mut host_time)
            .map_err(|cause| self.judge(cause).of(&recipe.pooling))?;
        let pooling = started.elapsed();

        self.check_condemned(recipe)?;
        let sandbox = (forward + pooling).saturating_sub(host_time);
        Ok(BatchOutput {
            rows,
            forward,
            pooling,
            sandbox,
        })
    }

    /// A component that overran a quota is done for, whatever it says.
    fn judge(&self, cause: Cause) -> Cause {
        match cause {
            Cause::Refused(what) if self.store.data().condemned => Cause::Broken(what),
            cause => cause,
        }
    }

    fn forward(&mut self, recipe: &Recipe, input: Batch, rows: usize) -> Result<Tensor, Cause> {
        let (store, limits) = (&mut self.store, &*recipe.sandbox.limits);
        store.data_mut().config = recipe.model.config.clone();
        begin(
            store,
            limits,
            &recipe.model.label,
            Budget::exclusive(limits, limits.back_time),
        );
        store.data_mut().lists_left = limits.max_index_lists;
        let input = store.data_mut().guest.table.push(input)?;
        let borrowed = Resource::new_borrow(input.rep());
        let hidden = run(self
            .model
            .tenon_embed_model()
            .call_forward(&mut *store, borrowed))?;
        let table = &mut store.data_mut().guest.table;
        table.delete(input)?;
        let hidden = table.delete(hidden?)?;
        let wanted = [rows, self.hidden_size as usize];
        if hidden.shape() != wanted {
            let shape = hidden.shape();
            return Err(Cause::Refused(format!(
                "forward gave hidden states of shape {shape:?} where {wanted:?} was wanted"
            )));
        }
        Ok(hidden)
    }

    /// One pooling call for each length of vector that is asked for, as a rule one.
    fn pool(
        &mut self,
        recipe: &Recipe,
        batch: &PackedBatch,
        layout: &SequenceLayout,
        hidden: &Tensor,
        host_time: &mut Duration,
    ) -> Result<Vec<Result<Vec<f32>, RowError>>, Cause> {
        let mut rows = vec![Err(RowError::NotFinite); batch.sequences()];
        for (dimensions, sequences) in groups(&batch.pool) {
            let layout = match sequences.len() == batch.sequences() {
                true => layout.clone(),
                false => layout.select(&sequences)?,
            };
            let vectors = self.pool_group(recipe, hidden, layout, dimensions)?;
            *host_time += self.store.data().guest.host_time;
            let width = dimensions.unwrap_or(self.dimensions) as usize;
            let started = Instant::now();
            let values = vectors.to_f32()?;
            for (sequence, values) in sequences.into_iter().zip(values.chunks_exact(width)) {
                if let Some(row) = rows.get_mut(sequence as usize) {
                    *row = finite(values);
                }
            }
            *host_time += started.elapsed();
        }
        Ok(rows)
    }

    fn pool_group(
        &mut self,
        recipe: &Recipe,
        hidden: &Tensor,
        layout: SequenceLayout,
        dimensions: Option<u32>,
    ) -> Result<Tensor, Cause> {
        let width = dimensions.unwrap_or(self.dimensions) as usize;
        let wanted = [layout.sequences(), width];
        let (store, limits) = (&mut self.store, &*recipe.sandbox.limits);
        store.data_mut().config = recipe.pooling.config.clone();
        begin(
            store,
            limits,
            &recipe.pooling.label,
            Budget::exclusive(limits, limits.back_time),
        );
        let table = &mut store.data_mut().guest.table;
        let (hidden, layout) = (table.push(hidden.clone())?, table.push(layout)?);
        let vectors = run(self.pooling.tenon_embed_pooling().call_pool(
            &mut *store,
            Resource::new_borrow(hidden.rep()),
            Resource::new_borrow(layout.rep()),
            dimensions,
        ))?;
        let table = &mut store.data_mut().guest.table;
        table.delete(hidden)?;
        table.delete(layout)?;
        let vectors = table.delete(vectors?)?;
        if vectors.shape() != wanted {
            let shape = vectors.shape();
            return Err(Cause::Refused(format!(
                "pool gave vectors of shape {shape:?} where {wanted:?} was wanted"
            )));
        }
        Ok(vectors)
    }
}

/// A batch as components see it, of sequences of up to `max_rows`, or as long as the longest.
fn packed(batch: &PackedBatch, max_rows: usize) -> tenon_tensor::Result<Batch> {
    let excluded: Vec<u32> = batch.pool.iter().map(|pool| pool.excluded_tokens).collect();
    let (tokens, offsets) = (batch.token_ids.clone(), batch.cu_seqlens.clone());
    let packed = Batch::packed(tokens, offsets, &excluded, batch.images.clone())?;
    Ok(packed.with_max_rows(max_rows))
}

/// A row, unless the model computed something that is no number.
fn finite(values: &[f32]) -> Result<Vec<f32>, RowError> {
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values.to_vec()),
        false => Err(RowError::NotFinite),
    }
}

/// Sequences of one row each: what a model gives that pools by itself.
fn single_rows(sequences: usize) -> tenon_tensor::Result<SequenceLayout> {
    let offsets: Vec<u32> = (0..=sequences as u32).collect();
    SequenceLayout::packed(&offsets, &vec![0; sequences])
}
