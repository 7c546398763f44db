//! A lock-free stack of indices: slabs, cells, pages and held traces that are free.

use crossbeam_utils::CachePadded;

use crate::buffer::prefetch::prefetch;
use crate::platform::sync::{AtomicU32, AtomicU64, Ordering};

/// A lock-free stack of indices.
///
/// Last in, first out: the slab freed last is the most likely to be in cache. The head carries a
/// tag that changes with every operation, so that a pop delayed between its load and its exchange
/// fails if the list changed meanwhile (the ABA problem).
pub(super) struct FreeList {
    /// Tag in the high half, index + 1 of the first free one in the low half (0: none).
    head: CachePadded<AtomicU64>,
    /// For each free one, index + 1 of the next one (0: none).
    next: Box<[AtomicU32]>,
}

impl FreeList {
    /// Creates a list for that many indices, none of which is free.
    pub(super) fn new(indices: usize) -> Self {
        Self {
            head: CachePadded::new(AtomicU64::new(0)),
            next: (0..indices).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Creates a list of which all indices are free, the lowest first.
    pub(super) fn full(indices: usize) -> Self {
        let next = |index| if index + 1 < indices { index + 2 } else { 0 };
        Self {
            head: CachePadded::new(AtomicU64::new(u64::from(indices > 0))),
            next: (0..indices)
                .map(|index| AtomicU32::new(next(index) as u32))
                .collect(),
        }
    }

    pub(super) fn pop(&self) -> Option<u32> {
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let index = (head as u32).checked_sub(1)?;
            let next = self.next[index as usize].load(Ordering::Relaxed);
            match self.exchange(head, next) {
                Ok(_) => return Some(index),
                Err(seen) => head = seen,
            }
        }
    }

    /// Returns the index that [`pop`](Self::pop) would return now.
    pub(super) fn peek(&self) -> Option<u32> {
        (self.head.load(Ordering::Relaxed) as u32).checked_sub(1)
    }

    /// Starts to load the cache lines that [`peek`](Self::peek) and [`link`](Self::link) read.
    pub(super) fn prefetch(&self) {
        prefetch(&self.head);
        prefetch(&self.next);
    }

    pub(super) fn push(&self, index: u32) {
        self.push_all(&[index]);
    }

    /// Frees all of these at once.
    pub(super) fn push_all(&self, indices: &[u32]) {
        let (Some(first), Some(last)) = (indices.first(), indices.last()) else {
            return;
        };
        for pair in indices.windows(2) {
            self.link(pair[0]).store(pair[1] + 1, Ordering::Relaxed);
        }
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            self.link(*last).store(head as u32, Ordering::Relaxed);
            match self.exchange(head, first + 1) {
                Ok(_) => return,
                Err(seen) => head = seen,
            }
        }
    }

    /// Returns the link of an index. The thread that has taken the index may use it for another list.
    pub(super) fn link(&self, index: u32) -> &AtomicU32 {
        &self.next[index as usize]
    }

    /// Counts the free ones. To be called while no one pushes or pops.
    pub(super) fn len(&self) -> usize {
        let mut next = self.head.load(Ordering::Acquire) as u32;
        let mut len = 0;
        while let Some(index) = next.checked_sub(1) {
            len += 1;
            next = self.link(index).load(Ordering::Relaxed);
        }
        len
    }

    /// Replaces the head `seen` by one that points to `first` and has the next tag.
    fn exchange(&self, seen: u64, first: u32) -> Result<u64, u64> {
        let tag = (seen >> 32).wrapping_add(1) << 32;
        self.head.compare_exchange_weak(
            seen,
            tag | u64::from(first),
            Ordering::AcqRel,
            Ordering::Acquire,
        )
    }
}
