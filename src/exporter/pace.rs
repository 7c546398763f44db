//! How fast a receiver that limits its rate is sent requests.
//!
//! Receivers with a limit answer 429 once it is exceeded. Sending at full speed between two of these
//! wastes requests, and with a `Retry-After` of a second most of the limit. So the rate that went
//! through is measured, and requests are spaced by it: it grows while they are accepted, and falls
//! when one is refused.
//!
//! ```text
//!   Free ──429──▶ Measuring ──429, a second later──▶ Paced
//!    ▲                │ ten seconds without a 429      │ a minute without a 429
//!    └────────────────┴────────────────────────────────┘
//! ```

use std::time::{Duration, Instant};

/// The shortest time that a rate is measured in.
const MEASURE: Duration = Duration::from_secs(1);
/// Without another 429 in this time there is no steady limit.
const MEASURE_MAX: Duration = Duration::from_secs(10);
/// Without another 429 in this time the limit is gone.
const FORGET: Duration = Duration::from_secs(60);
/// Several requests that are refused together count once.
const DECREASE_INTERVAL: Duration = Duration::from_millis(500);
const DECREASE: f64 = 0.8;
/// Growth in a second, before and after the first refusal at the measured rate.
const GROWTH_FAST: f64 = 0.5;
const GROWTH_SLOW: f64 = 0.02;
/// Bytes a second.
const RATE_MIN: f64 = 16_384.0;

pub(crate) struct Pace {
    state: State,
    /// The next request is not sent before.
    next_at: Option<Instant>,
}

#[derive(Clone, Copy)]
enum State {
    Free,
    Measuring {
        since: Instant,
        accepted_bytes: usize,
    },
    Paced {
        /// Bytes a second.
        rate: f64,
        growth: f64,
        grown_at: Instant,
        throttled_at: Instant,
    },
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Free,
            next_at: None,
        }
    }

    /// When the next request may be sent, if it has to wait.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// A request with a body of so many bytes is sent.
    pub(crate) fn sent(&mut self, bytes: usize, now: Instant) {
        self.next_at = match self.state {
            State::Paced { rate, .. } => Some(now + Duration::from_secs_f64(bytes as f64 / rate)),
            State::Free | State::Measuring { .. } => None,
        };
    }

    /// A request was accepted.
    pub(crate) fn accepted(&mut self, bytes: usize, now: Instant) {
        match &mut self.state {
            State::Measuring { since, .. } if now >= *since + MEASURE_MAX => self.free(),
            State::Paced { throttled_at, .. } if now >= *throttled_at + FORGET => self.free(),
            State::Measuring { accepted_bytes, .. } => *accepted_bytes += bytes,
            State::Paced {
                rate,
                growth,
                grown_at,
                ..
            } => {
                let seconds = now.saturating_duration_since(*grown_at).as_secs_f64();
                *rate *= 1.0 + *growth * seconds.min(1.0);
                *grown_at = now;
            }
            State::Free => {}
        }
    }

    /// A request was refused with 429.
    pub(crate) fn throttled(&mut self, now: Instant) {
        match &mut self.state {
            State::Free => {
                self.state = State::Measuring {
                    since: now,
                    accepted_bytes: 0,
                }
            }
            State::Measuring {
                since,
                accepted_bytes,
            } => {
                let measured = now.saturating_duration_since(*since);
                if measured >= MEASURE {
                    let rate = *accepted_bytes as f64 / measured.as_secs_f64();
                    self.state = State::Paced {
                        rate: rate.max(RATE_MIN),
                        growth: GROWTH_FAST,
                        grown_at: now,
                        throttled_at: now,
                    };
                }
            }
            State::Paced {
                rate,
                growth,
                throttled_at,
                ..
            } => {
                if now >= *throttled_at + DECREASE_INTERVAL {
                    *rate = (*rate * DECREASE).max(RATE_MIN);
                    *growth = GROWTH_SLOW;
                    *throttled_at = now;
                }
            }
        }
    }

    fn free(&mut self) {
        *self = Self::new();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const REQUEST: usize = 1 << 20;
    const RATE: f64 = 8e6;

    /// A receiver that accepts a rate, and some bytes at once.
    struct TokenBucket {
        tokens: f64,
        burst: f64,
        at: Instant,
    }

    impl TokenBucket {
        fn accepts(&mut self, bytes: usize, now: Instant) -> bool {
            let more = RATE * (now - self.at).as_secs_f64();
            self.tokens = (self.tokens + more).min(self.burst);
            self.at = now;
            let accepts = self.tokens >= bytes as f64;
            if accepts {
                self.tokens -= bytes as f64;
            }
            accepts
        }
    }

    /// The share of the limit that is reached in a minute after the burst, and the share of requests
    /// that is refused. A refusal is followed by a wait of `retry_after`.
    fn run(burst: f64, retry_after: Duration, pace: &mut Pace) -> (f64, f64) {
        let began = Instant::now();
        let mut bucket = TokenBucket {
            tokens: burst,
            burst,
            at: began,
        };
        let (mut sent, mut refused) = (0, 0);
        let mut now = began;
        let minute = Duration::from_secs(60);
        while now < began + minute {
            now = pace.next_at().map_or(now, |at| now.max(at));
            pace.sent(REQUEST, now);
            // Half a millisecond on the way.
            now += Duration::from_micros(500);
            sent += 1;
            if bucket.accepts(REQUEST, now) {
                pace.accepted(REQUEST, now);
            } else {
                refused += 1;
                pace.throttled(now);
                now += retry_after;
            }
        }
        let bytes = f64::from(sent - refused) * REQUEST as f64 - burst;
        let share = bytes / (RATE * minute.as_secs_f64());
        (share, f64::from(refused) / f64::from(sent))
    }

    #[test]
    fn most_of_a_limit_is_reached_with_few_refusals() {
        for burst in [2e6, 8e6, 20e6] {
            for retry_after in [50, 1000].map(Duration::from_millis) {
                let (share, refused) = run(burst, retry_after, &mut Pace::new());
                assert!(share > 0.75, "{burst} {retry_after:?}: {share}");
                assert!(refused < 0.07, "{burst} {retry_after:?}: {refused}");
            }
        }
    }

    #[test]
    fn a_single_refusal_and_a_limit_that_is_gone_are_forgotten() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut pace = Pace::new();
        pace.throttled(now);
        pace.sent(REQUEST, at(1));
        assert_eq!(pace.next_at(), None);
        pace.accepted(REQUEST, at(11));
        pace.throttled(at(20));
        pace.throttled(at(22));
        // Nothing was accepted meanwhile.
        pace.sent(16_384, at(22));
        assert_eq!(pace.next_at(), Some(at(23)));
        pace.accepted(REQUEST, at(81));
        assert!(pace.next_at().is_some());
        pace.accepted(REQUEST, at(82));
        assert_eq!(pace.next_at(), None);
    }
}
