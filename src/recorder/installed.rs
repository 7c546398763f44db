//! The collector that is installed for the process, or for a thread.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::recorder::home::SpanCells;
use crate::recorder::lease::Recorders;
use crate::recorder::local;
use crate::recorder::thread_recorder::ThreadRecorder;

/// Cells of an installed collector; `None` for a disabled one, whose spans are none.
type InstalledCells = Option<&'static SpanCells>;

/// Number of the last installation or removal; 0 before the first.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Cells of the collector that is installed for the process.
static PROCESS: Mutex<Option<InstalledCells>> = Mutex::new(None);

/// Longest wait for the lock, which is never held for long except in the parent of a fork.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// A thread's own installation, and the one that it uses.
struct ThreadInstallation {
    own: Cell<Option<InstalledCells>>,
    used: Cell<InstalledCells>,
    /// `GENERATION` when `used` was found.
    generation: Cell<u64>,
}

thread_local! {
    static THREAD: ThreadInstallation = const {
        ThreadInstallation {
            own: Cell::new(None),
            used: Cell::new(None),
            generation: Cell::new(0),
        }
    };
}

impl ThreadInstallation {
    #[cold]
    #[inline(never)]
    fn find(&self, generation: u64) -> InstalledCells {
        let cells = match self.own.get() {
            Some(own) => own,
            None => PROCESS.try_lock_for(LOCK_TIMEOUT)?.flatten(),
        };
        self.used.set(cells);
        self.generation.set(generation);
        cells
    }
}

/// Returns whether a collector is or was installed, for the process or any thread.
#[inline(always)]
pub(super) fn is_any() -> bool {
    GENERATION.load(Ordering::Relaxed) != 0
}

/// Returns the cells of the collector that this thread uses.
#[inline(always)]
fn cells() -> InstalledCells {
    let generation = GENERATION.load(Ordering::Acquire);
    THREAD.with(|thread| {
        if thread.generation.get() == generation {
            thread.used.get()
        } else {
            thread.find(generation)
        }
    })
}

/// Runs `work` with the calling thread's recorder of the installed collector, if there is one.
#[inline(always)]
pub(super) fn with<R>(work: impl FnOnce(&ThreadRecorder) -> R) -> Option<R> {
    let cells = cells()?;
    local::with_recorder_of(cells, |recorder| Ok(work(recorder))).ok()
}

fn cells_of(recorders: &Recorders) -> InstalledCells {
    (!recorders.is_disabled()).then(|| recorders.cells().cells())
}

/// Installs a collector for the process. Returns false if one is installed.
pub(crate) fn install(recorders: &Recorders) -> bool {
    let Some(mut process) = PROCESS.try_lock_for(LOCK_TIMEOUT) else {
        return false;
    };
    if process.is_some() {
        return false;
    }
    *process = Some(cells_of(recorders));
    GENERATION.fetch_add(1, Ordering::Release);
    true
}

/// Removes the collector that is installed for the process.
pub(crate) fn uninstall() {
    if let Some(mut process) = PROCESS.try_lock_for(LOCK_TIMEOUT) {
        *process = None;
        GENERATION.fetch_add(1, Ordering::Release);
    }
}

/// A thread's former installation.
pub(crate) struct Before(Option<InstalledCells>);

/// Installs a collector for the calling thread. Returns the thread's former installation.
pub(crate) fn install_for_thread(recorders: &Recorders) -> Before {
    GENERATION.fetch_max(1, Ordering::Release);
    set_for_thread(Some(cells_of(recorders)))
}

/// Restores the calling thread's former installation.
pub(crate) fn restore_for_thread(before: &Before) {
    set_for_thread(before.0);
}

fn set_for_thread(own: Option<InstalledCells>) -> Before {
    THREAD.with(|thread| {
        thread.generation.set(0);
        Before(thread.own.replace(own))
    })
}
