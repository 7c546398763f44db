//! Runs the clock for simulated hours against clocks that drift, are slewed and are set.

use super::anchor::{Anchor, ClockSample};

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * SECOND;
/// Time between two readings. Not a fraction of a period.
const INTERVAL: u64 = 1_234_567;
/// Farthest that a sample is off the clock.
const NOISE_NANOS: f64 = 150.0;

/// A counter, and the clocks of an operating system that are made from it.
struct Machine {
    /// Time since the start.
    now: u64,
    ticks: f64,
    steady: f64,
    /// The wall clock minus the monotonic clock.
    offset: i64,
    /// Ticks per nanosecond.
    frequency: f64,
    /// Deviation of both clocks from the counter, in parts per million.
    slew_ppm: f64,
    random: u64,
}

/// Differences between the clock and the operating system's.
#[derive(Debug, Default)]
struct Errors {
    worst: u64,
    samples: u32,
}

impl Machine {
    fn new() -> Self {
        Self {
            now: 0,
            ticks: 1e12,
            steady: 1e9,
            offset: 1_800_000_000_000_000_000,
            frequency: 2.6,
            slew_ppm: 0.0,
            random: 1,
        }
    }

    fn advance(&mut self, nanos: u64) {
        self.now += nanos;
        self.ticks += nanos as f64 * self.frequency;
        self.steady += nanos as f64 * (1.0 + self.slew_ppm / 1e6);
    }

    fn unix(&self) -> u64 {
        (self.steady as u64).wrapping_add_signed(self.offset)
    }

    /// Reads all clocks, one a little after the other.
    fn sample(&mut self) -> ClockSample {
        ClockSample {
            ticks: self.ticks as u64,
            unix: self.unix().wrapping_add_signed(self.noise()),
            steady: (self.steady as u64).wrapping_add_signed(self.noise()),
        }
    }

    fn noise(&mut self) -> i64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
        let unit = (self.random >> 11) as f64 / (1_u64 << 53) as f64;
        ((unit * 2.0 - 1.0) * NOISE_NANOS) as i64
    }
}

/// The clock under test on a machine.
struct Run {
    machine: Machine,
    anchor: Anchor,
    last: u64,
    samples: u32,
}

impl Run {
    /// A clock that is calibrated and steady.
    fn steady() -> Self {
        let mut run = Self {
            machine: Machine::new(),
            anchor: Anchor::new(),
            last: 0,
            samples: 0,
        };
        run.read();
        run.machine.advance(6 * MILLISECOND);
        run.until(2 * SECOND, INTERVAL, |_| ());
        run
    }

    /// Returns the time as `unix_nanos` does.
    fn read(&mut self) -> Option<u64> {
        let ticks = self.machine.ticks as u64;
        if let Some(time) = self.anchor.fresh_nanos(|| ticks) {
            return Some(time);
        }
        self.samples += 1;
        let sample = self.machine.sample();
        self.anchor.correct(|| Some(sample));
        self.anchor.nanos(|| ticks)
    }

    /// Reads the clock until this time, and returns the errors. Fails if the time goes back.
    fn until(&mut self, end: u64, interval: u64, mut change: impl FnMut(&mut Machine)) -> Errors {
        let before = self.samples;
        let mut errors = Errors::default();
        while self.machine.now < end {
            self.machine.advance(interval);
            change(&mut self.machine);
            let time = self.read().expect("a calibrated clock");
            assert!(time >= self.last, "{} back", self.last - time);
            self.last = time;
            errors.worst = errors.worst.max(time.abs_diff(self.machine.unix()));
        }
        errors.samples = self.samples - before;
        errors
    }
}

#[test]
fn a_steady_clock_is_kept_within_a_microsecond_and_read_five_times_a_second() {
    let mut run = Run::steady();
    let errors = run.until(3 * HOUR, INTERVAL, |_| ());
    assert!(errors.worst <= 1_000, "{errors:?}");
    assert!(errors.samples <= 3 * 3_600 * 5, "{errors:?}");
}

#[test]
fn a_crystal_that_drifts_by_50_ppm_with_the_temperature_is_followed() {
    let mut run = Run::steady();
    // Faster and slower again, each within ten minutes.
    let errors = run.until(2 * HOUR, INTERVAL, |machine| {
        let turn = machine.now as f64 / (1_200 * SECOND) as f64 * std::f64::consts::TAU;
        machine.frequency = 2.6 * (1.0 + 50e-6 * turn.sin());
    });
    assert!(errors.worst <= 1_000, "{errors:?}");
    assert!(errors.samples <= 2 * 3_600 * 6, "{errors:?}");
}

#[test]
fn a_slew_by_500_ppm_is_followed_after_one_period() {
    let mut run = Run::steady();
    let mut end = run.machine.now;
    // Changes by more than 976 ppm are taken for those of the counter.
    for slew_ppm in [500.0, 0.0, -500.0, 0.0, 40.0, -400.0, 100.0].repeat(20) {
        let change = (slew_ppm - run.machine.slew_ppm).abs();
        run.machine.slew_ppm = slew_ppm;
        let errors = run.until(end + 300 * MILLISECOND, INTERVAL, |_| ());
        // The longest period and one interval.
        assert!(
            errors.worst as f64 <= 1_000.0 + change * 202.0,
            "{errors:?}"
        );
        end += 10 * SECOND;
        let errors = run.until(end, INTERVAL, |_| ());
        assert!(errors.worst <= 1_000, "{slew_ppm} ppm: {errors:?}");
    }
}

#[test]
fn a_clock_that_is_set_forward_is_followed_after_one_period() {
    let mut run = Run::steady();
    for step in [2_000, 500_000, 20 * MILLISECOND, 40 * SECOND, HOUR] {
        run.machine.offset += step as i64;
        run.until(run.machine.now + 203 * MILLISECOND, INTERVAL, |_| ());
        let errors = run.until(run.machine.now + 5 * SECOND, INTERVAL, |_| ());
        assert!(errors.worst <= 1_000, "{step}: {errors:?}");
    }
}

#[test]
fn a_clock_that_is_set_back_is_followed_at_once_or_slows_down() {
    let mut run = Run::steady();
    for step in [2_000, 500_000, 999_000, 2 * MILLISECOND, HOUR] {
        run.machine.offset -= step as i64;
        if step >= MILLISECOND {
            // A step of this size sets the time back.
            run.last = 0;
            let is_followed = |run: &Run| run.last.abs_diff(run.machine.unix()) < MILLISECOND;
            while !is_followed(&run) {
                run.last = 0;
                run.until(run.machine.now + INTERVAL, INTERVAL, |_| ());
            }
        }
        // It is noticed within 200 ms, and absorbed within 10 ms.
        run.until(run.machine.now + 230 * MILLISECOND, INTERVAL, |_| ());
        let errors = run.until(run.machine.now + 5 * SECOND, INTERVAL, |_| ());
        assert!(errors.worst <= 1_000, "{step}: {errors:?}");
    }
}

#[test]
fn a_counter_that_stops_is_noticed_after_one_period() {
    let mut run = Run::steady();
    for pause in [20_000, 300_000, 30 * MILLISECOND, 10 * SECOND] {
        run.machine.steady += pause as f64;
        // A large pause starts a new calibration, which takes 5 ms.
        for _ in 0..203 {
            run.machine.advance(MILLISECOND);
            run.last = run.read().unwrap_or(run.last);
        }
        let errors = run.until(run.machine.now + 5 * SECOND, INTERVAL, |_| ());
        assert!(errors.worst <= 1_000, "{pause}: {errors:?}");
    }
}

#[test]
fn readings_that_are_rare_are_as_exact() {
    for interval in [15, 70, 199, 300, 2_000, 60_000] {
        let mut run = Run::steady();
        let end = run.machine.now + 1_000 * interval * MILLISECOND;
        let errors = run.until(end, interval * MILLISECOND, |_| ());
        assert!(errors.worst <= 1_000, "{interval}: {errors:?}");
    }
}
