//! Traces whose spans are held until their local root ends.
//!
//! A trace has a list of the cells of its ended spans, to which any thread adds, and a state. One
//! exchange decides about a trace and takes the list; cells that come later are refused and follow the
//! decision. So each cell is either taken with the list or goes its own way.

use std::sync::atomic;
use std::time::Duration;

use crate::buffer::free_list::FreeList;
use crate::platform::sync::{AtomicU32, AtomicU64, Ordering, RaceProbe};
use crate::span::id::TraceId;
use crate::span::sampler::KeepIf;

/// State of the decision about a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Pending,
    Kept,
    Dropped,
}

/// The held traces of a collector.
pub(super) struct Traces {
    records: Box<[HeldTrace]>,
    free: FreeList,
}

/// The record of one trace, as long as spans belong to it.
pub(super) struct HeldTrace {
    /// The decision in the high half, number of the cell that ended last in the low half (0: none).
    state: AtomicU64,
    /// Spans that have started and not left.
    members: AtomicU32,
    /// Encoded bytes of the spans in the list.
    bytes: atomic::AtomicUsize,
    has_failed: atomic::AtomicBool,
    /// The decision made by `OpenSpan::keep_trace`, which overrides the rule: 0 for none.
    forced: atomic::AtomicU8,
    rule: Rule,
    /// Written when a trace begins, read by its members.
    probe: RaceProbe,
}

/// A [`KeepIf`] that is shared.
#[derive(Default)]
struct Rule {
    /// In nanoseconds; `u64::MAX` for none.
    slower_than: atomic::AtomicU64,
    failed: atomic::AtomicBool,
    /// 0 for none.
    one_in: atomic::AtomicU32,
}

const KEEP: u8 = 1;
const DROP: u8 = 2;

impl Decision {
    fn of(state: u64) -> Self {
        match state >> 32 {
            0 => Self::Pending,
            1 => Self::Kept,
            _ => Self::Dropped,
        }
    }

    fn state(self) -> u64 {
        (self as u64) << 32
    }
}

impl Traces {
    pub(super) fn new(traces: u32) -> Self {
        Self {
            records: (0..traces).map(|_| HeldTrace::new()).collect(),
            free: FreeList::full(traces as usize),
        }
    }

    /// Begins to hold a trace of one span and returns its number; `None` if there is no record left.
    pub(super) fn begin(&self, rule: &KeepIf) -> Option<u32> {
        let index = self.free.pop()?;
        self.records[index as usize].begin(rule);
        Some(index + 1)
    }

    /// Returns the trace with this number, for one of its members.
    pub(super) fn get(&self, number: u32) -> Option<&HeldTrace> {
        let trace = self.records.get(number.checked_sub(1)? as usize)?;
        trace.probe.reads(0..1);
        Some(trace)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &HeldTrace> {
        self.records.iter()
    }

    /// Removes a span from the trace with this number. After the last one the record is free.
    pub(super) fn leave(&self, number: u32) {
        let Some(trace) = self.get(number) else {
            return;
        };
        // AcqRel: the record's next user sees all that its members did.
        if trace.members.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.free.push(number - 1);
        }
    }
}

impl HeldTrace {
    fn new() -> Self {
        Self {
            state: AtomicU64::new(0),
            members: AtomicU32::new(0),
            bytes: atomic::AtomicUsize::new(0),
            has_failed: atomic::AtomicBool::new(false),
            forced: atomic::AtomicU8::new(0),
            rule: Rule::default(),
            probe: RaceProbe::new(1),
        }
    }

    fn begin(&self, rule: &KeepIf) {
        self.probe.writes(0..1);
        self.state
            .store(Decision::Pending.state(), Ordering::Relaxed);
        self.members.store(1, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.has_failed.store(false, Ordering::Relaxed);
        self.forced.store(0, Ordering::Relaxed);
        self.rule.set(rule);
    }
}

impl HeldTrace {
    /// Decides about the trace unless that was done. Returns its list of cells, whose links are in
    /// `cells`, as the number of the cell that ended first; 0 if there is none.
    pub(super) fn decide(&self, decision: Decision, cells: &FreeList) -> u32 {
        let mut state = self.state.load(Ordering::Acquire);
        while Decision::of(state) == Decision::Pending {
            let exchanged = self.state.compare_exchange_weak(
                state,
                decision.state(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match exchanged {
                Ok(_) => return reverse(cells, state as u32),
                Err(seen) => state = seen,
            }
        }
        0
    }

    /// Adds the cell with this index to the list. Returns false if the trace is decided.
    pub(super) fn hold(&self, index: u32, cells: &FreeList) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        while Decision::of(state) == Decision::Pending {
            cells.link(index).store(state as u32, Ordering::Relaxed);
            // Release: the decider reads the cell.
            let exchanged = self.state.compare_exchange_weak(
                state,
                u64::from(index + 1),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match exchanged {
                Ok(_) => return true,
                Err(seen) => state = seen,
            }
        }
        false
    }

    pub(super) fn decision(&self) -> Decision {
        Decision::of(self.state.load(Ordering::Acquire))
    }

    /// Returns the decision that follows from the rule, or from the caller's, for a root that took `nanos`.
    pub(super) fn wanted_decision(&self, trace_id: TraceId, nanos: u64) -> Decision {
        let is_kept = match self.forced.load(Ordering::Relaxed) {
            0 => {
                let has_failed = self.has_failed.load(Ordering::Relaxed);
                self.rule.get().keeps(trace_id, nanos, has_failed)
            }
            forced => forced == KEEP,
        };
        if is_kept {
            Decision::Kept
        } else {
            Decision::Dropped
        }
    }

    /// Makes the root's end keep or drop the trace regardless of the rule.
    pub(super) fn force(&self, keep: bool) {
        let forced = if keep { KEEP } else { DROP };
        self.forced.store(forced, Ordering::Relaxed);
    }

    /// Notes that a span of the trace has failed.
    pub(super) fn note_failure(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
    }

    /// Counts bytes of a span and returns the sum.
    pub(super) fn add_bytes(&self, bytes: usize) -> usize {
        self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    /// Adds a span.
    pub(super) fn join(&self) {
        // Relaxed: another span is a member, so that the record is in use.
        self.members.fetch_add(1, Ordering::Relaxed);
    }
}

impl Rule {
    fn set(&self, rule: &KeepIf) {
        let nanos = |limit: Duration| u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        let slower_than = rule.slower_than.map_or(u64::MAX, nanos);
        self.slower_than.store(slower_than, Ordering::Relaxed);
        self.failed.store(rule.failed, Ordering::Relaxed);
        let one_in = rule.one_in.unwrap_or(0);
        self.one_in.store(one_in, Ordering::Relaxed);
    }

    fn get(&self) -> KeepIf {
        let slower_than = self.slower_than.load(Ordering::Relaxed);
        let one_in = self.one_in.load(Ordering::Relaxed);
        KeepIf {
            slower_than: (slower_than < u64::MAX).then(|| Duration::from_nanos(slower_than)),
            failed: self.failed.load(Ordering::Relaxed),
            one_in: (one_in > 0).then_some(one_in),
        }
    }
}

/// Reverses a list of cells; the first is given and returned as its index + 1.
fn reverse(cells: &FreeList, mut first: u32) -> u32 {
    let mut reversed = 0;
    while let Some(index) = first.checked_sub(1) {
        let link = cells.link(index);
        let next = link.load(Ordering::Relaxed);
        link.store(reversed, Ordering::Relaxed);
        (reversed, first) = (first, next);
    }
    reversed
}
