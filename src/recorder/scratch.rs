//! The memory of a recorder's open spans: as much as it will ever have, from the start.

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::otlp::Scratch;

/// Where a span that ended on another thread gives its memory back to.
pub(super) type Home = Sender<Scratch>;

pub(super) struct ScratchPool {
    free: Vec<Scratch>,
    /// What other threads gave back. It has room for all there is.
    returned: Receiver<Scratch>,
    home: Home,
}

impl ScratchPool {
    /// Memory of `bytes` each for `spans` spans.
    pub(super) fn new(spans: usize, bytes: usize) -> Self {
        let (home, returned) = bounded(spans);
        Self {
            free: (0..spans).map(|_| Scratch::new(bytes)).collect(),
            returned,
            home,
        }
    }

    /// The memory used last, if there is any left.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Scratch> {
        self.free.pop().or_else(|| self.returned.try_recv().ok())
    }

    #[inline]
    pub(super) fn give_back(&mut self, scratch: Scratch) {
        self.free.push(scratch);
    }

    pub(super) fn home(&self) -> Home {
        self.home.clone()
    }
}
