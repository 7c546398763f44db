//! The user's threads that are pinned to cores.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::bounded;
use parking_lot::Mutex;

use crate::error::Error;
use crate::platform::affinity;
use crate::platform::fork::Process;

/// The pinned threads of a collector: see [`Collector::pinning`](crate::Collector::pinning).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pinning {
    /// The network thread's core, if it is pinned.
    pub network_core: Option<usize>,
    /// The running threads of [`Collector::spawn_pinned`](crate::Collector::spawn_pinned).
    pub threads: Vec<PinnedThread>,
}

/// Name and core of a thread of [`Collector::spawn_pinned`](crate::Collector::spawn_pinned).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PinnedThread {
    /// The thread's name.
    pub name: String,
    /// The core it is pinned to.
    pub core: usize,
}

/// An owned permission to join a thread of
/// [`Collector::spawn_pinned`](crate::Collector::spawn_pinned), as [`std::thread::JoinHandle`].
/// Dropping it detaches the thread.
#[derive(Debug)]
pub struct PinnedJoinHandle<T> {
    handle: JoinHandle<Option<T>>,
    /// A fork of this process does not have the thread.
    process: Process,
}

impl<T> PinnedJoinHandle<T> {
    /// Waits for the thread to finish and returns its closure's value.
    ///
    /// # Errors
    /// The closure panicked: the error is the panic's payload. In a fork of the process that
    /// started the thread the error is a text.
    pub fn join(self) -> thread::Result<T> {
        if !self.process.is_current() {
            std::mem::forget(self.handle);
            return Err(Box::new("the thread runs in the parent of this process"));
        }
        // The closure ran: there is no handle of a thread that could not be pinned.
        self.handle
            .join()
            .map(|value| value.expect("the thread was pinned"))
    }

    /// Returns the thread.
    #[must_use]
    pub fn thread(&self) -> &thread::Thread {
        self.handle.thread()
    }
}

/// Pins the calling thread to a core, one of [`Collector::cores`](crate::Collector::cores), and reads
/// back that the pinning took effect. Threads that it starts afterwards inherit the core unless they
/// are pinned themselves; so call [`Collector::new`](crate::Collector::new) before.
///
/// It needs no collector and works where tracing is disabled.
///
/// # Errors
/// This process may not use the core, or the operating system refused
/// ([`Error::is_core`]).
///
/// ```
/// use otlp_collector::collector::pin_current_thread;
/// use otlp_collector::Collector;
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
    affinity::check("core", core)?;
    Ok(affinity::pin(core)?)
}

/// The running pinned threads.
#[derive(Clone, Default)]
pub(super) struct PinnedThreads(Arc<Mutex<Vec<PinnedThread>>>);

impl PinnedThreads {
    pub(super) fn running(&self) -> Vec<PinnedThread> {
        self.0.lock().clone()
    }

    /// Starts a thread, which runs `prepare` and passes its result to `work` if it could be pinned.
    pub(super) fn spawn<P, T: Send + 'static>(
        &self,
        name: String,
        core: usize,
        prepare: impl FnOnce() -> Result<P, Error> + Send + 'static,
        work: impl FnOnce(P) -> T + Send + 'static,
    ) -> Result<PinnedJoinHandle<T>, Error> {
        if name.contains('\0') {
            return Err(Error::resources(
                format!("thread name {name:?} contains a zero byte; remove it"),
                None,
            ));
        }
        let threads = self.clone();
        let thread = PinnedThread {
            name: name.clone(),
            core,
        };
        let (pinned, outcome) = bounded(1);
        let handle = thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let prepared = affinity::pin(core)
                    .map_err(Error::from)
                    .and_then(|()| prepare());
                let (prepared, result) = match prepared {
                    Ok(prepared) => (Some(prepared), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                let registration = prepared.is_some().then(|| threads.register(thread));
                // The spawning thread waits for it.
                let _ = pinned.send(result);
                let value = prepared.map(work);
                // The registration lasts as long as the closure runs, also if that panics.
                drop(registration);
                value
            })
            .map_err(|error| {
                Error::resources(format!("cannot start thread {name:?}"), Some(error))
            })?;
        match outcome.recv() {
            Ok(Err(error)) => Err(error),
            _ => Ok(PinnedJoinHandle {
                handle,
                process: Process::current(),
            }),
        }
    }

    fn register(self, thread: PinnedThread) -> Registration {
        self.0.lock().push(thread.clone());
        Registration { all: self, thread }
    }
}

/// Entry of a thread in the list of running threads, removed when this is dropped.
struct Registration {
    all: PinnedThreads,
    thread: PinnedThread,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Some(at) = all.iter().position(|thread| *thread == self.thread) {
            all.remove(at);
        }
    }
}
