//! What callers and the worker share: the queue, and the replies still owed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::admission::{AdmissionError, Throughput, has_room};
use super::observer::BatchObserver;
use super::options::SchedulerOptions;
use super::queue::{Picked, Queue, RequestId, Taken};
use super::ticket::{Reply, Row, SubmitError, Ticket};
use crate::batch::Sequence;

/// One deployment's queue and replies.
pub(super) struct Shared {
    pub(super) options: SchedulerOptions,
    pub(super) observer: Arc<dyn BatchObserver>,
    state: Mutex<State>,
    /// Signalled when the queue is no longer empty, or closed.
    work: Condvar,
    /// Whether the workers have ended.
    stopped: watch::Sender<bool>,
}

/// A batch, and what has become of it so far.
#[derive(Default)]
pub(super) struct Work {
    pub(super) batch: Vec<Picked>,
    /// How long each request waited whose first sequence is in the batch.
    pub(super) waits: Vec<Duration>,
    /// How often a device was lost while it ran.
    pub(super) losses: u32,
}

struct State {
    queue: Queue,
    /// Batches whose device was lost; they go before everything that waits.
    interrupted: VecDeque<Work>,
    /// Every request that has not been answered, queued or running.
    unanswered: HashMap<RequestId, Unanswered>,
    next_id: RequestId,
    open: bool,
    workers: usize,
    throughput: Throughput,
}

struct Unanswered {
    rows: Vec<Option<Row>>,
    missing: usize,
    deadline: Option<Instant>,
    reply: oneshot::Sender<Reply>,
}

/// Replies to send once the lock is free.
type Replies = Vec<(oneshot::Sender<Reply>, Reply)>;

impl Shared {
    pub(super) fn new(
        options: SchedulerOptions,
        workers: usize,
        observer: Arc<dyn BatchObserver>,
    ) -> Self {
        Self {
            options,
            observer,
            state: Mutex::new(State {
                queue: Queue::default(),
                interrupted: VecDeque::new(),
                unanswered: HashMap::new(),
                next_id: 0,
                open: true,
                workers,
                throughput: Throughput::default(),
            }),
            work: Condvar::new(),
            stopped: watch::Sender::new(false),
        }
    }

    pub(super) fn submit(
        self: &Arc<Self>,
        sequences: Vec<Sequence>,
        priority: i32,
        deadline: Option<Instant>,
    ) -> Result<Ticket, AdmissionError> {
        let (reply, receiver) = oneshot::channel();
        let mut state = self.lock();
        if !state.open {
            return Err(AdmissionError::ShuttingDown);
        }
        let (queued, limit) = (state.queue.sequences(), self.options.max_queued_sequences);
        if !has_room(queued, sequences.len(), limit) {
            return Err(AdmissionError::QueueFull {
                queued,
                limit,
                retry_after: state.throughput.time_for(state.queue.tokens()),
            });
        }
        let id = state.next_id;
        state.next_id += 1;
        if sequences.is_empty() {
            send(vec![(reply, Ok(Vec::new()))]);
        } else {
            let unanswered = Unanswered {
                rows: sequences.iter().map(|_| None).collect(),
                missing: sequences.len(),
                deadline,
                reply,
            };
            state.unanswered.insert(id, unanswered);
            let now = Instant::now();
            state.queue.push(id, sequences, priority, deadline, now);
            self.observer.queued(state.queue.sequences());
            self.work.notify_one();
        }
        drop(state);
        Ok(Ticket::new(receiver, self.clone(), id))
    }

    pub(super) fn cancel(&self, id: RequestId) {
        let mut state = self.lock();
        state.queue.remove(id);
        let dropped = state.unanswered.remove(&id);
        self.observer.queued(state.queue.sequences());
        drop(state);
        drop(dropped);
    }

    pub(super) fn queued(&self) -> usize {
        self.lock().queue.sequences()
    }

    /// Admits nothing more; the workers end when the queue is empty.
    pub(super) fn close(&self) {
        self.lock().open = false;
        self.work.notify_all();
    }

    /// Takes note that a worker has ended. After the last of them, or one that ended `early`,
    /// everything that is left is answered with an error.
    pub(super) fn worker_ended(&self, early: bool) {
        let mut state = self.lock();
        state.workers = state.workers.saturating_sub(1);
        if state.workers > 0 && !early {
            return;
        }
        state.open = false;
        state.queue.clear();
        state.interrupted.clear();
        self.observer.queued(0);
        let left = std::mem::take(&mut state.unanswered);
        drop(state);
        send(
            left.into_values()
                .map(|u| (u.reply, Err(SubmitError::Stopped))),
        );
        self.work.notify_all();
        self.stopped.send_replace(true);
    }

    pub(super) async fn stopped(&self) {
        // An error says that the sender is gone, but `self` holds it.
        let _ = self.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Waits for work; `None` when the scheduler is closed and nothing waits.
    pub(super) fn next_batch(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.interrupted.pop_front() {
                return Some(work);
            }
            let now = Instant::now();
            let taken = state.queue.take(now, self.options.max_batch_tokens);
            let Taken {
                batch,
                waits,
                expired,
            } = taken;
            if !batch.is_empty() || !expired.is_empty() {
                self.observer.queued(state.queue.sequences());
                let replies = state.fail(expired, &SubmitError::DeadlineExceeded);
                drop(state);
                send(replies);
                if !batch.is_empty() {
                    return Some(Work {
                        batch,
                        waits,
                        losses: 0,
                    });
                }
                state = self.lock();
            } else if !state.open {
                return None;
            } else {
                let waited = self.work.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Has a batch run again, by whichever worker is free first.
    pub(super) fn put_back(&self, work: Work) {
        self.lock().interrupted.push_back(work);
        self.work.notify_one();
    }

    /// Whether the scheduler is closed and nothing waits.
    pub(super) fn is_done(&self) -> bool {
        let state = self.lock();
        !state.open && state.interrupted.is_empty() && state.queue.sequences() == 0
    }

    /// Answers requests whose deadline has passed, while nobody takes batches.
    pub(super) fn expire(&self, now: Instant) {
        let mut state = self.lock();
        let mut expired = state.queue.expire(now);
        let interrupted = state.interrupted.iter().flat_map(|work| &work.batch);
        let overdue = interrupted.filter(|picked| {
            let deadline = state.unanswered.get(&picked.request).map(|it| it.deadline);
            deadline.flatten().is_some_and(|deadline| deadline <= now)
        });
        expired.extend(overdue.map(|picked| picked.request));
        if expired.is_empty() {
            return;
        }
        let replies = state.fail(expired, &SubmitError::DeadlineExceeded);
        self.observer.queued(state.queue.sequences());
        drop(state);
        send(replies);
    }

    /// Leaves out sequences whose request was cancelled, or whose deadline has passed.
    pub(super) fn still_wanted(&self, mut batch: Vec<Picked>, now: Instant) -> Vec<Picked> {
        let mut state = self.lock();
        let mut expired = Vec::new();
        batch.retain(|picked| match state.unanswered.get(&picked.request) {
            None => false,
            Some(request) if request.deadline.is_some_and(|deadline| deadline <= now) => {
                expired.push(picked.request);
                false
            }
            Some(_) => true,
        });
        let replies = state.fail(expired, &SubmitError::DeadlineExceeded);
        drop(state);
        send(replies);
        batch
    }

    /// Hands out the rows of a batch, and answers the requests that they complete.
    pub(super) fn deliver(&self, batch: &[Picked], rows: Vec<Row>, elapsed: Duration) {
        let mut state = self.lock();
        let tokens = batch.iter().map(|p| p.sequence.weight()).sum();
        state.throughput.record(tokens, elapsed);
        let mut complete = Vec::new();
        for (picked, row) in batch.iter().zip(rows) {
            let Some(request) = state.unanswered.get_mut(&picked.request) else {
                continue; // cancelled while it ran
            };
            let Some(slot @ None) = request.rows.get_mut(picked.row) else {
                continue;
            };
            *slot = Some(row);
            request.missing -= 1;
            if request.missing == 0 {
                complete.extend(state.unanswered.remove(&picked.request));
            }
        }
        drop(state);
        send(complete.into_iter().map(|request| {
            let rows = request.rows.into_iter().flatten().collect();
            (request.reply, Ok(rows))
        }));
    }

    /// Answers all requests of a batch with an error, and drops what they still queue.
    pub(super) fn fail(&self, batch: &[Picked], error: &SubmitError) {
        let mut state = self.lock();
        let replies = state.fail(batch.iter().map(|p| p.request), error);
        self.observer.queued(state.queue.sequences());
        drop(state);
        send(replies);
    }

    /// A panic elsewhere leaves the state usable: no code here panics halfway.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fail(
        &mut self,
        requests: impl IntoIterator<Item = RequestId>,
        error: &SubmitError,
    ) -> Replies {
        let mut replies = Vec::new();
        for id in requests {
            self.queue.remove(id);
            let request = self.unanswered.remove(&id);
            replies.extend(request.map(|r| (r.reply, Err(error.clone()))));
        }
        replies
    }
}

fn send(replies: impl IntoIterator<Item = (oneshot::Sender<Reply>, Reply)>) {
    for (sender, reply) in replies {
        // The receiver may be gone: a cancelled request wants no answer.
        let _ = sender.send(reply);
    }
}
