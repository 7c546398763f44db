//! The wall clock that spans are stamped with.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch, as OTLP's `*_time_unix_nano` fields want them.
///
/// ```
/// let start = otlp_collector::unix_nanos();
/// assert!(start > 1_700_000_000_000_000_000);
/// ```
#[inline]
#[must_use]
pub fn unix_nanos() -> u64 {
    // A clock set before 1970 counts as 1970: a wrong time must not become a panic.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}
