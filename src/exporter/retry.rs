//! When to try again: pure functions of the attempt, the answer and a random number.

use std::time::Duration;

/// Longest wait that a `Retry-After` header can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Exponential backoff with jitter.
#[derive(Debug)]
pub(crate) struct Backoff {
    initial: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            failures: 0,
        }
    }

    /// The wait after one more failure: random within the upper half of a limit that doubles
    /// from failure to failure. `random` is uniform over all values.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let limit = self
            .initial
            .saturating_mul(1 << self.failures.min(31))
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        let half = limit / 2;
        half + half.mul_f64(random as f64 / u64::MAX as f64)
    }

    /// The next failure is the first again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The statuses after which OTLP allows to send the same request again.
pub(crate) fn is_retryable(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// `Retry-After` in seconds; anything else says nothing.
pub(crate) fn retry_after(value: &str) -> Option<Duration> {
    let seconds = value.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_maximum() {
        let (initial, max) = (Duration::from_millis(100), Duration::from_millis(700));
        let mut longest = Backoff::new(initial, max);
        let mut shortest = Backoff::new(initial, max);
        for limit in [100, 200, 400, 700, 700] {
            assert_eq!(longest.next(u64::MAX).as_millis(), limit);
            assert_eq!(shortest.next(0).as_millis(), limit / 2);
        }
        longest.reset();
        assert_eq!(longest.next(u64::MAX), initial);
        for _ in 0..100 {
            assert!(longest.next(u64::MAX) <= max);
        }
    }

    #[test]
    fn retry_after_is_bounded_seconds() {
        assert_eq!(retry_after(" 3 "), Some(Duration::from_secs(3)));
        assert_eq!(retry_after("0"), Some(Duration::ZERO));
        assert_eq!(retry_after("99999999"), Some(RETRY_AFTER_MAX));
        for nothing in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(retry_after(nothing), None);
        }
    }

    #[test]
    fn only_four_statuses_are_retried() {
        let retried: Vec<u16> = (100..600).filter(|status| is_retryable(*status)).collect();
        assert_eq!(retried, [429, 502, 503, 504]);
    }
}
