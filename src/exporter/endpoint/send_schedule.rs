//! The time at which the next request may be sent to an endpoint, by backoff, `Retry-After` and rate limit.

use std::time::{Duration, Instant};

use crate::exporter::endpoint::rate_limit::RateLimit;
use crate::exporter::outcome::Outcome;
use crate::span::id_generator::RandomSource;

/// Number of consecutive responses 429 after which the request may exceed the receiver's limit.
const THROTTLES_MAX: u32 = 4;

/// The time of an endpoint's next request, and the failures in a row that it depends on.
pub(crate) struct SendSchedule {
    backoff: Backoff,
    random: RandomSource,
    /// The end of the backoff.
    retry_at: Option<Instant>,
    /// The end of the longest `Retry-After`. Outcomes of other requests do not shorten it.
    throttled_until: Option<Instant>,
    rate: RateLimit,
    /// Requests rejected in a row.
    rejections: u32,
    /// Requests answered with 429 in a row.
    throttles: u32,
}

impl SendSchedule {
    pub(crate) fn new(retry_initial: Duration, retry_max: Duration, random: RandomSource) -> Self {
        Self {
            backoff: Backoff::new(retry_initial, retry_max),
            random,
            retry_at: None,
            throttled_until: None,
            rate: RateLimit::new(),
            rejections: 0,
            throttles: 0,
        }
    }

    // ---- Queries ----

    /// Returns the time of the next request, if that has to wait.
    pub(crate) fn until(&self) -> Option<Instant> {
        let requested = self.throttled_until.max(self.rate.next_at());
        self.retry_at.max(requested)
    }

    pub(crate) fn is_waiting(&self, now: Instant) -> bool {
        self.until().is_some_and(|at| now < at)
    }

    /// Returns whether nothing was accepted since the last failure.
    pub(crate) fn has_failed(&self) -> bool {
        self.backoff.has_failed()
    }

    /// Returns whether the last request was rejected.
    pub(crate) fn has_rejected(&self) -> bool {
        self.rejections > 0
    }

    /// Returns whether one more 429 in a row makes the size of requests a possible reason.
    pub(crate) fn is_throttled_often(&self) -> bool {
        self.throttles + 1 >= THROTTLES_MAX
    }

    // ---- Commands ----

    /// Ends the wait, except a `Retry-After`.
    pub(crate) fn skip_wait(&mut self) {
        self.retry_at = None;
        self.rate.skip_wait();
    }

    /// Spaces the request after one with a body of this many bytes.
    pub(crate) fn sent(&mut self, bytes: usize, now: Instant) {
        self.rate.sent(bytes, now);
    }

    /// Adapts to the outcome of a request with a body of this many bytes.
    pub(crate) fn adapt(&mut self, outcome: &Outcome, bytes: usize, now: Instant) {
        match outcome {
            Outcome::Accepted { .. } => self.accepted(bytes, now),
            Outcome::Rejected { .. } => self.rejected(now),
            Outcome::RetryAfter { status, wait, .. } => {
                self.failed(now);
                if let Some(wait) = wait {
                    self.wait_for(*wait, now);
                }
                if *status == 429 {
                    self.throttled(now);
                }
            }
            // The endpoint works, unless it rejects everything.
            Outcome::TooLarge { .. } if !self.has_rejected() => self.end_backoff(),
            Outcome::ProxyDenied => self.failed(now),
            Outcome::Lost { .. } if !outcome.is_stale() => self.failed(now),
            Outcome::TooLarge { .. }
            | Outcome::NotDecoded { .. }
            | Outcome::Redirected { .. }
            | Outcome::Lost { .. } => {}
        }
    }

    /// Backs off after a failure. Connections that fail together share one wait.
    pub(crate) fn failed(&mut self, now: Instant) {
        // The spacing of requests is not a backoff: a failure counts while it lasts.
        let wait = self.retry_at.max(self.throttled_until);
        if wait.is_none_or(|at| at <= now) {
            self.retry_at = Some(now + self.backoff.next(self.random.number()));
        }
    }

    fn accepted(&mut self, bytes: usize, now: Instant) {
        self.rejections = 0;
        self.throttles = 0;
        self.rate.accepted(bytes, now);
        self.end_backoff();
    }

    /// Counts a rejection. The first of several in a row costs no wait, each further one a backoff: its cause may
    /// be removed before all spans are lost, and rejections never become a storm.
    fn rejected(&mut self, now: Instant) {
        self.rejections = self.rejections.saturating_add(1);
        if self.rejections > 1 {
            self.failed(now);
        } else {
            self.end_backoff();
        }
    }

    fn wait_for(&mut self, requested: Duration, now: Instant) {
        self.throttled_until = self.throttled_until.max(Some(now + requested));
    }

    fn throttled(&mut self, now: Instant) {
        self.rate.throttled(now);
        self.throttles = (self.throttles + 1) % THROTTLES_MAX;
    }

    fn end_backoff(&mut self) {
        self.backoff.reset();
        self.retry_at = None;
    }
}

/// Exponential backoff with full jitter.
#[derive(Debug)]
struct Backoff {
    initial: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    fn new(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            failures: 0,
        }
    }

    /// Counts a failure. Returns the wait before the next attempt: random between nothing and a limit
    /// that doubles with each failure. `random` is uniform over all values.
    fn next(&mut self, random: u64) -> Duration {
        let limit = self
            .initial
            .saturating_mul(1 << self.failures.min(31))
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        limit.mul_f64(random as f64 / u64::MAX as f64)
    }

    /// Makes the next failure count as the first.
    fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns whether an attempt has failed since the last reset.
    fn has_failed(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const REQUEST: usize = 1 << 20;

    fn schedule() -> (SendSchedule, impl Fn(u64) -> Instant) {
        let began = Instant::now();
        let (initial, max) = (Duration::from_millis(100), Duration::from_secs(2));
        let at = move |ms| began + Duration::from_millis(ms);
        (SendSchedule::new(initial, max, RandomSource::seeded(1)), at)
    }

    /// Returns the number of attempts in this many seconds, if each request fails within 50 ms and
    /// the next one is sent as soon as allowed.
    fn failures(schedule: &mut SendSchedule, from: Instant, seconds: u64) -> u32 {
        let mut now = from;
        let mut failures = 0;
        while now < from + Duration::from_secs(seconds) {
            now = schedule.until().map_or(now, |at| now.max(at));
            schedule.sent(REQUEST, now);
            now += Duration::from_millis(50);
            schedule.failed(now);
            failures += 1;
        }
        failures
    }

    #[test]
    fn failures_of_a_limited_endpoint_back_off_as_others() {
        let (mut schedule, at) = schedule();
        schedule.throttled(at(0));
        schedule.accepted(REQUEST, at(500));
        schedule.throttled(at(1000));
        schedule.sent(REQUEST, at(1000));
        assert_eq!(schedule.until(), Some(at(2000)));
        schedule.failed(at(1001));
        assert!(schedule.has_failed());
        // A mean wait of a second, once the backoff has grown.
        let count = failures(&mut schedule, at(2000), 60);
        assert!(count < 120, "{count}");
    }

    #[test]
    fn failures_at_the_same_time_count_once() {
        let (mut schedule, at) = schedule();
        schedule.failed(at(0));
        let until = schedule.until();
        (0..5).for_each(|_| schedule.failed(at(0)));
        assert_eq!(schedule.until(), until);
    }

    #[test]
    fn a_requested_wait_outlasts_everything_else() {
        let (mut schedule, at) = schedule();
        schedule.wait_for(Duration::from_secs(5), at(0));
        schedule.wait_for(Duration::from_secs(1), at(0));
        schedule.accepted(REQUEST, at(1));
        schedule.skip_wait();
        assert_eq!(schedule.until(), Some(at(5000)));
        assert!(schedule.is_waiting(at(4999)) && !schedule.is_waiting(at(5000)));
    }

    #[test]
    fn the_second_rejection_in_a_row_waits() {
        let (mut schedule, at) = schedule();
        schedule.rejected(at(0));
        assert_eq!((schedule.until(), schedule.has_rejected()), (None, true));
        schedule.accepted(REQUEST, at(1));
        schedule.rejected(at(2));
        assert_eq!(schedule.until(), None);
        schedule.rejected(at(3));
        assert!(schedule.until().is_some());
    }

    #[test]
    fn every_fourth_429_in_a_row_is_one_too_many() {
        let (mut schedule, at) = schedule();
        let mut is_one_too_many = |ms| {
            let is_often = schedule.is_throttled_often();
            schedule.throttled(at(ms));
            is_often
        };
        let often: Vec<_> = (0..8).filter(|ms| is_one_too_many(*ms)).collect();
        assert_eq!(often, [3, 7]);
        (8..11).for_each(|ms| schedule.throttled(at(ms)));
        schedule.accepted(REQUEST, at(11));
        assert!(!schedule.is_throttled_often());
    }

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
}
