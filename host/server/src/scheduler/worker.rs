//! The thread that owns an executor: takes batches, runs them, tries again.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::observer::BatchReport;
use super::queue::Picked;
use super::shared::Shared;
use super::ticket::SubmitError;
use crate::batch::{BatchOutput, ExecuteError, Executor, PackedBatch};

/// What a caller is told to wait when the executor stayed unavailable: the retries have
/// shown that it is not a matter of moments.
const UNAVAILABLE_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Starts the worker. It ends when the scheduler is closed and nothing waits.
pub(super) fn spawn(shared: Arc<Shared>, executor: Box<dyn Executor>) {
    let worker = Worker {
        executor,
        unavailable: false,
        lost: false,
        on_exit: OnExit {
            shared: shared.clone(),
            done: false,
        },
        shared,
    };
    let thread = thread::Builder::new().name("tenon-worker".into());
    if let Err(error) = thread.spawn(move || worker.run()) {
        tracing::error!(%error, "starting a worker thread failed");
    }
}

struct Worker {
    executor: Box<dyn Executor>,
    /// Whether the last batch failed because the executor was unavailable.
    unavailable: bool,
    /// Whether the executor is of no more use.
    lost: bool,
    /// Dropped after `executor`, also when that panics or no thread could be started.
    on_exit: OnExit,
    shared: Arc<Shared>,
}

/// Says when the worker is gone, for whatever reason.
struct OnExit {
    shared: Arc<Shared>,
    /// Whether it ended because there is nothing left to do.
    done: bool,
}

impl Drop for OnExit {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("a worker died: its executor panicked");
        }
        self.shared.worker_ended(!self.done);
    }
}

impl Worker {
    fn run(mut self) {
        while let Some((batch, waits)) = self.shared.next_batch() {
            self.run_batch(batch, &waits);
            if self.lost {
                return;
            }
        }
        self.on_exit.done = true;
    }

    /// Runs a batch until it gives rows or an error. When a component fails on a batch of
    /// several requests, each is run again alone, so that only the culprit fails.
    fn run_batch(&mut self, mut batch: Vec<Picked>, waits: &[Duration]) {
        let options = &self.shared.options;
        let mut retries = if self.unavailable {
            0
        } else {
            options.max_retries
        };
        let mut backoff = options.retry_backoff;
        while !batch.is_empty() {
            let started = Instant::now();
            let result = self.execute(&batch, waits);
            self.unavailable = matches!(result, Err(ExecuteError::Unavailable(_)));
            match result {
                Ok(output) => {
                    return self.shared.deliver(&batch, output.rows, started.elapsed());
                }
                Err(ExecuteError::Component(_)) if has_several_requests(&batch) => {
                    return self.run_one_by_one(batch);
                }
                Err(ExecuteError::Component(reason)) => {
                    let error = SubmitError::Component(reason);
                    return self.shared.fail(&batch, &error);
                }
                Err(ExecuteError::Lost(reason)) => {
                    tracing::error!(%reason, "a worker ends: its executor is lost");
                    self.lost = true;
                    return self.shared.fail(&batch, &SubmitError::Stopped);
                }
                Err(ExecuteError::Unavailable(reason)) if retries == 0 => {
                    let error = SubmitError::Unavailable {
                        reason,
                        retry_after: UNAVAILABLE_RETRY_AFTER,
                    };
                    return self.shared.fail(&batch, &error);
                }
                Err(ExecuteError::Unavailable(_)) => {
                    thread::sleep(backoff);
                    retries -= 1;
                    backoff = backoff.saturating_mul(2);
                    batch = self.shared.still_wanted(batch, Instant::now());
                }
            }
        }
    }

    fn run_one_by_one(&mut self, mut batch: Vec<Picked>) {
        batch.sort_by_key(|picked| picked.request); // stable: rows stay in order
        while let Some(first) = batch.first() {
            let request = first.request;
            let end = batch.partition_point(|picked| picked.request <= request);
            let rest = batch.split_off(end);
            let alone = self.shared.still_wanted(batch, Instant::now());
            self.run_batch(alone, &[]);
            if self.lost {
                return self.shared.fail(&rest, &SubmitError::Stopped);
            }
            batch = rest;
        }
    }

    fn execute(
        &mut self,
        batch: &[Picked],
        waits: &[Duration],
    ) -> Result<BatchOutput, ExecuteError> {
        let packed = PackedBatch::pack(batch.iter().map(|picked| &picked.sequence));
        let result = self.executor.execute(&packed).and_then(|output| {
            let (rows, sequences) = (output.rows.len(), packed.sequences());
            if rows == sequences {
                return Ok(output);
            }
            Err(ExecuteError::Component(format!(
                "the executor gave {rows} rows for {sequences} sequences"
            )))
        });
        match &result {
            Ok(output) => self.shared.observer.batch(&BatchReport {
                tokens: packed.token_ids.len(),
                sequences: packed.sequences(),
                waits,
                forward: output.forward,
                pooling: output.pooling,
                sandbox: output.sandbox,
            }),
            Err(_) => self.shared.observer.failed(),
        }
        result
    }
}

fn has_several_requests(batch: &[Picked]) -> bool {
    batch.windows(2).any(|pair| match pair {
        [a, b] => a.request != b.request,
        _ => false,
    })
}
