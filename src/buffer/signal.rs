//! The only system call of the record path: waking the network thread.
//!
//! Before it sleeps, the network thread stores which event is to wake it. A recorder that has just
//! published something calls [`Signal::notify`], which makes the system call only if the network
//! thread waits for that event, and at most once per sleep.

use crossbeam_utils::CachePadded;

use crate::platform::fork::{self, Process};
use crate::platform::sync::{AtomicU32, Ordering, fence};
use crate::stats::refused::Refused;

/// The event that wakes the network thread. A higher one includes the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub(crate) enum WakeOn {
    /// No event: the thread is awake, or could do nothing about new spans.
    Nothing = 0,
    /// Few slabs are free.
    FewSlabs = 1,
    /// Twice the spans of a batch wait.
    TwoBatches = 2,
    /// A batch is complete.
    Batch = 3,
}

impl WakeOn {
    /// Returns the event of this many spans waiting, at least one batch.
    pub(crate) fn complete(waiting: u64, batch_size: u32) -> Self {
        match waiting >= 2 * u64::from(batch_size) {
            true => Self::TwoBatches,
            false => Self::Batch,
        }
    }
}

/// Wake-up of the network thread by recorders, and the end of recording.
#[repr(C)]
pub(crate) struct Signal {
    /// Generation of the process in which recorders may record: the one that created the signal,
    /// or [`NO_PROCESS`]. Read by every span.
    open_in: AtomicU32,
    process: Process,
    sleeper: Box<Sleeper>,
}

/// The network thread's part of a [`Signal`]. Not beside `open_in`: it is written before and after each
/// sleep.
struct Sleeper {
    /// A [`WakeOn`].
    awaited: CachePadded<AtomicU32>,
    waker: Box<dyn Fn() + Send + Sync>,
}

/// A generation that no process has.
const NO_PROCESS: u32 = u32::MAX;

impl Signal {
    pub(crate) fn new(waker: impl Fn() + Send + Sync + 'static) -> Self {
        let process = Process::current();
        Self {
            open_in: AtomicU32::new(process.generation()),
            process,
            sleeper: Box::new(Sleeper {
                awaited: CachePadded::new(AtomicU32::new(WakeOn::Nothing as u32)),
                waker: Box::new(waker),
            }),
        }
    }

    /// Wakes the network thread if it waits for `event`. Called by recorders.
    #[cold]
    pub(crate) fn notify(&self, event: WakeOn) {
        // Pairs with the fence in `wake_on`: either the network thread sees what was published
        // before this call, or this load sees the event that it waits for.
        fence(Ordering::SeqCst);
        let awaited = &self.sleeper.awaited;
        if awaited.load(Ordering::Relaxed) >= event as u32
            && awaited.swap(WakeOn::Nothing as u32, Ordering::Relaxed) != 0
        {
            self.wake();
        }
    }

    /// Sets the event that wakes the network thread, which calls this before it checks the rings
    /// for the last time before a sleep, and with [`WakeOn::Nothing`] after the sleep. Returns
    /// whether a recorder has called the waker since the last call.
    pub(crate) fn wake_on(&self, event: WakeOn) -> bool {
        let before = (self.sleeper.awaited).swap(event as u32, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        before == WakeOn::Nothing as u32
    }

    /// Wakes the network thread unconditionally. Not for the record path.
    pub(crate) fn wake(&self) {
        (self.sleeper.waker)();
    }

    /// Makes recorders refuse spans from now on.
    pub(crate) fn close(&self) {
        self.open_in.store(NO_PROCESS, Ordering::Relaxed);
        // Pairs with the fence in `is_closed_for_sure`: either that sees the signal closed, or what
        // was published before it is seen after this call.
        fence(Ordering::SeqCst);
    }

    /// As [`is_closed`](Self::is_closed), for a recorder that has just published something.
    pub(crate) fn is_closed_for_sure(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_closed()
    }

    /// Returns whether recorders refuse spans: after [`close`](Self::close), and in a fork of the
    /// process that created the signal.
    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        self.open_in.load(Ordering::Relaxed) != fork::generation()
    }

    /// Returns why recorders refuse spans, if [`is_closed`](Self::is_closed).
    #[cold]
    pub(crate) fn why_closed(&self) -> Refused {
        if self.is_forked() {
            Refused::Forked
        } else {
            Refused::ShutDown
        }
    }

    /// Returns whether this process is a fork of the one that created the signal. There is no
    /// network thread in a fork.
    pub(crate) fn is_forked(&self) -> bool {
        !self.process.is_current()
    }
}
