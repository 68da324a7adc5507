//! How long a store that failed is left alone before it is built anew.

use std::time::{Duration, Instant};

/// Failures in a row, and when the next attempt may be made.
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    retry_at: Option<Instant>,
}

impl Backoff {
    /// The first attempt after a success is free; then `first`, doubling to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
            retry_at: None,
        }
    }

    /// What is left to wait at `now`.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.retry_at
            .and_then(|at| at.checked_duration_since(now))
            .filter(|wait| !wait.is_zero())
    }

    /// It failed at `now`.
    pub fn failed(&mut self, now: Instant) {
        // One bad batch costs nobody else a wait.
        let wait = match self.failures {
            0 => Duration::ZERO,
            failures => self
                .first
                .saturating_mul(1 << (failures - 1).min(20))
                .min(self.longest),
        };
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now.checked_add(wait);
    }

    /// It ran.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_retry_is_free_then_waits_double_up_to_the_longest() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(350));
        assert_eq!(backoff.wait(now), None);
        let mut waits = Vec::new();
        for _ in 0..5 {
            backoff.failed(now);
            waits.push(backoff.wait(now));
        }
        let expected = [
            None,
            Some(ms(100)),
            Some(ms(200)),
            Some(ms(350)),
            Some(ms(350)),
        ];
        assert_eq!(waits, expected);
        assert_eq!(backoff.wait(now + ms(350)), None);
        backoff.succeeded();
        backoff.failed(now);
        assert_eq!(backoff.wait(now), None);
    }
}
