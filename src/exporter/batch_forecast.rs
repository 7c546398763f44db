//! Predicts when a batch will be complete, so that no recorder has to wake the network thread then.

use std::time::{Duration, Instant};

/// Granularity of the network thread's sleep. Also the shortest time from which a rate is measured.
const TICK: Duration = Duration::from_millis(1);

/// Prediction of the time at which the next batch is complete, from the rate at which spans arrived.
///
/// There is a prediction only while batches take about as long as the ones before, at least 1 ms, and
/// less than the batch timeout. After one that was wrong there is no other until spans are taken.
pub(super) struct BatchForecast {
    batch_size: u64,
    batch_timeout: Duration,
    /// Time since when `arrived` is counted.
    since: Instant,
    /// Spans taken since then.
    arrived: u64,
    /// Time in which a batch becomes complete, smoothed; zero while unknown.
    fill_time: Duration,
    complete_at: Option<Instant>,
}

impl BatchForecast {
    pub(super) fn new(batch_size: u64, batch_timeout: Duration, now: Instant) -> Self {
        Self {
            batch_size,
            batch_timeout,
            since: now,
            arrived: 0,
            fill_time: Duration::ZERO,
            complete_at: None,
        }
    }

    /// Returns the predicted time at which the batch is complete, if that is still to come.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        self.complete_at.filter(|at| now < *at)
    }

    /// Predicts anew, after all spans that waited were taken: this many.
    pub(super) fn note_taken(&mut self, spans: u64, now: Instant) {
        self.arrived += spans;
        let elapsed = now.saturating_duration_since(self.since);
        let mut is_steady = self.complete_at.is_some();
        if elapsed >= TICK {
            is_steady = self.measure(elapsed);
            (self.since, self.arrived) = (now, 0);
        }
        let is_useful = is_steady && (TICK..self.batch_timeout).contains(&self.fill_time);
        self.complete_at = is_useful.then(|| now + whole_ticks(self.fill_time));
    }

    /// Returns whether the spans that wait are to be taken as a batch: from the predicted time on, three
    /// quarters of one are enough.
    pub(super) fn is_complete(&self, waiting: u64, now: Instant) -> bool {
        let is_late = self.complete_at.is_some_and(|at| now >= at);
        let missing_max = if is_late { self.batch_size / 4 } else { 0 };
        waiting >= self.batch_size - missing_max
    }

    /// Updates the fill time. Returns whether it has not changed much.
    fn measure(&mut self, elapsed: Duration) -> bool {
        let nanos = elapsed.as_nanos() * u128::from(self.batch_size);
        let Some(nanos) = nanos.checked_div(self.arrived.into()) else {
            self.fill_time = Duration::ZERO;
            return false;
        };
        let found = Duration::from_nanos(nanos.try_into().unwrap_or(u64::MAX));
        let before = self.fill_time;
        let is_steady = found / 2 <= before && before / 2 <= found && !before.is_zero();
        self.fill_time = match is_steady {
            true => before / 4 * 3 + found / 4,
            false => found,
        };
        is_steady
    }
}

/// Rounds down to whole ticks, so that no span waits longer for the prediction than it would have for a
/// wake-up; but up if more than an eighth of the batch would be missing then.
fn whole_ticks(time: Duration) -> Duration {
    let ticks = (time.as_nanos() / TICK.as_nanos()) as u32;
    let rounded = TICK * ticks;
    match rounded >= time - time / 8 {
        true => rounded,
        false => rounded + TICK,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const BATCH: u64 = 4096;
    const TIMEOUT: Duration = Duration::from_secs(1);

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// A forecast of batches that were complete after this time, twice.
    fn steady(fill: Duration) -> (BatchForecast, Instant) {
        let began = Instant::now();
        let mut forecast = BatchForecast::new(BATCH, TIMEOUT, began);
        forecast.note_taken(BATCH, began + fill);
        assert_eq!(forecast.complete_at, None, "from a single batch");
        forecast.note_taken(BATCH, began + 2 * fill);
        (forecast, began + 2 * fill)
    }

    #[test]
    fn the_second_of_two_like_batches_predicts_the_third_in_whole_milliseconds() {
        for (fill, predicted) in [
            (20_480, 20_000),
            (8_100, 8_000),
            (7_990, 7_000),
            (1_950, 2_000),
            (1_400, 2_000),
            (1_100, 1_000),
            (999_999, 999_000),
        ] {
            let (forecast, now) = steady(micros(fill));
            assert_eq!(forecast.complete_at, Some(now + micros(predicted)));
        }
    }

    #[test]
    fn batches_faster_than_a_sleep_or_slower_than_the_timeout_are_not_predicted() {
        for fill in [micros(900), micros(20), TIMEOUT, 100 * TIMEOUT] {
            assert_eq!(steady(fill).0.complete_at, None, "{fill:?}");
        }
    }

    #[test]
    fn from_the_predicted_time_on_most_of_a_batch_is_enough() {
        let (forecast, now) = steady(micros(20_480));
        let at = forecast.next_at(now).unwrap();
        assert!(!forecast.is_complete(BATCH - 1, now));
        assert!(forecast.is_complete(BATCH, now));
        assert!(!forecast.is_complete(3071, at));
        assert!(forecast.is_complete(3072, at));
    }

    #[test]
    fn a_prediction_is_used_once() {
        let (mut forecast, now) = steady(micros(20_480));
        let at = forecast.next_at(now).unwrap();
        assert_eq!(forecast.next_at(at), None);
        assert_eq!(forecast.next_at(at + TIMEOUT), None);
        let now = at + micros(5_000);
        forecast.note_taken(BATCH, now);
        assert!(forecast.next_at(now).is_some());
    }

    #[test]
    fn a_rate_that_has_doubled_or_halved_predicts_only_once_it_is_steady() {
        for fill in [micros(8_000), micros(50_000)] {
            let (mut forecast, mut now) = steady(micros(20_480));
            now += fill;
            forecast.note_taken(BATCH, now);
            assert_eq!(forecast.complete_at, None);
            now += fill;
            forecast.note_taken(BATCH, now);
            assert_eq!(forecast.complete_at, Some(now + fill));
        }
    }

    #[test]
    fn a_rate_that_changes_gradually_is_followed() {
        let (mut forecast, mut now) = steady(micros(20_000));
        for fill in (2_000..20_000).rev().step_by(100) {
            now += micros(fill);
            let at = forecast.complete_at.unwrap();
            assert!(at <= now + micros(2_000), "{fill}");
            forecast.note_taken(BATCH, now);
        }
    }

    #[test]
    fn an_interval_without_spans_ends_the_prediction() {
        let (mut forecast, now) = steady(micros(20_480));
        forecast.note_taken(0, now + TIMEOUT);
        assert_eq!(forecast.complete_at, None);
        forecast.note_taken(BATCH, now + TIMEOUT + micros(20_480));
        assert_eq!(forecast.complete_at, None);
    }

    #[test]
    fn spans_taken_in_quick_succession_are_measured_together() {
        let (mut forecast, mut now) = steady(micros(5_000));
        for _ in 0..50 {
            now += micros(500);
            forecast.note_taken(BATCH / 10, now);
            let ahead = forecast.complete_at.unwrap() - now;
            assert!(ahead.abs_diff(micros(5_000)) <= micros(1_000), "{ahead:?}");
        }
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        let began = Instant::now();
        let mut forecast = BatchForecast::new(u64::MAX, TIMEOUT, began);
        for hours in 1..5 {
            forecast.note_taken(1, began + hours * Duration::from_secs(360_000));
        }
        assert_eq!(forecast.complete_at, None);
        forecast.note_taken(u64::MAX / 2, began);
        assert_eq!(forecast.complete_at, None);
    }
}
