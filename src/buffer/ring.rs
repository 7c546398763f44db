//! A bounded single-producer single-consumer queue.
//!
//! Both ends are unique by type: `push` and `pop` take `&mut self` and neither end is `Clone`.

#![allow(
    unsafe_code,
    reason = "two threads share slots that one of them owns at a time"
)]

use std::mem::MaybeUninit;

use crossbeam_utils::CachePadded;

use crate::platform::sync::{Arc, AtomicBool, AtomicU64, Ordering, UnsafeCell};

/// A ring for at least `capacity` items.
pub(crate) fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let slots = capacity.next_power_of_two();
    let shared = Arc::new(Shared {
        slots: (0..slots)
            .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
            .collect(),
        head: CachePadded::new(AtomicU64::new(0)),
        tail: CachePadded::new(AtomicU64::new(0)),
        abandoned: AtomicBool::new(false),
    });
    let producer = Producer {
        shared: Arc::clone(&shared),
        head_seen: 0,
        tail: 0,
    };
    (producer, Consumer { shared, head: 0 })
}

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// How many items were popped; written by the consumer only.
    head: CachePadded<AtomicU64>,
    /// How many items were pushed; written by the producer only.
    tail: CachePadded<AtomicU64>,
    /// The producer is gone and will push nothing more.
    abandoned: AtomicBool,
}

// SAFETY: slots in `head..tail` belong to the consumer, the others to the producer; both
// indices move with release stores after the slot was read or written.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above; the ends are unique.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, position: u64) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position as usize & (self.slots.len() - 1)]
    }

    /// Moves the item at `position` out.
    ///
    /// # Safety
    /// `position` lies in `head..tail`, and `head` is moved past it before anyone reads it again.
    unsafe fn read(&self, position: u64) -> T {
        self.slot(position).with(|slot| {
            // SAFETY: the producer wrote the item before it moved `tail` past it.
            unsafe { (*slot).assume_init_read() }
        })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let tail = self.tail.load(Ordering::Relaxed);
        for position in self.head.load(Ordering::Relaxed)..tail {
            // SAFETY: both ends are gone; what was not popped is dropped once, here.
            drop(unsafe { self.read(position) });
        }
    }
}

/// The end that pushes.
pub(crate) struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// `head` as last read: while it shows room, the consumer's cache line is left alone.
    head_seen: u64,
    tail: u64,
}

impl<T> Producer<T> {
    /// Appends an item, or gives it back if the ring is full.
    pub(crate) fn push(&mut self, item: T) -> Result<(), T> {
        if !self.has_room() {
            return Err(item);
        }
        self.shared.slot(self.tail).with_mut(|slot| {
            // SAFETY: the slot is not in `head..tail`, so it is the producer's, and empty.
            unsafe { (*slot).write(item) };
        });
        self.tail += 1;
        self.shared.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    fn has_room(&mut self) -> bool {
        let capacity = self.shared.slots.len() as u64;
        if self.tail - self.head_seen == capacity {
            self.head_seen = self.shared.head.load(Ordering::Acquire);
        }
        self.tail - self.head_seen < capacity
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, Ordering::Release);
    }
}

/// The end that pops.
pub(crate) struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: u64,
}

impl<T> Consumer<T> {
    /// Removes the oldest item.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.shared.tail.load(Ordering::Acquire) == self.head {
            return None;
        }
        // SAFETY: `head < tail`, and `head` moves past the item right below.
        let item = unsafe { self.shared.read(self.head) };
        self.head += 1;
        self.shared.head.store(self.head, Ordering::Release);
        Some(item)
    }

    /// Whether the producer is gone: once this was true, what `pop` gives is all there will be.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.shared.abandoned.load(Ordering::Acquire)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::ring;

    #[test]
    fn gives_items_in_order_and_refuses_when_full() {
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
    fn drops_what_was_not_popped() {
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
