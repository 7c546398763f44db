//! The batches that were taken from the recorders and that not all destinations have sent.
//!
//! Each batch is stored once for all destinations, which only have a position in it. So a lagging
//! destination only costs the slabs that it has not sent.
//!
//! ```text
//!     first                    position of B       position of A  end
//!       │ released when all      │                   │           │
//!       ▼ positions are past it  ▼                   ▼           ▼
//!       [ batch │ batch │ batch │ batch │ … │ batch │ batch │ … ]
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use crate::buffer::{Batch, SLAB_WEIGHT};
use crate::exporter::request::{BatchNumber, Request};

/// Bytes of compressed bodies that are kept for lagging destinations.
const COMPRESSED_BYTES_MAX: usize = 4 << 20;

/// The batches that not all destinations have sent, oldest first.
pub(crate) struct Backlog {
    batches: VecDeque<Queued>,
    first: BatchNumber,
    /// The weight of all batches that were ever taken, and of the unused rests of their slabs.
    weight: u64,
    /// The bytes of all batches that were ever taken.
    bytes: u64,
    /// Requests of these batches with compressed bodies, for other destinations with the same compression.
    shared: Vec<Arc<Request>>,
}

/// A batch in the backlog, with its position.
struct Queued {
    batch: Batch,
    /// The weight and the bytes of all batches before it.
    weight: u64,
    bytes: u64,
}

impl Backlog {
    pub(crate) fn new() -> Self {
        Self {
            batches: VecDeque::new(),
            first: 0,
            weight: 0,
            bytes: 0,
            shared: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, batch: Batch, weight: u64) {
        let queued = Queued {
            weight: self.weight,
            bytes: self.bytes,
            batch,
        };
        self.weight += weight;
        self.bytes += queued.batch.len() as u64;
        self.batches.push_back(queued);
    }

    /// Adds the weight of slabs that stays unused after the batches that were pushed.
    pub(crate) fn note_unused(&mut self, weight: u64) {
        self.weight += weight;
    }

    /// Returns the number that the next batch will have.
    pub(crate) fn next_number(&self) -> BatchNumber {
        self.first + self.batches.len() as u64
    }

    /// Returns the batches from this number on.
    pub(crate) fn from(&self, number: BatchNumber) -> impl Iterator<Item = &Batch> {
        self.batches
            .range(self.index(number)..)
            .map(|queued| &queued.batch)
    }

    /// Returns the share of the buffer that the batches before this number occupy: a measure of
    /// distance.
    pub(crate) fn weight_before(&self, number: BatchNumber) -> u64 {
        let queued = self.batches.get(self.index(number));
        queued.map_or(self.weight, |queued| queued.weight)
    }

    /// Returns the share of the buffer that the batches from this number on occupy.
    pub(crate) fn weight_from(&self, number: BatchNumber) -> u64 {
        self.weight - self.weight_before(number)
    }

    /// Returns the bytes of the batches from this number on.
    pub(crate) fn bytes_from(&self, number: BatchNumber) -> u64 {
        let queued = self.batches.get(self.index(number));
        queued.map_or(0, |queued| self.bytes - queued.bytes)
    }

    /// Returns the number of batches from this number on that occupy this share of the buffer, at least
    /// one.
    pub(crate) fn fitting(&self, number: BatchNumber, share: u64) -> usize {
        let end = self.weight_before(number) + share;
        let batches = self.batches.range(self.index(number)..);
        // The weight before a batch's successor includes the batch.
        let fitting = batches.skip(1).take_while(|queued| queued.weight < end);
        fitting.count() + 1
    }

    /// Returns the weight of this many slabs.
    pub(crate) fn weight_of(slabs: usize) -> u64 {
        slabs as u64 * SLAB_WEIGHT
    }

    /// Releases the batches before this number.
    pub(crate) fn release(&mut self, before: BatchNumber) {
        let count = self.index(before);
        self.batches.drain(..count);
        self.first += count as u64;
        // Shared requests do not keep slabs that all destinations have sent.
        let first = self.first;
        self.shared.retain(|request| request.number >= first);
    }

    /// Keeps a request for other destinations, until all have sent its batches.
    pub(crate) fn share(&mut self, request: &Arc<Request>) {
        while self.shared_bytes() > COMPRESSED_BYTES_MAX {
            self.shared.remove(0);
        }
        self.shared.push(Arc::clone(request));
    }

    fn shared_bytes(&self) -> usize {
        let requests = self.shared.iter();
        requests.map(|request| request.compressed_bytes()).sum()
    }

    /// Returns a request that another destination has made of the batches from this number on.
    pub(crate) fn shared(&self, number: BatchNumber, bytes_max: usize) -> Option<Arc<Request>> {
        let fits =
            |request: &&Arc<Request>| request.number == number && request.body_bytes <= bytes_max;
        self.shared.iter().find(fits).cloned()
    }

    /// Returns the number of batches up to the next request that another destination has made.
    pub(crate) fn until_shared(&self, number: BatchNumber) -> usize {
        let next = self.shared.iter().map(|request| request.number);
        let next = next.filter(|next| *next > number).min();
        next.map_or(usize::MAX, |next| (next - number) as usize)
    }

    fn index(&self, number: BatchNumber) -> usize {
        debug_assert!(
            (self.first..=self.next_number()).contains(&number),
            "{number} is not here"
        );
        let index = number.saturating_sub(self.first) as usize;
        index.min(self.batches.len())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::buffer::Pool;

    #[test]
    fn batches_keep_their_numbers_and_weights_are_shares_of_slabs() {
        let pool = Pool::new(2, 0, 4096, 4).unwrap();
        let mut backlog = Backlog::new();
        let (mut writer, mut reader) = Pool::open(&pool).unwrap();
        for span in [&b"one"[..], b"four"] {
            let before = reader.weight_taken();
            writer.write(span);
            let batch = reader.take().unwrap();
            backlog.push(batch, reader.weight_taken() - before);
        }
        let (mut long, mut long_reader) = Pool::open(&pool).unwrap();
        long.write(&vec![0; pool.room_per_slab()]);
        let batch = long_reader.take().unwrap();
        backlog.push(batch, long_reader.weight_taken());

        assert_eq!((backlog.next_number(), backlog.from(1).count()), (3, 2));
        assert_eq!(&**backlog.from(1).next().unwrap(), b"four");
        let weights = [0, 1, 2, 3].map(|number| backlog.weight_before(number));
        let slab = Backlog::weight_of(1);
        assert_eq!(weights, [0, slab / 4, slab / 2, slab / 2 + slab]);
        let bytes = [0, 1, 2, 3].map(|number| backlog.bytes_from(number));
        let long_bytes = pool.room_per_slab() as u64;
        assert_eq!(bytes, [long_bytes + 7, long_bytes + 4, long_bytes, 0]);

        drop((writer, reader, long, long_reader));
        assert_eq!(pool.slabs_left(), 0);
        backlog.note_unused(slab / 2);
        backlog.release(2);
        assert_eq!((backlog.next_number(), backlog.from(2).count()), (3, 1));
        assert_eq!((backlog.weight_before(2), pool.slabs_left()), (slab / 2, 1));
        backlog.release(3);
        assert_eq!((backlog.next_number(), pool.slabs_left()), (3, 2));
        assert_eq!(
            (backlog.weight_before(3), backlog.bytes_from(3)),
            (2 * slab, 0)
        );
    }
}
