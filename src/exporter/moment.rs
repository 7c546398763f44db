//! One moment by both clocks, which the event loop reads once in each turn.

use std::time::{Duration, Instant, SystemTime};

/// A moment by the steady clock and by the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    /// The time by the steady clock, for deadlines and durations.
    pub(crate) now: Instant,
    /// The time by the wall clock, in nanoseconds since the Unix epoch.
    pub(crate) unix_nanos: u64,
}

impl Moment {
    /// Returns the time by the wall clock.
    pub(crate) fn system_time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.unix_nanos)
    }
}
