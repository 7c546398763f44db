//! Makes recorders, and lends them to threads that have none for the time of a call.
//!
//! Threads that come and go by the thousand would each need a slab if each kept a recorder of
//! its own, and would have to give both back when they end. So each call borrows one instead:
//! the one this thread used before, or the next that is not in use, and a new one only if all are:
//! so there are as many as calls at a time, not as threads. For a span of an instrumentation scope
//! of its own it is the one that has a lane for it.

use std::cell::Cell;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::Sender;
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use crate::config::Overflow;
use crate::processor::Arrival;
use crate::recorder::Recorder;
use crate::recorder::writer::{Lanes, Writer};
use crate::shared::Shared;
use crate::span::Span;
use crate::span::scope::Scope;
use crate::stats::refused::Refused;

/// How long a call waits for a recorder when all are in use, unless `Overflow::Block` says else.
const WAIT: Duration = Duration::from_millis(100);

/// Where a collector's recorders come from.
pub(crate) struct Recorders {
    shared: Arc<Shared>,
    arrivals: Sender<Arrival>,
    /// To be lent, made when first used.
    slots: Box<[Slot]>,
    made: AtomicUsize,
    /// So many of the slots, from the first on, were used so far: no more than calls at a time.
    used: AtomicUsize,
    /// Of recorders that are gone, for the next ones.
    idle: Mutex<Vec<Lanes>>,
    this: Weak<Self>,
}

type Slot = CachePadded<Mutex<Option<Recorder>>>;

thread_local! {
    /// Where this thread looks first.
    static SLOT: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed))
    };
}

impl Recorders {
    /// `leases` of them are to be lent.
    pub(crate) fn new(shared: Arc<Shared>, arrivals: Sender<Arrival>, leases: usize) -> Arc<Self> {
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

    /// A new recorder, or `None` if there are `max` already besides those to be lent.
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

    /// Runs `record` with a recorder that nobody else uses meanwhile, for a span of this scope.
    pub(super) fn with_recorder(
        &self,
        scope: Option<&Scope>,
        record: impl FnOnce(&Recorder) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        if self.shared.signal.is_forked() {
            // Another thread may have held a recorder at the fork, in whatever state.
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

    /// Only one that is not to be lent has memory for open spans.
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

    /// Keeps what a recorder that ends leaves to the next one.
    pub(super) fn retire(&self, writer: &mut Writer) {
        // In a fork another thread may have held the lock.
        if !self.shared.signal.is_forked() {
            self.idle.lock().push(writer.take_lanes());
        }
    }

    /// Gives up the lanes of a recorder that is gone; false if there are none.
    pub(super) fn evict(&self) -> bool {
        !self.shared.signal.is_forked() && self.idle.lock().pop().is_some()
    }

    fn lease(&self, scope: Option<&Scope>) -> Result<MutexGuard<'_, Option<Recorder>>, Refused> {
        match scope {
            None => self.any_free(),
            // Always the same for a scope: if each recorder wrote to each, there would be as many
            // slabs, filled with few spans each.
            Some(scope) => self.wait_for(scope.id() as usize),
        }
    }

    fn any_free(&self) -> Result<MutexGuard<'_, Option<Recorder>>, Refused> {
        let first = SLOT.with(Cell::get);
        let used = self.used.load(Ordering::Relaxed);
        // Those that were used before, then one more.
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
            // As a writer does; and a recorder that another thread used at the fork is torn.
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
