//! What an operator can set about a deployment's queue and batches.

use std::time::Duration;

/// Limits of one deployment's scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Tokens in one batch; a longer sequence runs alone. A CPU gains nothing from more
    /// than some hundred rows a thread pool: past 1024 the activations (1024 rows of 3072
    /// f32 are 12 MiB) leave the shared cache, and whoever arrives meanwhile waits longer.
    /// A GPU wants 8192 to 16384.
    pub max_batch_tokens: usize,
    /// Sequences that may wait. 8192 are four requests of the largest size that the
    /// OpenAI API allows, and 16 MiB of ids at 512 tokens each. A single larger request is
    /// admitted when nothing waits; the body limit bounds it.
    pub max_queued_sequences: usize,
    /// How often a batch is tried again while the executor is unavailable. A deployment
    /// that is still unavailable after that fails its batches at the first try until one
    /// succeeds, so that a full queue is not held up by every batch in turn.
    pub max_retries: u32,
    /// The wait before the first retry; it doubles with each. With five retries from
    /// 50 ms a batch waits 1.55 s: enough to replace a trapped store.
    pub retry_backoff: Duration,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            max_batch_tokens: 1024,
            max_queued_sequences: 8192,
            max_retries: 5,
            retry_backoff: Duration::from_millis(50),
        }
    }
}
