//! What the counter showed when the clock was read last, and how fast both go.

use crossbeam_utils::CachePadded;

use crate::platform::sync::{AtomicU64, Ordering, fence};

/// Several clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// The counter.
    pub(super) ticks: u64,
    /// The wall clock, in Unix nanoseconds.
    pub(super) unix: u64,
    /// A clock that is never set, in nanoseconds.
    pub(super) steady: u64,
}

/// After so long the counter is held against the clocks again.
const PERIOD_NANOS: u64 = 10_000_000;
/// The least from which the counter's speed is told.
const CALIBRATION_NANOS: u64 = 5_000_000;
/// From which on it is told anew.
const BASELINE_NANOS_MAX: u64 = 1_000_000_000;
/// For so many periods an anchor is of use if it cannot be corrected.
const PERIODS_MAX: u64 = 50;
/// The wall clock is followed at once if it was set back by more.
const STEP_NANOS: u64 = 1_000_000;

/// How the wall clock follows from the counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    ticks: u64,
    /// The wall clock at `ticks`.
    unix: u64,
    /// Nanoseconds that are added for a tick, in units of 2^-32; 0 while not known.
    pace: u64,
    /// In ticks.
    period: u64,
    /// Nanoseconds in a tick, as `pace`: that differs while the time is too far ahead.
    rate: u64,
    base_ticks: u64,
    base_steady: u64,
}

impl State {
    /// The first of several samples.
    fn first(sample: Sample) -> Self {
        Self {
            ticks: sample.ticks,
            unix: sample.unix,
            base_ticks: sample.ticks,
            base_steady: sample.steady,
            ..Self::default()
        }
    }

    /// With what one more sample tells.
    fn next(self, sample: Sample) -> Self {
        let steady = sample.steady.wrapping_sub(self.base_steady);
        if steady < CALIBRATION_NANOS {
            return self;
        }
        let ticks = sample.ticks.wrapping_sub(self.base_ticks);
        let rate = (u128::from(steady) << 32) / u128::from(ticks.max(1));
        // The speed of a counter does not change: it was stopped, or it is another machine's now.
        let changed =
            self.rate != 0 && rate.abs_diff(self.rate.into()) > u128::from(self.rate >> 10);
        // Some hundred MHz at least, so that nothing overflows.
        if rate == 0 || rate > 16 << 32 || changed {
            return Self::first(sample);
        }
        let next = Self {
            rate: rate as u64,
            ..self
        };
        let (base_ticks, base_steady) = if steady > BASELINE_NANOS_MAX {
            (sample.ticks, sample.steady)
        } else {
            (self.base_ticks, self.base_steady)
        };
        Self {
            base_ticks,
            base_steady,
            ..next.anchored(sample)
        }
    }

    /// At the sample. Time that is ahead does not go back but more slowly for a period.
    fn anchored(self, sample: Sample) -> Self {
        let told = self.nanos(sample.ticks).unwrap_or(0);
        let ahead = told.saturating_sub(sample.unix);
        let (unix, ahead) = if ahead < STEP_NANOS {
            (sample.unix + ahead, ahead)
        } else {
            (sample.unix, 0)
        };
        Self {
            ticks: sample.ticks,
            unix,
            pace: self.rate - self.rate * ahead / PERIOD_NANOS,
            period: (PERIOD_NANOS << 32) / self.rate,
            ..self
        }
    }

    /// The wall clock, as far as can be told.
    fn nanos(&self, ticks: u64) -> Option<u64> {
        let elapsed = ticks.wrapping_sub(self.ticks);
        (elapsed < self.period * PERIODS_MAX).then(|| self.unix + ((elapsed * self.pace) >> 32))
    }
}

/// A [`State`] that any thread can read, and any correct: a sequence lock, where who comes in the
/// way of another does not wait.
pub(super) struct Anchor(CachePadded<Fields>);

struct Fields {
    /// Odd while it is being corrected.
    version: AtomicU64,
    ticks: AtomicU64,
    unix: AtomicU64,
    pace: AtomicU64,
    period: AtomicU64,
    rate: AtomicU64,
    base_ticks: AtomicU64,
    base_steady: AtomicU64,
}

/// Loom's atomics cannot be made before a model runs.
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
        /// Not set.
        pub(super) fn new() -> Self {
            Self(CachePadded::new(Fields {
                version: AtomicU64::new(0),
                ticks: AtomicU64::new(0),
                unix: AtomicU64::new(0),
                pace: AtomicU64::new(0),
                period: AtomicU64::new(0),
                rate: AtomicU64::new(0),
                base_ticks: AtomicU64::new(0),
                base_steady: AtomicU64::new(0),
            }))
        }
    }

    /// The wall clock, unless it is time for a correction.
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

    /// The wall clock, as far as can be told.
    pub(super) fn nanos(&self, ticks: impl FnOnce() -> u64) -> Option<u64> {
        // As long as another thread takes to correct it, if that is not held up.
        const ATTEMPTS: u32 = if cfg!(loom) { 1 } else { 100 };
        let (_, state) = (0..ATTEMPTS).find_map(|_| self.load())?;
        state.nanos(ticks())
    }

    /// Takes a sample, unless another thread does.
    pub(super) fn correct(&self, sample: impl FnOnce() -> Option<Sample>) {
        let Some((version, state)) = self.load() else {
            return;
        };
        let Some(sample) = sample() else { return };
        let next = match version {
            0 => State::first(sample),
            _ => state.next(sample),
        };
        let taken = self.0.version.compare_exchange(
            version,
            version + 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if taken.is_ok() {
            // Before what follows is seen, the odd version is.
            fence(Ordering::Release);
            self.store(next);
            self.0.version.store(version + 2, Ordering::Release);
        }
    }

    /// What is there and its version; `None` while another thread corrects it.
    fn load(&self) -> Option<(u64, State)> {
        let fields = &*self.0;
        let version = fields.version.load(Ordering::Acquire);
        let state = State {
            ticks: fields.ticks.load(Ordering::Relaxed),
            unix: fields.unix.load(Ordering::Relaxed),
            pace: fields.pace.load(Ordering::Relaxed),
            period: fields.period.load(Ordering::Relaxed),
            rate: fields.rate.load(Ordering::Relaxed),
            base_ticks: fields.base_ticks.load(Ordering::Relaxed),
            base_steady: fields.base_steady.load(Ordering::Relaxed),
        };
        self.is_still(version).then_some((version, state))
    }

    /// Whether what was read since belongs to one state, of this version.
    #[inline(always)]
    fn is_still(&self, version: u64) -> bool {
        fence(Ordering::Acquire);
        version & 1 == 0 && self.0.version.load(Ordering::Relaxed) == version
    }

    fn store(&self, state: State) {
        let fields = &*self.0;
        fields.ticks.store(state.ticks, Ordering::Relaxed);
        fields.unix.store(state.unix, Ordering::Relaxed);
        fields.pace.store(state.pace, Ordering::Relaxed);
        fields.period.store(state.period, Ordering::Relaxed);
        fields.rate.store(state.rate, Ordering::Relaxed);
        fields.base_ticks.store(state.base_ticks, Ordering::Relaxed);
        fields
            .base_steady
            .store(state.base_steady, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000_000_000_000;

    /// A counter of 2.5 GHz, and clocks with it.
    fn at(nanos: u64) -> Sample {
        Sample {
            ticks: (1 << 40) + nanos * 5 / 2,
            unix: START + nanos,
            steady: nanos,
        }
    }

    fn running() -> State {
        let state = State::first(at(0));
        assert_eq!(state.next(at(4_999_999)), state);
        state.next(at(6_000_000)).next(at(10_000_000))
    }

    #[test]
    fn it_tells_the_time_between_samples_and_some_time_after() {
        let state = running();
        for nanos in [10_000_000, 10_000_400, 19_999_999, 500_000_000] {
            let told = state.nanos(at(nanos).ticks).unwrap();
            assert!(told.abs_diff(START + nanos) <= 1 + nanos / 1_000_000_000);
        }
        assert_eq!(state.nanos(at(600_000_000).ticks), None);
        assert_eq!(state.nanos(at(9_000_000).ticks), None);
        assert_eq!(State::first(at(0)).nanos(at(1).ticks), None);
    }

    #[test]
    fn what_is_ahead_slows_down_and_what_is_behind_jumps() {
        let mut late = at(20_000_000);
        late.unix -= 500;
        let state = running().next(late);
        let told = state.nanos(late.ticks).unwrap();
        assert!(told.abs_diff(late.unix + 500) <= 1);
        let told = state.nanos(at(30_000_000).ticks).unwrap();
        assert!(told.abs_diff(START + 30_000_000 - 500) <= 2, "{told}");

        let mut early = at(20_000_000);
        early.unix += 3_600_000_000_000;
        let state = running().next(early);
        assert_eq!(state.nanos(early.ticks), Some(early.unix));
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed() {
        let mut back = at(20_000_000);
        back.unix -= 3_600_000_000_000;
        let state = running().next(back);
        assert_eq!(state.nanos(back.ticks), Some(back.unix));
    }

    #[test]
    fn a_counter_that_changes_its_speed_is_learnt_anew() {
        let mut stopped = at(20_000_000);
        stopped.ticks -= 10_000_000;
        let state = running().next(stopped);
        assert_eq!(state, State::first(stopped));
        let mut reset = at(20_000_000);
        reset.ticks = 5;
        assert_eq!(running().next(reset), State::first(reset));
        let mut later = at(25_000_000);
        later.ticks = 5 + 12_500_000;
        let told = State::first(reset).next(later).nanos(later.ticks);
        assert_eq!(told, Some(later.unix));
    }

    #[test]
    fn a_sample_that_failed_is_taken_again() {
        let anchor = Anchor::new();
        anchor.correct(|| None);
        anchor.correct(|| Some(at(0)));
        anchor.correct(|| None);
        anchor.correct(|| Some(at(6_000_000)));
        let told = anchor.fresh_nanos(|| at(7_000_000).ticks).unwrap();
        assert!(told.abs_diff(START + 7_000_000) <= 1);
        assert_eq!(anchor.fresh_nanos(|| at(17_000_000).ticks), None);
    }

    #[test]
    fn the_speed_is_told_from_the_last_second() {
        let state = running().next(at(1_500_000_000));
        assert_eq!(state.base_steady, 1_500_000_000);
        // The wall clock is made faster by 500 in a million, and with it the steady one.
        let mut faster = at(3_000_000_000);
        faster.steady += 750_000;
        let state = state.next(faster);
        assert!(
            state
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

    /// Any mixture of two states would tell another time.
    #[test]
    fn models_of_an_anchor_show_no_mixture() {
        let sample = |nanos: u64| Sample {
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
                thread::spawn(move || anchor.correct(|| Some(sample(9_000_000))))
            };
            let ticks = 11_000_000;
            for told in [anchor.fresh_nanos(|| ticks), anchor.nanos(|| ticks)] {
                assert!(told.is_none_or(|told| told == 1_000_000_000 + ticks));
            }
            anchor.correct(|| Some(sample(10_000_000)));
            corrector.join().unwrap();
            assert_eq!(anchor.nanos(|| ticks), Some(1_000_000_000 + ticks));
        });
    }
}
