//! One bundle being served under a name.

use std::sync::Arc;

use tenon_preprocess::TextTokenizer;

use crate::http::service::ModelCard;
use crate::observability::ModelMetrics;
use crate::sandbox::{FrontBundle, ModelInfo, OnFailure, PoolingInfo};
use crate::scheduler::Scheduler;

/// A bundle that is loaded and ready.
pub struct Deployment {
    /// What callers may know of it.
    pub card: ModelCard,
    /// Parser, template and encoder.
    pub front: FrontBundle,
    /// The checkpoint's tokenizer.
    pub tokenizer: Arc<TextTokenizer>,
    /// The queue in front of its model and pooling components.
    pub scheduler: Scheduler,
    /// Its numbers.
    pub metrics: ModelMetrics,
    /// Told when one of its components failed.
    pub on_failure: OnFailure,
    /// What its model component said of itself.
    pub model: ModelInfo,
    /// What its pooling component said of itself.
    pub pooling: PoolingInfo,
}

impl Deployment {
    /// Its name, then its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.card.name.as_str()).chain(self.card.aliases.iter().map(String::as_str))
    }
}
