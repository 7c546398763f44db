//! Threads of the user's that are pinned to cores.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::error::Error;
use crate::platform::affinity;
use crate::platform::fork::Process;

/// Which threads run pinned: see [`Collector::pinning`](crate::Collector::pinning).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinning {
    /// The network thread's core, if it is pinned.
    pub network_core: Option<usize>,
    /// The threads of [`Collector::spawn_pinned`](crate::Collector::spawn_pinned) that are running.
    pub workers: Vec<PinnedWorker>,
}

/// A thread of [`Collector::spawn_pinned`](crate::Collector::spawn_pinned).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedWorker {
    /// The thread's name.
    pub name: String,
    /// The core it is pinned to.
    pub core: usize,
}

/// A running thread of [`Collector::spawn_pinned`](crate::Collector::spawn_pinned).
#[derive(Debug)]
pub struct Worker<T> {
    handle: JoinHandle<Option<T>>,
    /// A fork of it has no such thread.
    process: Process,
}

impl<T> Worker<T> {
    /// Waits for the thread's end and gives what its work returned.
    ///
    /// # Errors
    /// The work panicked; the error is the panic's payload. Or this is a fork of the process that
    /// started the thread; the error is a text that says so.
    pub fn join(self) -> thread::Result<T> {
        if !self.process.is_current() {
            std::mem::forget(self.handle);
            return Err(Box::new("the thread runs in the parent of this process"));
        }
        // Its work was done: a thread that could not be pinned is never handed out.
        self.handle
            .join()
            .map(|done| done.expect("the thread was pinned"))
    }

    /// The thread itself.
    #[must_use]
    pub fn thread(&self) -> &thread::Thread {
        self.handle.thread()
    }
}

/// Pins the calling thread to a core, one of [`Collector::cores`](crate::Collector::cores), and reads
/// back that it took effect. Threads that it starts from then on run on that core too, unless they
/// are pinned elsewhere; so call [`Collector::new`](crate::Collector::new) before.
///
/// It needs no collector, so it works where tracing is disabled too.
///
/// # Errors
/// This process may not use the core, or the operating system refused
/// ([`Error::is_core`]).
///
/// ```
/// use otlp_collector::{Collector, pin_current_thread};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let core = Collector::cores()[0];
/// std::thread::spawn(move || {
///     pin_current_thread(core)?;
///     // … what is sensitive to latency …
///     Ok::<_, otlp_collector::Error>(())
/// })
/// .join()
/// .expect("the thread panicked")?;
/// # Ok(())
/// # }
/// ```
pub fn pin_current_thread(core: usize) -> Result<(), Error> {
    affinity::check(std::iter::once(&core))?;
    Ok(affinity::pin(core)?)
}

/// The workers that are running.
#[derive(Clone, Default)]
pub(super) struct PinnedWorkers(Arc<Mutex<Vec<PinnedWorker>>>);

impl PinnedWorkers {
    pub(super) fn running(&self) -> Vec<PinnedWorker> {
        self.0.lock().clone()
    }

    /// Starts a thread, which runs `work` if it could be pinned.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        worker: PinnedWorker,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Worker<T>, Error> {
        let name = worker.name.clone();
        if name.contains('\0') {
            return Err(Error::resources(
                format!("no thread can have the name {name:?}: it has a zero byte"),
                None,
            ));
        }
        let workers = self.clone();
        let (pinned, outcome) = bounded(1);
        let handle = thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let result = affinity::pin(worker.core);
                let entry = result.is_ok().then(|| workers.enter(worker));
                // The spawning thread waits for it.
                let _ = pinned.send(result);
                // The entry ends with the thread's work, also when that panics.
                entry.map(|_entry| work())
            })
            .map_err(|error| {
                Error::resources(format!("cannot start thread {name:?}"), Some(error))
            })?;
        match outcome.recv() {
            Ok(Err(error)) => Err(error.into()),
            _ => Ok(Worker {
                handle,
                process: Process::current(),
            }),
        }
    }

    fn enter(self, worker: PinnedWorker) -> Entry {
        self.0.lock().push(worker.clone());
        Entry { all: self, worker }
    }
}

/// A worker among those that are running, until this is dropped.
struct Entry {
    all: PinnedWorkers,
    worker: PinnedWorker,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Some(at) = all.iter().position(|worker| *worker == self.worker) {
            all.remove(at);
        }
    }
}
