//! One fixed-size block of memory: a header that describes it, then encoded spans.
//!
//! The header's `committed` word is the whole protocol. The writer writes only beyond it and
//! publishes with one release store; readers read only before it, after an acquire load.

#![allow(
    unsafe_code,
    reason = "two threads share a block of which each owns one part"
)]

use std::fmt;
use std::ops::{Deref, Range};
use std::ptr::NonNull;

use crate::buffer::pool::Pool;
use crate::otlp::SPILL;
use crate::platform::sync::{Arc, AtomicU32, AtomicU64, Ordering};

/// `"OTLPSLAB"`, so that a slab can be recognised in a memory dump or a shared file.
const MAGIC: u64 = u64::from_be_bytes(*b"OTLPSLAB");
/// Raised whenever the header's layout or the meaning of a field changes.
const VERSION: u32 = 1;

/// What stands at the start of each slab. It holds no pointers.
#[repr(C, align(64))]
pub(crate) struct Header {
    magic: u64,
    version: u32,
    /// Which instrumentation scope the spans belong to; 0 is the collector's own.
    scope: AtomicU32,
    /// When its first and its last span ended, in Unix nanoseconds (last: 0 until sealed).
    first_time: AtomicU64,
    last_time: AtomicU64,
    /// What is finished: see [`Committed`].
    committed: AtomicU64,
    /// The writer, the reader and each batch hold one; the last to let go frees the slab.
    holders: AtomicU32,
}

/// Room the header takes at the start of a slab.
pub(crate) const HEADER_BYTES: usize = size_of::<Header>();

/// What a slab has no room for spans in: its header, and what may be written to behind the last.
pub(crate) const OVERHEAD_BYTES: usize = HEADER_BYTES + SPILL;

/// The weight of a whole slab: the measure of what a batch takes of the buffer.
pub(crate) const SLAB_WEIGHT: u64 = 1 << 20;

impl Header {
    pub(super) fn new() -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            scope: AtomicU32::new(0),
            first_time: AtomicU64::new(0),
            last_time: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            holders: AtomicU32::new(0),
        }
    }
}

/// A slab's progress in one word, so that it is published by one store:
/// bit 63 sealed, bits 32..63 the number of spans, bits 0..32 their bytes.
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

/// One holder of a slab of `pool`, which frees the slab if it is the last.
struct Hold {
    pool: Arc<Pool>,
    index: u32,
}

impl Hold {
    fn header(&self) -> &Header {
        self.pool.header(self.index)
    }

    /// A committed range of the slab's spans.
    fn spans(&self, range: Range<usize>) -> &[u8] {
        self.pool.probe(self.index).reads(range.clone());
        // SAFETY: `range` was read from the committed word with acquire ordering, so its bytes
        // were written before and are not written again while this hold keeps the slab from
        // the pool.
        unsafe {
            std::slice::from_raw_parts(
                self.pool.spans(self.index).add(range.start).as_ptr(),
                range.len(),
            )
        }
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        // Relaxed: who clones has a hold, so the slab cannot be freed meanwhile.
        self.header().holders.fetch_add(1, Ordering::Relaxed);
        Self {
            pool: Arc::clone(&self.pool),
            index: self.index,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Release: what this holder read or wrote happens before the slab is used again. Acquire, for
        // the last one: so does what the others did. A fence would do, but ThreadSanitizer ignores
        // fences.
        if self.header().holders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.pool.free(self.index);
        }
    }
}

/// Both ends of the slab `index`, freshly taken from `pool`'s free slabs.
pub(super) fn open(
    pool: &Arc<Pool>,
    index: u32,
    scope: u32,
    first_time: u64,
) -> (SlabWriter, SlabReader) {
    let header = pool.header(index);
    debug_assert_eq!((header.magic, header.version), (MAGIC, VERSION));
    header.scope.store(scope, Ordering::Relaxed);
    header.first_time.store(first_time, Ordering::Relaxed);
    header.last_time.store(0, Ordering::Relaxed);
    header.committed.store(0, Ordering::Relaxed);
    header.holders.store(2, Ordering::Relaxed);
    let hold = || Hold {
        pool: Arc::clone(pool),
        index,
    };
    let writer = SlabWriter {
        tail: pool.spans(index),
        room: pool.room_per_slab(),
        spans_left: pool.spans_per_slab(),
        committed: Committed::default(),
        hold: hold(),
    };
    let reader = SlabReader {
        taken: Committed::default(),
        hold: hold(),
    };
    (writer, reader)
}

/// The writing end of a slab: unique, and owned by one recorder. Dropping it seals the slab.
pub(crate) struct SlabWriter {
    /// Where the next span goes, and how many bytes are free from there, not counting the spill.
    tail: NonNull<u8>,
    room: usize,
    spans_left: u32,
    committed: Committed,
    hold: Hold,
}

// SAFETY: the writer is the only one that writes to the slab's free room, on whichever thread
// it is; `tail` points into memory that the hold's pool keeps alive.
unsafe impl Send for SlabWriter {}

impl SlabWriter {
    /// Free room, of which the last [`SPILL`] bytes cannot be committed; `None` if the slab has as
    /// many spans as it can have.
    #[inline]
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        if self.spans_left == 0 {
            return None;
        }
        // SAFETY: `tail..tail + room + SPILL` lies within the slab, was initialised when the pool
        // was made, and belongs to this writer alone: what of it is committed, is no longer
        // part of it.
        Some(unsafe { std::slice::from_raw_parts_mut(self.tail.as_ptr(), self.room + SPILL) })
    }

    /// Publishes one span: the `bytes` bytes at the start of the free room.
    ///
    /// # Panics
    /// If the slab has no such [`room`](Self::room).
    #[inline]
    pub(crate) fn commit(&mut self, bytes: usize) {
        assert!(bytes <= self.room && self.spans_left > 0);
        let start = self.committed.bytes();
        self.hold
            .pool
            .probe(self.hold.index)
            .writes(start..start + bytes);
        self.committed = self.committed.with_span(bytes);
        // SAFETY: `bytes <= room`, so the new tail is within the slab or one past its end.
        self.tail = unsafe { self.tail.add(bytes) };
        self.room -= bytes;
        self.spans_left -= 1;
        self.hold
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

    /// Ends the slab, whose last span ended at `last_time`: nothing more will be written to it.
    pub(crate) fn seal(self, last_time: u64) {
        self.hold
            .header()
            .last_time
            .store(last_time, Ordering::Relaxed);
    }
}

impl Drop for SlabWriter {
    fn drop(&mut self) {
        // Before the store: then the slab may be freed, which counts it back.
        self.hold.pool.seal();
        self.hold
            .header()
            .committed
            .store(self.committed.sealed().0, Ordering::Release);
    }
}

/// The reading end of a slab: unique, and owned by the ring, then by the network thread.
pub(crate) struct SlabReader {
    taken: Committed,
    hold: Hold,
}

impl SlabReader {
    /// Spans committed and not yet taken.
    pub(crate) fn spans_waiting(&self) -> u32 {
        self.committed().spans() - self.taken.spans()
    }

    /// All that was committed since the last take, if there is any.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        let committed = self.committed();
        let range = self.taken.bytes()..committed.bytes();
        let spans = committed.spans() - self.taken.spans();
        if spans == 0 {
            return None;
        }
        self.taken = committed;
        Some(Batch {
            hold: self.hold.clone(),
            range,
            spans,
        })
    }

    /// Whether the slab is sealed and all of it was taken, so that the reader can be dropped.
    pub(crate) fn is_exhausted(&self) -> bool {
        let committed = self.committed();
        committed.is_sealed() && committed.spans() == self.taken.spans()
    }

    /// Whether nothing more will be written to it.
    pub(crate) fn is_sealed(&self) -> bool {
        self.committed().is_sealed()
    }

    /// The share of the slab that was taken, of [`SLAB_WEIGHT`]: a slab is full when it has no more
    /// bytes, or when it has all the spans it can have.
    pub(crate) fn weight_taken(&self) -> u64 {
        let pool = &self.hold.pool;
        let bytes = self.taken.bytes() as u64 * SLAB_WEIGHT / pool.room_per_slab() as u64;
        let spans = u64::from(self.taken.spans()) * SLAB_WEIGHT;
        bytes.max(spans / u64::from(pool.spans_per_slab()))
    }

    fn committed(&self) -> Committed {
        Committed(self.hold.header().committed.load(Ordering::Acquire))
    }
}

/// Finished spans: a committed range of one slab, as `ScopeSpans.spans` elements.
///
/// Cloning shares the bytes. The slab goes back to its pool when the last holder is gone.
#[derive(Clone)]
pub(crate) struct Batch {
    hold: Hold,
    range: Range<usize>,
    spans: u32,
}

impl Batch {
    /// How many spans it holds; never 0.
    pub(crate) fn spans(&self) -> u64 {
        u64::from(self.spans)
    }

    /// Its first spans, so many in so many bytes, and the others.
    pub(crate) fn split_at(&self, spans: u32, bytes: usize) -> (Self, Self) {
        let middle = self.range.start + bytes;
        assert!(spans <= self.spans && middle <= self.range.end);
        let part = |range, spans| Self {
            hold: self.hold.clone(),
            range,
            spans,
        };
        (
            part(self.range.start..middle, spans),
            part(middle..self.range.end, self.spans - spans),
        )
    }

    /// The instrumentation scope they belong to; 0 is the collector's own.
    pub(crate) fn scope(&self) -> u32 {
        self.hold.header().scope.load(Ordering::Relaxed)
    }
}

impl Deref for Batch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.hold.spans(self.range.clone())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("slab", &self.hold.index)
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
    fn a_batch_is_what_was_committed_since_the_last() {
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
    fn a_batch_is_split_between_spans_and_its_parts_hold_the_slab() {
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
    fn a_slab_is_full_by_bytes_or_by_spans() {
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
    fn a_slab_returns_when_its_last_holder_goes() {
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
    fn open_slabs_of_quiet_recorders_take_nothing_from_others() {
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
        // Sealed ones count, whoever filled them.
        drop(
            open.into_iter()
                .map(|(_, reader)| reader)
                .collect::<Vec<_>>(),
        );
        assert_eq!(pool.slabs_left(), 2);
        // A recorder that comes after another went needs no more memory.
        pool.leave();
        assert!(pool.join());
        assert_eq!(pool.bytes(), 7 * 4096);
    }

    #[test]
    fn a_slab_that_another_thread_has_read_can_be_written_again() {
        let pool = Pool::new(1, 0, 4096, 10).unwrap();
        let (mut writer, mut reader) = Pool::open(&pool, 0, 0).unwrap();
        writer.write(&[1; SPAN_BYTES]);
        // Orders nothing: the holders alone do.
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
    fn slabs_go_from_thread_to_thread_and_are_used_again() {
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
