//! The collectors that are installed, for the process or for a thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::platform::fork::Process;
use crate::recorder::home::SpanCells;
use crate::recorder::lease::Recorders;
use crate::recorder::local;
use crate::recorder::thread_recorder::ThreadRecorder;

/// Cells of an installed collector; `None` for a disabled one, whose spans are none.
type InstalledCells = Option<&'static SpanCells>;

/// Number of installations and removals for the process; 0 before the first installation for any thread.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Number of the last installation.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The installation for the process.
static PROCESS: Mutex<Option<Installation>> = Mutex::new(None);

/// Longest wait for the lock, which is never held for long except in the parent of a fork.
const LOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// A collector that is installed.
#[derive(Clone, Copy)]
struct Installation {
    cells: InstalledCells,
    number: u64,
    /// A fork has its own installation.
    process: Process,
}

/// The installation that a thread uses.
struct UsedInstallation {
    cells: Cell<InstalledCells>,
    /// `GENERATION` when it was found.
    generation: Cell<u64>,
}

thread_local! {
    static USED: UsedInstallation = const {
        UsedInstallation {
            cells: Cell::new(None),
            generation: Cell::new(0),
        }
    };

    /// Installations for this thread, of which it uses the last.
    static OWN: RefCell<Vec<Installation>> = const { RefCell::new(Vec::new()) };
}

impl Installation {
    fn new(recorders: &Recorders) -> Self {
        let is_disabled = recorders.is_disabled();
        Self {
            cells: (!is_disabled).then(|| recorders.cells().cells()),
            number: NUMBER.fetch_add(1, Ordering::Relaxed) + 1,
            process: Process::current(),
        }
    }
}

impl UsedInstallation {
    #[cold]
    #[inline(never)]
    fn find(&self, generation: u64) -> InstalledCells {
        let installation = match own() {
            Some(own) => Some(own),
            None => *PROCESS.try_lock_for(LOCK_TIMEOUT)?,
        };
        let cells = installation.and_then(|installation| installation.cells);
        self.cells.set(cells);
        self.generation.set(generation);
        cells
    }
}

/// Returns the last installation for this thread.
fn own() -> Option<Installation> {
    let own = OWN.try_with(|own| own.borrow().last().copied());
    own.ok().flatten()
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
    USED.with(|used| {
        if used.generation.get() == generation {
            used.cells.get()
        } else {
            used.find(generation)
        }
    })
}

/// Returns the calling thread's recorder of the installed collector, if there is one.
#[inline(always)]
pub(super) fn recorder() -> Option<Rc<ThreadRecorder>> {
    local::recorder_of_cells(cells()?).ok()
}

/// An installation that ends when this is passed to [`uninstall`] or [`uninstall_for_thread`].
#[derive(Clone, Copy)]
pub(crate) struct InstallationNumber(u64);

/// Installs a collector for the process; `None` if one is installed.
pub(crate) fn install(recorders: &Recorders) -> Option<InstallationNumber> {
    let mut process = PROCESS.try_lock_for(LOCK_TIMEOUT)?;
    if process.is_some_and(|installation| installation.process.is_current()) {
        return None;
    }
    let installation = Installation::new(recorders);
    *process = Some(installation);
    GENERATION.fetch_add(1, Ordering::Release);
    Some(InstallationNumber(installation.number))
}

/// Ends an installation for the process, unless that was done.
pub(crate) fn uninstall(number: InstallationNumber) {
    let Some(mut process) = PROCESS.try_lock_for(LOCK_TIMEOUT) else {
        return;
    };
    if process.is_some_and(|installation| installation.number == number.0) {
        *process = None;
        GENERATION.fetch_add(1, Ordering::Release);
    }
}

/// Installs a collector for the calling thread.
pub(crate) fn install_for_thread(recorders: &Recorders) -> InstallationNumber {
    let installation = Installation::new(recorders);
    GENERATION.fetch_max(1, Ordering::Release);
    change_own(|own| own.push(installation));
    InstallationNumber(installation.number)
}

/// Ends an installation for the calling thread.
pub(crate) fn uninstall_for_thread(number: InstallationNumber) {
    change_own(|own| own.retain(|installation| installation.number != number.0));
}

fn change_own(change: impl FnOnce(&mut Vec<Installation>)) {
    // Fails only while the thread's storage is being destroyed, which ends its installations.
    let _ = OWN.try_with(|own| change(&mut own.borrow_mut()));
    USED.with(|used| used.generation.set(0));
}
