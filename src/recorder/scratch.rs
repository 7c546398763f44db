//! The memory for a recorder's open spans, all of it allocated at its creation.

use std::mem;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::otlp::Scratch;
use crate::platform::fork::Process;

/// Returns the memory of a span that ended on another thread to its recorder.
///
/// In a fork the channel is never used: a thread that does not exist there may hold its lock.
#[derive(Clone)]
pub(super) struct Home(Arc<Channel>);

struct Channel {
    sender: Sender<Scratch>,
    process: Process,
}

impl Home {
    /// Returns the memory to the recorder, or frees it if the recorder is gone.
    #[cold]
    pub(super) fn give_back(&self, scratch: Scratch) {
        if self.is_here() {
            // The channel has room for all memory of the recorder, so it is never full.
            drop(self.0.sender.try_send(scratch));
        }
    }

    fn is_here(&self) -> bool {
        self.0.process.is_current()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if !self.process.is_current() {
            mem::forget(self.sender.clone());
        }
    }
}

pub(super) struct ScratchPool {
    free: Vec<Scratch>,
    /// Memory returned by other threads. Has room for all of the recorder's memory.
    returned: Receiver<Scratch>,
    home: Home,
}

impl ScratchPool {
    /// Allocates memory for `spans` spans, `bytes` bytes each.
    pub(super) fn new(spans: usize, bytes: usize) -> Self {
        let (sender, returned) = bounded(spans);
        Self {
            free: (0..spans).map(|_| Scratch::new(bytes)).collect(),
            returned,
            home: Home(Arc::new(Channel {
                sender,
                process: Process::current(),
            })),
        }
    }

    /// Takes the memory that was used last; `None` if all is in use.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Scratch> {
        self.free.pop().or_else(|| self.take_returned())
    }

    #[cold]
    fn take_returned(&mut self) -> Option<Scratch> {
        let is_here = self.home.is_here();
        is_here.then(|| self.returned.try_recv().ok()).flatten()
    }

    #[inline]
    pub(super) fn give_back(&mut self, scratch: Scratch) {
        self.free.push(scratch);
    }

    pub(super) fn home(&self) -> Home {
        self.home.clone()
    }
}

impl Drop for ScratchPool {
    fn drop(&mut self) {
        if !self.home.is_here() {
            mem::forget(self.returned.clone());
        }
    }
}
