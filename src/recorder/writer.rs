//! Encodes spans into slabs, and wakes the network thread when a batch is complete.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::buffer::{Pool, SlabReader, SlabWriter, WakeOn};
use crate::config::Overflow;
use crate::otlp::encode::EncodeSpan;
use crate::processor::NewLane;
use crate::recorder::lanes::Lanes;
use crate::shared::Shared;
use crate::span::scope::Scope;
use crate::stats::refused::Refused;

/// The writing side of one recorder.
pub(super) struct Writer {
    lanes: Lanes,
    shared: Arc<Shared>,
    /// Announces new lanes to the network thread.
    arrivals: Sender<NewLane>,
    /// Number of spans to write before the next check whether a batch is complete.
    batch_left: u32,
    /// Whether the last attempt to get a slab failed, after a wait if the policy is to wait. Until
    /// an attempt succeeds, there is no further wait.
    without_room: bool,
    /// Time after which there is no wait.
    wait_until: Option<Instant>,
}

impl Writer {
    pub(super) fn new(lanes: Lanes, arrivals: Sender<NewLane>, shared: Arc<Shared>) -> Self {
        let mut writer = Self {
            batch_left: shared.settings.config.batch_size as u32,
            lanes,
            arrivals,
            shared,
            without_room: false,
            wait_until: None,
        };
        // The previous recorder may have left waiting spans.
        writer.check_batch();
        writer
    }

    /// Returns whether there is a lane of the collector's own scope.
    #[inline(always)]
    pub(super) fn is_open(&self) -> bool {
        !self.lanes.list.is_empty()
    }

    /// Adds the lane of the collector's own scope.
    pub(super) fn open(&mut self) -> Result<(), Refused> {
        self.lanes.add(None, &self.arrivals).map(|_| ())
    }

    /// Makes spans that find no room wait no longer than until `deadline`.
    pub(super) fn wait_until(&mut self, deadline: Instant) {
        self.wait_until = Some(deadline);
    }

    pub(super) fn lanes_mut(&mut self) -> &mut Lanes {
        &mut self.lanes
    }

    /// Returns the index of the scope's lane, and adds one if needed.
    pub(super) fn lane(&mut self, scope: &Scope) -> Result<usize, Refused> {
        if let Some(lane) = self.lanes.position(scope.id()) {
            return Ok(lane);
        }
        match self.lanes.add(Some(scope.clone()), &self.arrivals) {
            Err(Refused::NoSlab) => self.lanes.reuse(scope).ok_or(Refused::NoSlab),
            lane => lane,
        }
    }

    /// Fails if spans are no longer accepted.
    #[inline(always)]
    pub(super) fn check_open(&self) -> Result<(), Refused> {
        if self.shared.signal.is_closed() {
            return Err(self.shared.signal.why_closed());
        }
        Ok(())
    }

    /// Writes a span, or counts it as refused.
    #[inline(always)]
    pub(super) fn write(&mut self, lane: usize, span: &impl EncodeSpan) -> Result<(), Refused> {
        if self.shared.signal.is_closed() {
            return Err(self.refuse_closed());
        }
        let result = self.place(lane, span);
        result.map_err(|why| self.refuse(why))
    }

    #[cold]
    #[inline(never)]
    fn refuse_closed(&self) -> Refused {
        self.refuse(self.shared.signal.why_closed())
    }

    /// Counts a refused span.
    #[cold]
    pub(super) fn refuse(&self, why: Refused) -> Refused {
        self.lanes.counters.refuse(why);
        why
    }

    #[inline(always)]
    fn place(&mut self, lane: usize, span: &impl EncodeSpan) -> Result<(), Refused> {
        if !self.append(lane, span) {
            // A copy, so that the original is not borrowed by the call and stays in registers.
            return self.place_in_next_slab(lane, &{ *span });
        }
        self.batch_left -= 1;
        if self.batch_left == 0 {
            self.check_batch();
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn place_in_next_slab(&mut self, lane: usize, span: &impl EncodeSpan) -> Result<(), Refused> {
        if self.shared.pool.is_empty() {
            // The collector is disabled: the span is discarded.
            self.lanes.counters.accept();
            return Ok(());
        }
        let bytes = self.next_slab(lane, span)?;
        if !self.append(lane, span) {
            // Unreachable: the span was measured, and the slab is new.
            let bytes_max = self.shared.pool.room_per_slab();
            return Err(Refused::TooLarge { bytes, bytes_max });
        }
        self.check_batch();
        Ok(())
    }

    /// Appends the span to the lane's slab. Returns false if there is no slab or no room.
    #[inline(always)]
    fn append(&mut self, lane: usize, span: &impl EncodeSpan) -> bool {
        let Some(lane) = self.lanes.list.get_mut(lane) else {
            return false;
        };
        let Some(slab) = &mut lane.slab else {
            return false;
        };
        let Some(bytes) = slab.room().and_then(|room| span.encode(room)) else {
            return false;
        };
        // Counted before the commit, so that no span is delivered before it is accepted.
        self.lanes.counters.accept();
        slab.commit(bytes);
        lane.last_time = span.end_time();
        true
    }

    /// Wakes the network thread if a batch is complete. Otherwise sets the number of spans that are
    /// missing, which has grown if the network thread has taken some.
    #[cold]
    fn check_batch(&mut self) {
        let batch_size = self.shared.settings.config.batch_size as u32;
        let waiting = self.lanes.counters.waiting();
        if waiting >= u64::from(batch_size) {
            (self.shared.signal).notify(WakeOn::complete(waiting, batch_size));
            self.batch_left = batch_size;
        } else {
            self.batch_left = batch_size - waiting as u32;
        }
    }

    /// Seals the lane's slab, which has no room for the span, and opens another. Returns the span's
    /// length.
    #[cold]
    #[inline(never)]
    fn next_slab(&mut self, lane: usize, span: &impl EncodeSpan) -> Result<usize, Refused> {
        if lane >= self.lanes.list.len() {
            return Err(Refused::NoSlab);
        }
        let pool = &self.shared.pool;
        if self.without_room && self.lanes.list[lane].slab.is_none() && pool.slabs_left() == 0 {
            // Nothing has changed since the last attempt, so refuse as fast as recording would be.
            return Err(Refused::BufferFull);
        }
        let bytes = span.encoded_len();
        let bytes_max = pool.room_per_slab();
        if bytes > bytes_max {
            return Err(Refused::TooLarge { bytes, bytes_max });
        }
        self.lanes.list[lane].seal();
        let Some((writer, reader)) =
            self.open_slab(self.lanes.list[lane].scope_id(), span.end_time())
        else {
            // The shutdown may have begun during the wait.
            self.check_open()?;
            return Err(Refused::BufferFull);
        };
        if self.lanes.list[lane].ring.push(reader).is_err() {
            // Unreachable: the ring has a slot for each slab that can wait for delivery.
            return Err(Refused::BufferFull);
        }
        self.lanes.list[lane].slab = Some(writer);
        if self.shared.pool.slabs_left() < self.shared.settings.few_slabs {
            self.shared.signal.notify(WakeOn::FewSlabs);
        }
        Ok(bytes)
    }

    /// Opens a free slab, and waits for one if the overflow policy is to block.
    fn open_slab(&mut self, scope: u32, first_time: u64) -> Option<(SlabWriter, SlabReader)> {
        let shared = &*self.shared;
        let opened = Pool::open(&shared.pool, scope, first_time);
        if opened.is_some() {
            self.without_room = false;
            return opened;
        }
        // Only once each time the buffer fills up: waking the network thread costs a system call.
        if std::mem::replace(&mut self.without_room, true) {
            return None;
        }
        shared.signal.notify(WakeOn::FewSlabs);
        let Overflow::Block { timeout_ms } = shared.settings.config.overflow else {
            return None;
        };
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        let deadline = self.wait_until.map_or(deadline, |end| end.min(deadline));
        let opened = Pool::open_by(&shared.pool, scope, first_time, deadline, || {
            shared.signal.is_closed()
        });
        self.without_room = opened.is_none();
        opened
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.shared.signal.is_forked() {
            // Dropping the last sender would take the channel's lock, which may be held by a thread
            // that does not exist in a fork.
            mem::forget(self.arrivals.clone());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;

    use crossbeam_channel::unbounded;
    use parking_lot::Mutex;

    use super::*;
    use crate::buffer::{Batch, Signal};
    use crate::config::{Config, Settings};
    use crate::processor::Processor;
    use crate::recorder::Recorders;
    use crate::span::Span;

    /// Recorders of a small buffer, and the processor of their slabs.
    struct Setup {
        recorders: Arc<Recorders>,
        shared: Arc<Shared>,
        slabs: Arc<Mutex<Slabs>>,
        wake_ups: Arc<Mutex<u32>>,
    }

    struct Slabs {
        processor: Processor,
        taken: VecDeque<Batch>,
    }

    impl Slabs {
        /// Frees the slab that was sealed first, if there is one.
        fn free_one(&mut self) {
            let taken = &mut self.taken;
            (self.processor).drain(|batch, _| taken.push_back(batch));
            drop(taken.pop_front());
        }
    }

    /// A wake-up by a recorder runs `on_wake_up`, within its call.
    fn setup(overflow: Overflow, on_wake_up: fn(&mut Slabs)) -> Setup {
        let settings = Settings::new(&Config {
            overflow,
            buffer_capacity: 100,
            batch_size: 100,
            ..Config::default()
        });
        let settings = settings.unwrap();
        let (arrivals, arriving) = unbounded();
        let slabs = Arc::new(Mutex::new(Slabs {
            processor: Processor::new(arriving),
            taken: VecDeque::new(),
        }));
        let wake_ups = Arc::new(Mutex::new(0));
        let signal = Signal::new({
            let (slabs, wake_ups) = (Arc::clone(&slabs), Arc::clone(&wake_ups));
            move || {
                *wake_ups.lock() += 1;
                on_wake_up(&mut slabs.lock());
            }
        });
        let shared = Arc::new(Shared::new(settings, signal).unwrap());
        Setup {
            recorders: Recorders::new(Arc::clone(&shared), arrivals, 1).unwrap(),
            shared,
            slabs,
            wake_ups,
        }
    }

    impl Setup {
        fn record(&self) -> Result<(), Refused> {
            self.recorders.collect(Span::new("span"))
        }

        /// Records a span while the processor sleeps; returns also how often that woke it.
        fn record_and_wake(&self) -> (Result<(), Refused>, u32) {
            self.shared.signal.wake_on(WakeOn::FewSlabs);
            let before = *self.wake_ups.lock();
            let result = self.record();
            (result, *self.wake_ups.lock() - before)
        }
    }

    #[test]
    fn the_first_refusal_of_each_full_buffer_wakes_the_processor() {
        let waits = [0, 1].map(|timeout_ms| Overflow::Block { timeout_ms });
        let policies = [Overflow::Refuse, Overflow::DropOldest];
        for overflow in policies.into_iter().chain(waits) {
            let setup = setup(overflow, |_| ());
            for _ in 0..3 {
                let first_refusal = loop {
                    let recorded = setup.record_and_wake();
                    if recorded.0.is_err() {
                        break recorded;
                    }
                };
                assert_eq!(first_refusal, (Err(Refused::BufferFull), 1), "{overflow:?}");
                let next = setup.record_and_wake();
                assert_eq!(next, (Err(Refused::BufferFull), 0), "{overflow:?}");
                (setup.slabs.lock().processor).drain(|batch, _| drop(batch));
            }
        }
    }

    #[test]
    fn recorders_that_block_wait_each_time_that_the_buffer_is_full() {
        let setup = setup(Overflow::Block { timeout_ms: 0 }, Slabs::free_one);
        while setup.record().is_ok() {}
        setup.slabs.lock().free_one();
        for _ in 0..500 {
            assert_eq!(setup.record_and_wake().0, Ok(()));
        }
    }
}
