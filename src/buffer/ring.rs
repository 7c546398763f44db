//! A bounded single-producer single-consumer queue.
//!
//! Each end is unique by type: `push` and `pop` take `&mut self`, and neither end is `Clone`.

#![allow(
    unsafe_code,
    reason = "two threads share slots, each owned by one of them at a time"
)]

use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::buffer::prefetch::prefetch;
use crate::platform::sync::{Arc, AtomicBool, AtomicU64, Ordering, UnsafeCell};

/// Creates a ring for at least `capacity` items.
pub(crate) fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let slots = capacity.next_power_of_two();
    let buffer = Arc::new(RingBuffer {
        slots: (0..slots)
            .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
            .collect(),
        head: CachePadded::new(AtomicU64::new(0)),
        tail: CachePadded::new(AtomicU64::new(0)),
        abandoned: AtomicBool::new(false),
    });
    let producer = Producer {
        buffer: Arc::clone(&buffer),
        head_seen: 0,
        tail: 0,
    };
    (producer, Consumer { buffer, head: 0 })
}

/// Memory of a ring, shared by its producer and its consumer.
struct RingBuffer<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Number of items popped so far; written by the consumer only.
    head: CachePadded<AtomicU64>,
    /// Number of items pushed so far; written by the producer only.
    tail: CachePadded<AtomicU64>,
    /// Whether the producer was dropped, so that no more items will be pushed.
    abandoned: AtomicBool,
}

// SAFETY: slots in `head..tail` belong to the consumer, all others to the producer. Both indices
// are advanced by release stores after the slot was read or written.
unsafe impl<T: Send> Send for RingBuffer<T> {}
// SAFETY: as above; each end is unique.
unsafe impl<T: Send> Sync for RingBuffer<T> {}

impl<T> RingBuffer<T> {
    fn slot(&self, position: u64) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    /// Moves the item at `position` out.
    ///
    /// # Safety
    /// `position` lies in `head..tail`, and `head` is advanced past it before it could be read
    /// again.
    unsafe fn read(&self, position: u64) -> T {
        self.slot(position).with(|slot| {
            // SAFETY: the producer wrote the item before it advanced `tail` past it.
            unsafe { (*slot).assume_init_read() }
        })
    }
}

impl<T> Drop for RingBuffer<T> {
    fn drop(&mut self) {
        let tail = self.tail.load(Ordering::Relaxed);
        for position in self.head.load(Ordering::Relaxed)..tail {
            // SAFETY: both ends are gone, so each item that was not popped is dropped once, here.
            drop(unsafe { self.read(position) });
        }
    }
}

/// The pushing end of a ring.
pub(crate) struct Producer<T> {
    buffer: Arc<RingBuffer<T>>,
    /// `head` as last loaded. While it implies free slots, the consumer's cache line is not
    /// touched.
    head_seen: u64,
    tail: u64,
}

impl<T> Producer<T> {
    /// Appends an item, or returns it if the ring is full.
    pub(crate) fn push(&mut self, item: T) -> Result<(), T> {
        if !self.has_room() {
            return Err(item);
        }
        self.buffer.slot(self.tail).with_mut(|slot| {
            // SAFETY: the slot is not in `head..tail`, so it belongs to the producer and is empty.
            unsafe { (*slot).write(item) };
        });
        self.tail += 1;
        self.buffer.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Starts to load what [`prefetch_next`](Self::prefetch_next) and [`push`](Self::push) need.
    pub(super) fn prefetch(&self) {
        prefetch(&self.buffer.slots);
        prefetch(&self.buffer.tail);
    }

    /// Starts to load the cache lines that the next [`push`](Self::push) writes.
    pub(super) fn prefetch_next(&self) {
        prefetch(self.buffer.slot(self.tail));
        prefetch(&self.buffer.tail);
    }

    /// Returns whether the next [`push`](Self::push) succeeds.
    pub(super) fn has_room(&mut self) -> bool {
        let capacity = self.buffer.slots.len() as u64;
        if self.tail - self.head_seen == capacity {
            self.head_seen = self.buffer.head.load(Ordering::Acquire);
        }
        self.tail - self.head_seen < capacity
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.buffer.abandoned.store(true, Ordering::Release);
    }
}

/// The popping end of a ring.
pub(crate) struct Consumer<T> {
    buffer: Arc<RingBuffer<T>>,
    head: u64,
}

impl<T> Consumer<T> {
    /// Removes and returns the oldest item; `None` if the ring is empty.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.buffer.tail.load(Ordering::Acquire) == self.head {
            return None;
        }
        // SAFETY: `head < tail`, and `head` is advanced past the item right below.
        let item = unsafe { self.buffer.read(self.head) };
        self.head += 1;
        self.buffer.head.store(self.head, Ordering::Release);
        Some(item)
    }

    /// Returns whether the producer was dropped. If so, items popped from now on are the last
    /// ones.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.buffer.abandoned.load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::ring;

    #[test]
    fn items_are_popped_in_order_and_a_full_ring_returns_the_item() {
        let (mut producer, mut consumer) = ring(2);
        for round in 0..5 {
            assert_eq!(producer.push(round), Ok(()));
            assert_eq!(producer.push(round + 100), Ok(()));
            assert_eq!(producer.push(0), Err(0));
            assert_eq!(consumer.pop(), Some(round));
            assert_eq!(consumer.pop(), Some(round + 100));
            assert_eq!(consumer.pop(), None);
        }
    }

    #[test]
    fn items_that_were_not_popped_are_dropped() {
        let item = Arc::new(());
        let (mut producer, mut consumer) = ring(4);
        for _ in 0..3 {
            producer.push(Arc::clone(&item)).unwrap();
        }
        consumer.pop();
        drop(producer);
        assert!(consumer.is_abandoned());
        drop(consumer);
        assert_eq!(Arc::strong_count(&item), 1);
    }
}
