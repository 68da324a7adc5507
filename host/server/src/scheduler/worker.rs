//! The thread that owns an executor: takes batches, runs them, tries again.
//!
//! A batch whose device was lost is put back for whichever worker can run it first.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::observer::BatchReport;
use super::queue::Picked;
use super::shared::{Shared, Work};
use super::ticket::SubmitError;
use crate::batch::{BatchOutput, ExecuteError, Executor, PackedBatch};

/// What a caller is told to wait when the executor stayed unavailable: the retries have
/// shown that it is not a matter of moments.
const UNAVAILABLE_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How often a worker whose executor cannot run anything looks for deadlines that passed.
const READY_POLL: Duration = Duration::from_millis(50);

/// How often a batch may lose its device before its requests are run alone: the first time it
/// may have been another's doing, or nobody's.
const MAX_SHARED_LOSSES: u32 = 2;

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
    /// Whether it ended because there is nothing left that it could do.
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
        while let Some(mut work) = self.next() {
            if work.losses > 0 {
                work.batch = self.shared.still_wanted(work.batch, Instant::now());
            }
            self.run_batch(work);
            if self.lost {
                break;
            }
        }
        self.on_exit.done = true;
    }

    /// The next batch, once the executor can run one; none when there is nothing left to do,
    /// or the executor is lost.
    fn next(&mut self) -> Option<Work> {
        loop {
            match self.executor.await_ready(READY_POLL) {
                Ok(true) => return self.shared.next_batch(),
                Ok(false) if self.shared.is_done() => return None,
                // Others may be at work; if not, deadlines hold all the same.
                Ok(false) => self.shared.expire(Instant::now()),
                Err(error) => {
                    self.lose(&error);
                    return None;
                }
            }
        }
    }

    fn lose(&mut self, reason: &ExecuteError) {
        tracing::error!(%reason, "a worker ends: its executor is lost");
        self.lost = true;
    }

    /// Runs a batch until it gives rows or an error. When a component fails on a batch of
    /// several requests, each is run again alone, so that only the culprit fails.
    fn run_batch(&mut self, mut work: Work) {
        let options = &self.shared.options;
        let mut retries = if self.unavailable {
            0
        } else {
            options.max_retries
        };
        let mut backoff = options.retry_backoff;
        while !work.batch.is_empty() {
            let started = Instant::now();
            let result = self.execute(&work);
            self.unavailable = matches!(result, Err(ExecuteError::Unavailable(_)));
            match result {
                Ok(output) => {
                    return self
                        .shared
                        .deliver(&work.batch, output.rows, started.elapsed());
                }
                Err(ExecuteError::Component(_)) if has_several_requests(&work.batch) => {
                    return self.run_one_by_one(work);
                }
                Err(ExecuteError::Component(reason)) => {
                    let error = SubmitError::Component(reason);
                    return self.shared.fail(&work.batch, &error);
                }
                Err(ExecuteError::Interrupted { started: false, .. }) => {
                    return self.shared.put_back(work);
                }
                Err(ExecuteError::Interrupted { reason, .. }) => {
                    return self.run_later(work, reason);
                }
                Err(error @ ExecuteError::Lost(_)) => {
                    self.lose(&error);
                    // For another worker; where there is none, the last one's end answers.
                    return self.shared.put_back(work);
                }
                Err(ExecuteError::Unavailable(reason)) if retries == 0 => {
                    let error = SubmitError::Unavailable {
                        reason,
                        retry_after: UNAVAILABLE_RETRY_AFTER,
                    };
                    return self.shared.fail(&work.batch, &error);
                }
                Err(ExecuteError::Unavailable(_)) => {
                    thread::sleep(backoff);
                    retries -= 1;
                    backoff = backoff.saturating_mul(2);
                    work.batch = self.shared.still_wanted(work.batch, Instant::now());
                }
            }
        }
    }

    /// Has a batch whose device was lost run again: once as it is, then each request alone. One
    /// that loses the device even so has done it.
    fn run_later(&mut self, mut work: Work, reason: String) {
        if work.losses >= MAX_SHARED_LOSSES {
            let error = SubmitError::Component(reason);
            return self.shared.fail(&work.batch, &error);
        }
        work.losses += 1;
        if work.losses < MAX_SHARED_LOSSES {
            return self.shared.put_back(work);
        }
        for batch in by_request(work.batch) {
            self.shared.put_back(Work {
                batch,
                waits: Vec::new(),
                losses: work.losses,
            });
        }
    }

    fn run_one_by_one(&mut self, work: Work) {
        let losses = work.losses;
        for batch in by_request(work.batch) {
            let work = Work {
                batch: self.shared.still_wanted(batch, Instant::now()),
                waits: Vec::new(),
                losses,
            };
            match self.lost {
                false => self.run_batch(work),
                true => self.shared.put_back(work),
            }
        }
    }

    fn execute(&mut self, work: &Work) -> Result<BatchOutput, ExecuteError> {
        let packed = PackedBatch::pack(work.batch.iter().map(|picked| &picked.sequence));
        let result = match work.losses {
            0..MAX_SHARED_LOSSES => self.executor.execute(&packed),
            _ => self.executor.execute_alone(&packed),
        };
        let result = result.and_then(|output| {
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
                waits: &work.waits,
                forward: output.forward,
                pooling: output.pooling,
                sandbox: output.sandbox,
            }),
            Err(ExecuteError::Interrupted { started: false, .. }) => {}
            Err(_) => self.shared.observer.failed(),
        }
        result
    }
}

/// The sequences of each request, in their order.
fn by_request(mut batch: Vec<Picked>) -> Vec<Vec<Picked>> {
    batch.sort_by_key(|picked| picked.request); // stable: rows stay in order
    let mut requests: Vec<Vec<Picked>> = Vec::new();
    for picked in batch {
        match requests.last_mut() {
            Some(same) if same.last().is_some_and(|it| it.request == picked.request) => {
                same.push(picked);
            }
            _ => requests.push(vec![picked]),
        }
    }
    requests
}

fn has_several_requests(batch: &[Picked]) -> bool {
    batch.windows(2).any(|pair| match pair {
        [a, b] => a.request != b.request,
        _ => false,
    })
}
