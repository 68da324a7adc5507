//! Whether a request may wait, and when to come back if not.

use std::time::Duration;

/// Why a request was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// Too many sequences wait already.
    #[error("{queued} sequences wait already, the limit is {limit}")]
    QueueFull {
        /// How many wait.
        queued: usize,
        /// How many may.
        limit: usize,
        /// When there should be room, going by the recent throughput.
        retry_after: Duration,
    },
    /// The scheduler drains, or its worker has died.
    #[error("the deployment has stopped accepting work")]
    ShuttingDown,
}

/// Shortest and longest time that a refused caller is told to wait: `retry-after` has
/// whole seconds, and after a minute an estimate is worth nothing.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Weight of the newest batch in the measured throughput.
const NEWEST_WEIGHT: f64 = 0.2;

/// The recent throughput of the device.
#[derive(Debug, Default)]
pub(super) struct Throughput {
    tokens_per_s: f64,
}

impl Throughput {
    /// Takes in one batch.
    pub(super) fn record(&mut self, tokens: usize, elapsed: Duration) {
        let newest = tokens as f64 / elapsed.as_secs_f64().max(1e-6);
        self.tokens_per_s = match self.tokens_per_s {
            0.0 => newest,
            known => known + (newest - known) * NEWEST_WEIGHT,
        };
    }

    /// How long the device needs for so many tokens.
    pub(super) fn time_for(&self, tokens: usize) -> Duration {
        let (shortest, longest) = RETRY_AFTER;
        if self.tokens_per_s == 0.0 {
            return shortest;
        }
        let seconds = tokens as f64 / self.tokens_per_s;
        Duration::from_secs_f64(seconds.min(longest.as_secs_f64())).max(shortest)
    }
}

/// Whether `new` sequences may join `queued` ones. Into an empty queue any request may
/// come, else one larger than the limit could never be served.
pub(super) fn has_room(queued: usize, new: usize, limit: usize) -> bool {
    queued == 0 || queued.saturating_add(new) <= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_up_to_the_limit_and_anything_into_an_empty_queue() {
        assert!(has_room(3, 1, 4));
        assert!(!has_room(3, 2, 4));
        assert!(has_room(0, 5, 4));
        assert!(!has_room(1, usize::MAX, 4));
    }

    #[test]
    fn estimates_the_wait_from_throughput_within_bounds() {
        let mut throughput = Throughput::default();
        assert_eq!(throughput.time_for(1_000_000), RETRY_AFTER.0);
        throughput.record(1000, Duration::from_secs(1));
        assert_eq!(throughput.time_for(5000), Duration::from_secs(5));
        assert_eq!(throughput.time_for(1), RETRY_AFTER.0);
        assert_eq!(throughput.time_for(usize::MAX), RETRY_AFTER.1);
        throughput.record(2000, Duration::from_secs(1));
        assert_eq!(throughput.time_for(12_000), Duration::from_secs(10));
        throughput.record(1, Duration::ZERO);
    }
}
