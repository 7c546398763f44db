//! Creates recorders, and lends shared ones for the duration of a call.
//!
//! If every short-lived thread had its own recorder, each would need a slab and would have to
//! return it when the thread ends. So `collect` borrows a shared recorder: the one this thread used
//! last, else the next that is free, else a new one. There are as many as concurrent calls, not as
//! threads. For a span with an instrumentation scope of its own, it is always the recorder that has
//! the scope's lane.

use std::cell::Cell;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::Sender;
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use crate::config::Overflow;
use crate::processor::NewLane;
use crate::recorder::Recorder;
use crate::recorder::writer::{Lanes, Writer};
use crate::shared::Shared;
use crate::span::Span;
use crate::span::scope::Scope;
use crate::stats::refused::Refused;

/// Maximum wait for a shared recorder, unless `Overflow::Block` sets another limit.
const WAIT: Duration = Duration::from_millis(100);

/// Creates a collector's recorders and owns the shared ones.
pub(crate) struct Recorders {
    shared: Arc<Shared>,
    arrivals: Sender<NewLane>,
    /// Shared recorders, created on first use.
    slots: Box<[Slot]>,
    /// Number of shared recorders created so far.
    made: AtomicUsize,
    /// Number of leading slots used so far: at most the peak of concurrent calls.
    used: AtomicUsize,
    /// Lanes of dropped recorders, for new recorders.
    idle: Mutex<Vec<Lanes>>,
    this: Weak<Self>,
}

type Slot = CachePadded<Mutex<Option<Recorder>>>;

thread_local! {
    /// The slot that this thread tries first.
    static SLOT: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed))
    };
}

impl Recorders {
    /// Allows for `leases` shared recorders.
    pub(crate) fn new(shared: Arc<Shared>, arrivals: Sender<NewLane>, leases: usize) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            shared,
            arrivals,
            slots: (0..leases).map(|_| Slot::default()).collect(),
            made: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            idle: Mutex::default(),
            this: Weak::clone(this),
        })
    }

    /// Creates a recorder; `None` if there are `max` already, without the shared ones.
    pub(crate) fn recorder(&self, max: usize) -> Option<Recorder> {
        let idle = self.idle.lock().pop();
        if let Some(lanes) = idle {
            let writer = Writer::with_lanes(lanes, self.arrivals.clone());
            return Some(self.recorder_of(writer, true));
        }
        let with_leases = max + self.made.load(Ordering::Relaxed);
        self.make(with_leases, false).ok()
    }

    /// Records a span from a thread without a recorder.
    pub(crate) fn collect(&self, mut span: Span) -> Result<(), Refused> {
        let scope = span.scope.clone();
        self.with_recorder(scope.as_ref(), |recorder| recorder.record_owned(&mut span))
    }

    /// Runs `record` with exclusive use of a shared recorder, for a span of this scope.
    pub(super) fn with_recorder(
        &self,
        scope: Option<&Scope>,
        record: impl FnOnce(&Recorder) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        if self.shared.signal.is_forked() {
            // At the fork another thread may have been using a recorder, which is inconsistent now.
            return Err(self.shared.refuse(Refused::Forked));
        }
        let mut slot = self.lease(scope)?;
        let recorder = match &mut *slot {
            Some(recorder) => recorder,
            none => {
                let made = self.make(usize::MAX, true);
                let made = made.map_err(|why| self.shared.refuse(why))?;
                self.made.fetch_add(1, Ordering::Relaxed);
                none.insert(made)
            }
        };
        record(recorder)
    }

    /// Creates a recorder with new lanes. Lent recorders have no memory for open spans.
    fn make(&self, max: usize, is_lent: bool) -> Result<Recorder, Refused> {
        let shared = Arc::clone(&self.shared);
        let counters = shared.counters.register(max).ok_or(Refused::NoSlab)?;
        let arrivals = self.arrivals.clone();
        let writer = Writer::new(shared, counters, arrivals, is_lent)?;
        Ok(self.recorder_of(writer, !is_lent))
    }

    fn recorder_of(&self, writer: Writer, with_spans: bool) -> Recorder {
        let this = Weak::clone(&self.this);
        Recorder::new(Arc::clone(&self.shared), writer, this, with_spans)
    }

    /// Keeps the lanes of a dropped recorder for a new one.
    pub(super) fn retire(&self, writer: &mut Writer) {
        // In a fork the lock may be held by a thread that does not exist.
        if !self.shared.signal.is_forked() {
            self.idle.lock().push(writer.take_lanes());
        }
    }

    /// Drops the lanes of one dropped recorder. Returns false if there are none.
    pub(super) fn evict(&self) -> bool {
        !self.shared.signal.is_forked() && self.idle.lock().pop().is_some()
    }

    fn lease(&self, scope: Option<&Scope>) -> Result<MutexGuard<'_, Option<Recorder>>, Refused> {
        match scope {
            None => self.any_free(),
            // Always the same recorder for a scope. Otherwise every shared recorder would have a slab
            // for every scope, with few spans in each.
            Some(scope) => self.wait_for(scope.id() as usize),
        }
    }

    fn any_free(&self) -> Result<MutexGuard<'_, Option<Recorder>>, Refused> {
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

    fn wait_for(&self, slot: usize) -> Result<MutexGuard<'_, Option<Recorder>>, Refused> {
        let wait = match self.shared.settings.config.overflow {
            Overflow::Block { timeout_ms } => Duration::from_millis(timeout_ms),
            Overflow::Refuse | Overflow::DropOldest => WAIT,
        };
        self.slots[slot % self.slots.len()]
            .try_lock_for(wait)
            .ok_or_else(|| self.shared.refuse(Refused::NoRecorder))
    }
}

impl Drop for Recorders {
    fn drop(&mut self) {
        if self.shared.signal.is_forked() {
            // As in `Writer::drop`. Also, a recorder that another thread was using is inconsistent.
            mem::forget(mem::take(&mut self.slots));
            mem::forget(mem::take(self.idle.get_mut()));
            mem::forget(self.arrivals.clone());
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
        let recorders = Recorders::new(Arc::clone(&shared), arrivals, 2);
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
