//! When to try again: pure functions of the attempts, the response and a random number.

use std::time::{Duration, SystemTime};

/// The longest wait that a `Retry-After` header can request.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// Exponential backoff with full jitter.
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

    /// Counts a failure. Returns the wait before the next attempt: random between nothing and a limit
    /// that doubles with each failure. `random` is uniform over all values.
    pub(crate) fn next(&mut self, random: u64) -> Duration {
        let limit = self
            .initial
            .saturating_mul(1 << self.failures.min(31))
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        limit.mul_f64(random as f64 / u64::MAX as f64)
    }

    /// Makes the next failure count as the first.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns whether an attempt has failed since the last reset.
    pub(crate) fn has_failed(&self) -> bool {
        self.failures > 0
    }
}

/// Returns whether OTLP allows to send the same request again after this status.
pub(crate) fn is_retryable(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// Parses a `Retry-After`, in seconds or as a date (RFC 9110, 10.2.3); `None` for anything else. The
/// wait is zero for a date in the past, and at most ten minutes.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let wait = if is_number {
        // Too many digits are an endless wait.
        value.parse().map_or(Duration::MAX, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_maximum_with_full_jitter() {
        let (initial, max) = (Duration::from_millis(100), Duration::from_millis(700));
        let mut longest = Backoff::new(initial, max);
        let mut shortest = Backoff::new(initial, max);
        for limit in [100, 200, 400, 700, 700] {
            assert_eq!(longest.next(u64::MAX).as_millis(), limit);
            assert_eq!(shortest.next(0).as_millis(), 0);
        }
        assert!(longest.has_failed());
        longest.reset();
        assert!(!longest.has_failed());
        assert_eq!(longest.next(u64::MAX), initial);
        for _ in 0..100 {
            assert!(longest.next(u64::MAX) <= max);
        }
    }

    #[test]
    fn retry_after_in_seconds_is_bounded() {
        let seconds = |value| retry_after(value, SystemTime::UNIX_EPOCH);
        assert_eq!(seconds(" 3 "), Some(Duration::from_secs(3)));
        assert_eq!(seconds("0"), Some(Duration::ZERO));
        assert_eq!(seconds("99999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(seconds("99999999999999999999999"), Some(RETRY_AFTER_MAX));
        for nothing in ["", "-1", "+1", "soon", "1.5", "nan", "inf", "1e3", "0x10"] {
            assert_eq!(seconds(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn retry_after_as_a_date_is_the_time_until_that_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let date = |value| retry_after(value, now);
        assert_eq!(
            date("Sun, 06 Nov 1994 08:49:49 GMT"),
            Some(Duration::from_secs(12))
        );
        // The two obsolete forms that a recipient must understand.
        assert_eq!(
            date("Sunday, 06-Nov-94 08:50:37 GMT"),
            Some(Duration::from_secs(60))
        );
        assert_eq!(
            date("Sun Nov  6 08:49:38 1994"),
            Some(Duration::from_secs(1))
        );
        let past = "Sun, 06 Nov 1994 08:49:36 GMT";
        assert_eq!(date(past), Some(Duration::ZERO));
        assert_eq!(date("Fri, 31 Dec 9999 23:59:59 GMT"), Some(RETRY_AFTER_MAX));
        for nothing in [
            "Sun, 06 Nov 1994",
            "Sun, 99 Nov 1994 08:49:37 GMT",
            "tomorrow",
        ] {
            assert_eq!(date(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn only_four_statuses_are_retried() {
        let retried: Vec<u16> = (100..600).filter(|status| is_retryable(*status)).collect();
        assert_eq!(retried, [429, 502, 503, 504]);
    }
}
