//! A slab: a block of memory of fixed size with a self-describing header, then encoded spans.
//!
//! The header's `committed` word is the whole protocol. The writer writes only after the committed
//! bytes and publishes with one release store. Readers read only the committed bytes, after an
//! acquire load.

#![allow(
    unsafe_code,
    reason = "two threads share a block, each with exclusive use of one part"
)]

use std::fmt;
use std::ops::{Deref, Range};
use std::ptr::NonNull;
use std::time::Instant;

use crate::buffer::header::Header;
use crate::buffer::pool::Pool;
use crate::otlp::SPILL;
use crate::platform::sync::{Arc, Ordering};

/// Weight of a whole slab. Weights measure how much of the buffer a batch occupies.
pub(crate) const SLAB_WEIGHT: u64 = 1 << 20;

/// A slab's progress in one word, so that one store publishes it: bit 63 is set when the slab is
/// sealed, bits 32..63 are the number of spans, bits 0..32 their bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Committed(u64);

impl Committed {
    const SEALED: u64 = 1 << 63;
    const ONE_SPAN: u64 = 1 << 32;

    fn bytes(self) -> usize {
        self.0 as u32 as usize
    }

    fn spans(self) -> u32 {
        (self.0 >> 32) as u32 & (u32::MAX >> 1)
    }

    fn is_sealed(self) -> bool {
        self.0 & Self::SEALED != 0
    }

    fn with_span(self, bytes: usize) -> Self {
        Self(self.0 + Self::ONE_SPAN + bytes as u64)
    }

    fn sealed(self) -> Self {
        Self(self.0 | Self::SEALED)
    }
}

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

impl Pool {
    /// Opens a free slab for spans of `scope`, the first of which ended at `first_time` (Unix
    /// nanoseconds). Returns `None` if too many slabs wait for delivery.
    pub(crate) fn open(
        pool: &Arc<Self>,
        scope: u32,
        first_time: u64,
    ) -> Option<(SlabWriter, SlabReader)> {
        let index = pool.take()?;
        Some(open(pool, index, scope, first_time))
    }

    /// Opens a slab as [`open`](Self::open) does, but waits for a free one until `deadline` or until
    /// `is_cancelled` returns true.
    pub(crate) fn open_by(
        pool: &Arc<Self>,
        scope: u32,
        first_time: u64,
        deadline: Instant,
        is_cancelled: impl Fn() -> bool,
    ) -> Option<(SlabWriter, SlabReader)> {
        let opened = pool.wait(deadline, || match Self::open(pool, scope, first_time) {
            None if is_cancelled() => Some(None),
            None => None,
            opened => Some(opened),
        });
        opened.flatten()
    }
}

/// Creates both ends of the slab `index`, which was just taken from the free slabs of `pool`.
fn open(pool: &Arc<Pool>, index: u32, scope: u32, first_time: u64) -> (SlabWriter, SlabReader) {
    let header = pool.header(index);
    debug_assert!(header.is_known());
    header.scope.store(scope, Ordering::Relaxed);
    header.first_time.store(first_time, Ordering::Relaxed);
    header.last_time.store(0, Ordering::Relaxed);
    header.committed.store(0, Ordering::Relaxed);
    header.holders.store(2, Ordering::Relaxed);
    let holder = || Holder {
        pool: Arc::clone(pool),
        index,
    };
    let writer = SlabWriter {
        tail: pool.spans(index),
        room: pool.room_per_slab(),
        spans_left: pool.spans_per_slab(),
        committed: Committed::default(),
        holder: holder(),
    };
    let reader = SlabReader {
        taken: Committed::default(),
        holder: holder(),
    };
    (writer, reader)
}

/// The only writing end of a slab, owned by one recorder. Dropping it seals the slab.
pub(crate) struct SlabWriter {
    /// Address of the next span.
    tail: NonNull<u8>,
    /// Free bytes from `tail` on, without the spill.
    room: usize,
    spans_left: u32,
    committed: Committed,
    holder: Holder,
}

// SAFETY: only the writer writes to the slab's free room, on whichever thread it is. `tail` points
// into memory that the holder's pool keeps alive.
unsafe impl Send for SlabWriter {}

impl SlabWriter {
    /// Returns the free room, whose last [`SPILL`] bytes cannot be committed; `None` if the slab
    /// has its maximum number of spans.
    #[inline]
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        if self.spans_left == 0 {
            return None;
        }
        // SAFETY: `tail..tail + room + SPILL` lies within the slab, was initialised when the pool
        // was created, and is used by this writer alone: `commit` removes the committed bytes from
        // this range before a reader can see them.
        Some(unsafe { std::slice::from_raw_parts_mut(self.tail.as_ptr(), self.room + SPILL) })
    }

    /// Publishes one span: the first `bytes` bytes of the free room.
    ///
    /// # Panics
    /// If `bytes` exceeds the [`room`](Self::room), or the slab has its maximum number of spans.
    #[inline]
    pub(crate) fn commit(&mut self, bytes: usize) {
        assert!(self.spans_left > 0);
        assert!(bytes <= self.room);
        let start = self.committed.bytes();
        self.holder
            .pool
            .probe(self.holder.index)
            .writes(start..start + bytes);
        self.committed = self.committed.with_span(bytes);
        // SAFETY: `bytes <= room`, so the new tail is within the slab or one past its end.
        self.tail = unsafe { self.tail.add(bytes) };
        self.room -= bytes;
        self.spans_left -= 1;
        self.holder
            .header()
            .committed
            .store(self.committed.0, Ordering::Release);
    }

    /// Writes and publishes one span.
    #[cfg(test)]
    pub(crate) fn write(&mut self, span: &[u8]) {
        self.room().unwrap()[..span.len()].copy_from_slice(span);
        self.commit(span.len());
    }

    /// Seals the slab, whose last span ended at `last_time`. Nothing more is written to it.
    pub(crate) fn seal(self, last_time: u64) {
        self.holder
            .header()
            .last_time
            .store(last_time, Ordering::Relaxed);
    }
}

impl Drop for SlabWriter {
    fn drop(&mut self) {
        // Counted before the store: after it the slab may be freed, which decrements the count.
        self.holder.pool.seal();
        self.holder
            .header()
            .committed
            .store(self.committed.sealed().0, Ordering::Release);
    }
}

/// The only reading end of a slab, owned by the ring, then by the network thread.
pub(crate) struct SlabReader {
    taken: Committed,
    holder: Holder,
}

impl SlabReader {
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::{SPILL, SlabReader, SlabWriter};
    use crate::buffer::{Consumer, Pool, Producer, ring};

    #[test]
    fn a_batch_has_the_spans_committed_since_the_last_one() {
        let pool = Pool::new(1, 0, 4096, 100).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool, 0, 7).unwrap();
        assert!(reader.take().is_none());

        for text in ["one", "two"] {
            writer.write(text.as_bytes());
        }
        assert_eq!(reader.spans_waiting(), 2);
        let batch = reader.take().unwrap();
        assert_eq!((&*batch, batch.spans()), (&b"onetwo"[..], 2));
        assert!(!reader.is_exhausted());

        writer.write(b"tres");
        writer.seal(9);
        assert!(!reader.is_exhausted());
        assert_eq!(&*reader.take().unwrap(), b"tres");
        assert!(reader.is_exhausted());
    }

    #[test]
    fn a_batch_is_split_between_spans_and_its_parts_share_the_slab() {
        let pool = Pool::new(1, 0, 4096, 10).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool, 0, 7).unwrap();
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
    fn a_slab_is_full_when_it_has_no_room_or_all_its_spans() {
        let pool = Pool::new(2, 0, 4096, 2).unwrap();
        let (mut writer, _reader) = Pool::open(&pool, 0, 0).unwrap();
        assert_eq!(writer.room().unwrap().len(), pool.room_per_slab() + SPILL);
        writer.write(b"one");
        assert_eq!(
            writer.room().unwrap().len(),
            pool.room_per_slab() + SPILL - 3
        );
        writer.write(b"two");
        assert!(writer.room().is_none());
    }

    #[test]
    fn a_slab_is_free_when_its_last_holder_is_dropped() {
        let pool = Pool::new(1, 0, 4096, 10).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool, 0, 0).unwrap();
        writer.write(&[1]);
        let batch = reader.take().unwrap();
        let second = batch.clone();
        drop((writer, reader, batch));
        assert_eq!(pool.slabs_left(), 0);
        assert!(Pool::open(&pool, 0, 0).is_none());
        drop(second);
        assert_eq!(pool.slabs_left(), 1);
        assert!(Pool::open(&pool, 0, 0).is_some());
    }

    #[test]
    fn open_slabs_of_idle_recorders_take_no_shared_slabs() {
        const RECORDERS: usize = 5;
        let pool = Pool::new(2, RECORDERS, 4096, 10).unwrap();
        assert_eq!(pool.bytes(), 2 * 4096);
        let open: Vec<_> = (0..RECORDERS)
            .map(|_| {
                assert!(pool.join());
                Pool::open(&pool, 0, 0).unwrap()
            })
            .collect();
        assert_eq!((pool.slabs_left(), pool.bytes()), (2, 7 * 4096));
        // Dropping both ends seals and frees the slabs.
        drop(
            open.into_iter()
                .map(|(_, reader)| reader)
                .collect::<Vec<_>>(),
        );
        assert_eq!(pool.slabs_left(), 2);
        // A recorder that replaces another one needs no more memory.
        pool.leave();
        assert!(pool.join());
        assert_eq!(pool.bytes(), 7 * 4096);
    }

    #[test]
    fn a_slab_that_another_thread_has_read_can_be_written_again() {
        let pool = Pool::new(1, 0, 4096, 10).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool, 0, 0).unwrap();
        writer.write(&[1; SPAN_BYTES]);
        // Relaxed, to order nothing: the count of holders alone must do that.
        let is_read = AtomicBool::new(false);
        thread::scope(|threads| {
            let read = threads.spawn(|| {
                let batch = reader.take().unwrap();
                assert_eq!(*batch, [1; SPAN_BYTES]);
                drop((batch, reader));
                is_read.store(true, Ordering::Relaxed);
            });
            while !is_read.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            drop(writer);
            let (mut again, _) = Pool::open(&pool, 0, 0).unwrap();
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
        let pool = Pool::new(2, usize::from(WRITERS), 4096, 10).unwrap();
        thread::scope(|threads| {
            for number in 1..=WRITERS {
                assert!(pool.join());
                let (producer, consumer) = ring(SLABS);
                let pool = &pool;
                threads.spawn(move || write_slabs(pool, producer, number));
                threads.spawn(move || read_slabs(consumer, number));
            }
        });
        assert_eq!(pool.slabs_left(), 2);
    }

    fn write_slabs(pool: &Arc<Pool>, mut ring: Producer<SlabReader>, number: u8) {
        for _ in 0..SLABS {
            let (mut writer, reader) = loop {
                match Pool::open(pool, 0, 0) {
                    Some(opened) => break opened,
                    None => thread::yield_now(),
                }
            };
            assert!(ring.push(reader).is_ok());
            write_spans(&mut writer, number);
            writer.seal(1);
        }
    }

    fn write_spans(writer: &mut SlabWriter, number: u8) {
        for span in 0..SPANS {
            writer.write(&[number + WRITERS * span as u8; SPAN_BYTES]);
        }
    }

    fn read_slabs(mut ring: Consumer<SlabReader>, number: u8) {
        for _ in 0..SLABS {
            let mut reader = loop {
                match ring.pop() {
                    Some(reader) => break reader,
                    None => thread::yield_now(),
                }
            };
            let mut spans = Vec::new();
            while !reader.is_exhausted() {
                match reader.take() {
                    Some(batch) => spans.extend_from_slice(&batch),
                    None => thread::yield_now(),
                }
            }
            let mut expected = Vec::new();
            for span in 0..SPANS {
                expected.extend([number + WRITERS * span as u8; SPAN_BYTES]);
            }
            assert_eq!(spans, expected);
        }
    }
}
