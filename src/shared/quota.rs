//! Permits that many threads take and return.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A limited number of permits.
pub(crate) struct Quota {
    taken: AtomicUsize,
    max: usize,
}

impl Quota {
    pub(super) fn new(max: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            max,
        }
    }

    /// Takes a permit. Returns false if all are taken.
    pub(crate) fn take(&self) -> bool {
        let one_more = |taken| (taken < self.max).then_some(taken + 1);
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok()
    }

    /// Returns whether more than half of the permits are taken.
    pub(crate) fn is_scarce(&self) -> bool {
        self.taken.load(Ordering::Relaxed) * 2 > self.max
    }

    /// Returns a permit that was taken.
    pub(crate) fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
