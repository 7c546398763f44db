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
    /// Time of the last exit; 0 before the first.
    exited: AtomicU64,
}

/// Times of a span that is closed.
pub(super) struct Times {
    pub(super) busy: u64,
    pub(super) idle: u64,
    /// 0 if the span was never entered.
    pub(super) last_exit: u64,
}

impl Timings {
    pub(super) fn start(&self, now: u64) {
        self.entered.store(0, Ordering::Relaxed);
        self.changed.store(now, Ordering::Relaxed);
        self.busy.store(0, Ordering::Relaxed);
        self.idle.store(0, Ordering::Relaxed);
        self.exited.store(0, Ordering::Relaxed);
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
        self.exited.fetch_max(now, Ordering::Relaxed);
    }

    fn add_to(&self, total: &AtomicU64, now: u64) {
        let since = self.changed.swap(now, Ordering::Relaxed);
        total.fetch_add(now.saturating_sub(since), Ordering::Relaxed);
    }

    /// Returns the times of a span that is closed now, in nanoseconds.
    pub(super) fn end(&self, now: u64) -> Times {
        let rest = now.saturating_sub(self.changed.load(Ordering::Relaxed));
        let busy = self.busy.load(Ordering::Relaxed);
        let idle = self.idle.load(Ordering::Relaxed);
        let is_idle = self.entered.load(Ordering::Acquire) == 0;
        Times {
            busy: if is_idle { busy } else { busy + rest },
            idle: if is_idle { idle + rest } else { idle },
            last_exit: self.exited.load(Ordering::Relaxed),
        }
    }
}
