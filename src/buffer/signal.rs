//! The one call a recorder may make into the operating system: waking the network thread.
//!
//! The network thread says before it sleeps what it wants to be woken for. A recorder that has
//! just published something asks [`Signal::notify`], which makes the call only if it is wanted,
//! and only once for each sleep, whoever comes first.

use crate::sync::{AtomicBool, AtomicU32, Ordering, fence};

/// What the network thread wants to be woken for; a higher one includes the lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(crate) enum Wanted {
    /// Nothing: it is awake, or can do nothing about new spans.
    Nothing = 0,
    /// Free slabs are getting few.
    FewSlabs = 1,
    /// A batch is complete.
    Batch = 2,
}

pub(crate) struct Signal {
    wanted: AtomicU32,
    closed: AtomicBool,
    waker: Box<dyn Fn() + Send + Sync>,
}

impl Signal {
    pub(crate) fn new(waker: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            wanted: AtomicU32::new(Wanted::Nothing as u32),
            closed: AtomicBool::new(false),
            waker: Box::new(waker),
        }
    }

    /// Recorder: `event` came about; wakes the network thread if it waits for that.
    #[cold]
    pub(crate) fn notify(&self, event: Wanted) {
        // Pairs with the fence in `want`: either the network thread sees what was published
        // before this call, or this load sees what it wants.
        fence(Ordering::SeqCst);
        if self.wanted.load(Ordering::Relaxed) >= event as u32
            && self.wanted.swap(Wanted::Nothing as u32, Ordering::Relaxed) != 0
        {
            (self.waker)();
        }
    }

    /// Network thread: to be called before the last look at the rings before a sleep, and with
    /// [`Wanted::Nothing`] after it. Tells whether somebody has made the wake-up call since.
    pub(crate) fn want(&self, what: Wanted) -> bool {
        let before = self.wanted.swap(what as u32, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        before == Wanted::Nothing as u32
    }

    /// Wakes the network thread in any case, for what is not the record path.
    pub(crate) fn wake(&self) {
        (self.waker)();
    }

    /// From now on recorders refuse spans.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}
