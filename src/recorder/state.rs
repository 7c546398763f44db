//! The mutable state of a recorder, and the decisions about held traces, which need all of it.

use crate::otlp::draft::Draft;
use crate::recorder::hold::{Decision, HeldTraces, Hold};
use crate::recorder::scratch::ScratchPool;
use crate::recorder::writer::Writer;
use crate::stats::refused::Refused;

/// State of a recorder that changes when spans start and end.
pub(super) struct RecorderState {
    pub(super) writer: Writer,
    pub(super) scratch: ScratchPool,
    pub(super) held: HeldTraces,
}

impl RecorderState {
    /// Ends a span of a held trace.
    pub(super) fn end_held(
        &mut self,
        draft: &Draft,
        lane: usize,
        hold: Hold,
        end_time: u64,
    ) -> Result<(), Refused> {
        let trace = self.held.trace(hold);
        if draft.content.has_failed() {
            trace.note_failure();
        }
        if hold.decides && trace.decision() == Decision::Pending {
            let nanos = end_time.saturating_sub(draft.start_time);
            if trace.is_kept(draft.ids.trace_id, nanos) {
                self.keep(hold);
            } else {
                self.drop_trace(hold);
            }
        }
        let result = self.write_held(draft, lane, hold, end_time);
        self.held.leave(hold);
        result
    }

    /// Writes, holds or drops a span by its trace's decision.
    fn write_held(
        &mut self,
        draft: &Draft,
        lane: usize,
        hold: Hold,
        end_time: u64,
    ) -> Result<(), Refused> {
        let trace = self.held.trace(hold);
        let span = draft.ended(end_time);
        match trace.decision() {
            Decision::Dropped => {
                self.writer.counters().sample_out(1);
                return Ok(());
            }
            Decision::Pending if self.writer.check_open().is_err() => {}
            Decision::Pending if trace.push(lane, &span) => {
                self.writer.counters().set_held(self.held.count(1, 0));
                return Ok(());
            }
            // The trace has outgrown its memory.
            Decision::Pending => self.keep(hold),
            Decision::Kept => {}
        }
        self.writer.write(lane, &span)
    }

    /// Keeps a trace: writes its held spans.
    pub(super) fn keep(&mut self, hold: Hold) {
        let trace = self.held.trace(hold);
        let spans = trace.spans();
        trace.decide(Decision::Kept);
        trace.drain(|lane, span| {
            // The writer counts spans that it refuses.
            let _ = self.writer.write(lane, span);
        });
        self.writer.counters().set_held(self.held.count(0, spans));
    }

    fn drop_trace(&mut self, hold: Hold) {
        let trace = self.held.trace(hold);
        let spans = trace.spans();
        trace.decide(Decision::Dropped);
        self.writer.counters().sample_out(spans);
        self.writer.counters().set_held(self.held.count(0, spans));
    }
}
