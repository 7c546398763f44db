//! The wall clock that spans are stamped with.
//!
//! Where the kernel trusts the processor's counter, so do we: reading it takes less than half the
//! time of a call for the clock. The counter is held against the operating system's clock every
//! few milliseconds, so adjustments of that are followed.

mod anchor;
mod counter;

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use self::anchor::{Anchor, Sample};

/// Nanoseconds since the Unix epoch, as OTLP's `*_time_unix_nano` fields want them.
///
/// The operating system's clock; from the first [`Collector`](crate::Collector) on, where the kernel
/// trusts the processor's counter, that counter, held within about a microsecond of the clock.
///
/// On one thread it goes back only where the clock does, or (by less than a microsecond) where
/// another thread is interrupted just while it corrects the counter's reading. A time taken when a
/// message arrives can be before the one at which another thread sent it, by up to 3 µs where this
/// was measured: processors read their counter somewhat ahead of other things.
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

/// Prepares for [`unix_nanos`] to use the processor's counter, which it does from then on.
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

/// What the steady clock is counted from; set once the counter may be used.
static EPOCH: OnceLock<Instant> = OnceLock::new();

/// Holds the counter against the clock if it is time to.
#[cold]
fn corrected_nanos() -> u64 {
    if EPOCH.get().is_none() {
        return system_nanos();
    }
    ANCHOR.correct(sample);
    ANCHOR.nanos(counter::ticks).unwrap_or_else(system_nanos)
}

fn system_nanos() -> u64 {
    // A clock set before 1970 counts as 1970: a wrong time must not become a panic.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// All clocks at one moment; `None` if the thread was held up in between.
fn sample() -> Option<Sample> {
    /// About a microsecond.
    const TICKS_MAX: u64 = 2500;
    let before = counter::ticks();
    let unix = system_nanos();
    let between = counter::ticks();
    let steady = EPOCH.get()?.elapsed().as_nanos() as u64;
    let after = counter::ticks();
    (after.wrapping_sub(before) < TICKS_MAX).then(|| Sample {
        ticks: before.wrapping_add(between.wrapping_sub(before) / 2),
        unix,
        steady,
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_systems_clock() {
        start();
        for _ in 0..100_000 {
            let before = system_nanos();
            let now = unix_nanos();
            let after = system_nanos();
            // It may be ahead or behind by what reading the clocks takes, but a stop of this
            // thread in a sample is noticed.
            let tolerance = 100_000;
            assert!(before < now + tolerance, "{before} {now}");
            assert!(now < after + tolerance, "{now} {after}");
        }
    }
}
