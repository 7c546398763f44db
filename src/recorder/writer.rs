//! Encodes spans into slabs, and wakes the network thread when a batch is complete.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::buffer::WakeOn;
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
    /// With fewer slabs left than this the network thread is called.
    few_slabs: usize,
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
            few_slabs: shared.settings.few_slabs,
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
        let is_appended = self.append(
            lane,
            span.end_time(),
            #[inline(always)]
            |room| span.encode(room),
        );
        if is_appended {
            return Ok(());
        }
        // A copy, so that the original is not borrowed by the call and stays in registers. Not a loop
        // around the one encoder: the compiler would compute before it what the encoder computes, and
        // spill the results.
        self.place_in_next_slab(lane, &{ *span })
    }

    #[cold]
    #[inline(never)]
    fn place_in_next_slab(&mut self, lane: usize, span: &impl EncodeSpan) -> Result<(), Refused> {
        if self.shared.pool.is_empty() {
            // The collector is disabled: the span is discarded.
            self.lanes.counters.accept();
            return Ok(());
        }
        loop {
            self.next_slab(lane, span.end_time(), &|| span.encoded_len())?;
            if self.append(lane, span.end_time(), |room| span.encode_again(room)) {
                return Ok(());
            }
        }
    }

    /// Appends the span that `encode` writes to the lane's slab. Returns false if there is no slab or no
    /// room.
    #[inline(always)]
    fn append(
        &mut self,
        index: usize,
        end_time: u64,
        encode: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        let Some(lane) = self.lanes.list.get_mut(index) else {
            return false;
        };
        let counters = &self.lanes.counters;
        let is_appended = lane.slabs.append(
            end_time,
            #[inline(always)]
            |room| {
                let bytes = encode(room)?;
                // Counted before the commit, so that no span is delivered before it is accepted.
                counters.accept();
                Some(bytes)
            },
        );
        if !is_appended {
            return false;
        }
        if lane.slabs.is_due() {
            self.advance(index);
        }
        self.batch_left -= 1;
        if self.batch_left == 0 {
            self.check_batch();
        }
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

    /// Makes a step towards the lane's next slab. Wakes the network thread if few are left after one
    /// was opened.
    #[cold]
    #[inline(never)]
    fn advance(&mut self, lane: usize) {
        let is_new = self.lanes.list[lane].slabs.advance();
        if is_new && self.shared.pool.slabs_left() < self.few_slabs {
            self.shared.signal.notify(WakeOn::FewSlabs);
        }
    }

    /// Opens another slab for the lane, whose slab has no room for a span of the length that `measure`
    /// returns, with this end time.
    fn next_slab(
        &mut self,
        index: usize,
        end_time: u64,
        measure: &dyn Fn() -> usize,
    ) -> Result<(), Refused> {
        let pool = &self.shared.pool;
        let lane = self.lanes.list.get_mut(index).ok_or(Refused::NoSlab)?;
        let slabs = &mut lane.slabs;
        if self.without_room && !slabs.is_open() && pool.slabs_left() == 0 {
            // Nothing has changed since the last attempt, so refuse as fast as recording would be.
            return Err(Refused::BufferFull);
        }
        let bytes_max = pool.room_per_slab();
        let check_length = || match measure() {
            bytes if bytes > bytes_max => Err(Refused::TooLarge { bytes, bytes_max }),
            bytes => Ok(bytes),
        };
        // Not if the span is likely to fit into a new slab, because this takes as long as recording several.
        if slabs.is_empty() {
            let bytes = check_length()?;
            // Unreachable: a span of that length fits.
            return Err(Refused::TooLarge { bytes, bytes_max });
        }
        if slabs.has_much_room() {
            check_length()?;
        }
        slabs.seal();
        if !slabs.open(end_time) {
            check_length()?;
            self.wait_for_slab(index, end_time)?;
        }
        self.without_room = false;
        Ok(())
    }

    /// Opens a slab once there is one, if the overflow policy is to block.
    fn wait_for_slab(&mut self, index: usize, end_time: u64) -> Result<(), Refused> {
        let shared = &*self.shared;
        // Only once each time the buffer fills up: waking the network thread costs a system call.
        if mem::replace(&mut self.without_room, true) {
            return Err(Refused::BufferFull);
        }
        shared.signal.notify(WakeOn::FewSlabs);
        let Overflow::Block { timeout_ms } = shared.settings.config.overflow else {
            return Err(Refused::BufferFull);
        };
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        let deadline = self.wait_until.map_or(deadline, |end| end.min(deadline));
        let slabs = &mut self.lanes.list[index].slabs;
        let opened = shared.pool.wait(deadline, || {
            let is_opened = slabs.open(end_time);
            (is_opened || shared.signal.is_closed()).then_some(is_opened)
        });
        if opened == Some(true) {
            return Ok(());
        }
        // The shutdown may have begun during the wait.
        self.check_open()?;
        Err(Refused::BufferFull)
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
