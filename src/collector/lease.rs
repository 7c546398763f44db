//! Recorders for `collect`: a thread uses one for the time of a call.
//!
//! Threads that come and go by the thousand would each need a slab if each kept a recorder of
//! its own, and would have to give both back when they end. So each call borrows one instead:
//! the one this thread used before, or the next that is not in use.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use crate::config::Overflow;
use crate::recorder::Recorder;
use crate::refused::Refused;
use crate::shared::Shared;

/// How long a call waits for a recorder when all are in use, unless `Overflow::Block` says else.
const WAIT: Duration = Duration::from_millis(100);

pub(super) struct Leases {
    /// Made when first used.
    slots: Box<[Slot]>,
    made: AtomicUsize,
}

type Slot = CachePadded<Mutex<Option<Recorder>>>;

thread_local! {
    /// Where this thread looks first.
    static SLOT: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed))
    };
}

impl Leases {
    pub(super) fn new(recorders: usize) -> Self {
        Self {
            slots: (0..recorders).map(|_| Slot::default()).collect(),
            made: AtomicUsize::new(0),
        }
    }

    /// How many recorders have been made.
    pub(super) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// Runs `record` with a recorder; `make` gives a new one.
    pub(super) fn with_recorder(
        &self,
        shared: &Shared,
        make: impl FnOnce() -> Option<Recorder>,
        record: impl FnOnce(&mut Recorder) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut slot = self.lease(shared)?;
        if slot.is_none() {
            *slot = make();
            self.made.fetch_add(1, Ordering::Relaxed);
        }
        match &mut *slot {
            Some(recorder) => record(recorder),
            None => Err(refuse(shared)),
        }
    }

    fn lease(&self, shared: &Shared) -> Result<MutexGuard<'_, Option<Recorder>>, Refused> {
        let slots = self.slots.len();
        let first = SLOT.with(Cell::get);
        for offset in 0..slots {
            let index = (first + offset) % slots;
            if let Some(slot) = self.slots[index].try_lock() {
                SLOT.set(index);
                return Ok(slot);
            }
        }
        let wait = match shared.overflow {
            Overflow::Block { timeout_ms } => Duration::from_millis(timeout_ms),
            Overflow::Refuse | Overflow::DropOldest => WAIT,
        };
        self.slots[first % slots]
            .try_lock_for(wait)
            .ok_or_else(|| refuse(shared))
    }
}

fn refuse(shared: &Shared) -> Refused {
    let why = Refused::BufferFull;
    shared.counters.refuse_without_recorder(why);
    why
}
