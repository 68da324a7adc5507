//! Packs sequences of many requests into batches and runs them.
//!
//! A [`Scheduler`] is one deployment's queue and a worker thread for each of its [`Executor`]s:
//! one on the processor; two on a device of its own, so that the host is at work on a batch
//! while the device computes another. Requests enter through [`Scheduler::submit`] and
//! are answered through their [`Ticket`]. Which sequences go into the next batch is
//! decided by `queue`, which knows no thread and is told the time.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use tenon::batch::{BatchOutput, ExecuteError, Executor, PackedBatch, Sequence};
//! use tenon::scheduler::{Scheduler, SchedulerOptions, Unobserved};
//!
//! struct Lengths; // a stand-in for a model: a sequence's vector is its length
//! impl Executor for Lengths {
//!     fn execute(&mut self, batch: &PackedBatch) -> Result<BatchOutput, ExecuteError> {
//!         let ends = batch.cu_seqlens.windows(2);
//!         Ok(BatchOutput {
//!             rows: ends.map(|w| Ok(vec![(w[1] - w[0]) as f32])).collect(),
//!             forward: Duration::ZERO,
//!             pooling: Duration::ZERO,
//!             sandbox: Duration::ZERO,
//!         })
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let options = SchedulerOptions::default();
//! let scheduler = Scheduler::start(options, vec![Box::new(Lengths)], Arc::new(Unobserved));
//! let hello = Sequence { token_ids: vec![101, 7592, 102], ..Sequence::default() };
//! let rows = scheduler.submit(vec![hello], 0, None)?.await?;
//! assert_eq!(rows, [Ok(vec![3.0])]);
//! scheduler.drain().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod admission;
mod observer;
mod options;
mod queue;
mod shared;
mod ticket;
mod worker;

#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

pub use admission::AdmissionError;
pub use observer::{BatchObserver, BatchReport, Unobserved};
pub use options::SchedulerOptions;
pub use ticket::{SubmitError, Ticket};

use crate::batch::{Executor, Sequence};
use shared::Shared;

/// One deployment's queue and workers. Clones are handles of the same one; when the last
/// is dropped nothing more is admitted, and the workers end after what they already have.
#[derive(Clone)]
pub struct Scheduler {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Scheduler {
    /// Starts a worker thread for each executor, of which there is at least one. Should the
    /// system refuse a thread, that is logged and the scheduler is a stopped one: it admits
    /// nothing.
    pub fn start(
        options: SchedulerOptions,
        executors: Vec<Box<dyn Executor>>,
        observer: Arc<dyn BatchObserver>,
    ) -> Self {
        let shared = Arc::new(Shared::new(options, executors.len(), observer));
        for executor in executors {
            worker::spawn(shared.clone(), executor);
        }
        Self {
            handle: Arc::new(Handle { shared }),
        }
    }

    /// Queues one request's sequences, or refuses all of them. Higher priorities run
    /// first. A request of which nothing has been computed by `deadline`, or only a
    /// part, is answered with [`SubmitError::DeadlineExceeded`].
    pub fn submit(
        &self,
        sequences: Vec<Sequence>,
        priority: i32,
        deadline: Option<Instant>,
    ) -> Result<Ticket, AdmissionError> {
        self.handle.shared.submit(sequences, priority, deadline)
    }

    /// How many sequences wait.
    pub fn queued(&self) -> usize {
        self.handle.shared.queued()
    }

    /// Admits nothing more, and returns when everything admitted has been answered and
    /// the workers have ended. There is no limit of time here: the caller has one.
    pub async fn drain(&self) {
        self.handle.shared.close();
        self.stopped().await;
    }

    /// Returns when the workers have ended: after a drain, because the last executor is
    /// lost, or because one panicked, after which nothing is admitted any more.
    pub async fn stopped(&self) {
        self.handle.shared.stopped().await;
    }
}
