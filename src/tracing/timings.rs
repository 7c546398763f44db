//! Time for which a span was entered, and for which it was not.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Busy and idle time of a span, which any threads enter and exit.
///
/// While several threads are in a span at once, it is busy once: from the first that entered it to the
/// last that exited it.
#[derive(Default)]
pub(super) struct Timings {
    /// Number of threads in the span, or of times that one of them entered it.
    entered: AtomicU32,
    /// Time of the last change between busy and idle, in nanoseconds since the Unix epoch.
    changed: AtomicU64,
    busy: AtomicU64,
    idle: AtomicU64,
}

impl Timings {
    pub(super) fn start(&self, now: u64) {
        self.entered.store(0, Ordering::Relaxed);
        self.changed.store(now, Ordering::Relaxed);
        self.busy.store(0, Ordering::Relaxed);
        self.idle.store(0, Ordering::Relaxed);
    }

    pub(super) fn enter(&self, now: u64) {
        if self.entered.fetch_add(1, Ordering::AcqRel) == 0 {
            self.add_to(&self.idle, now);
        }
    }

    pub(super) fn exit(&self, now: u64) {
        if self.entered.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.add_to(&self.busy, now);
        }
    }

    fn add_to(&self, total: &AtomicU64, now: u64) {
        let since = self.changed.swap(now, Ordering::Relaxed);
        total.fetch_add(now.saturating_sub(since), Ordering::Relaxed);
    }

    /// Returns the busy and the idle nanoseconds of a span that ends now.
    pub(super) fn end(&self, now: u64) -> (u64, u64) {
        let rest = now.saturating_sub(self.changed.load(Ordering::Relaxed));
        let busy = self.busy.load(Ordering::Relaxed);
        let idle = self.idle.load(Ordering::Relaxed);
        if self.entered.load(Ordering::Acquire) == 0 {
            (busy, idle + rest)
        } else {
            (busy + rest, idle)
        }
    }
}
