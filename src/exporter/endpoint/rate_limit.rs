//! The rate of requests to a receiver that limits it.
//!
//! Receivers with a limit answer 429 once it is exceeded. Sending at full speed between two of these
//! wastes requests, and with a `Retry-After` of a second most of the limit. So the accepted rate is
//! measured, and requests are spaced by it. It grows while requests are accepted, and falls when one
//! is refused. A receiver that refuses everything has no rate, and one that refuses a few requests
//! needs no spacing: both are left to the backoff.
//!
//! ```text
//!                429               many refused for a second, not all
//!   Unlimited ────────▶ Measuring ────────────────────────────────────▶ Limited
//!    ▲                   │     ▲                                        │  │
//!    │    ten seconds    │     │ refused at half of the measured rate   │  │
//!    └───────────────────┘     └────────────────────────────────────────┘  │
//!    ▲                                        a minute without a 429       │
//!    └─────────────────────────────────────────────────────────────────────┘
//! ```

use std::time::{Duration, Instant};

/// Minimum time over which a rate is measured.
const MEASURE: Duration = Duration::from_secs(1);
/// Maximum time over which a rate is measured. Without a 429 in this time there is no steady limit.
const MEASURE_MAX: Duration = Duration::from_secs(10);
/// Time without a 429 after which the limit is considered gone.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// If fewer than one in this many requests are refused, no spacing is needed.
const ONE_IN: u32 = 5;
const DECREASE: f64 = 0.8;
/// The lowest rate, of the measured one: a lower limit is measured anew.
const FLOOR: f64 = 0.5;
/// Growth in a second: soon after a refusal, and until the first or after a time without one.
const GROWTH_SLOW: f64 = 0.02;
const GROWTH_FAST: f64 = 0.5;
const SLOW_FOR: Duration = Duration::from_secs(10);
/// The longest wait for the next request.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The limit that a receiver shows by its refusals, and the time that it leaves to the next request.
pub(crate) struct RateLimit {
    state: LimitState,
    /// The next request is not sent before.
    next_at: Option<Instant>,
}

/// The present stage of finding the limit.
#[derive(Clone, Copy)]
enum LimitState {
    Unlimited,
    Measuring(RateMeasurement),
    Limited(SpacedRate),
}

/// The outcomes of requests that were sent at full speed.
#[derive(Clone, Copy)]
struct RateMeasurement {
    since: Instant,
    accepted: u32,
    accepted_bytes: usize,
    refused: u32,
}

/// The rate at which requests are spaced.
#[derive(Clone, Copy)]
struct SpacedRate {
    /// Bytes a second; more than 0.
    rate: f64,
    floor: f64,
    /// A request was refused at this rate.
    has_met_limit: bool,
    /// A request was accepted since the last refusal.
    has_accepted: bool,
    grown_at: Instant,
    refused_at: Instant,
}

impl RateLimit {
    pub(crate) fn new() -> Self {
        Self {
            state: LimitState::Unlimited,
            next_at: None,
        }
    }

    /// Returns when the next request may be sent, if it has to wait.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// Lets the next request be sent at once.
    pub(crate) fn skip_wait(&mut self) {
        self.next_at = None;
    }

    /// Counts a request with a body of this many bytes that is being sent.
    pub(crate) fn sent(&mut self, bytes: usize, now: Instant) {
        self.next_at = match self.state {
            LimitState::Limited(SpacedRate { rate, .. }) => {
                let seconds = bytes as f64 / rate;
                Some(now + Duration::from_secs_f64(seconds.min(WAIT_MAX.as_secs_f64())))
            }
            LimitState::Unlimited | LimitState::Measuring(_) => None,
        };
    }

    /// Adapts to an accepted request.
    pub(crate) fn accepted(&mut self, bytes: usize, now: Instant) {
        self.forget_old(now);
        match &mut self.state {
            LimitState::Unlimited => {}
            LimitState::Measuring(measured) => {
                measured.accepted += 1;
                measured.accepted_bytes += bytes;
            }
            LimitState::Limited(spaced) => spaced.grow(now),
        }
    }

    /// Adapts to a request that was refused with 429.
    pub(crate) fn throttled(&mut self, now: Instant) {
        self.forget_old(now);
        self.state = match self.state {
            LimitState::Unlimited => LimitState::Measuring(RateMeasurement::from(now)),
            LimitState::Measuring(measured) => measured.refuse(now),
            LimitState::Limited(spaced) => spaced.refuse(now),
        };
        if !matches!(self.state, LimitState::Limited(_)) {
            self.next_at = None;
        }
    }

    fn forget_old(&mut self, now: Instant) {
        let forget_at = match self.state {
            LimitState::Unlimited => return,
            LimitState::Measuring(RateMeasurement { since, .. }) => since + MEASURE_MAX,
            LimitState::Limited(SpacedRate { refused_at, .. }) => refused_at + FORGET_AFTER,
        };
        if now >= forget_at {
            *self = Self::new();
        }
    }
}

impl RateMeasurement {
    fn from(now: Instant) -> Self {
        Self {
            since: now,
            accepted: 0,
            accepted_bytes: 0,
            refused: 0,
        }
    }

    fn refuse(mut self, now: Instant) -> LimitState {
        self.refused += 1;
        let lasted = now.saturating_duration_since(self.since);
        let needs_spacing = self.refused * ONE_IN >= self.accepted + self.refused;
        match self.accepted {
            // A receiver that refuses everything is down.
            0 => LimitState::Measuring(Self::from(now)),
            _ if lasted >= MEASURE && needs_spacing => LimitState::Limited(SpacedRate::new(
                self.accepted_bytes as f64 / lasted.as_secs_f64(),
                now,
            )),
            _ => LimitState::Measuring(self),
        }
    }
}

impl SpacedRate {
    fn new(rate: f64, now: Instant) -> Self {
        Self {
            rate,
            floor: rate * FLOOR,
            has_met_limit: false,
            has_accepted: false,
            grown_at: now,
            refused_at: now,
        }
    }

    fn grow(&mut self, now: Instant) {
        let growth = if self.has_met_limit && now < self.refused_at + SLOW_FOR {
            GROWTH_SLOW
        } else {
            GROWTH_FAST
        };
        let seconds = now.saturating_duration_since(self.grown_at).as_secs_f64();
        self.rate *= 1.0 + growth * seconds.min(1.0);
        self.grown_at = now;
        self.has_accepted = true;
    }

    fn refuse(mut self, now: Instant) -> LimitState {
        self.refused_at = now;
        // Several that are refused in a row are one refusal.
        if std::mem::replace(&mut self.has_accepted, false) {
            self.rate *= DECREASE;
            self.has_met_limit = true;
        }
        if self.rate < self.floor {
            return LimitState::Measuring(RateMeasurement::from(now));
        }
        LimitState::Limited(self)
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

    /// Returns the share of the limit that is reached in a minute after the burst, and the share of
    /// requests that is refused. A refusal is followed by a wait of `retry_after`.
    fn run(burst: f64, retry_after: Duration, limit: &mut RateLimit) -> (f64, f64) {
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
            now = limit.next_at().map_or(now, |at| now.max(at));
            limit.sent(REQUEST, now);
            // A latency of half a millisecond.
            now += Duration::from_micros(500);
            sent += 1;
            if bucket.accepts(REQUEST, now) {
                limit.accepted(REQUEST, now);
            } else {
                refused += 1;
                limit.throttled(now);
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
                let (share, refused) = run(burst, retry_after, &mut RateLimit::new());
                assert!(share > 0.75, "{burst} {retry_after:?}: {share}");
                assert!(refused < 0.15, "{burst} {retry_after:?}: {refused}");
            }
        }
    }

    /// Returns the share of a line of 20 MB/s that is used, if the receiver refuses one request in this
    /// many at any rate.
    fn share_beside_random_refusals(one_in: u64, retry_after: Duration) -> f64 {
        const LINE: f64 = 20e6;
        let began = Instant::now();
        let minutes = Duration::from_secs(300);
        let mut limit = RateLimit::new();
        let (mut now, mut sent, mut accepted) = (began, 0_u64, 0_u64);
        while now < began + minutes {
            now = limit.next_at().map_or(now, |at| now.max(at));
            limit.sent(REQUEST, now);
            now += Duration::from_secs_f64(REQUEST as f64 / LINE);
            sent += 1;
            if sent % one_in == 0 {
                limit.throttled(now);
                now += retry_after;
            } else {
                accepted += 1;
                limit.accepted(REQUEST, now);
            }
        }
        accepted as f64 * REQUEST as f64 / (LINE * minutes.as_secs_f64())
    }

    #[test]
    fn refusals_that_do_not_depend_on_the_rate_do_not_lower_it_forever() {
        let at_once = Duration::from_millis(50);
        assert!(share_beside_random_refusals(60, at_once) > 0.9);
        assert!(share_beside_random_refusals(10, at_once) > 0.8);
        assert!(share_beside_random_refusals(3, at_once) > 0.2);
        assert!(share_beside_random_refusals(60, Duration::from_secs(1)) > 0.6);
    }

    #[test]
    fn a_single_refusal_and_a_limit_that_is_gone_are_forgotten() {
        let (mut limit, at) = measured();
        limit.sent(REQUEST, at(2));
        assert_eq!(limit.next_at(), Some(at(3)));
        limit.accepted(REQUEST, at(60));
        assert!(limit.next_at().is_some());
        limit.accepted(REQUEST, at(61));
        assert_eq!(limit.next_at(), None);

        // Times of long ago measure nothing.
        limit.throttled(at(70));
        limit.accepted(REQUEST, at(71));
        limit.throttled(at(3600));
        limit.sent(REQUEST, at(3600));
        assert_eq!(limit.next_at(), None);
        let (mut limit, at) = measured();
        limit.throttled(at(3600));
        limit.sent(REQUEST, at(3600));
        assert_eq!(limit.next_at(), None);
    }

    /// Returns a limit that was measured as one request per second, and a function for times since
    /// the first request.
    fn measured() -> (RateLimit, impl Fn(u64) -> Instant) {
        let began = Instant::now();
        let at = move |seconds| began + Duration::from_secs(seconds);
        let mut limit = RateLimit::new();
        limit.throttled(at(0));
        limit.accepted(REQUEST, at(0));
        limit.throttled(at(1));
        (limit, at)
    }

    #[test]
    fn a_receiver_that_refuses_everything_has_no_rate() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut limit = RateLimit::new();
        (0..60).for_each(|seconds| limit.throttled(at(seconds)));
        limit.sent(REQUEST, at(60));
        assert_eq!(limit.next_at(), None);

        let (mut limit, at) = measured();
        (2..50).for_each(|seconds| limit.throttled(at(seconds)));
        limit.sent(REQUEST, at(50));
        assert_eq!(limit.next_at(), Some(at(51)));
        limit.skip_wait();
        assert_eq!(limit.next_at(), None);
    }

    #[test]
    fn a_limit_that_is_raised_is_reached_within_seconds() {
        let (mut limit, at) = measured();
        (2..40).for_each(|seconds| limit.accepted(REQUEST, at(seconds)));
        limit.sent(REQUEST, at(40));
        assert!(limit.next_at().unwrap() < at(40) + Duration::from_millis(10));
    }

    #[test]
    fn a_limit_that_is_lowered_is_measured_anew() {
        let (mut limit, at) = measured();
        let mut is_unpaced = |seconds| {
            limit.accepted(REQUEST, at(seconds));
            limit.throttled(at(seconds));
            limit.sent(REQUEST, at(seconds));
            limit.next_at().is_none()
        };
        assert_eq!((2..20).find(|seconds| is_unpaced(*seconds)), Some(7));
    }
}
