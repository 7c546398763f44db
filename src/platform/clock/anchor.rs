//! Converts the counter to wall-clock time from its value when the clock was last read, and its
//! rate.

use crossbeam_utils::CachePadded;

use crate::platform::sync::{AtomicU64, Ordering, fence};

/// Several clocks read at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockSample {
    /// The counter, in ticks.
    pub(super) ticks: u64,
    /// The wall clock, in Unix nanoseconds.
    pub(super) unix: u64,
    /// The monotonic clock, in nanoseconds.
    pub(super) steady: u64,
}

/// Shortest time between calibrations.
const PERIOD_NANOS_MIN: u64 = 10_000_000;
/// Longest time between calibrations. It bounds the error when the clock's rate changes: one of 500 ppm,
/// the most that NTP slews a clock by, makes 100 µs.
const PERIOD_NANOS_MAX: u64 = 200_000_000;
/// Difference from the clock above which the next period is the shortest one. Up to half of it, the next
/// one is twice as long.
const ERROR_NANOS_MAX: u64 = 1_000;
/// Minimum time span from which the counter's rate is computed.
const CALIBRATION_NANOS: u64 = 5_000_000;
/// Maximum time span from which the rate is computed; then a new span starts.
const BASELINE_NANOS_MAX: u64 = 1_000_000_000;
/// Time for which a calibration is used if there is no newer one.
const AGE_NANOS_MAX: u64 = 1_000_000_000;
/// A wall clock set back by more than this is followed at once; by less, gradually.
const STEP_NANOS: u64 = 1_000_000;

/// Parameters that convert the counter to the wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Calibration {
    ticks: u64,
    /// The wall clock at `ticks`.
    unix: u64,
    /// Nanoseconds added per tick, in units of 2^-32; 0 while unknown.
    pace: u64,
    /// Time until the next calibration, in ticks.
    period: u64,
    /// The same in nanoseconds.
    period_nanos: u64,
    /// Measured nanoseconds per tick, in the unit of `pace`. `pace` is lower while the time is
    /// ahead of the clock.
    rate: u64,
    /// The monotonic clock at `ticks`.
    steady: u64,
    base_ticks: u64,
    base_steady: u64,
}

impl Calibration {
    /// Starts a calibration with a first sample.
    fn first(sample: ClockSample) -> Self {
        Self {
            ticks: sample.ticks,
            unix: sample.unix,
            steady: sample.steady,
            base_ticks: sample.ticks,
            base_steady: sample.steady,
            ..Self::default()
        }
    }

    /// Returns the calibration after one more sample.
    fn next(self, sample: ClockSample) -> Self {
        if sample.steady.wrapping_sub(self.steady) < CALIBRATION_NANOS {
            return self;
        }
        let error = self.nanos(sample.ticks).map(|t| t.abs_diff(sample.unix));
        let is_off = error.is_none_or(|error| error > ERROR_NANOS_MAX);
        // After an error, from the last period alone: the rate may have changed.
        let since = match is_off {
            true => (self.ticks, self.steady),
            false => (self.base_ticks, self.base_steady),
        };
        let rate = rate_since(since, sample);
        // The rate is constant. If it changed, the counter was stopped or the virtual machine was
        // moved.
        let changed =
            self.rate != 0 && rate.abs_diff(self.rate.into()) > u128::from(self.rate >> 10);
        // A counter slower than 62.5 MHz (16 ns per tick) could overflow the arithmetic.
        if rate == 0 || rate > 16 << 32 || changed {
            return Self::first(sample);
        }
        let (base_ticks, base_steady) = if is_off {
            (sample.ticks, sample.steady)
        } else if sample.steady.wrapping_sub(self.base_steady) > BASELINE_NANOS_MAX {
            (self.ticks, self.steady)
        } else {
            since
        };
        let period_nanos = match error {
            _ if is_off => PERIOD_NANOS_MIN,
            Some(error) if error > ERROR_NANOS_MAX / 2 => self.period_nanos,
            _ => PERIOD_NANOS_MAX.min(self.period_nanos * 2),
        };
        Self {
            base_ticks,
            base_steady,
            ..self.anchored(sample, rate as u64, period_nanos)
        }
    }

    /// Anchors the time at the sample. If the time is ahead of the clock, it does not go back but
    /// advances more slowly for a period.
    fn anchored(self, sample: ClockSample, rate: u64, period_nanos: u64) -> Self {
        let time = self.nanos(sample.ticks).unwrap_or(0);
        let ahead = time.saturating_sub(sample.unix);
        let (unix, ahead) = if ahead < STEP_NANOS {
            (sample.unix + ahead, ahead)
        } else {
            (sample.unix, 0)
        };
        Self {
            ticks: sample.ticks,
            unix,
            steady: sample.steady,
            pace: rate - rate * ahead / period_nanos,
            period: (period_nanos << 32) / rate,
            period_nanos,
            rate,
            ..self
        }
    }

    /// Returns the wall-clock time; `None` if the calibration is missing or too old.
    fn nanos(&self, ticks: u64) -> Option<u64> {
        let elapsed = ticks.wrapping_sub(self.ticks);
        let age_max = (AGE_NANOS_MAX << 32).checked_div(self.rate)?;
        (elapsed < age_max).then(|| self.unix + ((elapsed * self.pace) >> 32))
    }
}

/// Returns the nanoseconds per tick since these values of counter and monotonic clock, in units of
/// 2^-32.
fn rate_since((ticks, steady): (u64, u64), sample: ClockSample) -> u128 {
    let steady = sample.steady.wrapping_sub(steady);
    let ticks = sample.ticks.wrapping_sub(ticks);
    (u128::from(steady) << 32) / u128::from(ticks.max(1))
}

/// A [`Calibration`] that any thread can read or update: a sequence lock. Readers and writers
/// that meet another writer do not wait for it.
pub(super) struct Anchor(CachePadded<AtomicCalibration>);

/// Memory of an [`Anchor`].
struct AtomicCalibration {
    /// Odd while an update is in progress.
    version: AtomicU64,
    ticks: AtomicU64,
    unix: AtomicU64,
    pace: AtomicU64,
    period: AtomicU64,
    period_nanos: AtomicU64,
    rate: AtomicU64,
    steady: AtomicU64,
    base_ticks: AtomicU64,
    base_steady: AtomicU64,
}

/// A function that is `const` except under loom, whose atomics exist only within a model.
macro_rules! const_unless_loom {
    ($(#[$doc:meta])* $visibility:vis fn $name:ident() -> $type:ty $body:block) => {
        $(#[$doc])*
        #[cfg(not(loom))]
        $visibility const fn $name() -> $type $body

        $(#[$doc])*
        #[cfg(loom)]
        $visibility fn $name() -> $type $body
    };
}

impl Anchor {
    const_unless_loom! {
        /// Creates an anchor without a calibration.
        pub(super) fn new() -> Self {
            Self(CachePadded::new(AtomicCalibration {
                version: AtomicU64::new(0),
                ticks: AtomicU64::new(0),
                unix: AtomicU64::new(0),
                pace: AtomicU64::new(0),
                period: AtomicU64::new(0),
                period_nanos: AtomicU64::new(0),
                rate: AtomicU64::new(0),
                steady: AtomicU64::new(0),
                base_ticks: AtomicU64::new(0),
                base_steady: AtomicU64::new(0),
            }))
        }
    }

    /// Returns the wall-clock time, unless a new calibration is due.
    #[inline(always)]
    pub(super) fn fresh_nanos(&self, ticks: impl FnOnce() -> u64) -> Option<u64> {
        let fields = &*self.0;
        let version = fields.version.load(Ordering::Acquire);
        let anchored = fields.ticks.load(Ordering::Relaxed);
        let unix = fields.unix.load(Ordering::Relaxed);
        let pace = fields.pace.load(Ordering::Relaxed);
        let period = fields.period.load(Ordering::Relaxed);
        if !self.is_still(version) || period == 0 {
            return None;
        }
        let elapsed = ticks().wrapping_sub(anchored);
        (elapsed < period).then(|| unix + (elapsed.wrapping_mul(pace) >> 32))
    }

    /// Returns the wall-clock time; `None` if the calibration is missing, too old, or being
    /// updated.
    pub(super) fn nanos(&self, ticks: impl FnOnce() -> u64) -> Option<u64> {
        // Long enough for an update by another thread, unless that is interrupted.
        const ATTEMPTS: u32 = if cfg!(loom) { 1 } else { 100 };
        let (_, calibration) = (0..ATTEMPTS).find_map(|_| self.load())?;
        calibration.nanos(ticks())
    }

    /// Calibrates with a sample, unless another thread does so at the same time.
    pub(super) fn correct(&self, sample: impl FnOnce() -> Option<ClockSample>) {
        let Some((version, calibration)) = self.load() else {
            return;
        };
        let Some(sample) = sample() else { return };
        let next = match version {
            0 => Calibration::first(sample),
            _ => calibration.next(sample),
        };
        let taken = self.0.version.compare_exchange(
            version,
            version + 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if taken.is_ok() {
            // Readers that see any of the stores below also see the odd version.
            fence(Ordering::Release);
            self.store(next);
            self.0.version.store(version + 2, Ordering::Release);
        }
    }

    /// Loads the calibration and its version; `None` during an update by another thread.
    fn load(&self) -> Option<(u64, Calibration)> {
        let fields = &*self.0;
        let version = fields.version.load(Ordering::Acquire);
        let calibration = Calibration {
            ticks: fields.ticks.load(Ordering::Relaxed),
            unix: fields.unix.load(Ordering::Relaxed),
            pace: fields.pace.load(Ordering::Relaxed),
            period: fields.period.load(Ordering::Relaxed),
            period_nanos: fields.period_nanos.load(Ordering::Relaxed),
            rate: fields.rate.load(Ordering::Relaxed),
            steady: fields.steady.load(Ordering::Relaxed),
            base_ticks: fields.base_ticks.load(Ordering::Relaxed),
            base_steady: fields.base_steady.load(Ordering::Relaxed),
        };
        self.is_still(version).then_some((version, calibration))
    }

    /// Returns whether all values loaded since `version` was loaded belong to that version.
    #[inline(always)]
    fn is_still(&self, version: u64) -> bool {
        fence(Ordering::Acquire);
        version & 1 == 0 && self.0.version.load(Ordering::Relaxed) == version
    }

    fn store(&self, calibration: Calibration) {
        let fields = &*self.0;
        fields.ticks.store(calibration.ticks, Ordering::Relaxed);
        fields.unix.store(calibration.unix, Ordering::Relaxed);
        fields.pace.store(calibration.pace, Ordering::Relaxed);
        fields.period.store(calibration.period, Ordering::Relaxed);
        fields
            .period_nanos
            .store(calibration.period_nanos, Ordering::Relaxed);
        fields.rate.store(calibration.rate, Ordering::Relaxed);
        fields.steady.store(calibration.steady, Ordering::Relaxed);
        fields
            .base_ticks
            .store(calibration.base_ticks, Ordering::Relaxed);
        fields
            .base_steady
            .store(calibration.base_steady, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000_000_000_000;

    /// Clocks that agree with a counter of 2.5 GHz.
    fn at(nanos: u64) -> ClockSample {
        ClockSample {
            ticks: (1 << 40) + nanos * 5 / 2,
            unix: START + nanos,
            steady: nanos,
        }
    }

    fn running() -> Calibration {
        let calibration = Calibration::first(at(0));
        assert_eq!(calibration.next(at(4_999_999)), calibration);
        calibration.next(at(5_000_000)).next(at(10_000_000))
    }

    #[test]
    fn time_is_known_between_samples_and_for_some_time_after() {
        let calibration = running();
        for nanos in [10_000_000, 10_000_400, 19_999_999, 900_000_000] {
            let time = calibration.nanos(at(nanos).ticks).unwrap();
            assert!(time.abs_diff(START + nanos) <= 1 + nanos / 1_000_000_000);
        }
        assert_eq!(calibration.nanos(at(1_100_000_000).ticks), None);
        assert_eq!(calibration.nanos(at(9_000_000).ticks), None);
        assert_eq!(Calibration::first(at(0)).nanos(at(1).ticks), None);
    }

    #[test]
    fn time_that_is_ahead_slows_down_and_time_that_is_behind_jumps() {
        let mut late = at(20_000_000);
        late.unix -= 2_000;
        let calibration = running().next(late);
        let time = calibration.nanos(late.ticks).unwrap();
        assert!(time.abs_diff(late.unix + 2_000) <= 1);
        let time = calibration.nanos(at(30_000_000).ticks).unwrap();
        assert!(time.abs_diff(START + 30_000_000 - 2_000) <= 2, "{time}");

        let mut early = at(20_000_000);
        early.unix += 3_600_000_000_000;
        let calibration = running().next(early);
        assert_eq!(calibration.nanos(early.ticks), Some(early.unix));
    }

    #[test]
    fn the_period_doubles_while_the_error_is_small_and_is_short_again_after_a_larger_one() {
        let mut calibration = running();
        let mut nanos = 10_000_000;
        for milliseconds in [40, 80, 160, 200, 200] {
            nanos += calibration.period_nanos;
            calibration = calibration.next(at(nanos));
            assert_eq!(calibration.period_nanos, milliseconds * 1_000_000);
        }
        for (error, period_nanos) in [(900, 200_000_000), (1_100, 10_000_000)] {
            for is_ahead in [false, true] {
                let mut sample = at(nanos + 200_000_000);
                sample.unix = match is_ahead {
                    true => sample.unix - error,
                    false => sample.unix + error,
                };
                assert_eq!(calibration.next(sample).period_nanos, period_nanos);
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed() {
        let mut back = at(20_000_000);
        back.unix -= 3_600_000_000_000;
        let calibration = running().next(back);
        assert_eq!(calibration.nanos(back.ticks), Some(back.unix));
    }

    #[test]
    fn a_counter_that_changes_its_rate_is_calibrated_anew() {
        let mut stopped = at(20_000_000);
        stopped.ticks -= 10_000_000;
        let calibration = running().next(stopped);
        assert_eq!(calibration, Calibration::first(stopped));
        let mut reset = at(20_000_000);
        reset.ticks = 5;
        assert_eq!(running().next(reset), Calibration::first(reset));
        let mut later = at(25_000_000);
        later.ticks = 5 + 12_500_000;
        let time = Calibration::first(reset).next(later).nanos(later.ticks);
        assert_eq!(time, Some(later.unix));
    }

    #[test]
    fn a_failed_sample_is_taken_again() {
        let anchor = Anchor::new();
        anchor.correct(|| None);
        anchor.correct(|| Some(at(0)));
        anchor.correct(|| None);
        anchor.correct(|| Some(at(6_000_000)));
        let time = anchor.fresh_nanos(|| at(7_000_000).ticks).unwrap();
        assert!(time.abs_diff(START + 7_000_000) <= 1);
        assert_eq!(anchor.fresh_nanos(|| at(17_000_000).ticks), None);
    }

    #[test]
    fn the_rate_is_computed_from_the_last_second() {
        let calibration = running().next(at(1_500_000_000));
        assert_eq!(calibration.base_steady, 1_500_000_000);
        // NTP slews both clocks by 500 ppm.
        let mut faster = at(3_000_000_000);
        faster.steady += 750_000;
        let calibration = calibration.next(faster);
        assert!(
            calibration
                .rate
                .abs_diff((0.4 * 1.0005 * (1_u64 << 32) as f64) as u64)
                < 100
        );
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// Any mixture of two calibrations would give another time.
    #[test]
    fn models_of_an_anchor_never_mix_two_calibrations() {
        let sample = |nanos: u64| ClockSample {
            ticks: nanos,
            unix: 1_000_000_000 + nanos,
            steady: nanos,
        };
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || {
            let anchor = Arc::new(Anchor::new());
            anchor.correct(|| Some(sample(0)));
            anchor.correct(|| Some(sample(6_000_000)));
            let corrector = {
                let anchor = Arc::clone(&anchor);
                thread::spawn(move || anchor.correct(|| Some(sample(11_000_000))))
            };
            let ticks = 12_000_000;
            for time in [anchor.fresh_nanos(|| ticks), anchor.nanos(|| ticks)] {
                assert!(time.is_none_or(|time| time == 1_000_000_000 + ticks));
            }
            anchor.correct(|| Some(sample(11_500_000)));
            corrector.join().unwrap();
            assert_eq!(anchor.nanos(|| ticks), Some(1_000_000_000 + ticks));
        });
    }
}
