//! The wall clock for span timestamps.
//!
//! Where the kernel uses the processor's time stamp counter, so does this clock: reading it takes
//! less than half the time of `clock_gettime`. The counter is calibrated against the operating
//! system's clock every 10 to 200 ms, the more often the larger the error was, so adjustments of that
//! clock are followed.

mod anchor;
mod counter;
#[cfg(all(test, not(loom)))]
mod drift_tests;

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use self::anchor::{Anchor, ClockSample};

/// Returns the nanoseconds since the Unix epoch, for OTLP's `*_time_unix_nano` fields.
///
/// Reads the operating system's clock. Once the first [`Collector`](crate::Collector) was created,
/// and if the kernel uses the processor's time stamp counter for its own clock, reads that counter
/// instead, calibrated to within about a microsecond of the clock. When the rate of that clock
/// changes, the difference grows for up to 200 ms until it is noticed: to 100 µs if the change is 500
/// ppm, the most by which NTP slews a clock. A clock that is set is followed within that time as well.
///
/// On one thread the time goes back only if the system's clock is set back or slowed down by more
/// than 0.09 % (`chrony` can), or by that difference if another thread is interrupted during a
/// calibration. Across threads, the time at which a message is received can be before the time at
/// which it was sent (by up to 3 µs where measured): processors may read the counter ahead of
/// preceding instructions.
///
/// ```
/// let start = otlp_collector::unix_nanos();
/// assert!(start > 1_700_000_000_000_000_000);
/// ```
#[inline]
#[must_use]
pub fn unix_nanos() -> u64 {
    match ANCHOR.fresh_nanos(counter::ticks) {
        Some(nanos) => nanos,
        None => corrected_nanos(),
    }
}

/// Makes [`unix_nanos`] use the processor's counter from now on, if the kernel does.
pub(crate) fn start() {
    if EPOCH.get().is_none() && counter::is_trusted() {
        EPOCH.get_or_init(Instant::now);
        ANCHOR.correct(sample);
    }
}

#[cfg(not(loom))]
static ANCHOR: Anchor = Anchor::new();

#[cfg(loom)]
static ANCHOR: std::sync::LazyLock<Anchor> = std::sync::LazyLock::new(Anchor::new);

/// Origin of the steady clock. Set once the counter is in use.
static EPOCH: OnceLock<Instant> = OnceLock::new();

/// Calibrates the counter if one is in use, and returns the time.
#[cold]
fn corrected_nanos() -> u64 {
    if EPOCH.get().is_none() {
        return system_nanos();
    }
    ANCHOR.correct(sample);
    ANCHOR.nanos(counter::ticks).unwrap_or_else(system_nanos)
}

fn system_nanos() -> u64 {
    // A clock set before 1970 reads as 1970: a wrong time must not cause a panic.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// Reads all clocks at one moment; `None` if the thread was interrupted in between.
fn sample() -> Option<ClockSample> {
    /// Ticks of about a microsecond.
    const TICKS_MAX: u64 = 2500;
    let before = counter::ticks();
    let unix = system_nanos();
    let between = counter::ticks();
    let steady = EPOCH.get()?.elapsed().as_nanos() as u64;
    let after = counter::ticks();
    (after.wrapping_sub(before) < TICKS_MAX).then(|| ClockSample {
        ticks: before.wrapping_add(between.wrapping_sub(before) / 2),
        unix,
        steady,
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_that_of_the_systems_clock() {
        start();
        for _ in 0..100_000 {
            let before = system_nanos();
            let now = unix_nanos();
            let after = system_nanos();
            // Reading the clocks takes some time. An interruption of this thread during a sample
            // takes longer, but such samples are discarded.
            let tolerance = 100_000;
            assert!(before < now + tolerance, "{before} {now}");
            assert!(now < after + tolerance, "{now} {after}");
        }
    }
}
