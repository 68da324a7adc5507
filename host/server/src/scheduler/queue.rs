//! What waits, and which of it goes into the next batch; no threads, and told the time.
//!
//! Higher priorities go first. Among requests of one priority every sequence goes to the
//! request that has been given the fewest tokens so far (start-time fair queueing, with a
//! request for a flow): a request with one short input behind one with 2048 runs in the
//! very next batch, and k large requests advance together. First come, first served would
//! make the small one wait for the whole of the large; shortest first would let a stream
//! of small ones starve the large. A newcomer begins where the least served request of
//! its priority stands, and ties go to the earlier arrival, so nobody is overtaken for
//! ever.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::batch::Sequence;

/// Names a request within one queue; later requests have higher numbers.
pub(super) type RequestId = u64;

/// How many requests whose next sequence does not fit are passed over while a batch is
/// filled: enough to fill it well, and a bound on the time under the lock.
const MAX_PASSED_OVER: usize = 32;

/// A sequence taken for a batch.
#[derive(Debug)]
pub(super) struct Picked {
    /// Whose it is.
    pub(super) request: RequestId,
    /// Its place among that request's sequences.
    pub(super) row: usize,
    /// The sequence itself.
    pub(super) sequence: Sequence,
}

/// What [`Queue::take`] decided.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The next batch; empty when nothing waits. One request's rows need not be adjacent.
    pub(super) batch: Vec<Picked>,
    /// How long each request waited whose first sequence is in the batch.
    pub(super) waits: Vec<Duration>,
    /// Requests whose deadline has passed; they are no longer queued.
    pub(super) expired: Vec<RequestId>,
}

/// Waiting requests.
#[derive(Debug, Default)]
pub(super) struct Queue {
    requests: HashMap<RequestId, Waiting>,
    order: BTreeSet<Key>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    queued_sequences: usize,
    queued_tokens: usize,
}

/// The order in which requests are served; the least is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    priority: Reverse<i32>,
    /// Tokens given so far, counted from where the request began.
    served_tokens: u64,
    id: RequestId,
}

#[derive(Debug)]
struct Waiting {
    key: Key,
    sequences: Vec<Sequence>,
    /// The first sequence not yet taken.
    next: usize,
    queued_at: Instant,
    deadline: Option<Instant>,
}

impl Queue {
    /// Adds a request with at least one sequence.
    pub(super) fn push(
        &mut self,
        id: RequestId,
        sequences: Vec<Sequence>,
        priority: i32,
        deadline: Option<Instant>,
        now: Instant,
    ) {
        if sequences.is_empty() {
            return;
        }
        let priority = Reverse(priority);
        let least_of_priority = Key {
            priority,
            served_tokens: 0,
            id: 0,
        };
        let served_tokens = match self.order.range(least_of_priority..).next() {
            Some(first) if first.priority == priority => first.served_tokens,
            _ => 0,
        };
        let key = Key {
            priority,
            served_tokens,
            id,
        };
        self.queued_sequences += sequences.len();
        self.queued_tokens += sequences.iter().map(Sequence::weight).sum::<usize>();
        self.order.insert(key);
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        let waiting = Waiting {
            key,
            sequences,
            next: 0,
            queued_at: now,
            deadline,
        };
        self.requests.insert(id, waiting);
    }

    /// Drops what still waits of a request.
    pub(super) fn remove(&mut self, id: RequestId) {
        let Some(waiting) = self.requests.remove(&id) else {
            return;
        };
        self.order.remove(&waiting.key);
        if let Some(deadline) = waiting.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        let rest = waiting.sequences.get(waiting.next..).unwrap_or_default();
        self.queued_sequences -= rest.len();
        self.queued_tokens -= rest.iter().map(Sequence::weight).sum::<usize>();
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many sequences wait.
    pub(super) fn sequences(&self) -> usize {
        self.queued_sequences
    }

    /// How many tokens wait.
    pub(super) fn tokens(&self) -> usize {
        self.queued_tokens
    }

    /// Takes the next batch of at most `max_tokens`, or of one sequence longer than that.
    pub(super) fn take(&mut self, now: Instant, max_tokens: usize) -> Taken {
        let mut taken = Taken {
            expired: self.expire(now),
            ..Taken::default()
        };
        let mut room = max_tokens.max(1);
        let mut passed_over = Vec::new();
        while room > 0 && passed_over.len() < MAX_PASSED_OVER {
            let Some(key) = self.order.pop_first() else {
                break;
            };
            let Some(tokens) = self.next_tokens(key.id) else {
                continue;
            };
            if tokens > room && !taken.batch.is_empty() {
                passed_over.push(key);
                continue;
            }
            room = room.saturating_sub(tokens);
            self.take_one(key, now, &mut taken);
        }
        // What was passed over is still the least served, so it begins the next batch.
        self.order.extend(passed_over);
        taken
    }

    fn next_tokens(&self, id: RequestId) -> Option<usize> {
        let waiting = self.requests.get(&id)?;
        Some(waiting.sequences.get(waiting.next)?.weight())
    }

    /// Moves the next sequence of the request, whose key is out of `order`, to `taken`.
    fn take_one(&mut self, key: Key, now: Instant, taken: &mut Taken) {
        let Some(waiting) = self.requests.get_mut(&key.id) else {
            return;
        };
        let row = waiting.next;
        let Some(slot) = waiting.sequences.get_mut(row) else {
            return;
        };
        let sequence = std::mem::take(slot);
        let weight = sequence.weight();
        if row == 0 {
            let wait = now.saturating_duration_since(waiting.queued_at);
            taken.waits.push(wait);
        }
        waiting.next += 1;
        waiting.key.served_tokens += weight as u64;
        let (finished, key) = (waiting.next == waiting.sequences.len(), waiting.key);
        self.queued_sequences -= 1;
        self.queued_tokens -= weight;
        taken.batch.push(Picked {
            request: key.id,
            row,
            sequence,
        });
        if finished {
            self.remove(key.id);
        } else {
            self.order.insert(key);
        }
    }

    /// Drops requests whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<RequestId> {
        let mut expired = Vec::new();
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                break;
            }
            self.remove(id);
            expired.push(id);
        }
        expired
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
