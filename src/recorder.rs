//! The application thread's side: encode a span into the open slab, commit it, count it.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::buffer::{Pool, Producer, SlabReader, SlabWriter, Wanted};
use crate::clock::unix_nanos;
use crate::config::Overflow;
use crate::id::IdGenerator;
use crate::otlp::encode::{self, SpanFields};
use crate::refused::Refused;
use crate::shared::Shared;
use crate::span::{KeyValueRef, Span, SpanRef};
use crate::stats::RecorderCounters;

/// One thread's way to record spans: unique, never waiting for another thread.
///
/// Recording makes no allocation, takes no lock and makes no system call but one: when a batch
/// is complete, or slabs get few, while the network thread sleeps, it is woken. (With
/// [`Overflow::Block`](crate::Overflow::Block) a full buffer makes it wait.)
///
/// A recorder may move to another thread (`Send`) but is used by one at a time (neither `Sync`
/// nor `Clone`). Spans it recorded stay on their way when it is dropped.
///
/// ```
/// use otlp_collector::{Collector, Config, KeyValueRef, SpanRef, unix_nanos};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let config = Config { endpoint: receiver.endpoint(), ..Config::default() };
/// let collector = Collector::new(config)?;
/// let mut recorder = collector.recorder()?;
///
/// let start_time = unix_nanos();
/// let attributes = [KeyValueRef::new("http.response.status_code", 200)];
/// let span = SpanRef {
///     start_time,
///     end_time: unix_nanos(),
///     attributes: &attributes,
///     ..SpanRef::new(recorder.trace_id(), recorder.span_id(), "GET /orders")
/// };
/// recorder.record(&span)?;
/// # assert_eq!(collector.shutdown()?.delivered(), 1);
/// # Ok(())
/// # }
/// ```
///
/// ```compile_fail
/// fn sync<T: Sync>() {}
/// sync::<otlp_collector::Recorder>();
/// ```
///
/// ```compile_fail
/// fn clone<T: Clone>() {}
/// clone::<otlp_collector::Recorder>();
/// ```
pub struct Recorder {
    slab: Option<SlabWriter>,
    ring: Producer<SlabReader>,
    counters: Arc<CachePadded<RecorderCounters>>,
    shared: Arc<Shared>,
    /// Spans to record before it is time to see whether a batch is complete.
    batch_left: u32,
    /// When the last span ended.
    last_time: u64,
    /// There was no slab the last time, even after a wait if the policy is to wait: no other wait
    /// before there has been one.
    without_room: bool,
    ids: IdGenerator,
    not_sync: PhantomData<Cell<()>>,
}

impl Recorder {
    pub(crate) fn new(
        shared: Arc<Shared>,
        counters: Arc<CachePadded<RecorderCounters>>,
        ring: Producer<SlabReader>,
    ) -> Self {
        shared.pool.join();
        Self {
            slab: None,
            ring,
            counters,
            batch_left: shared.batch_size,
            shared,
            last_time: 0,
            without_room: false,
            ids: IdGenerator::new(),
            not_sync: PhantomData,
        }
    }

    /// Records a finished span.
    ///
    /// # Errors
    /// The span was not accepted; the reason is counted in the [`Ledger`](crate::Ledger).
    #[inline]
    pub fn record(&mut self, span: &SpanRef<'_>) -> Result<(), Refused> {
        self.write(&encode::borrowed(span))
    }

    /// Records an owned span; one that has not ended ends now.
    pub(crate) fn record_owned(&mut self, span: &mut Span) -> Result<(), Refused> {
        if span.end_time == 0 {
            span.end_time = unix_nanos();
        }
        self.write(&encode::owned(span))
    }

    /// A random trace id, never all zeros.
    #[inline]
    pub fn trace_id(&mut self) -> [u8; 16] {
        self.ids.trace_id()
    }

    /// A random span id, never all zeros.
    #[inline]
    pub fn span_id(&mut self) -> [u8; 8] {
        self.ids.span_id()
    }

    #[inline]
    fn write<'a, A>(&mut self, span: &SpanFields<'a, A>) -> Result<(), Refused>
    where
        A: Iterator<Item = KeyValueRef<'a>> + Clone,
    {
        let result = self.encode(span);
        if let Err(why) = result {
            self.counters.refuse(why);
        }
        result
    }

    #[inline]
    fn encode<'a, A>(&mut self, span: &SpanFields<'a, A>) -> Result<(), Refused>
    where
        A: Iterator<Item = KeyValueRef<'a>> + Clone,
    {
        if self.shared.signal.is_closed() {
            return Err(Refused::ShutDown);
        }
        if *span.trace_id == [0; 16] || *span.span_id == [0; 8] {
            return Err(Refused::InvalidId);
        }
        let len = span.measure();
        if !(self.slab.as_ref()).is_some_and(|slab| slab.has_room_for(len.element)) {
            self.next_slab(len.element, span.end_time)?;
        }
        let slab = self.slab.as_mut().expect("there is one with room");
        span.encode(len, slab.room(len.element));
        // Before the commit: no span is delivered before it is accepted.
        self.counters.accept();
        slab.commit(len.element);
        self.last_time = span.end_time;
        self.batch_left -= 1;
        if self.batch_left == 0 {
            self.check_batch();
        }
        Ok(())
    }

    /// Tells the network thread if a batch waits; else a batch lacks as much as it took meanwhile.
    #[cold]
    fn check_batch(&mut self) {
        let batch_size = self.shared.batch_size;
        let waiting = self.counters.waiting();
        if waiting >= u64::from(batch_size) {
            self.shared.signal.notify(Wanted::Batch);
            self.batch_left = batch_size;
        } else {
            self.batch_left = batch_size - waiting as u32;
        }
    }

    /// Seals the slab that has no room for `bytes` bytes, and opens the next one.
    #[cold]
    fn next_slab(&mut self, bytes: usize, end_time: u64) -> Result<(), Refused> {
        let bytes_max = self.shared.pool.room_per_slab();
        if bytes > bytes_max {
            return Err(Refused::TooLarge { bytes, bytes_max });
        }
        self.seal();
        let Some((writer, reader)) = self.open(end_time) else {
            // It may have waited until the shutdown.
            return Err(if self.shared.signal.is_closed() {
                Refused::ShutDown
            } else {
                Refused::BufferFull
            });
        };
        if self.ring.push(reader).is_err() {
            // Cannot be: the ring has a place for each slab there is.
            return Err(Refused::BufferFull);
        }
        self.slab = Some(writer);
        if self.shared.pool.slabs_left() < self.shared.few_slabs {
            self.shared.signal.notify(Wanted::FewSlabs);
        }
        Ok(())
    }

    fn seal(&mut self) {
        if let Some(slab) = self.slab.take() {
            slab.seal(self.last_time);
        }
    }

    /// A free slab, as the overflow policy has it.
    fn open(&mut self, first_time: u64) -> Option<(SlabWriter, SlabReader)> {
        let shared = &*self.shared;
        let opened = Pool::open(&shared.pool, first_time);
        if opened.is_some() {
            self.without_room = false;
            return opened;
        }
        // Once for each time that room runs out: it costs a system call.
        if std::mem::replace(&mut self.without_room, true) {
            return None;
        }
        shared.signal.notify(Wanted::FewSlabs);
        let Overflow::Block { timeout_ms } = shared.overflow else {
            return None;
        };
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        let opened = Pool::open_by(&shared.pool, first_time, deadline, || {
            shared.signal.is_closed()
        });
        self.without_room = opened.is_none();
        opened
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.seal();
        self.shared.pool.leave();
        self.shared.counters.retire(&self.counters);
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}
