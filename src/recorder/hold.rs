//! Finished spans that wait for their local root's decision.
//!
//! They wait beside the slabs, not uncommitted at the end of one: so traces can be interleaved, an
//! undecided one holds up no other span, and memory that is dropped and used again stays in the
//! cache. A kept trace costs one more copy for it.

use crate::otlp::SPILL;
use crate::otlp::encode::{EncodeSpan, Encoded};
use crate::span::id::TraceId;
use crate::span::sampler::{KeepIf, TailSampling};

/// A span's place in a held trace.
#[derive(Clone, Copy)]
pub(super) struct Hold {
    trace: u32,
    /// The span is the local root, whose end decides.
    pub(super) decides: bool,
}

/// What became of a held trace so far.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Pending,
    Kept,
    Dropped,
}

/// The traces that a recorder holds back.
pub(super) struct HeldTraces {
    traces: Vec<HeldTrace>,
    free: Vec<u32>,
    rule: KeepIf,
    /// In all traces.
    spans: u64,
}

/// The finished spans of one trace.
pub(super) struct HeldTrace {
    bytes: Box<[u8]>,
    len: usize,
    spans: Vec<HeldSpan>,
    /// Spans that were started and have not ended.
    open: u32,
    failed: bool,
    decision: Decision,
    rule: KeepIf,
    /// What a span of it asked for, whatever the rule says.
    wish: Option<bool>,
}

#[derive(Clone, Copy)]
struct HeldSpan {
    lane: u16,
    len: u32,
    end_time: u64,
}

/// A span is reckoned to take so many bytes: for as many there are places.
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

    /// Begins to hold the trace of a local root; `None` if so many are held already.
    #[inline]
    pub(super) fn begin(&mut self, rule: Option<KeepIf>) -> Option<Hold> {
        let trace = self.free.pop()?;
        self.traces[trace as usize].begin(rule.unwrap_or(self.rule));
        Some(Hold {
            trace,
            decides: true,
        })
    }

    /// One more span of a held trace is started.
    #[inline]
    pub(super) fn join(&mut self, parent: Hold) -> Hold {
        self.trace(parent).open += 1;
        Hold {
            decides: false,
            ..parent
        }
    }

    /// A span of a held trace has ended. When all have, the place is free for another trace.
    #[inline]
    pub(super) fn leave(&mut self, hold: Hold) {
        let trace = self.trace(hold);
        trace.open -= 1;
        if trace.open == 0 {
            self.free.push(hold.trace);
        }
    }

    /// The traces of which spans are held back.
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

    /// How many spans are held back, now that there are so many more or fewer.
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
            // Not zeros: so that it is touched.
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
            wish: None,
        }
    }

    fn begin(&mut self, rule: KeepIf) {
        self.len = 0;
        self.spans.clear();
        self.open = 1;
        self.failed = false;
        self.decision = Decision::Pending;
        self.rule = rule;
        self.wish = None;
    }

    pub(super) fn decision(&self) -> Decision {
        self.decision
    }

    pub(super) fn decide(&mut self, decision: Decision) {
        self.decision = decision;
    }

    /// What the root's end is to do, whatever its rule says.
    pub(super) fn wish(&mut self, keep: bool) {
        self.wish = Some(keep);
    }

    /// Whether its spans are kept, now that its root took so long.
    pub(super) fn is_kept(&self, trace_id: TraceId, nanos: u64) -> bool {
        self.wish
            .unwrap_or_else(|| self.rule.keeps(trace_id, nanos, self.failed))
    }

    pub(super) fn note_failure(&mut self) {
        self.failed = true;
    }

    /// Holds back one span; false if there is no room.
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

    /// How many spans are held back.
    pub(super) fn spans(&self) -> u64 {
        self.spans.len() as u64
    }

    /// Gives the spans that are held back, in order, and their lanes.
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
