//! One thread's side of a collector: ids, free cells, counters, and the slabs it writes.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Sender;
use crossbeam_utils::CachePadded;

use crate::buffer::Decision;
use crate::otlp::draft::{DraftMemory, Ended};
use crate::otlp::encode::EncodeSpan;
use crate::processor::NewLane;
use crate::recorder::home::{CellsOwner, Home, SpanCell, SpanCells, SpanMagazine};
use crate::recorder::lanes::{IdleLanes, Lanes};
use crate::recorder::writer::Writer;
use crate::shared::Shared;
use crate::span::context::TraceFlags;
use crate::span::id::{SpanId, TraceId};
use crate::span::id_generator::Ids;
use crate::span::limits::SpanLimits;
use crate::span::sampler::KeepIf;
use crate::span::scope::Scope;
use crate::stats::counters::RecorderCounters;
use crate::stats::refused::Refused;

/// The lane of the collector's own scope.
pub(super) const OWN_SCOPE: usize = 0;

/// One thread's side of a collector.
///
/// Nothing of it is borrowed while the user's code runs, except its ids while a generator does.
pub(super) struct ThreadRecorder {
    writer: RefCell<Writer>,
    magazine: RefCell<SpanMagazine>,
    ids: RefCell<Ids>,
    counters: Arc<CachePadded<RecorderCounters>>,
    /// Whether the counters are added to the collector's when this recorder is dropped. It then has no
    /// slab.
    is_without_place: bool,
    /// Whether a span was written by a shared recorder, since there was no slab here yet.
    has_borrowed: Cell<bool>,
    cells: &'static SpanCells,
    parts: RecorderParts,
}

/// Parts that all recorders of a collector share.
#[derive(Clone)]
pub(super) struct RecorderParts {
    pub(super) shared: Arc<Shared>,
    pub(super) cells: Arc<CellsOwner>,
    pub(super) idle: Arc<IdleLanes>,
    pub(super) arrivals: Sender<NewLane>,
}

impl ThreadRecorder {
    pub(super) fn new(lanes: Lanes, ids: Ids, parts: RecorderParts) -> Self {
        let shared = Arc::clone(&parts.shared);
        Self {
            counters: Arc::clone(&lanes.counters),
            writer: RefCell::new(Writer::new(lanes, parts.arrivals.clone(), shared)),
            magazine: RefCell::new(SpanMagazine::new(parts.cells.cells())),
            ids: RefCell::new(ids),
            is_without_place: false,
            has_borrowed: Cell::new(false),
            cells: parts.cells.cells(),
            parts,
        }
    }

    /// Creates a recorder for one call, when there are no counters left.
    pub(super) fn without_place(ids: Ids, parts: RecorderParts) -> Self {
        let lanes = Lanes::none(Arc::clone(&parts.shared), Arc::default(), false);
        let mut recorder = Self::new(lanes, ids, parts);
        recorder.is_without_place = true;
        recorder
    }

    /// Prepares to write held spans at a shutdown, which waits no longer than until `deadline`.
    pub(super) fn prepare_for_shutdown(&mut self, deadline: Instant) {
        self.writer.get_mut().wait_until(deadline);
        // A shared recorder would wait longer.
        self.has_borrowed.set(true);
    }

    pub(super) fn set_ids(&mut self, ids: Ids) {
        *self.ids.get_mut() = ids;
    }

    /// Adds the lane of the collector's own scope, if need be instead of lanes that are idle.
    pub(super) fn open(&self) -> Result<(), Refused> {
        loop {
            let mut writer = self.writer.borrow_mut();
            if writer.is_open() {
                return Ok(());
            }
            let opened = writer.open();
            if opened != Err(Refused::NoSlab) || !self.parts.idle.evict() {
                return opened;
            }
        }
    }

    #[inline]
    pub(super) fn shared(&self) -> &Shared {
        &self.parts.shared
    }

    #[inline]
    pub(super) fn counters(&self) -> &RecorderCounters {
        &self.counters
    }

    #[inline]
    pub(super) fn cells(&self) -> &'static SpanCells {
        self.cells
    }

    fn home(&self) -> &'static Home {
        &self.cells().owner
    }

    #[inline]
    pub(super) fn limits(&self) -> &SpanLimits {
        &self.shared().span_settings.limits
    }

    /// Returns whether the collector is gone.
    pub(super) fn is_orphaned(&self) -> bool {
        self.home().host().is_err()
    }

    // ---- Ids ----

    /// Returns ids for a new span, the trace's too if it has none, and the flag of new traces.
    #[inline(always)]
    pub(super) fn new_ids(&self, trace_id: Option<TraceId>) -> (TraceId, SpanId, TraceFlags) {
        self.with_ids(
            #[inline(always)]
            |ids| {
                let (trace_id, span_id, is_random) = ids.for_span(trace_id);
                let flags = if is_random {
                    TraceFlags::RANDOM
                } else {
                    TraceFlags::NONE
                };
                (trace_id, span_id, flags)
            },
        )
    }

    /// Runs `make` with this recorder's ids; with random ones within a call of a user's generator.
    #[inline(always)]
    pub(super) fn with_ids<R>(&self, make: impl Fn(&mut Ids) -> R) -> R {
        match self.ids.try_borrow_mut() {
            Ok(mut ids) => make(&mut ids),
            Err(_) => with_random_ids(make),
        }
    }

    // ---- Cells ----

    /// Takes a cell for a new span; `None` if all are in use.
    #[inline(always)]
    pub(super) fn take_cell(&self) -> Option<SpanCell> {
        self.magazine.borrow_mut().take()
    }

    /// Takes a small cell from the heap, which holds little more than ids, times and a short name.
    #[cold]
    pub(super) fn take_extra_cell(&self) -> SpanCell {
        self.cells().allocate_extra()
    }

    /// Holds the trace of a new local root, with tail sampling.
    #[inline(always)]
    pub(super) fn begin_trace(&self, cell: &mut SpanCell, rule: Option<KeepIf>) {
        let shared = self.shared();
        if shared.span_settings.holds_traces
            && let Some(sampling) = &shared.settings.config.tail_sampling
        {
            cell.begin_trace(&rule.unwrap_or(sampling.keep_if));
        }
    }

    /// Takes the cell of an ended span back.
    #[inline(always)]
    pub(super) fn give_back(&self, cell: SpanCell) {
        self.magazine.borrow_mut().give(cell);
    }

    // ---- Writing ----

    /// Writes a finished span to a lane.
    #[inline(always)]
    pub(super) fn write_to(&self, lane: usize, span: &impl EncodeSpan) -> Result<(), Refused> {
        self.writer.borrow_mut().write(lane, span)
    }

    pub(super) fn refuse(&self, why: Refused) -> Refused {
        self.writer.borrow().refuse(why)
    }

    /// Returns the lane for finished spans of this scope.
    pub(super) fn lane(&self, scope: Option<&Scope>) -> Result<usize, Refused> {
        let Some(scope) = scope else {
            return Ok(OWN_SCOPE);
        };
        let lane = if self.shared().scopes.contains(scope) {
            self.lane_of(scope)
        } else {
            Err(Refused::UnknownScope)
        };
        lane.map_err(|why| self.refuse(why))
    }

    /// Returns the lane of a scope of this collector. Idle lanes make room for it.
    pub(super) fn lane_of(&self, scope: &Scope) -> Result<usize, Refused> {
        loop {
            let lane = self.writer.borrow_mut().lane(scope);
            if lane != Err(Refused::NoSlab) || !self.parts.idle.evict() {
                return lane;
            }
        }
    }

    /// Writes an ended span of the scope with this number.
    #[inline(always)]
    pub(super) fn write(&self, scope: u16, span: &Ended<'_>) -> Result<(), Refused> {
        if scope == 0 {
            let mut writer = self.writer.borrow_mut();
            if writer.is_open() {
                return writer.write(OWN_SCOPE, span);
            }
        }
        self.write_elsewhere(scope, span)
    }

    /// Writes a span for which there may be no lane yet.
    ///
    /// The first span of a thread is written by a shared recorder. Hundreds of threads that end one span
    /// each therefore need few slabs.
    #[cold]
    #[inline(never)]
    fn write_elsewhere(&self, scope: u16, span: &Ended<'_>) -> Result<(), Refused> {
        if self.shared().signal.is_closed() {
            return Err(self.refuse(self.shared().signal.why_closed()));
        }
        let is_first = !self.writer.borrow().is_open() && !self.has_borrowed.replace(true);
        let lane = if is_first || self.is_without_place {
            Err(Refused::NoSlab)
        } else {
            self.open().and_then(|()| self.lane_by_id(scope))
        };
        match lane {
            Ok(lane) => self.write_to(lane, span),
            Err(Refused::NoSlab) => match self.home().host() {
                Ok(host) => host.write(scope, span),
                Err(why) => Err(self.refuse(why)),
            },
            Err(why) => Err(self.refuse(why)),
        }
    }

    fn lane_by_id(&self, scope: u16) -> Result<usize, Refused> {
        if scope == 0 {
            return Ok(OWN_SCOPE);
        }
        let scope = u32::from(scope);
        let lane = self.writer.borrow_mut().lanes_mut().position(scope);
        if let Some(lane) = lane {
            return Ok(lane);
        }
        let scope = self.shared().scopes.scope(scope);
        self.lane_of(&scope.ok_or(Refused::UnknownScope)?)
    }

    // ---- Ending spans ----

    /// Ends a sampled span.
    #[inline(always)]
    pub(super) fn end(&self, cell: SpanCell, end_time: u64) -> Result<(), Refused> {
        self.counters.end();
        if cell.is_in_trace() {
            return self.end_in_trace(cell, end_time);
        }
        let result = self.write(cell.state().scope, &cell.ended(end_time));
        self.give_back(cell);
        result
    }

    /// Ends a span of a held trace: writes, holds or drops it by its trace's decision.
    #[inline(never)]
    fn end_in_trace(&self, mut cell: SpanCell, end_time: u64) -> Result<(), Refused> {
        if cell.head().has_failed() {
            cell.note_failure();
        }
        if cell.state().is_local_root && cell.trace_decision() == Decision::Pending {
            let nanos = end_time.saturating_sub(cell.head().start_time());
            let wanted = cell.wanted_decision(cell.head().ids().trace_id, nanos);
            self.decide(&cell, wanted);
        }
        if cell.trace_decision() == Decision::Pending && !self.shared().signal.is_closed() {
            cell.state_mut().end_time = end_time;
            // Counted before other threads can take it.
            self.counters.hold(1);
            match cell.hold(self.home().options.held_trace_bytes) {
                Ok(membership) => {
                    // A shutdown looks for held spans after it has closed the signal.
                    if self.shared().signal.is_closed_for_sure() {
                        self.settle(membership.decide(Decision::Kept), Decision::Kept);
                    }
                    return Ok(());
                }
                Err(refused) => cell = refused,
            }
            self.counters.release(1);
            self.keep_early(&cell);
        }
        let result = match cell.trace_decision() {
            Decision::Dropped => {
                self.counters.sample_out(1);
                Ok(())
            }
            Decision::Kept | Decision::Pending => {
                self.write(cell.state().scope, &cell.ended(end_time))
            }
        };
        cell.leave_trace();
        self.give_back(cell);
        result
    }

    /// Keeps a trace before its local root has ended, unless it is decided.
    #[cold]
    pub(super) fn keep_early(&self, cell: &SpanCell) {
        if cell.is_in_trace() && cell.trace_decision() == Decision::Pending {
            let spans = self.decide(cell, Decision::Kept);
            self.counters.keep_early(spans);
        }
    }

    fn decide(&self, cell: &SpanCell, decision: Decision) -> u64 {
        self.settle(cell.decide(decision), decision)
    }

    /// Writes or drops spans that were held, and returns their number.
    pub(super) fn settle(&self, held: impl Iterator<Item = SpanCell>, decision: Decision) -> u64 {
        let mut spans = 0;
        for cell in held {
            spans += 1;
            if decision == Decision::Kept {
                let span = cell.ended(cell.state().end_time);
                // The writer counts spans that it refuses.
                let _ = self.write(cell.state().scope, &span);
            } else {
                self.counters.sample_out(1);
            }
            self.counters.release(1);
            self.give_back(cell);
        }
        spans
    }
}

#[cold]
#[inline(never)]
fn with_random_ids<R>(make: impl Fn(&mut Ids) -> R) -> R {
    make(&mut Ids::random())
}

impl Drop for ThreadRecorder {
    fn drop(&mut self) {
        if self.is_without_place {
            self.shared().counters.absorb(&self.counters);
            return;
        }
        self.parts.idle.retire(self.writer.get_mut().lanes_mut());
    }
}
