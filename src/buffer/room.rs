//! Waiting for a free slab, for recorders that were told to block.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// A waiter looks again after this long even if nobody calls, since who frees a slab does not
/// take the lock: the network thread must never wait for a recorder.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Where recorders wait for a slab to be freed.
#[derive(Default)]
pub(crate) struct Room {
    waiting: AtomicU32,
    lock: Mutex<()>,
    freed: Condvar,
}

impl Room {
    /// A slab was freed, and so there is `enough` or not: calling somebody for each single slab
    /// would mean a change of threads for each.
    pub(crate) fn notify(&self, enough: impl FnOnce() -> bool) {
        if self.waiting.load(Ordering::Relaxed) > 0 && enough() {
            self.freed.notify_one();
        }
    }

    /// Tries until `attempt` gives something or `deadline` has passed.
    pub(crate) fn wait<T>(
        &self,
        deadline: Instant,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let mut guard = self.lock.lock();
        let result = loop {
            let found = attempt();
            let left = deadline.saturating_duration_since(Instant::now());
            if found.is_some() || left.is_zero() {
                break found;
            }
            self.freed.wait_for(&mut guard, left.min(LOOK_AGAIN));
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        result
    }
}
