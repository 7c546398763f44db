//! Cells of held traces: joining a trace, being held, following its decision.

use std::iter;

use crate::buffer::cells::{Cell, CellPool};
use crate::buffer::traces::{Decision, HeldTrace};
use crate::platform::sync::Ordering;
use crate::span::id::TraceId;
use crate::span::sampler::KeepIf;

impl<T> Cell<T> {
    #[inline(always)]
    pub(crate) fn is_in_trace(&self) -> bool {
        self.trace() != 0
    }

    fn held_trace(&self) -> Option<&'static HeldTrace> {
        self.pool().traces.get(self.trace())
    }

    /// Begins to hold the trace of a local root. Does nothing if as many are held as there can be.
    pub(crate) fn begin_trace(&mut self, rule: &KeepIf) {
        if let Some(number) = self.pool().traces.begin(rule) {
            self.set_trace(number);
            self.state_mut().is_local_root = true;
        }
    }

    /// Adds a started span to its parent's trace.
    pub(crate) fn join_trace(&mut self, parent: &Self) {
        if let Some(trace) = parent.held_trace() {
            trace.join();
            self.set_trace(parent.trace());
        }
    }

    /// Removes a span that has ended from its trace.
    pub(crate) fn leave_trace(&mut self) {
        self.pool().traces.leave(self.trace());
        self.set_trace(0);
    }

    /// Makes the root's end keep or drop the trace regardless of the rule.
    pub(crate) fn force_decision(&self, keep: bool) {
        if let Some(trace) = self.held_trace() {
            trace.force(keep);
        }
    }

    /// Notes that a span of the trace has failed.
    pub(crate) fn note_failure(&self) {
        if let Some(trace) = self.held_trace() {
            trace.note_failure();
        }
    }

    pub(crate) fn trace_decision(&self) -> Decision {
        self.held_trace()
            .map_or(Decision::Kept, HeldTrace::decision)
    }

    /// Returns the decision that follows from the rule, or from the caller's, for a root that took `nanos`.
    pub(crate) fn wanted_decision(&self, trace_id: TraceId, nanos: u64) -> Decision {
        let trace = self.held_trace();
        trace.map_or(Decision::Kept, |trace| {
            trace.wanted_decision(trace_id, nanos)
        })
    }

    /// Decides about the trace unless that was done. Returns the cells that were held, in the order
    /// in which their spans ended; none if another thread has decided.
    pub(crate) fn decide(&self, decision: Decision) -> impl Iterator<Item = Self> + use<T> {
        decide(self.pool(), self.held_trace(), decision)
    }

    /// Holds an ended span of a trace that is not decided yet. Returns its membership, or the cell if
    /// the trace is decided already, or would have more than `bytes_max` bytes.
    pub(crate) fn hold(self, bytes_max: usize) -> Result<Membership<T>, Self> {
        let pool = self.pool();
        let Some(trace) = self.held_trace().filter(|_| !self.is_extra()) else {
            return Err(self);
        };
        if trace.add_bytes(self.encoded_bytes()) > bytes_max {
            return Err(self);
        }
        let membership = Membership {
            pool,
            number: self.trace(),
        };
        let index = self.into_index();
        if trace.hold(index, &pool.free_cells) {
            return Ok(membership);
        }
        // The span itself stays a member until it has ended.
        std::mem::forget(membership);
        Err(pool.cell(index))
    }
}

/// Membership in a trace of a span whose cell is held; the span leaves the trace when it is dropped.
pub(crate) struct Membership<T: 'static> {
    pool: &'static CellPool<T>,
    number: u32,
}

impl<T> Membership<T> {
    /// As [`Cell::decide`].
    pub(crate) fn decide(&self, decision: Decision) -> impl Iterator<Item = Cell<T>> + use<T> {
        decide(self.pool, self.pool.traces.get(self.number), decision)
    }
}

impl<T> Drop for Membership<T> {
    fn drop(&mut self) {
        self.pool.traces.leave(self.number);
    }
}

impl<T> CellPool<T> {
    /// Decides about all traces that are not decided yet, as [`Cell::decide`] does about one.
    pub(crate) fn decide_all(
        &'static self,
        decision: Decision,
    ) -> impl Iterator<Item = Cell<T>> + use<T> {
        let traces = self.traces.iter();
        traces.flat_map(move |trace| decide(self, Some(trace), decision))
    }
}

/// Decides about a trace, and takes its cells.
fn decide<T>(
    pool: &'static CellPool<T>,
    trace: Option<&'static HeldTrace>,
    decision: Decision,
) -> impl Iterator<Item = Cell<T>> + use<T> {
    let mut list = trace.map_or(0, |trace| trace.decide(decision, &pool.free_cells));
    iter::from_fn(move || {
        let index = list.checked_sub(1)?;
        list = pool.free_cells.link(index).load(Ordering::Relaxed);
        Some(pool.cell(index))
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::buffer::{CellSizes, Magazine};

    /// Keeps the pools reachable, so that Miri reports no leaks.
    static POOLS: Mutex<Vec<&'static CellPool<()>>> = Mutex::new(Vec::new());

    const FAILED: KeepIf = KeepIf {
        slower_than: None,
        failed: true,
        one_in: None,
    };

    fn magazine(traces: u32) -> Magazine<()> {
        let sizes = CellSizes {
            cells: 10,
            pages: 0,
            span_bytes: 100,
            traces,
            is_touched: true,
        };
        let pool: &_ = Box::leak(Box::new(CellPool::new(sizes, ()).unwrap()));
        POOLS.lock().unwrap().push(pool);
        Magazine::new(pool)
    }

    fn root(magazine: &mut Magazine<()>) -> Cell<()> {
        let mut root = magazine.take().unwrap();
        root.reset(0);
        root.begin_trace(&FAILED);
        root
    }

    fn child(magazine: &mut Magazine<()>, parent: &Cell<()>, end_time: u64) -> Cell<()> {
        let mut child = magazine.take().unwrap();
        child.reset(0);
        child.join_trace(parent);
        child.state_mut().end_time = end_time;
        child
    }

    fn end_times(held: impl Iterator<Item = Cell<()>>) -> Vec<u64> {
        held.map(|cell| cell.state().end_time).collect()
    }

    #[test]
    fn held_spans_come_back_in_the_order_of_their_ends() {
        let mut magazine = magazine(1);
        let mut root = root(&mut magazine);
        for number in 1..4 {
            let child = child(&mut magazine, &root, number);
            assert!(child.hold(usize::MAX).is_ok());
        }
        let late = child(&mut magazine, &root, 4);
        assert_eq!(end_times(root.decide(Decision::Kept)), [1, 2, 3]);
        // A second decision changes nothing, and late spans follow the first.
        assert_eq!(end_times(root.decide(Decision::Dropped)), []);
        let mut late = late.hold(usize::MAX).err().unwrap();
        assert_eq!(late.trace_decision(), Decision::Kept);
        assert!(late.is_in_trace());
        late.leave_trace();
        root.leave_trace();
        assert!(!root.is_in_trace());
    }

    #[test]
    fn a_record_is_free_again_after_its_last_span() {
        let mut magazine = magazine(1);
        for round in 0..3 {
            let mut root = root(&mut magazine);
            assert!(root.is_in_trace() && root.state().is_local_root, "{round}");
            let mut child = child(&mut magazine, &root, 1);
            child.note_failure();
            assert_eq!(root.wanted_decision(TraceId::MIN, 0), Decision::Kept);
            assert_eq!(end_times(root.decide(Decision::Dropped)), []);
            root.leave_trace();
            let mut other = self::root(&mut magazine);
            // As long as the child is a member, there is no record for another trace.
            assert!(!other.is_in_trace());
            child.leave_trace();
            other.reset(0);
            other.begin_trace(&FAILED);
            assert!(other.is_in_trace());
            assert_eq!(other.trace_decision(), Decision::Pending);
            assert_eq!(other.wanted_decision(TraceId::MIN, 0), Decision::Dropped);
            other.force_decision(true);
            assert_eq!(other.wanted_decision(TraceId::MIN, 0), Decision::Kept);
            other.leave_trace();
        }
    }

    #[test]
    fn a_trace_holds_no_more_bytes_than_it_may() {
        let mut magazine = magazine(2);
        let mut first = root(&mut magazine);
        let bytes = first.encoded_bytes();
        let fits = child(&mut magazine, &first, 1);
        let membership = fits.hold(bytes).ok().unwrap();
        let too_much = child(&mut magazine, &first, 2);
        let mut too_much = too_much.hold(bytes).err().unwrap();
        assert_eq!(too_much.trace_decision(), Decision::Pending);
        assert_eq!(end_times(membership.decide(Decision::Kept)), [1]);
        drop(membership);
        too_much.leave_trace();
        first.leave_trace();
        // All traces at once.
        let roots = [root(&mut magazine), root(&mut magazine)];
        for (root, end_time) in roots.iter().zip([5, 6]) {
            assert!(
                child(&mut magazine, root, end_time)
                    .hold(usize::MAX)
                    .is_ok()
            );
        }
        let pool = roots[0].pool();
        let mut held = end_times(pool.decide_all(Decision::Kept));
        held.sort_unstable();
        assert_eq!(held, [5, 6]);
    }
}
