//! From a bundle to a deployment: components compiled and linked, weights opened, one
//! batch run, the queue started.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tenon_preprocess::TextTokenizer;
use tenon_tensor::{DType, Device, Weights};

use crate::batch::{Executor, PackedBatch, Sequence};
use crate::bundles::{Bundle, ComponentSource, ServedDtype, builtin};
use crate::http::service::ModelCard;
use crate::observability::Metrics;
use crate::role::Role;
use crate::sandbox::{
    BackHalf, Component, FrontBundle, FrontRoles, OnFailure, RoleConfig, Sandbox,
};
use crate::scheduler::{Scheduler, SchedulerOptions};
use crate::service::Deployment;

/// A component file larger than this is not read. The compiler has its own limit.
const MAX_COMPONENT_BYTES: u64 = 64 << 20;

/// The longest input where neither the checkpoint nor its architecture has a limit.
const DEFAULT_MAX_TOKENS: usize = 8192;

/// Loads bundles onto one device, each component compiled once.
pub struct Loader {
    device: Device,
    sandbox: Sandbox,
    metrics: Arc<Metrics>,
    scheduler: SchedulerOptions,
    compiled: Mutex<HashMap<ComponentSource, Component>>,
}

impl Loader {
    /// A loader for one device and one sandbox.
    pub fn new(
        device: Device,
        sandbox: Sandbox,
        metrics: Arc<Metrics>,
        scheduler: SchedulerOptions,
    ) -> Self {
        Self {
            device,
            sandbox,
            metrics,
            scheduler,
            compiled: Mutex::new(HashMap::new()),
        }
    }

    /// Loads a bundle; every failure names it.
    pub fn deploy(&self, bundle: &Bundle) -> anyhow::Result<Deployment> {
        let progress = spinner(&bundle.name);
        let deployment = self
            .steps(bundle, &progress)
            .with_context(|| format!("cannot load the model {:?}", bundle.name));
        progress.finish_and_clear();
        deployment
    }

    fn steps(&self, bundle: &Bundle, progress: &ProgressBar) -> anyhow::Result<Deployment> {
        progress.set_message("reading the tokenizer");
        let mut tokenizer = TextTokenizer::from_dir(&bundle.weights_dir)?;
        if bundle.lowercase {
            tokenizer = tokenizer.lowercasing()?;
        }
        let tokenizer = Arc::new(tokenizer);

        progress.set_message("compiling components");
        let checkpoint: Arc<str> = bundle.checkpoint_config.as_str().into();
        let part = |role: Role| {
            let component = self
                .component(bundle.roles.get(role))
                .with_context(|| format!("the role {role}"))?;
            let config = RoleConfig {
                checkpoint: checkpoint.clone(),
                role: bundle.role_config.get(role).to_string().into(),
            };
            anyhow::Ok((component, config))
        };
        let front = FrontRoles {
            parser: part(Role::RequestParser)?,
            template: part(Role::Template)?,
            encoder: part(Role::ResponseEncoder)?,
        };
        let model = part(Role::Model)?;
        let pooling = part(Role::Pooling)?;
        let front = FrontBundle::new(&self.sandbox, &bundle.name, front, tokenizer.clone())?;

        let on_failure = self.on_failure();
        progress.set_message("opening weights");
        let dtype = self.dtype(bundle);
        let weights = Weights::open(&self.device, &bundle.weights_dir, dtype)?;
        let back_half = || {
            let (back, model, pooling) = BackHalf::new(
                &self.sandbox,
                &bundle.name,
                model.clone(),
                pooling.clone(),
                weights.clone(),
                self.device.clone(),
            )?;
            let back = back.with_on_failure(on_failure.clone());
            anyhow::Ok((back, model, pooling))
        };
        let (mut back, model_info, pooling_info) = back_half()?;

        progress.set_message("running a first batch");
        // It packs every weight, so that no request waits for that.
        let probe = Sequence {
            token_ids: vec![0; 2],
            ..Sequence::default()
        };
        let output = back
            .execute(&PackedBatch::pack([&probe]))
            .context("the first batch failed")?;
        for row in output.rows {
            row.context("the first batch failed")?;
        }

        // What sentence-transformers is told, else what the tokenizer says; never more than
        // the architecture has positions for.
        let told = bundle.max_tokens.or(tokenizer.model_max_length());
        let limits = [told, model_info.max_tokens.map(|limit| limit as usize)];
        let max_tokens = match limits.into_iter().flatten().min() {
            Some(limit) => limit,
            None => DEFAULT_MAX_TOKENS,
        };
        let card = ModelCard {
            name: bundle.name.clone(),
            aliases: bundle.aliases.clone(),
            created_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |t| t.as_secs()),
            max_tokens,
            dimensions: pooling_info.dimensions as usize,
            source: bundle.weights_dir.display().to_string(),
            dtype: dtype.to_string(),
            matryoshka: pooling_info.matryoshka,
        };
        let metrics = self.metrics.model(&bundle.name);
        let observer = Arc::new(metrics.clone());
        let mut executors: Vec<Box<dyn Executor>> = vec![Box::new(back)];
        while executors.len() < self.device.batches_in_flight() {
            let (another, ..) = back_half()?;
            executors.push(Box::new(another));
        }
        let scheduler = Scheduler::start(self.scheduler.clone(), executors, observer);
        Ok(Deployment {
            card,
            front,
            tokenizer,
            scheduler,
            metrics,
            on_failure,
            model: model_info,
            pooling: pooling_info,
        })
    }

    /// Logs a component's failure, and counts it.
    fn on_failure(&self) -> OnFailure {
        let metrics = self.metrics.clone();
        Arc::new(move |failure| {
            metrics.trap(&failure.bundle, failure.role, &failure.component);
            tracing::error!(
                bundle = %failure.bundle, role = %failure.role,
                component = %failure.component, reason = %failure.reason,
                "component failed"
            );
        })
    }

    /// `auto` keeps the checkpoint's precision: bf16 only where the checkpoint is stored
    /// in bf16 and the device multiplies it natively.
    fn dtype(&self, bundle: &Bundle) -> DType {
        match bundle.dtype {
            ServedDtype::F32 => DType::F32,
            ServedDtype::Bf16 => DType::BF16,
            ServedDtype::F16 => DType::F16,
            ServedDtype::Auto if bundle.checkpoint_is_bf16 => self.device.preferred_weight_dtype(),
            ServedDtype::Auto => DType::F32,
        }
    }

    fn component(&self, source: &ComponentSource) -> anyhow::Result<Component> {
        // A loader that panicked leaves the map as it was.
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(component) = compiled.get(source) {
            return Ok(component.clone());
        }
        let component = match source {
            ComponentSource::Builtin(name) => {
                let found = builtin::component(name)
                    .with_context(|| format!("no built-in component is named {name:?}"))?;
                self.sandbox.compile(&source.to_string(), found.wasm)?
            }
            ComponentSource::File(path) => {
                let bytes = read_limited(path)
                    .with_context(|| format!("cannot read the component {}", path.display()))?;
                self.sandbox.compile(&source.to_string(), &bytes)?
            }
        };
        compiled.insert(source.clone(), component.clone());
        Ok(component)
    }
}

fn read_limited(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::metadata(path)?.len();
    anyhow::ensure!(
        bytes <= MAX_COMPONENT_BYTES,
        "it has {bytes} bytes, the limit is {MAX_COMPONENT_BYTES}"
    );
    Ok(std::fs::read(path)?)
}

fn spinner(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {prefix}: {msg} ({elapsed})");
    let bar = ProgressBar::new_spinner().with_prefix(name.to_owned());
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
