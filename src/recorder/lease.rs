//! Creates recorders, and lends shared ones for the duration of a call.
//!
//! If every thread had its own slab, many threads that record one span each would need much memory.
//! So `collect`, and a thread that ends its first span, borrow a shared recorder: the one this thread
//! used last, else the next that is free, else a new one. There are as many as concurrent calls, not
//! as threads. For a span with an instrumentation scope of its own, it is always the recorder that has
//! the scope's lane.

use std::cell::Cell;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use crate::buffer::Decision;
use crate::config::Overflow;
use crate::error::Error;
use crate::otlp::draft::Ended;
use crate::otlp::finished::Finished;
use crate::platform::clock::unix_nanos;
use crate::processor::NewLane;
use crate::recorder::home::{CellsOwner, Host};
use crate::recorder::lanes::{IdleLanes, Lanes};
use crate::recorder::thread_recorder::{RecorderParts, ThreadRecorder};
use crate::shared::Shared;
use crate::span::Span;
use crate::span::id_generator::Ids;
use crate::span::scope::Scope;
use crate::stats::counters::RecorderCounters;
use crate::stats::refused::Refused;

/// Maximum wait for a shared recorder, unless `Overflow::Block` sets another limit.
const WAIT: Duration = Duration::from_millis(100);

/// Creates a collector's recorders and owns the shared ones.
pub(crate) struct Recorders {
    parts: RecorderParts,
    /// Shared recorders, created on first use.
    slots: Box<[Slot]>,
    /// Number of leading slots used so far: at most the peak of concurrent calls.
    used: AtomicUsize,
    /// Number of shared recorders. Counters are reserved for all that can be.
    shared_recorders: AtomicUsize,
}

type Slot = CachePadded<Mutex<Option<ThreadRecorder>>>;

thread_local! {
    /// The slot that this thread tries first.
    static SLOT: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed))
    };
}

impl Recorders {
    /// Allocates the memory of open spans. Allows for `leases` shared recorders.
    pub(crate) fn new(
        shared: Arc<Shared>,
        arrivals: Sender<NewLane>,
        leases: usize,
    ) -> Result<Arc<Self>, Error> {
        let parts = RecorderParts {
            cells: Arc::new(CellsOwner::new(&shared.settings)?),
            idle: Arc::new(IdleLanes::new(Arc::clone(&shared))),
            shared,
            arrivals,
        };
        let recorders = Arc::new(Self {
            slots: (0..leases).map(|_| Slot::default()).collect(),
            used: AtomicUsize::new(0),
            shared_recorders: AtomicUsize::new(0),
            parts,
        });
        let host: Weak<Self> = Arc::downgrade(&recorders);
        recorders.parts.cells.set_host(host);
        Ok(recorders)
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.parts.shared.settings.config.disabled
    }

    pub(super) fn cells(&self) -> &CellsOwner {
        &self.parts.cells
    }

    /// Returns the cells' owner, which keeps other collectors from using them.
    #[cfg(feature = "tracing")]
    pub(super) fn cells_owner(&self) -> Arc<CellsOwner> {
        Arc::clone(&self.parts.cells)
    }

    /// Creates a recorder for the calling thread, which has no slab unless another recorder has left
    /// some; `None` if there are too many recorders.
    pub(super) fn create(&self) -> Option<ThreadRecorder> {
        let shared = &self.parts.shared;
        let lanes = match self.parts.idle.pop() {
            Some(lanes) => lanes,
            None => Lanes::none(Arc::clone(shared), self.counters()?, false),
        };
        // Made first: if a generator of the user's cannot be made, the recorder gives the lanes back.
        let mut recorder = ThreadRecorder::new(lanes, Ids::unused(), self.parts.clone());
        recorder.set_ids(shared.ids());
        Some(recorder)
    }

    /// Creates a recorder for one call, where no other can be had, and that starts spans.
    pub(super) fn create_starting(&self) -> ThreadRecorder {
        self.create_temporary(self.parts.shared.ids())
    }

    /// Creates a recorder for one call, where no other can be had, and that only ends spans.
    pub(super) fn create_ending(&self) -> ThreadRecorder {
        self.create_temporary(Ids::unused())
    }

    fn create_temporary(&self, ids: Ids) -> ThreadRecorder {
        match self.counters() {
            Some(counters) => {
                let lanes = Lanes::none(Arc::clone(&self.parts.shared), counters, false);
                ThreadRecorder::new(lanes, ids, self.parts.clone())
            }
            None => ThreadRecorder::without_place(ids, self.parts.clone()),
        }
    }

    /// Returns counters for a recorder of this thread; `None` if all are in use.
    fn counters(&self) -> Option<Arc<CachePadded<RecorderCounters>>> {
        // At a fork another thread may have been about to make some, which this would wait for.
        if self.parts.shared.signal.is_forked() {
            return None;
        }
        let shared_recorders = self.shared_recorders.load(Ordering::Relaxed);
        let reserved = self.slots.len() - shared_recorders;
        self.parts.shared.counters.register(reserved)
    }

    /// Records a finished span from any thread; one that has not ended ends now.
    pub(crate) fn collect(&self, mut span: Span) -> Result<(), Refused> {
        if span.end_time == 0 {
            span.end_time = unix_nanos();
        }
        self.with_recorder(span.scope.as_ref(), |recorder| {
            let lane = recorder.lane(span.scope.as_ref())?;
            let finished = Finished {
                span: &span,
                tuple: (),
                limits: recorder.limits(),
            };
            recorder.write_to(lane, &finished)
        })
    }

    /// Writes the spans of all held traces that are not decided yet, for the shutdown at `deadline`.
    pub(crate) fn keep_held(&self, deadline: Instant) {
        let cells = self.parts.cells.cells();
        if cells.sizes().traces > 0 {
            let mut recorder = self.create_ending();
            recorder.prepare_for_shutdown(deadline);
            recorder.settle(cells.decide_all(Decision::Kept), Decision::Kept);
        }
    }

    /// Runs `record` with exclusive use of a shared recorder, for a span of this scope.
    pub(super) fn with_recorder<R>(
        &self,
        scope: Option<&Scope>,
        record: impl FnOnce(&ThreadRecorder) -> Result<R, Refused>,
    ) -> Result<R, Refused> {
        let shared = &self.parts.shared;
        if shared.signal.is_forked() {
            // At the fork another thread may have been using a recorder, which is inconsistent now.
            return Err(shared.refuse(Refused::Forked));
        }
        let mut slot = self.lease(scope)?;
        let recorder = match &mut *slot {
            Some(recorder) => recorder,
            none => none.insert(self.create_shared().map_err(|why| shared.refuse(why))?),
        };
        record(recorder)
    }

    fn create_shared(&self) -> Result<ThreadRecorder, Refused> {
        let shared = &self.parts.shared;
        let counters = shared.counters.register(0).ok_or(Refused::NoRecorder)?;
        let lanes = Lanes::none(Arc::clone(shared), counters, true);
        let recorder = ThreadRecorder::new(lanes, Ids::unused(), self.parts.clone());
        recorder.open()?;
        self.shared_recorders.fetch_add(1, Ordering::Relaxed);
        Ok(recorder)
    }

    fn lease(
        &self,
        scope: Option<&Scope>,
    ) -> Result<MutexGuard<'_, Option<ThreadRecorder>>, Refused> {
        match scope {
            None => self.any_free(),
            // Always the same recorder for a scope. Otherwise every shared recorder would have a slab
            // for every scope, with few spans in each.
            Some(scope) => self.wait_for(scope.id() as usize),
        }
    }

    fn any_free(&self) -> Result<MutexGuard<'_, Option<ThreadRecorder>>, Refused> {
        let first = SLOT.with(Cell::get);
        let used = self.used.load(Ordering::Relaxed);
        // Slots in use so far, then unused ones.
        let candidates = (0..used)
            .map(|offset| (first + offset) % used)
            .chain(used..self.slots.len());
        for index in candidates {
            if let Some(slot) = self.slots[index].try_lock() {
                SLOT.set(index);
                self.used.fetch_max(index + 1, Ordering::Relaxed);
                return Ok(slot);
            }
        }
        self.wait_for(first)
    }

    fn wait_for(&self, slot: usize) -> Result<MutexGuard<'_, Option<ThreadRecorder>>, Refused> {
        let wait = match self.parts.shared.settings.config.overflow {
            Overflow::Block { timeout_ms } => Duration::from_millis(timeout_ms),
            Overflow::Refuse | Overflow::DropOldest => WAIT,
        };
        self.slots[slot % self.slots.len()]
            .try_lock_for(wait)
            .ok_or_else(|| self.parts.shared.refuse(Refused::NoRecorder))
    }
}

impl Host for Recorders {
    fn write(&self, scope: u16, span: &Ended<'_>) -> Result<(), Refused> {
        let found = self.parts.shared.scopes.scope(scope.into());
        if found.is_none() && scope != 0 {
            return Err(self.parts.shared.refuse(Refused::UnknownScope));
        }
        self.with_recorder(found.as_ref(), |recorder| {
            let lane = recorder.lane(found.as_ref())?;
            recorder.write_to(lane, span)
        })
    }
}

impl Drop for Recorders {
    fn drop(&mut self) {
        if self.parts.shared.signal.is_forked() {
            // As in `Writer::drop`. Also, a recorder that another thread was using is inconsistent.
            mem::forget(mem::take(&mut self.slots));
            mem::forget(self.parts.clone());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use crossbeam_channel::unbounded;

    use super::*;
    use crate::buffer::Signal;
    use crate::config::{Config, Settings};
    use crate::span::scope::InstrumentationScope;

    #[test]
    fn contention_is_counted_as_no_recorder_and_not_as_a_full_buffer() {
        let config = Config {
            overflow: Overflow::Block { timeout_ms: 1 },
            ..Config::default()
        };
        let settings = Settings::new(&config).unwrap();
        let shared = Arc::new(Shared::new(settings, Signal::new(|| ())).unwrap());
        let (arrivals, _processor) = unbounded();
        let recorders = Recorders::new(Arc::clone(&shared), arrivals, 2).unwrap();
        let scope = shared
            .settings
            .envelope
            .scope(InstrumentationScope::new("scope"));
        let in_scope = Span {
            scope: Some(scope.unwrap()),
            ..Span::new("in scope")
        };
        let in_use: Vec<_> = recorders.slots.iter().map(|slot| slot.lock()).collect();
        for span in [Span::new("span"), in_scope.clone()] {
            assert_eq!(recorders.collect(span), Err(Refused::NoRecorder));
        }
        drop(in_use);
        assert_eq!(recorders.collect(in_scope), Ok(()));
        let ledger = shared.counters.ledger();
        assert_eq!((ledger.accepted, ledger.refused.no_recorder), (1, 2));
        assert_eq!(ledger.refused.total(), 2);
    }
}
