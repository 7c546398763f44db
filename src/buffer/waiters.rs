//! Recorders that block until a slab is free (`Overflow::Block`).

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// Maximum time until a waiter tries again without a notification. One can be missed, because
/// [`Waiters::notify`] does not take the lock: the network thread must never wait for a recorder.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Recorders that wait for a free slab.
#[derive(Default)]
pub(crate) struct Waiters {
    count: AtomicU32,
    lock: Mutex<()>,
    freed: Condvar,
}

impl Waiters {
    /// Wakes a waiter if `enough` slabs are free. Called whenever a slab was freed; waking for each
    /// single one would cost a context switch per slab.
    pub(crate) fn notify(&self, enough: impl FnOnce() -> bool) {
        if self.count.load(Ordering::Relaxed) > 0 && enough() {
            self.freed.notify_one();
        }
    }

    /// Waits until `attempt` returns something or `deadline` has passed.
    pub(crate) fn wait<T>(
        &self,
        deadline: Instant,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut guard = self.lock.lock();
        let result = loop {
            let found = attempt();
            let left = deadline.saturating_duration_since(Instant::now());
            if found.is_some() || left.is_zero() {
                break found;
            }
            self.freed.wait_for(&mut guard, left.min(RETRY_INTERVAL));
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        result
    }
}
