//! The network thread's first half: takes batches from the recorders' rings.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use crossbeam_utils::CachePadded;

use crate::buffer::{Batch, Consumer, SLAB_WEIGHT, SlabReader};
use crate::stats::counters::RecorderCounters;

/// What the network thread gets of a new recorder.
pub(crate) struct Arrival {
    pub(crate) ring: Consumer<SlabReader>,
    pub(crate) counters: Arc<CachePadded<RecorderCounters>>,
}

/// All rings, and the slabs that came out of them.
pub(crate) struct Processor {
    arrivals: Receiver<Arrival>,
    lanes: Vec<Lane>,
}

impl Processor {
    pub(crate) fn new(arrivals: Receiver<Arrival>) -> Self {
        Self {
            arrivals,
            lanes: Vec::new(),
        }
    }

    /// Whether there is a recorder that could have spans.
    pub(crate) fn has_recorders(&mut self) -> bool {
        self.adopt();
        !self.lanes.is_empty()
    }

    /// Spans committed and not yet taken.
    pub(crate) fn spans_waiting(&mut self) -> u64 {
        self.adopt();
        self.lanes.iter_mut().map(Lane::spans_waiting).sum()
    }

    /// Whether taking what there is would let go of a slab.
    pub(crate) fn has_sealed_slab(&mut self) -> bool {
        self.lanes.iter_mut().any(Lane::has_sealed_slab)
    }

    /// Lets go of slabs that were taken whole, and of recorders that are gone and left nothing, so
    /// that neither adds up while nothing is drained. Returns what [`drain`](Self::drain) returns.
    pub(crate) fn forget_gone(&mut self) -> u64 {
        self.adopt();
        let mut unused = 0;
        self.lanes.retain_mut(|lane| {
            // Read first: if the recorder is gone now, what the ring gives is all there will be.
            let abandoned = lane.ring.is_abandoned();
            lane.pop_slabs();
            unused += lane.forget_exhausted();
            !(abandoned && lane.slabs.is_empty())
        });
        unused
    }

    /// Takes all that is committed, of open slabs too, each batch with its weight. Returns the
    /// weight of what stays unused in the slabs that were sealed after their last batch was taken:
    /// batches taken before occupy that too.
    pub(crate) fn drain(&mut self, mut deliver: impl FnMut(Batch, u64)) -> u64 {
        self.adopt();
        let lanes = self.lanes.iter_mut();
        lanes.map(|lane| lane.drain(&mut deliver)).sum()
    }

    fn adopt(&mut self) {
        self.lanes.extend(self.arrivals.try_iter().map(Lane::new));
    }
}

/// One recorder's spans, in order.
struct Lane {
    ring: Consumer<SlabReader>,
    counters: Arc<CachePadded<RecorderCounters>>,
    /// Slabs popped from the ring; the last may be open still.
    slabs: VecDeque<SlabReader>,
}

impl Lane {
    fn new(arrival: Arrival) -> Self {
        Self {
            ring: arrival.ring,
            counters: arrival.counters,
            slabs: VecDeque::new(),
        }
    }

    fn spans_waiting(&mut self) -> u64 {
        self.pop_slabs();
        self.slabs
            .iter()
            .map(|slab| u64::from(slab.spans_waiting()))
            .sum()
    }

    fn has_sealed_slab(&mut self) -> bool {
        self.pop_slabs();
        self.slabs.front().is_some_and(SlabReader::is_sealed)
    }

    fn drain(&mut self, deliver: &mut impl FnMut(Batch, u64)) -> u64 {
        self.pop_slabs();
        let mut unused = 0;
        while let Some(slab) = self.slabs.front_mut() {
            let before = slab.weight_taken();
            let batch = slab.take();
            let is_exhausted = slab.is_exhausted();
            if let Some(batch) = batch {
                self.counters.taken.add(batch.spans());
                // The batch that ends a slab occupies all that is left of it.
                let until = if is_exhausted {
                    SLAB_WEIGHT
                } else {
                    slab.weight_taken()
                };
                deliver(batch, until.saturating_sub(before));
                if is_exhausted {
                    self.slabs.pop_front();
                }
            } else if is_exhausted {
                unused += self.forget_exhausted();
            }
            if !is_exhausted {
                break;
            }
        }
        unused
    }

    /// Lets go of the first slabs if all of them was taken; returns the weight that stays unused.
    fn forget_exhausted(&mut self) -> u64 {
        let mut unused = 0;
        while let Some(slab) = self.slabs.front().filter(|slab| slab.is_exhausted()) {
            // No batch keeps a slab that had no spans.
            if slab.weight_taken() > 0 {
                unused += SLAB_WEIGHT.saturating_sub(slab.weight_taken());
            }
            self.slabs.pop_front();
        }
        unused
    }

    fn pop_slabs(&mut self) {
        while let Some(slab) = self.ring.pop() {
            self.slabs.push_back(slab);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;
    use crate::buffer::{Pool, ring};

    #[test]
    fn takes_sealed_and_open_slabs_and_lets_go_of_gone_recorders() {
        let pool = Pool::new(3, 0, 4096, 2).unwrap();
        let (recorders, arrivals) = unbounded();
        let mut processor = Processor::new(arrivals);
        let (mut producer, consumer) = ring(4);
        let counters = Arc::default();
        let arrival = Arrival {
            ring: consumer,
            counters: Arc::clone(&counters),
        };
        recorders.send(arrival).unwrap();

        let (mut first, reader) = Pool::open(&pool, 0, 0).unwrap();
        producer.push(reader).ok().unwrap();
        first.write(b"a");
        first.write(b"b");
        drop(first);
        let (mut second, reader) = Pool::open(&pool, 0, 0).unwrap();
        producer.push(reader).ok().unwrap();
        second.write(b"c");
        assert_eq!(processor.spans_waiting(), 3);

        let mut taken = Vec::new();
        let unused = processor.drain(|batch, _| taken.extend_from_slice(&batch));
        assert_eq!((&*taken, unused), (&b"abc"[..], 0));
        // The first was sealed and is free again, the second is open still.
        assert_eq!(pool.slabs_left(), 3);

        second.write(b"d");
        drop((second, producer));
        assert_eq!(pool.slabs_left(), 2);
        assert_eq!(processor.forget_gone(), 0);
        assert!(processor.has_recorders());
        processor.drain(|batch, _| taken.extend_from_slice(&batch));
        assert_eq!(taken, b"abcd");
        assert_eq!(counters.taken.get(), 4);
        assert_eq!(processor.forget_gone(), 0);
        assert!(!processor.has_recorders());
        assert_eq!(pool.slabs_left(), 3);
    }

    #[test]
    fn a_slab_that_was_taken_and_then_sealed_is_free_without_another_drain() {
        let pool = Pool::new(1, 0, 4096, 4).unwrap();
        let (recorders, arrivals) = unbounded();
        let mut processor = Processor::new(arrivals);
        let (mut producer, consumer) = ring(4);
        let arrival = Arrival {
            ring: consumer,
            counters: Arc::default(),
        };
        recorders.send(arrival).unwrap();
        let (mut writer, reader) = Pool::open(&pool, 0, 0).unwrap();
        producer.push(reader).ok().unwrap();
        writer.write(b"one");
        let mut weights = Vec::new();
        let unused = processor.drain(|_, weight| weights.push(weight));
        assert_eq!((&*weights, unused), (&[SLAB_WEIGHT / 4][..], 0));
        drop((writer, producer));
        assert_eq!(pool.slabs_left(), 0);
        assert_eq!(processor.forget_gone(), SLAB_WEIGHT / 4 * 3);
        assert_eq!(pool.slabs_left(), 1);
    }
}
