//! A back-half store whose components are loaded, and how it is made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenon_tensor::{Account, Batch, Context, Device, SequenceLayout, Tensor, Weights};
use wasmtime::Store;
use wasmtime::component::Resource;

use super::pool::groups;
use super::state::{BackState, linker};
use super::{ModelInfo, PoolingInfo};
use crate::batch::{BatchOutput, PackedBatch, RowError};
use crate::host_api::imports::tensor::Error as TensorError;
use crate::host_api::{RoleConfig, model, pooling};
use crate::role::Role;
use crate::sandbox::compile::Component;
use crate::sandbox::engine::Sandbox;
use crate::sandbox::failure::{ComponentFailure, LoadError, clip, reason};
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
}

/// Why a batch has no output.
pub enum Stop {
    /// A component said no, or gave what the role does not allow; its store is sound.
    Refused(ComponentFailure),
    /// A component trapped or overran a limit; its store is not to be used again.
    Broken(ComponentFailure),
    /// The device is gone.
    DeviceLost(String),
}

/// The same before it is known who it was.
enum Cause {
    Refused(String),
    Broken(String),
    DeviceLost(String),
}

impl Cause {
    fn of<P>(self, linked: &Linked<P>) -> Stop {
        match self {
            Self::Refused(what) => Stop::Refused(linked.failure(what)),
            Self::Broken(what) => Stop::Broken(linked.failure(what)),
            Self::DeviceLost(what) => Stop::DeviceLost(what),
        }
    }
}

impl From<wasmtime::Error> for Cause {
    fn from(error: wasmtime::Error) -> Self {
        Self::Broken(reason(&error))
    }
}

impl From<wasmtime::component::ResourceTableError> for Cause {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<TensorError> for Cause {
    fn from(error: TensorError) -> Self {
        match error {
            TensorError::DeviceLost(what) => Self::DeviceLost(clip(&what, 1024)),
            TensorError::QuotaExceeded(what) => Self::Broken(clip(&what, 1024)),
            TensorError::InvalidArgument(what)
            | TensorError::ShapeMismatch(what)
            | TensorError::Unsupported(what)
            | TensorError::Other(what) => Self::Refused(clip(&what, 1024)),
        }
    }
}

impl From<tenon_tensor::Error> for Cause {
    fn from(error: tenon_tensor::Error) -> Self {
        TensorError::from(error).into()
    }
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
            device,
        })
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
            },
            model_info,
            pooling_info,
        ))
    }
}

impl Live {
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
        let limits = &recipe.sandbox.limits;
        let context = &self.store.data().context;
        context.account.start_batch(limits.batch_op_cost);

        let excluded: Vec<u32> = batch.pool.iter().map(|pool| pool.excluded_tokens).collect();
        let input = Batch::packed(
            batch.token_ids.clone(),
            batch.cu_seqlens.clone(),
            &excluded,
            batch.images.clone(),
        )
        .map_err(|error| Cause::from(error).of(&recipe.model))?;
        let layout = match self.pooled {
            false => Ok(input.layout().clone()),
            true => single_rows(batch.sequences()),
        }
        .map_err(|error| Cause::from(error).of(&recipe.model))?;

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

        if self.store.data().condemned {
            let what = "it went on after a quota was exceeded".to_owned();
            return Err(Cause::Broken(what).of(&recipe.model));
        }
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
            let wanted = [sequences.len(), width];
            if vectors.shape() != wanted {
                let shape = vectors.shape();
                return Err(Cause::Refused(format!(
                    "pool gave vectors of shape {shape:?} where {wanted:?} was wanted"
                )));
            }
            let started = Instant::now();
            let values = vectors.to_f32()?;
            for (sequence, values) in sequences.into_iter().zip(values.chunks_exact(width)) {
                if let Some(row) = rows.get_mut(sequence as usize)
                    && values.iter().all(|value| value.is_finite())
                {
                    *row = Ok(values.to_vec());
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
        Ok(table.delete(vectors?)?)
    }
}

/// Sequences of one row each: what a model gives that pools by itself.
fn single_rows(sequences: usize) -> tenon_tensor::Result<SequenceLayout> {
    let offsets: Vec<u32> = (0..=sequences as u32).collect();
    SequenceLayout::packed(&offsets, &vec![0; sequences])
}
