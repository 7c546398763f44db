//! Finished spans of traces that tail sampling has not decided about yet.
//!
//! They are stored outside of the slabs, not uncommitted at a slab's end. So traces can be
//! interleaved, an undecided trace delays no other span, and memory of dropped traces stays in the
//! cache. The price is one more copy of each kept trace.

use crate::otlp::SPILL;
use crate::otlp::encode::{EncodeSpan, Encoded};
use crate::span::id::TraceId;
use crate::span::sampler::{KeepIf, TailSampling};

/// A span's membership in a held trace.
#[derive(Clone, Copy)]
pub(super) struct Hold {
    trace: u32,
    /// Whether the span is the local root, at whose end the trace is decided.
    pub(super) decides: bool,
}

/// State of the decision about a held trace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Pending,
    Kept,
    Dropped,
}

/// The traces that a recorder holds.
pub(super) struct HeldTraces {
    traces: Vec<HeldTrace>,
    free: Vec<u32>,
    rule: KeepIf,
    /// Number of held spans in all traces.
    spans: u64,
}

/// The finished spans of one trace.
pub(super) struct HeldTrace {
    bytes: Box<[u8]>,
    len: usize,
    spans: Vec<HeldSpan>,
    /// Number of spans started and not ended.
    open: u32,
    failed: bool,
    decision: Decision,
    rule: KeepIf,
    /// The decision made by `OpenSpan::keep_trace`, which overrides the rule.
    forced: Option<bool>,
}

#[derive(Clone, Copy)]
struct HeldSpan {
    lane: u16,
    len: u32,
    end_time: u64,
}

/// Assumed size of a span, from which the maximum number of spans of a held trace follows.
const SPAN_BYTES: usize = 64;

impl HeldTraces {
    pub(super) fn new(sampling: Option<&TailSampling>) -> Self {
        let traces = sampling.map_or(0, |sampling| sampling.held_traces_max);
        let bytes = sampling.map_or(0, |sampling| sampling.held_trace_bytes);
        Self {
            traces: (0..traces).map(|_| HeldTrace::new(bytes)).collect(),
            free: (0..traces as u32).rev().collect(),
            rule: sampling
                .map(|sampling| sampling.keep_if)
                .unwrap_or_default(),
            spans: 0,
        }
    }

    /// Holds the trace of a new local root; `None` if the maximum number is held already.
    #[inline]
    pub(super) fn begin(&mut self, rule: Option<KeepIf>) -> Option<Hold> {
        let trace = self.free.pop()?;
        self.traces[trace as usize].begin(rule.unwrap_or(self.rule));
        Some(Hold {
            trace,
            decides: true,
        })
    }

    /// Adds a started span to its parent's trace.
    #[inline]
    pub(super) fn join(&mut self, parent: Hold) -> Hold {
        self.trace(parent).open += 1;
        Hold {
            decides: false,
            ..parent
        }
    }

    /// Removes an ended span from its trace. After the last one the trace's memory is free.
    #[inline]
    pub(super) fn leave(&mut self, hold: Hold) {
        let trace = self.trace(hold);
        trace.open -= 1;
        if trace.open == 0 {
            self.free.push(hold.trace);
        }
    }

    /// Returns the traces that are not decided yet.
    pub(super) fn pending(&self) -> Vec<Hold> {
        let pending = |trace: &u32| {
            let trace = &self.traces[*trace as usize];
            trace.open > 0 && trace.decision == Decision::Pending
        };
        let hold = |trace| Hold {
            trace,
            decides: false,
        };
        (0..self.traces.len() as u32)
            .filter(pending)
            .map(hold)
            .collect()
    }

    /// Updates and returns the number of held spans.
    #[inline]
    pub(super) fn count(&mut self, more: u64, fewer: u64) -> u64 {
        self.spans = self.spans + more - fewer;
        self.spans
    }

    #[inline]
    pub(super) fn trace(&mut self, hold: Hold) -> &mut HeldTrace {
        &mut self.traces[hold.trace as usize]
    }
}

impl HeldTrace {
    fn new(bytes: usize) -> Self {
        Self {
            // Not zeros, so that the memory is touched.
            bytes: vec![1; bytes + SPILL].into_boxed_slice(),
            len: 0,
            spans: vec![
                HeldSpan {
                    lane: 1,
                    len: 1,
                    end_time: 1
                };
                bytes / SPAN_BYTES
            ],
            open: 0,
            failed: false,
            decision: Decision::Pending,
            rule: KeepIf::default(),
            forced: None,
        }
    }

    fn begin(&mut self, rule: KeepIf) {
        self.len = 0;
        self.spans.clear();
        self.open = 1;
        self.failed = false;
        self.decision = Decision::Pending;
        self.rule = rule;
        self.forced = None;
    }

    pub(super) fn decision(&self) -> Decision {
        self.decision
    }

    pub(super) fn decide(&mut self, decision: Decision) {
        self.decision = decision;
    }

    /// Makes the root's end keep or drop the trace regardless of the rule.
    pub(super) fn force(&mut self, keep: bool) {
        self.forced = Some(keep);
    }

    /// Returns whether to keep the trace, whose root took `nanos`.
    pub(super) fn is_kept(&self, trace_id: TraceId, nanos: u64) -> bool {
        self.forced
            .unwrap_or_else(|| self.rule.keeps(trace_id, nanos, self.failed))
    }

    pub(super) fn note_failure(&mut self) {
        self.failed = true;
    }

    /// Holds a span. Returns false if there is no room.
    #[inline]
    pub(super) fn push(&mut self, lane: usize, span: &impl EncodeSpan) -> bool {
        if self.spans.len() == self.spans.capacity() {
            return false;
        }
        let Some(len) = span.encode(&mut self.bytes[self.len..]) else {
            return false;
        };
        self.len += len;
        self.spans.push(HeldSpan {
            lane: lane as u16,
            len: len as u32,
            end_time: span.end_time(),
        });
        true
    }

    /// Returns the number of held spans.
    pub(super) fn spans(&self) -> u64 {
        self.spans.len() as u64
    }

    /// Passes the held spans with their lanes to `take`, in order, and removes them.
    pub(super) fn drain(&mut self, mut take: impl FnMut(usize, &Encoded<'_>)) {
        let mut at = 0;
        for span in &self.spans {
            let end = at + span.len as usize;
            let encoded = Encoded {
                bytes: &self.bytes[at..end],
                end_time: span.end_time,
            };
            take(usize::from(span.lane), &encoded);
            at = end;
        }
        self.len = 0;
        self.spans.clear();
    }
}
