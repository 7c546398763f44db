//! How fast a receiver that limits its rate is sent requests.
//!
//! Receivers with a limit answer 429 once it is exceeded. Sending at full speed between two of these
//! wastes requests, and with a `Retry-After` of a second most of the limit. So the rate that went
//! through is measured, and requests are spaced by it: it grows while they are accepted, and falls
//! when one is refused. A receiver that refuses everything has no rate, and is left to the backoff.
//!
//! ```text
//!   Free ──429──▶ Measuring ──429, a second and accepted requests later──▶ Paced
//!    ▲                │ ten seconds without a 429           a minute without │
//!    └────────────────┴────────────────────────────────────────────────────┘
//! ```

use std::time::{Duration, Instant};

/// The shortest time that a rate is measured in.
const MEASURE: Duration = Duration::from_secs(1);
/// Without another 429 in this time there is no steady limit.
const MEASURE_MAX: Duration = Duration::from_secs(10);
/// Without another 429 in this time the limit is gone.
const FORGET: Duration = Duration::from_secs(60);
const DECREASE: f64 = 0.8;
/// Growth in a second: soon after a refusal, and until the first or after a time without one.
const GROWTH_SLOW: f64 = 0.02;
const GROWTH_FAST: f64 = 0.5;
const SLOW_FOR: Duration = Duration::from_secs(10);
/// The longest wait for the next request.
const WAIT_MAX: Duration = Duration::from_secs(2);

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
        /// Bytes a second; more than 0.
        rate: f64,
        /// A request was refused at this pace.
        has_met_limit: bool,
        /// A request was accepted since the last refusal.
        has_accepted: bool,
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

    /// Lets the next request be sent at once.
    pub(crate) fn skip_wait(&mut self) {
        self.next_at = None;
    }

    /// A request with a body of so many bytes is sent.
    pub(crate) fn sent(&mut self, bytes: usize, now: Instant) {
        self.next_at = match self.state {
            State::Paced { rate, .. } => {
                let seconds = bytes as f64 / rate;
                Some(now + Duration::from_secs_f64(seconds.min(WAIT_MAX.as_secs_f64())))
            }
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
                has_met_limit,
                has_accepted,
                grown_at,
                throttled_at,
            } => {
                let growth = if *has_met_limit && now < *throttled_at + SLOW_FOR {
                    GROWTH_SLOW
                } else {
                    GROWTH_FAST
                };
                let seconds = now.saturating_duration_since(*grown_at).as_secs_f64();
                *rate *= 1.0 + growth * seconds.min(1.0);
                *grown_at = now;
                *has_accepted = true;
            }
            State::Free => {}
        }
    }

    /// A request was refused with 429.
    pub(crate) fn throttled(&mut self, now: Instant) {
        match &mut self.state {
            State::Measuring {
                since,
                accepted_bytes,
            } if *accepted_bytes > 0 => {
                let measured = now.saturating_duration_since(*since);
                if measured >= MEASURE {
                    self.state = State::Paced {
                        rate: *accepted_bytes as f64 / measured.as_secs_f64(),
                        has_met_limit: false,
                        has_accepted: false,
                        grown_at: now,
                        throttled_at: now,
                    };
                }
            }
            State::Free | State::Measuring { .. } => {
                self.state = State::Measuring {
                    since: now,
                    accepted_bytes: 0,
                }
            }
            State::Paced {
                rate,
                has_met_limit,
                has_accepted,
                throttled_at,
                ..
            } => {
                // Several that are refused in a row are one refusal.
                if std::mem::replace(has_accepted, false) {
                    *rate *= DECREASE;
                    *has_met_limit = true;
                }
                *throttled_at = now;
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
                assert!(refused < 0.08, "{burst} {retry_after:?}: {refused}");
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
        pace.accepted(2 * REQUEST, at(21));
        pace.throttled(at(22));
        pace.sent(REQUEST, at(22));
        assert_eq!(pace.next_at(), Some(at(23)));
        pace.accepted(REQUEST, at(81));
        assert!(pace.next_at().is_some());
        pace.accepted(REQUEST, at(82));
        assert_eq!(pace.next_at(), None);
    }

    #[test]
    fn a_receiver_that_refuses_everything_is_not_paced_more_slowly() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut pace = Pace::new();
        (0..60).for_each(|seconds| pace.throttled(at(seconds)));
        pace.sent(REQUEST, at(60));
        assert_eq!(pace.next_at(), None);

        // The same at a pace that was measured before.
        pace.accepted(REQUEST, at(60));
        pace.throttled(at(61));
        pace.sent(REQUEST, at(61));
        let wait = pace.next_at().unwrap() - at(61);
        (62..120).for_each(|seconds| pace.throttled(at(seconds)));
        pace.sent(REQUEST, at(120));
        assert_eq!(pace.next_at().unwrap() - at(120), wait);
        pace.skip_wait();
        assert_eq!(pace.next_at(), None);
    }

    #[test]
    fn a_limit_that_is_raised_is_reached_within_seconds() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut pace = Pace::new();
        pace.throttled(now);
        pace.accepted(REQUEST / 100, at(1));
        pace.throttled(at(1));
        pace.sent(REQUEST, at(1));
        assert_eq!(pace.next_at(), Some(at(1) + WAIT_MAX));
        pace.accepted(REQUEST, at(2));
        pace.throttled(at(2));
        (3..40).for_each(|seconds| pace.accepted(REQUEST, at(seconds)));
        pace.sent(REQUEST, at(40));
        assert!(pace.next_at().unwrap() < at(40) + Duration::from_millis(10));
    }
}
