//! The one call a recorder may make into the operating system: waking the network thread.
//!
//! The network thread says before it sleeps what it wants to be woken for. A recorder that has
//! just published something asks [`Signal::notify`], which makes the call only if it is wanted,
//! and only once for each sleep, whoever comes first.

use crate::platform::fork::{self, Process};
use crate::platform::sync::{AtomicU32, Ordering, fence};
use crate::stats::refused::Refused;

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
    /// Where recorders may record: the number of the process that made this, or [`NOWHERE`].
    open_in: AtomicU32,
    process: Process,
    waker: Box<dyn Fn() + Send + Sync>,
}

/// No process has this number.
const NOWHERE: u32 = u32::MAX;

impl Signal {
    pub(crate) fn new(waker: impl Fn() + Send + Sync + 'static) -> Self {
        let process = Process::current();
        Self {
            wanted: AtomicU32::new(Wanted::Nothing as u32),
            open_in: AtomicU32::new(process.generation()),
            process,
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
        self.open_in.store(NOWHERE, Ordering::Relaxed);
    }

    /// Whether recorders refuse spans: after [`close`](Self::close), and in a fork of the process
    /// that made this.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.open_in.load(Ordering::Relaxed) != fork::generation()
    }

    /// Why it [`is_closed`](Self::is_closed).
    #[cold]
    pub(crate) fn why_closed(&self) -> Refused {
        if self.is_forked() {
            Refused::Forked
        } else {
            Refused::ShutDown
        }
    }

    /// Whether this is a fork of the process that made this, where no thread would be woken.
    pub(crate) fn is_forked(&self) -> bool {
        !self.process.is_current()
    }
}
