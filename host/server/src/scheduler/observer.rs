//! What the worker tells about its batches.

use std::time::Duration;

/// One batch that gave rows.
#[derive(Debug)]
pub struct BatchReport<'a> {
    /// Tokens in the batch.
    pub tokens: usize,
    /// Sequences in the batch.
    pub sequences: usize,
    /// How long each request waited whose first sequence is in this batch.
    pub waits: &'a [Duration],
    /// As in [`BatchOutput::forward`](crate::batch::BatchOutput::forward).
    pub forward: Duration,
    /// As in [`BatchOutput::pooling`](crate::batch::BatchOutput::pooling).
    pub pooling: Duration,
    /// As in [`BatchOutput::sandbox`](crate::batch::BatchOutput::sandbox).
    pub sandbox: Duration,
}

/// Receives numbers from a scheduler, on whatever thread they arise; must not block.
pub trait BatchObserver: Send + Sync + 'static {
    /// A batch ran.
    fn batch(&self, report: &BatchReport<'_>);
    /// This many sequences wait now.
    fn queued(&self, sequences: usize);
    /// An execution failed; the batch may be tried again.
    fn failed(&self);
}

/// Observes nothing.
pub struct Unobserved;

impl BatchObserver for Unobserved {
    fn batch(&self, _: &BatchReport<'_>) {}
    fn queued(&self, _: usize) {}
    fn failed(&self) {}
}
