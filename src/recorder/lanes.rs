//! The slabs and counters of a recorder, which the next one continues with.

use std::mem;
use std::sync::Arc;

use crossbeam_channel::Sender;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;

use crate::buffer::{LaneWriter, lane};
use crate::processor::NewLane;
use crate::shared::Shared;
use crate::span::scope::Scope;
use crate::stats::counters::RecorderCounters;
use crate::stats::refused::Refused;

/// The slabs and counters of a recorder. The next recorder continues with them, so that successive
/// short-lived threads fill slabs together.
pub(super) struct Lanes {
    /// The first lane is that of the collector's own scope. Empty until the first span is written,
    /// and after [`take`](Self::take).
    pub(super) list: Vec<Lane>,
    /// Whether they belong to a shared recorder, which does not count towards `recorders_max`.
    is_lent: bool,
    pub(super) counters: Arc<CachePadded<RecorderCounters>>,
    shared: Arc<Shared>,
}

/// The writing side of the slabs for one scope.
pub(super) struct Lane {
    pub(super) slabs: LaneWriter,
    /// `None` is the collector's own scope.
    scope: Option<Scope>,
    /// Whether the lane is from a previous recorder and was not used by this one yet.
    is_left: bool,
}

/// Lanes of recorders that are gone, for new recorders.
pub(super) struct IdleLanes {
    list: Mutex<Vec<Lanes>>,
    shared: Arc<Shared>,
}

impl Lanes {
    /// Counters without lanes.
    pub(super) fn none(
        shared: Arc<Shared>,
        counters: Arc<CachePadded<RecorderCounters>>,
        is_lent: bool,
    ) -> Self {
        Self {
            list: Vec::new(),
            is_lent,
            counters,
            shared,
        }
    }

    /// Takes all lanes.
    fn take(&mut self) -> Self {
        let rest = Self::none(
            Arc::clone(&self.shared),
            Arc::clone(&self.counters),
            self.is_lent,
        );
        mem::replace(self, rest)
    }

    /// Prepares lanes that another recorder has left.
    fn continue_with(&mut self) {
        if self.shared.own_lanes.is_scarce() {
            // Other recorders may need the slabs of the scopes' lanes.
            self.truncate(1);
        }
        self.list.iter_mut().for_each(|lane| lane.is_left = true);
    }

    /// Returns the index of the scope's lane, if it has one.
    pub(super) fn position(&mut self, scope: u32) -> Option<usize> {
        let index = (self.list.iter()).position(|lane| lane.scope_id() == scope)?;
        self.list[index].is_left = false;
        Some(index)
    }

    /// Adds a lane and returns its index.
    #[cold]
    pub(super) fn add(
        &mut self,
        scope: Option<Scope>,
        arrivals: &Sender<NewLane>,
    ) -> Result<usize, Refused> {
        if self.shared.signal.is_forked() {
            return Err(Refused::Forked);
        }
        if !self.join() {
            return Err(Refused::NoSlab);
        }
        let scope_id = scope.as_ref().map_or(0, Scope::id);
        let (slabs, queue) = lane(&self.shared.pool, scope_id);
        let arrival = NewLane {
            slabs: queue,
            counters: Arc::clone(&self.counters),
        };
        // Fails only if the network thread is gone. Then all spans are refused anyway.
        let _ = arrivals.send(arrival);
        self.shared.signal.wake();
        self.list.push(Lane {
            slabs,
            scope,
            is_left: false,
        });
        Ok(self.list.len() - 1)
    }

    /// Reassigns an unused lane of a previous recorder to this scope.
    pub(super) fn reuse(&mut self, scope: &Scope) -> Option<usize> {
        let mut lanes = self.list.iter_mut().enumerate();
        let (index, lane) = lanes.find(|(_, lane)| lane.is_left && lane.scope.is_some())?;
        lane.slabs.set_scope(scope.id());
        lane.scope = Some(scope.clone());
        lane.is_left = false;
        Some(index)
    }

    /// Reserves the slabs of another lane. Returns false if there is none.
    fn join(&self) -> bool {
        if self.is_lent {
            return self.shared.pool.join();
        }
        if !self.shared.own_lanes.take() {
            return false;
        }
        let joined = self.shared.pool.join();
        if !joined {
            self.shared.own_lanes.give_back();
        }
        joined
    }

    fn leave(&self) {
        self.shared.pool.leave();
        if !self.is_lent {
            self.shared.own_lanes.give_back();
        }
    }

    /// Drops all lanes except the first `count`.
    fn truncate(&mut self, count: usize) {
        while self.list.len() > count {
            drop(self.list.pop());
            self.leave();
        }
    }

    /// Keeps the counters for another recorder.
    fn retire_counters(&self) {
        if !self.shared.signal.is_forked() {
            self.shared.counters.retire(&self.counters);
        }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        if self.list.is_empty() {
            return;
        }
        if self.shared.signal.is_forked() {
            // The slabs belong to the parent process.
            mem::forget(mem::take(&mut self.list));
            return;
        }
        self.truncate(0);
        self.retire_counters();
    }
}

impl Lane {
    fn scope_id(&self) -> u32 {
        self.scope.as_ref().map_or(0, Scope::id)
    }
}

impl IdleLanes {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            list: Mutex::default(),
            shared,
        }
    }

    /// Takes the lanes that were left last.
    pub(super) fn pop(&self) -> Option<Lanes> {
        // In a fork the lock may be held by a thread that does not exist.
        if self.shared.signal.is_forked() {
            return None;
        }
        let mut lanes = self.list.lock().pop()?;
        lanes.continue_with();
        Some(lanes)
    }

    /// Keeps the lanes of a recorder for the next one.
    pub(super) fn retire(&self, lanes: &mut Lanes) {
        if lanes.list.is_empty() {
            lanes.retire_counters();
        } else if !self.shared.signal.is_forked() {
            let lanes = lanes.take();
            self.list.lock().push(lanes);
        }
    }

    /// Drops the lanes of one recorder. Returns false if there are none.
    pub(super) fn evict(&self) -> bool {
        let lanes = self.pop();
        lanes.is_some()
    }
}

impl Drop for IdleLanes {
    fn drop(&mut self) {
        if self.shared.signal.is_forked() {
            mem::forget(mem::take(self.list.get_mut()));
        }
    }
}
