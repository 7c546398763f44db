//! The memory of a recorder's open spans: as much as it will ever have, from the start.

use std::mem;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::otlp::Scratch;
use crate::platform::fork::Process;

/// Where a span that ended on another thread gives its memory back to.
///
/// In a fork the channel is never touched: another thread may have been at work on it, which is not
/// there to finish.
#[derive(Clone)]
pub(super) struct Home(Arc<Channel>);

struct Channel {
    sender: Sender<Scratch>,
    process: Process,
}

impl Home {
    /// The recorder may be gone: then the memory is freed.
    #[cold]
    pub(super) fn give_back(&self, scratch: Scratch) {
        if self.is_here() {
            // It has room for all that came from there.
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
    /// What other threads gave back. It has room for all there is.
    returned: Receiver<Scratch>,
    home: Home,
}

impl ScratchPool {
    /// Memory of `bytes` each for `spans` spans.
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

    /// The memory used last, if there is any left.
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
