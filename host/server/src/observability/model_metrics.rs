//! The numbers of one served model.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::role::Role;
use crate::scheduler::{BatchObserver, BatchReport};

/// A step in a request's life that is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the step of its name")]
pub enum Stage {
    Parse,
    Images,
    Render,
    Tokenise,
    Queue,
    Forward,
    Pool,
    Encode,
    /// The part of forward and pool that was not spent in host operations.
    Sandbox,
}

impl Stage {
    /// Whose work the stage is.
    fn role(self) -> &'static str {
        match self {
            Self::Parse => Role::RequestParser.name(),
            Self::Render => Role::Template.name(),
            Self::Images | Self::Tokenise | Self::Queue => "host",
            Self::Forward | Self::Sandbox => Role::Model.name(),
            Self::Pool => Role::Pooling.name(),
            Self::Encode => Role::ResponseEncoder.name(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Images => "images",
            Self::Render => "render",
            Self::Tokenise => "tokenise",
            Self::Queue => "queue",
            Self::Forward => "forward",
            Self::Pool => "pool",
            Self::Encode => "encode",
            Self::Sandbox => "sandbox",
        }
    }

    const ALL: [Self; 9] = [
        Self::Parse,
        Self::Images,
        Self::Render,
        Self::Tokenise,
        Self::Queue,
        Self::Forward,
        Self::Pool,
        Self::Encode,
        Self::Sandbox,
    ];
}

impl EncodeLabelValue for Stage {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    model: Arc<str>,
    stage: Stage,
    /// A role's name, or `host` for work that no component does.
    role: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TrapLabels {
    bundle: String,
    role: &'static str,
    component: String,
}

/// 10 us to 84 s: from one sandboxed call to a batch of long texts on one core.
fn stage_seconds() -> Histogram {
    Histogram::new(exponential_buckets(10e-6, 3.0, 16))
}

/// 1 to 32768 sequences or tokens.
fn counts() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 16))
}

/// All models' numbers. A label holds the name of a served model or bundle, never
/// anything that a caller wrote.
#[derive(Debug, Clone)]
pub(super) struct Families {
    queued: Family<ModelLabel, Gauge>,
    batch_tokens: Family<ModelLabel, Histogram>,
    batch_sequences: Family<ModelLabel, Histogram>,
    failed_batches: Family<ModelLabel, Counter>,
    tokens: Family<ModelLabel, Counter>,
    stages: Family<StageLabels, Histogram>,
    traps: Family<TrapLabels, Counter>,
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self {
            queued: Family::default(),
            batch_tokens: Family::new_with_constructor(counts),
            batch_sequences: Family::new_with_constructor(counts),
            failed_batches: Family::default(),
            tokens: Family::default(),
            stages: Family::new_with_constructor(stage_seconds),
            traps: Family::default(),
        };
        let queued = all.queued.clone();
        registry.register("queued_sequences", "Sequences that wait", queued);
        let tokens = all.batch_tokens.clone();
        registry.register("batch_tokens", "Tokens in a batch", tokens);
        let sequences = all.batch_sequences.clone();
        registry.register("batch_sequences", "Sequences in a batch", sequences);
        let failed = all.failed_batches.clone();
        registry.register("failed_batches", "Executions that failed", failed);
        registry.register("tokens", "Tokens of answered requests", all.tokens.clone());
        let (help, stages) = ("Time a step took, in seconds", all.stages.clone());
        registry.register("stage_duration_seconds", help, stages);
        let help = "Calls into a component that trapped or overran a limit";
        registry.register("traps", help, all.traps.clone());
        all
    }

    pub(super) fn model(&self, name: &str) -> ModelMetrics {
        let model: Arc<str> = name.into();
        let label = ModelLabel {
            model: model.clone(),
        };
        let stage = |stage: Stage| {
            let role = stage.role();
            let model = model.clone();
            let labels = StageLabels { model, stage, role };
            self.stages.get_or_create_owned(&labels)
        };
        ModelMetrics {
            queued: self.queued.get_or_create_owned(&label),
            batch_tokens: self.batch_tokens.get_or_create_owned(&label),
            batch_sequences: self.batch_sequences.get_or_create_owned(&label),
            failed_batches: self.failed_batches.get_or_create_owned(&label),
            tokens: self.tokens.get_or_create_owned(&label),
            stages: Stage::ALL.map(stage),
        }
    }

    pub(super) fn trap(&self, bundle: &str, role: Role, component: &str) {
        let labels = TrapLabels {
            bundle: bundle.into(),
            role: role.name(),
            component: component.into(),
        };
        self.traps.get_or_create(&labels).inc();
    }
}

/// Handles of one model's numbers: cheap to clone, no lookup to use.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    queued: Gauge,
    batch_tokens: Histogram,
    batch_sequences: Histogram,
    failed_batches: Counter,
    tokens: Counter,
    stages: [Histogram; Stage::ALL.len()],
}

impl ModelMetrics {
    /// Records how long a step took.
    pub fn stage(&self, stage: Stage, took: Duration) {
        if let Some(histogram) = self.stages.get(stage as usize) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// Counts the tokens of an answered request.
    pub fn tokens(&self, tokens: usize) {
        self.tokens.inc_by(tokens as u64);
    }
}

impl BatchObserver for ModelMetrics {
    fn batch(&self, report: &BatchReport<'_>) {
        self.batch_tokens.observe(report.tokens as f64);
        self.batch_sequences.observe(report.sequences as f64);
        for wait in report.waits {
            self.stage(Stage::Queue, *wait);
        }
        self.stage(Stage::Forward, report.forward);
        self.stage(Stage::Pool, report.pooling);
        self.stage(Stage::Sandbox, report.sandbox);
    }

    fn queued(&self, sequences: usize) {
        self.queued
            .set(i64::try_from(sequences).unwrap_or(i64::MAX));
    }

    fn failed(&self) {
        self.failed_batches.inc();
    }
}
