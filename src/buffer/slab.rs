//! A slab: a block of memory of fixed size with a self-describing header, then encoded spans. Here
//! is its reading side; `lane_writer` has the writing side.
//!
//! The header's `committed` word is the whole protocol. The writer writes only after the committed
//! bytes and publishes with one release store. Readers read only the committed bytes, after an
//! acquire load. The seal, the last store to that word, is the writer's last access to the slab.

#![allow(
    unsafe_code,
    reason = "reads the part of a block that its writer no longer writes"
)]

use std::fmt;
use std::ops::{Deref, Range};

use crate::buffer::header::{Committed, Header};
use crate::buffer::pool::Pool;
use crate::platform::sync::{Arc, Ordering};

/// Weight of a whole slab. Weights measure how much of the buffer a batch occupies.
pub(crate) const SLAB_WEIGHT: u64 = 1 << 20;

/// A counted reference to a slab of `pool`. Dropping the last one frees the slab.
struct Holder {
    pool: Arc<Pool>,
    index: u32,
}

impl Holder {
    fn header(&self) -> &Header {
        self.pool.header(self.index)
    }

    /// Returns the slab's bytes in a committed range.
    fn spans(&self, range: Range<usize>) -> &[u8] {
        self.pool.probe(self.index).reads(range.clone());
        // SAFETY: the end of `range` was loaded from the committed word with acquire ordering, so
        // its bytes were written before. They are not written again while this holder keeps the
        // slab out of the pool.
        unsafe {
            std::slice::from_raw_parts(
                self.pool.spans(self.index).add(range.start).as_ptr(),
                range.len(),
            )
        }
    }
}

impl Clone for Holder {
    fn clone(&self) -> Self {
        // Relaxed suffices: the holder being cloned keeps the slab from being freed meanwhile.
        self.header().holders.fetch_add(1, Ordering::Relaxed);
        Self {
            pool: Arc::clone(&self.pool),
            index: self.index,
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Release orders this holder's reads and writes before the slab's next use. Acquire does the
        // same, for the last holder, with those of all other holders. An acquire fence would suffice,
        // but ThreadSanitizer ignores fences.
        if self.header().holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.pool.free(self.index);
        }
    }
}

/// The only reading end of a slab, owned by the network thread.
pub(crate) struct SlabReader {
    taken: Committed,
    holder: Holder,
}

impl SlabReader {
    /// Creates the reader of a slab whose writer has published it, with one holder.
    pub(super) fn new(pool: &Arc<Pool>, index: u32) -> Self {
        Self {
            taken: Committed::default(),
            holder: Holder {
                pool: Arc::clone(pool),
                index,
            },
        }
    }

    /// Returns the number of spans committed and not yet taken.
    pub(crate) fn spans_waiting(&self) -> u32 {
        self.committed().spans() - self.taken.spans()
    }

    /// Takes all spans committed since the last take; `None` if there are none.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let committed = self.committed();
        let range = self.taken.bytes()..committed.bytes();
        let spans = committed.spans() - self.taken.spans();
        if spans == 0 {
            return None;
        }
        self.taken = committed;
        Some(Batch {
            holder: self.holder.clone(),
            range,
            spans,
        })
    }

    /// Returns whether the slab is sealed and all of its spans were taken, so that the reader can
    /// be dropped.
    pub(crate) fn is_exhausted(&self) -> bool {
        let committed = self.committed();
        committed.is_sealed() && committed.spans() == self.taken.spans()
    }

    /// Returns whether the writer is gone, so that no more spans will be committed.
    pub(crate) fn is_sealed(&self) -> bool {
        self.committed().is_sealed()
    }

    /// Returns the weight of the spans taken so far: their share of the slab's bytes or of its
    /// maximum number of spans, whichever is more.
    pub(crate) fn weight_taken(&self) -> u64 {
        let pool = &self.holder.pool;
        let bytes = self.taken.bytes() as u64 * SLAB_WEIGHT / pool.room_per_slab() as u64;
        let spans = u64::from(self.taken.spans()) * SLAB_WEIGHT;
        bytes.max(spans / u64::from(pool.spans_per_slab()))
    }

    fn committed(&self) -> Committed {
        Committed(self.holder.header().committed.load(Ordering::Acquire))
    }
}

impl Drop for SlabReader {
    fn drop(&mut self) {
        if !self.is_sealed() {
            // The network thread ends before the recorder, which may still write to the slab. One
            // holder is left for ever, so that the slab is not used again; its memory is freed with
            // the pool's.
            self.holder.header().holders.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Finished spans: a committed range of one slab, as `ScopeSpans.spans` elements.
///
/// Cloning shares the bytes. The slab returns to its pool when the last holder is dropped.
#[derive(Clone)]
pub(crate) struct Batch {
    holder: Holder,
    range: Range<usize>,
    spans: u32,
}

impl Batch {
    /// Returns the number of spans; never 0.
    pub(crate) fn spans(&self) -> u64 {
        u64::from(self.spans)
    }

    /// Splits the batch after its first `spans` spans, which take `bytes` bytes.
    ///
    /// # Panics
    /// If the batch has fewer spans or bytes.
    pub(crate) fn split_at(&self, spans: u32, bytes: usize) -> (Self, Self) {
        let middle = self.range.start + bytes;
        assert!(spans <= self.spans && middle <= self.range.end);
        let part = |range, spans| Self {
            holder: self.holder.clone(),
            range,
            spans,
        };
        (
            part(self.range.start..middle, spans),
            part(middle..self.range.end, self.spans - spans),
        )
    }

    /// Returns the id of the spans' instrumentation scope; 0 is the collector's own.
    pub(crate) fn scope(&self) -> u32 {
        self.holder.header().scope.load(Ordering::Relaxed)
    }
}

impl Deref for Batch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.holder.spans(self.range.clone())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("slab", &self.holder.index)
            .field("range", &self.range)
            .field("spans", &self.spans)
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::SlabReader;
    use crate::buffer::{LaneWriter, Pool, SlabQueue, lane};

    #[test]
    fn a_batch_has_the_spans_committed_since_the_last_one() {
        let pool = Pool::new(1, 0, 4096, 100).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool).unwrap();
        assert!(reader.take().is_none());

        for text in ["one", "two"] {
            writer.write(text.as_bytes());
        }
        assert_eq!(reader.spans_waiting(), 2);
        let batch = reader.take().unwrap();
        assert_eq!((&*batch, batch.spans()), (&b"onetwo"[..], 2));
        assert!(!reader.is_exhausted());

        writer.write(b"tres");
        writer.seal();
        assert!(!reader.is_exhausted());
        assert_eq!(&*reader.take().unwrap(), b"tres");
        assert!(reader.is_exhausted());
    }

    #[test]
    fn a_batch_is_split_between_spans_and_its_parts_share_the_slab() {
        let pool = Pool::new(1, 0, 4096, 10).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool).unwrap();
        for text in ["zero", "one", "three"] {
            writer.write(text.as_bytes());
        }
        let batch = reader.take().unwrap();
        let (first, rest) = batch.split_at(1, 4);
        let (second, third) = rest.split_at(1, 3);
        drop((writer, reader, batch, rest));
        let parts = [first, second, third];
        let texts: Vec<_> = parts.iter().map(|part| (&**part, part.spans())).collect();
        assert_eq!(texts, [(&b"zero"[..], 1), (b"one", 1), (b"three", 1)]);
        assert_eq!(pool.slabs_left(), 0);
        drop(parts);
        assert_eq!(pool.slabs_left(), 1);
    }

    #[test]
    fn a_sealed_slab_is_free_when_its_last_holder_is_dropped() {
        let pool = Pool::new(1, 0, 4096, 10).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool).unwrap();
        writer.write(&[1]);
        let batch = reader.take().unwrap();
        let second = batch.clone();
        drop((writer, reader, batch));
        assert_eq!(pool.slabs_left(), 0);
        assert!(Pool::open(&pool).is_none());
        drop(second);
        assert!(pool.is_complete());
        assert!(Pool::open(&pool).is_some());
    }

    #[test]
    fn a_slab_whose_reader_is_dropped_before_the_seal_is_not_used_again() {
        let pool = Pool::new(2, 0, 4096, 10).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool).unwrap();
        writer.write(&[1; SPAN_BYTES]);
        let batch = reader.take().unwrap();
        drop(reader);
        // The writer still uses it.
        writer.write(&[2; SPAN_BYTES]);
        assert_eq!(*batch, [1; SPAN_BYTES]);
        drop((writer, batch));
        assert_eq!(pool.slabs_left(), 1);
        // There is one slab left to use.
        drop(Pool::open(&pool).unwrap());
        assert!(Pool::open(&pool).is_some());
    }

    #[test]
    fn a_slab_that_another_thread_has_read_can_be_written_again() {
        let pool = Pool::new(1, 0, 4096, 10).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool).unwrap();
        writer.write(&[1; SPAN_BYTES]);
        // Relaxed, to order nothing: the seal and the count of holders alone must do that.
        let (is_sealed, is_read) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|threads| {
            let read = threads.spawn(|| {
                let batch = reader.take().unwrap();
                assert_eq!(*batch, [1; SPAN_BYTES]);
                while !is_sealed.load(Ordering::Relaxed) || !reader.is_sealed() {
                    thread::yield_now();
                }
                drop((batch, reader));
                is_read.store(true, Ordering::Relaxed);
            });
            drop(writer);
            is_sealed.store(true, Ordering::Relaxed);
            while !is_read.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            // The count of sealed slabs may be seen late, too.
            let (mut again, _reader) = loop {
                match Pool::open(&pool) {
                    Some(opened) => break opened,
                    None => thread::yield_now(),
                }
            };
            again.write(&[2; SPAN_BYTES]);
            read.join().unwrap();
        });
    }

    const WRITERS: u8 = 2;
    const SLABS: usize = if cfg!(miri) { 30 } else { 2000 };
    const SPANS: usize = 3;
    const SPAN_BYTES: usize = 100;

    #[test]
    fn slabs_pass_between_threads_and_are_reused() {
        let pool = Pool::new(2, usize::from(WRITERS), 4096, SPANS as u32).unwrap();
        thread::scope(|threads| {
            for number in 1..=WRITERS {
                assert!(pool.join());
                let (writer, queue) = lane(&pool, 0);
                threads.spawn(move || write_slabs(writer, number));
                threads.spawn(move || read_slabs(queue, number));
            }
        });
        assert!(pool.is_complete());
    }

    fn write_slabs(mut writer: LaneWriter, number: u8) {
        for slab in 0..SLABS {
            while !writer.is_open() && !writer.open(0) {
                thread::yield_now();
            }
            // Some slabs are sealed by their last span, some before.
            let is_whole = slab % 3 > 0;
            for span in 0..SPANS - usize::from(!is_whole) {
                writer.write(&[number + WRITERS * span as u8; SPAN_BYTES]);
            }
            if !is_whole {
                writer.seal();
            }
        }
    }

    fn read_slabs(mut queue: SlabQueue, number: u8) {
        let mut slab = 0;
        while slab < SLABS {
            let Some(mut reader) = queue.pop() else {
                thread::yield_now();
                continue;
            };
            read_slab(&mut reader, number, SPANS - usize::from(slab % 3 == 0));
            slab += 1;
        }
    }

    fn read_slab(reader: &mut SlabReader, number: u8, spans: usize) {
        let mut bytes = Vec::new();
        while !reader.is_exhausted() {
            match reader.take() {
                Some(batch) => bytes.extend_from_slice(&batch),
                None => thread::yield_now(),
            }
        }
        let mut expected = Vec::new();
        for span in 0..spans {
            expected.extend([number + WRITERS * span as u8; SPAN_BYTES]);
        }
        assert_eq!(bytes, expected);
    }
}
