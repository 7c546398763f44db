//! The deadlines of a shutdown.

use std::time::{Duration, Instant};

/// The time of a shutdown that is kept for the last metrics, or a quarter of it if that is less.
const METRICS_SHARE: Duration = Duration::from_millis(200);

/// The deadlines of a shutdown, for spans and for the last metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shutdown {
    deadline: Instant,
    /// Spans without an outcome are dropped then, so that the last metrics contain them.
    spans_until: Instant,
}

impl Shutdown {
    pub(crate) fn new(deadline: Instant, has_metrics: bool, now: Instant) -> Self {
        let left = deadline.saturating_duration_since(now);
        let for_metrics = match has_metrics {
            true => METRICS_SHARE.min(left / 4),
            false => Duration::ZERO,
        };
        Self {
            deadline,
            spans_until: deadline - for_metrics,
        }
    }

    /// Returns the earlier of both.
    pub(crate) fn or(self, before: Option<Self>) -> Self {
        match before {
            Some(before) if before.deadline <= self.deadline => before,
            _ => self,
        }
    }

    pub(crate) fn is_over(self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Returns whether spans without an outcome are dropped.
    pub(crate) fn is_over_for_spans(self, now: Instant) -> bool {
        now >= self.spans_until
    }

    /// Returns the next of both deadlines.
    pub(crate) fn next_deadline(self, now: Instant) -> Instant {
        match self.is_over_for_spans(now) {
            true => self.deadline,
            false => self.spans_until,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_metrics_get_at_most_a_quarter_of_the_time() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        for (ms, has_metrics, spans_ms) in [(400, true, 300), (9000, true, 8800), (400, false, 400)]
        {
            let shutdown = Shutdown::new(at(ms), has_metrics, now);
            assert!(!shutdown.is_over_for_spans(at(spans_ms - 1)));
            assert!(shutdown.is_over_for_spans(at(spans_ms)));
            assert!(!shutdown.is_over(at(ms - 1)) && shutdown.is_over(at(ms)));
            assert_eq!(shutdown.next_deadline(now), at(spans_ms));
            assert_eq!(shutdown.next_deadline(at(spans_ms)), at(ms));
        }
    }

    #[test]
    fn the_earlier_of_two_shutdowns_counts() {
        let now = Instant::now();
        let early = Shutdown::new(now + Duration::from_secs(1), false, now);
        let late = Shutdown::new(now + Duration::from_secs(2), false, now);
        assert_eq!(late.or(None), late);
        assert_eq!((late.or(Some(early)), early.or(Some(late))), (early, early));
    }
}
