//! From a bundle to a deployment: components compiled and linked, weights opened, one
//! batch run, the queue started.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use tenon_preprocess::TextTokenizer;
use tenon_tensor::Device;

use super::back;
use super::components::Components;
use super::devices::{Devices, at_once};
use super::on_failure;
use crate::batch::Executor;
use crate::bundles::Bundle;
use crate::http::service::ModelCard;
use crate::observability::Metrics;
use crate::replica::{BackFacts, BackPlan, Loaded};
use crate::role::Role;
use crate::sandbox::{FrontBundle, FrontRoles, OnFailure, RoleConfig, Sandbox};
use crate::scheduler::{Scheduler, SchedulerOptions};
use crate::service::Deployment;

/// The longest input where neither the checkpoint nor its architecture has a limit.
const DEFAULT_MAX_TOKENS: usize = 8192;

/// Loads bundles onto every device.
pub struct Loader {
    devices: Arc<Devices>,
    components: Components,
    metrics: Arc<Metrics>,
    on_failure: OnFailure,
    scheduler: SchedulerOptions,
}

impl Loader {
    /// A loader for one device of this process and one sandbox.
    pub fn new(
        device: Device,
        sandbox: Sandbox,
        metrics: Arc<Metrics>,
        scheduler: SchedulerOptions,
    ) -> Self {
        let on_failure = on_failure(metrics.clone());
        let devices = Arc::new(Devices::Cpu(device));
        Self::onto(devices, sandbox, metrics, on_failure, scheduler)
    }

    /// A loader for these devices and one sandbox.
    pub(super) fn onto(
        devices: Arc<Devices>,
        sandbox: Sandbox,
        metrics: Arc<Metrics>,
        on_failure: OnFailure,
        scheduler: SchedulerOptions,
    ) -> Self {
        Self {
            devices,
            components: Components::new(sandbox),
            metrics,
            on_failure,
            scheduler,
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
            let component = self.components.of_role(role, bundle.roles.get(role))?;
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
        let sandbox = self.components.sandbox();
        let front = FrontBundle::new(sandbox, &bundle.name, front, tokenizer.clone())?;

        let Loaded { facts, executors } = self.back(&BackPlan::of(bundle), progress)?;
        let BackFacts {
            model: model_info,
            pooling: pooling_info,
            dtype,
        } = facts;

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
        let scheduler = Scheduler::start(self.scheduler.clone(), executors, observer);
        Ok(Deployment {
            card,
            front,
            tokenizer,
            scheduler,
            metrics,
            on_failure: self.on_failure.clone(),
            model: model_info,
            pooling: pooling_info,
        })
    }

    /// The back half on every device.
    fn back(&self, plan: &BackPlan, progress: &ProgressBar) -> anyhow::Result<Loaded> {
        let replicas = match &*self.devices {
            Devices::Cpu(device) => {
                let components = &self.components;
                return back::load(plan, device, components, &self.on_failure, progress);
            }
            Devices::Cuda(replicas) => replicas,
        };
        progress.set_message(format!("loading on {}", self.devices.name()));
        let mut facts = None;
        let mut executors: Vec<Box<dyn Executor>> = Vec::new();
        for loaded in at_once(replicas, |replica| replica.load(plan)) {
            let (of_device, more) = loaded.map_err(anyhow::Error::msg)?;
            let same = facts.get_or_insert_with(|| of_device.clone());
            anyhow::ensure!(
                *same == of_device,
                "the devices do not agree: {same:?} on one, {of_device:?} on another"
            );
            executors.extend(more);
        }
        let facts = facts.ok_or_else(|| anyhow!("there is no device"))?;
        Ok(Loaded { facts, executors })
    }
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
