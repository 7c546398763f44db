//! The first half of the network thread: takes batches from the recorders' rings.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam_channel::Receiver;
use crossbeam_utils::CachePadded;

use crate::buffer::{Batch, SLAB_WEIGHT, SlabQueue, SlabReader};
use crate::stats::counters::RecorderCounters;

/// A new lane of a recorder, as sent to the network thread.
pub(crate) struct NewLane {
    pub(crate) slabs: SlabQueue,
    pub(crate) counters: Arc<CachePadded<RecorderCounters>>,
}

/// The consumers of all recorders' rings.
pub(crate) struct Processor {
    new_lanes: Receiver<NewLane>,
    lanes: Vec<LaneReader>,
}

impl Processor {
    pub(crate) fn new(new_lanes: Receiver<NewLane>) -> Self {
        Self {
            new_lanes,
            lanes: Vec::new(),
        }
    }

    /// Returns whether any recorder exists, or spans of a dropped one are not taken yet.
    pub(crate) fn has_recorders(&mut self) -> bool {
        self.accept_new_lanes();
        !self.lanes.is_empty()
    }

    /// Returns the number of spans committed and not yet taken.
    pub(crate) fn spans_waiting(&mut self) -> u64 {
        self.accept_new_lanes();
        self.lanes.iter_mut().map(LaneReader::spans_waiting).sum()
    }

    /// Returns whether taking all committed spans would exhaust a slab.
    pub(crate) fn has_sealed_slab(&mut self) -> bool {
        self.lanes.iter_mut().any(LaneReader::has_sealed_slab)
    }

    /// Drops exhausted slabs, and lanes whose recorder is gone and left no slab, so that neither
    /// accumulate while nothing is drained. Returns the same as [`drain`](Self::drain).
    pub(crate) fn reap(&mut self) -> u64 {
        self.accept_new_lanes();
        let mut unused = 0;
        self.lanes.retain_mut(|lane| {
            // Loaded before the last pops: if it is true, nothing is pushed after them.
            let abandoned = lane.queue.is_abandoned();
            lane.pop_slabs();
            unused += lane.drop_exhausted();
            !(abandoned && lane.slabs.is_empty())
        });
        unused
    }

    /// Takes all committed spans, those of open slabs included, and passes each batch with its
    /// weight to `deliver`. Returns the unused weight of slabs that were sealed after their last
    /// batch had been taken. The batches taken before occupy that weight too.
    pub(crate) fn drain(&mut self, mut deliver: impl FnMut(Batch, u64)) -> u64 {
        self.accept_new_lanes();
        let lanes = self.lanes.iter_mut();
        lanes.map(|lane| lane.drain(&mut deliver)).sum()
    }

    fn accept_new_lanes(&mut self) {
        self.lanes
            .extend(self.new_lanes.try_iter().map(LaneReader::new));
    }
}

/// The reading side of one recorder's lane: its slabs, in order.
struct LaneReader {
    queue: SlabQueue,
    counters: Arc<CachePadded<RecorderCounters>>,
    /// Slabs popped from the queue. The last one may still be open.
    slabs: VecDeque<SlabReader>,
}

impl LaneReader {
    fn new(lane: NewLane) -> Self {
        Self {
            queue: lane.slabs,
            counters: lane.counters,
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
                // The last batch of a slab also carries the slab's unused weight.
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
                unused += self.drop_exhausted();
            }
            if !is_exhausted {
                break;
            }
        }
        unused
    }

    /// Drops exhausted slabs from the front and returns their unused weight.
    fn drop_exhausted(&mut self) -> u64 {
        let mut unused = 0;
        while let Some(slab) = self.slabs.front().filter(|slab| slab.is_exhausted()) {
            // A slab without spans has no batch that keeps it occupied.
            if slab.weight_taken() > 0 {
                unused += SLAB_WEIGHT.saturating_sub(slab.weight_taken());
            }
            self.slabs.pop_front();
        }
        unused
    }

    fn pop_slabs(&mut self) {
        while let Some(slab) = self.queue.pop() {
            self.slabs.push_back(slab);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;
    use crate::buffer::{Pool, lane};

    #[test]
    fn spans_of_sealed_and_open_slabs_are_taken_and_gone_recorders_are_removed() {
        let pool = Pool::new(3, 0, 4096, 2).unwrap();
        let (sender, new_lanes) = unbounded();
        let mut processor = Processor::new(new_lanes);
        let (mut writer, slabs) = lane(&pool, 0);
        let counters = Arc::default();
        let lane = NewLane {
            slabs,
            counters: Arc::clone(&counters),
        };
        sender.send(lane).unwrap();

        assert!(writer.open(0));
        for span in ["a", "b", "c"] {
            writer.write(span.as_bytes());
        }
        assert_eq!(processor.spans_waiting(), 3);

        let mut taken = Vec::new();
        let unused = processor.drain(|batch, _| taken.extend_from_slice(&batch));
        assert_eq!((&*taken, unused), (&b"abc"[..], 0));
        // The first slab was sealed and is free again, the second one is still open.
        assert_eq!(pool.slabs_left(), 3);

        writer.write(b"d");
        drop(writer);
        assert_eq!(pool.slabs_left(), 2);
        assert_eq!(processor.reap(), 0);
        assert!(processor.has_recorders());
        processor.drain(|batch, _| taken.extend_from_slice(&batch));
        assert_eq!(taken, b"abcd");
        assert_eq!(counters.taken.get(), 4);
        assert_eq!(processor.reap(), 0);
        assert!(!processor.has_recorders());
        assert_eq!(pool.slabs_left(), 3);
    }

    #[test]
    fn a_slab_that_is_sealed_after_its_spans_were_taken_is_freed_without_a_drain() {
        let pool = Pool::new(1, 0, 4096, 4).unwrap();
        let (sender, new_lanes) = unbounded();
        let mut processor = Processor::new(new_lanes);
        let (mut writer, slabs) = lane(&pool, 0);
        let lane = NewLane {
            slabs,
            counters: Arc::default(),
        };
        sender.send(lane).unwrap();
        assert!(writer.open(0));
        writer.write(b"one");
        let mut weights = Vec::new();
        let unused = processor.drain(|_, weight| weights.push(weight));
        assert_eq!((&*weights, unused), (&[SLAB_WEIGHT / 4][..], 0));
        drop(writer);
        assert_eq!(pool.slabs_left(), 0);
        assert_eq!(processor.reap(), SLAB_WEIGHT / 4 * 3);
        assert_eq!(pool.slabs_left(), 1);
    }
}
