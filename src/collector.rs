//! The front door: start, pin, hand out recorders, collect, flush, shut down.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, unbounded};
use parking_lot::Mutex;

use crate::affinity;
use crate::buffer::Signal;
use crate::clock;
use crate::config::{Config, Settings};
use crate::error::Error;
use crate::exporter::{self, Command, Exporter, Reporter};
use crate::health::{Health, ThreadState};
use crate::processor::Processor;
use crate::recorder::{Recorder, Recorders};
use crate::refused::Refused;
use crate::scope::{InstrumentationScope, Scope};
use crate::shared::Shared;
use crate::span::Span;
use crate::stats::{DestinationStats, Ledger, NetworkStats, Stats};

/// The started pipeline. Cloning shares it; dropping the last clone shuts it down, giving
/// undelivered spans a second at most.
///
/// ```
/// use otlp_collector::{Collector, Config, Span};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let endpoint = "http://localhost:4318";
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let endpoint = receiver.endpoint();
/// let collector = Collector::new(Config {
///     endpoint: endpoint.to_string(),
///     ..Config::default()
/// })?;
/// collector.collect(Span::new("GET /orders"))?;
/// let ledger = collector.shutdown()?;
/// assert_eq!(ledger.delivered(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Collector {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    recorders: Arc<Recorders>,
    commands: Sender<Command>,
    network: NetworkThread,
    pinned: Arc<Mutex<Vec<PinnedWorker>>>,
}

/// What is known of the network thread from outside.
struct NetworkThread {
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    /// What it left behind; `None` before its end and if it panicked.
    last_stats: Arc<Mutex<Option<NetworkStats>>>,
    /// Disconnected when it has ended and all notices were told.
    notices_told: Receiver<()>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

/// Which threads run pinned: see [`Collector::pinning`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinning {
    /// The network thread's core, if it is pinned.
    pub network_core: Option<usize>,
    /// The threads of [`Collector::spawn_pinned`] that are running.
    pub workers: Vec<PinnedWorker>,
}

/// A thread of [`Collector::spawn_pinned`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedWorker {
    /// The thread's name.
    pub name: String,
    /// The core it is pinned to.
    pub core: usize,
}

/// A running thread of [`Collector::spawn_pinned`].
#[derive(Debug)]
pub struct Worker<T>(JoinHandle<Option<T>>);

impl<T> Worker<T> {
    /// Waits for the thread's end and gives what its work returned.
    ///
    /// # Errors
    /// The work panicked; the error is the panic's payload.
    pub fn join(self) -> thread::Result<T> {
        // Its work was done: a thread that could not be pinned is never handed out.
        self.0
            .join()
            .map(|done| done.expect("the thread was pinned"))
    }

    /// The thread itself.
    #[must_use]
    pub fn thread(&self) -> &thread::Thread {
        self.0.thread()
    }
}

impl Collector {
    /// Starts the pipeline: allocates and touches the buffer, starts the network thread and
    /// pins it. The endpoint need not be up.
    ///
    /// # Errors
    /// A value of `config` is not usable ([`Error::is_config`]), a core is not available
    /// ([`Error::is_core`]), or memory or the thread cannot be had ([`Error::is_resources`]).
    pub fn new(config: Config) -> Result<Self, Error> {
        Self::start(Settings::new(&config)?)
    }

    fn start(settings: Settings) -> Result<Self, Error> {
        let settings = Arc::new(settings);
        clock::start();
        let poll = exporter::poll()
            .map_err(|error| Error::resources("no poll for sockets", Some(error)))?;
        let waker = Arc::clone(&poll.1);
        // Fails only if the network thread is gone, when there is nobody to wake.
        let signal = Signal::new(move || drop(waker.wake()));
        let shared = Arc::new(Shared::new(&settings, signal)?);
        let (arrivals, recorders) = unbounded();
        let (commands, orders) = unbounded();
        let (reporter, notices_told) = Reporter::new(settings.on_notice.clone());
        let exporter = Exporter::new(
            Arc::clone(&settings),
            Arc::clone(&shared),
            poll,
            orders,
            Processor::new(recorders),
            reporter,
        )
        .map_err(|error| Error::resources("cannot start the compressing thread", Some(error)))?;
        let network = NetworkThread::start(
            exporter,
            notices_told,
            Arc::clone(&shared),
            settings.network_core,
        )?;
        Ok(Self {
            inner: Arc::new(Inner {
                recorders: Recorders::new(Arc::clone(&shared), arrivals, settings.leases),
                settings,
                shared,
                commands,
                network,
                pinned: Arc::default(),
            }),
        })
    }

    /// Records a span from any thread; one that has not ended ends now.
    ///
    /// Uses a recorder that no other thread is using, for the time of the call. Where more
    /// threads are in this call at the same moment than there are such recorders (32 for each
    /// core, at most 256), it waits for one. Spans of one [`scope`](Self::scope) all go through the
    /// same. For the least cost use [`recorder`](Self::recorder).
    ///
    /// # Errors
    /// The span was not accepted; the reason is counted in the [`Ledger`].
    pub fn collect(&self, span: Span) -> Result<(), Refused> {
        self.inner.recorders.collect(span)
    }

    /// A recorder: the fast way to record spans, for one thread.
    ///
    /// # Errors
    /// There are [`Config::recorders_max`] already ([`Error::is_resources`]), or the collector was
    /// shut down ([`Error::is_shut_down`]).
    pub fn recorder(&self) -> Result<Recorder, Error> {
        if self.inner.shared.signal.is_closed() {
            return Err(Error::ended(self.ledger()));
        }
        let max = self.inner.settings.recorders_max;
        self.inner.recorders.recorder(max).ok_or_else(|| {
            Error::resources(
                format!(
                    "there are {max} recorders, and scopes they write to, already: raise \
                     recorders_max"
                ),
                None,
            )
        })
    }

    /// An instrumentation scope, for the spans of one library or part of a program:
    /// [`Recorder::scope`], [`Span::scope`]. The same content gives the same scope.
    ///
    /// # Errors
    /// There are 256 already ([`Error::is_resources`]), or it is so large that it fits into no
    /// request together with a slab ([`Error::is_config`]).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use otlp_collector::{Collector, Config, InstrumentationScope, Span};
    /// # let receiver = otlp_collector::testing::Receiver::start()?;
    /// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
    /// let storage = collector.scope(InstrumentationScope::new("shop-storage"))?;
    /// let mut span = Span::new("SELECT orders");
    /// span.scope = Some(storage);
    /// collector.collect(span)?;
    /// # assert_eq!(collector.shutdown()?.delivered(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope(&self, scope: InstrumentationScope) -> Result<Scope, Error> {
        let settings = &self.inner.settings;
        settings.check_scope(&scope)?;
        settings
            .envelope
            .scope(scope)
            .ok_or_else(|| Error::resources("there are 256 scopes already: use fewer", None))
    }

    /// Starts a thread that is pinned to `core` and has a recorder.
    ///
    /// # Errors
    /// The core is not among [`Config::worker_cores`], if any are given, or not among those the
    /// process may use ([`Error::is_core`]); there is no recorder or thread to be had, or the name
    /// has a zero byte ([`Error::is_resources`]); or the collector was shut down
    /// ([`Error::is_shut_down`]).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use otlp_collector::{Collector, Config, SpanRef};
    /// # let receiver = otlp_collector::testing::Receiver::start()?;
    /// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
    /// let core = Collector::cores()[0];
    /// let worker = collector.spawn_pinned(core, "worker-0", |recorder| {
    ///     let (trace_id, span_id) = (recorder.trace_id(), recorder.span_id());
    ///     recorder.record(&SpanRef::new(trace_id, span_id, "tick"))
    /// })?;
    /// worker.join().expect("the worker panicked")?;
    /// # assert_eq!(collector.shutdown()?.delivered(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn_pinned<T: Send + 'static>(
        &self,
        core: usize,
        name: impl Into<String>,
        work: impl FnOnce(&Recorder) -> T + Send + 'static,
    ) -> Result<Worker<T>, Error> {
        let worker = PinnedWorker {
            name: name.into(),
            core,
        };
        if worker.name.contains('\0') {
            let name = &worker.name;
            return Err(Error::resources(
                format!("no thread can have the name {name:?}: it has a zero byte"),
                None,
            ));
        }
        self.inner.check_worker_core(core)?;
        let recorder = self.recorder()?;
        let place = PinnedPlace {
            all: Arc::clone(&self.inner.pinned),
            worker: worker.clone(),
        };
        let (pinned, outcome) = bounded(1);
        let handle = thread::Builder::new()
            .name(worker.name.clone())
            .spawn(move || {
                let result = affinity::pin(core);
                let is_pinned = result.is_ok();
                if is_pinned {
                    place.enter();
                }
                // The spawning thread waits for it.
                let _ = pinned.send(result);
                // `place` ends with the thread's work, also when that panics.
                let _place = place;
                is_pinned.then(|| work(&recorder))
            })
            .map_err(|error| {
                Error::resources(
                    format!("cannot start thread {:?}", worker.name),
                    Some(error),
                )
            })?;
        match outcome.recv() {
            Ok(Err(error)) => Err(error),
            _ => Ok(Worker(handle)),
        }
    }

    /// Which threads are pinned, as the operating system confirmed it.
    #[must_use]
    pub fn pinning(&self) -> Pinning {
        Pinning {
            network_core: self.inner.settings.network_core,
            workers: self.inner.pinned.lock().clone(),
        }
    }

    /// The cores threads can be pinned to: those the process may use.
    #[must_use]
    pub fn cores() -> Vec<usize> {
        affinity::cores()
    }

    /// Waits until every span that was accepted before, on any thread, has an outcome. Spans that
    /// are open, or held by [`TailSampling`](crate::TailSampling), are not waited for.
    ///
    /// What waits for a backoff is tried again at once, unless the endpoint itself has asked for
    /// the wait. An outcome may also be that the endpoint
    /// rejected the spans: the ledger tells.
    ///
    /// # Errors
    /// `timeout` passed before ([`Error::is_timed_out`]), or the collector was shut down
    /// ([`Error::is_shut_down`]); both with the ledger.
    pub fn flush(&self, timeout: Duration) -> Result<Ledger, Error> {
        let inner = &*self.inner;
        let deadline = after(timeout);
        let (done, outcome) = bounded(1);
        inner.command(Command::Flush { deadline, done });
        match outcome.recv_deadline(deadline) {
            Ok(()) => return Ok(self.ledger()),
            // Before the deadline only a network thread that ends lets go of a flush.
            Err(RecvTimeoutError::Disconnected) if Instant::now() < deadline => {
                return Err(Error::ended(inner.final_ledger()?));
            }
            Err(_) if inner.network.has_ended() => {
                return Err(Error::ended(inner.final_ledger()?));
            }
            Err(_) => {}
        }
        let ledger = self.ledger();
        if ledger.pending() == 0 {
            return Ok(ledger);
        }
        Err(Error::timed_out(ledger))
    }

    /// Refuses spans from now on, delivers what is there within
    /// [`Config::shutdown_timeout_ms`], and ends the network thread.
    ///
    /// That there was nothing left to deliver is not what `Ok` says: what could not be delivered
    /// is in the ledger, as dropped. Calling it again gives the ledger again.
    ///
    /// # Errors
    /// The network thread panicked; the error has the ledger.
    pub fn shutdown(&self) -> Result<Ledger, Error> {
        self.inner.shut_down(self.inner.settings.shutdown_timeout)
    }

    /// Where every span is now.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.inner.shared.counters.ledger()
    }

    /// How delivery is doing, since when and why. Asks the network thread, for a second at most.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.health()
    }

    /// What the pipeline did so far. Asks the network thread, so it is not for hot paths.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            network: self.inner.network_stats(),
            ledger: self.ledger(),
            started: self.inner.shared.counters.started(),
            buffer_capacity: self.inner.settings.buffer_capacity,
            spans_without_memory: self.inner.shared.counters.spans_without_memory(),
        }
    }

    #[cfg(feature = "internals")]
    pub(crate) fn command(&self, command: Command) {
        self.inner.command(command);
    }

    /// Bytes of memory that hold spans, all allocated at start.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.inner.shared.pool.bytes()
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destinations = self.inner.settings.destinations.iter();
        f.debug_struct("Collector")
            .field(
                "destinations",
                &destinations.map(|d| &d.name).collect::<Vec<_>>(),
            )
            .field("ledger", &self.ledger())
            .finish_non_exhaustive()
    }
}

/// The moment when `timeout` has passed, or one that nobody lives to see.
fn after(timeout: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    Instant::now() + timeout.min(CENTURY)
}

/// How long after its deadline the network thread may take to end.
const GRACE: Duration = Duration::from_millis(500);
/// What undelivered spans get when the last clone of a collector is dropped.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

impl Inner {
    fn check_worker_core(&self, core: usize) -> Result<(), Error> {
        let configured = &self.settings.worker_cores;
        if configured.is_empty() {
            return affinity::check(std::iter::once(&core));
        }
        if configured.contains(&core) {
            return Ok(());
        }
        Err(Error::core(format!(
            "core {core} is not among the configured worker_cores {configured:?}"
        )))
    }

    fn command(&self, command: Command) {
        // Fails only if the network thread is gone; the caller sees that by the answer.
        let _ = self.commands.send(command);
        self.shared.signal.wake();
    }

    fn shut_down(&self, timeout: Duration) -> Result<Ledger, Error> {
        let deadline = after(timeout);
        self.shared.signal.close();
        self.command(Command::ShutDown { deadline });
        match self.network.ended.recv_deadline(deadline + GRACE) {
            Err(RecvTimeoutError::Timeout) => Err(Error::timed_out(self.shared.counters.ledger())),
            _ => self.final_ledger(),
        }
    }

    /// The ledger once the network thread has ended, or will right now.
    fn final_ledger(&self) -> Result<Ledger, Error> {
        self.network.join();
        let ledger = self.shared.counters.ledger();
        if self.network.last_stats.lock().is_none() {
            return Err(Error::network_thread_failed(ledger));
        }
        Ok(ledger)
    }

    fn health(&self) -> Health {
        const PATIENCE: Duration = Duration::from_secs(1);
        let (reply, answer) = bounded(1);
        self.command(Command::Stats { reply });
        let (network_thread, stats) = match answer.recv_timeout(PATIENCE) {
            Ok(stats) => (ThreadState::Running, Some(stats)),
            Err(RecvTimeoutError::Timeout) => (ThreadState::NotResponding, None),
            Err(RecvTimeoutError::Disconnected) => {
                self.network.join();
                match self.network.last_stats.lock().clone() {
                    Some(stats) => (ThreadState::Ended, Some(stats)),
                    None => (ThreadState::Failed, None),
                }
            }
        };
        let stats = stats.unwrap_or_default();
        let destinations = stats.destinations.into_iter().map(DestinationStats::health);
        Health {
            network_thread,
            panics: stats.panics,
            destinations: destinations.collect(),
        }
    }

    fn network_stats(&self) -> NetworkStats {
        let (reply, answer) = bounded(1);
        self.command(Command::Stats { reply });
        answer.recv().unwrap_or_else(|_| {
            self.network.join();
            self.network.last_stats.lock().clone().unwrap_or_default()
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is there to be told; the ledger went with the last clone.
        let _ = self.shut_down(self.settings.shutdown_timeout.min(DROP_TIMEOUT));
    }
}

impl NetworkThread {
    fn start(
        exporter: Exporter,
        notices_told: Receiver<()>,
        shared: Arc<Shared>,
        core: Option<usize>,
    ) -> Result<Self, Error> {
        let (end, ended) = bounded(0);
        let (pinned, outcome) = bounded(1);
        let last_stats = Arc::new(Mutex::new(None));
        let handle = thread::Builder::new()
            .name("otlp-network".to_string())
            .spawn({
                let last_stats = Arc::clone(&last_stats);
                move || {
                    let result = core.map_or(Ok(()), affinity::pin);
                    let is_pinned = result.is_ok();
                    // The starting thread waits for it.
                    let _ = pinned.send(result);
                    if is_pinned {
                        *last_stats.lock() = run(exporter, &shared);
                    }
                    drop(end);
                }
            })
            .map_err(|error| Error::resources("cannot start the network thread", Some(error)))?;
        outcome.recv().unwrap_or(Ok(()))?;
        Ok(Self {
            ended,
            notices_told,
            last_stats,
            handle: Mutex::new(Some(handle)),
        })
    }

    fn has_ended(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Waits for the end of the thread.
    fn join(&self) {
        let _ = self.ended.recv();
        // Whoever listens may take his time, but not for ever.
        let _ = self.notices_told.recv_timeout(GRACE);
        if let Some(handle) = self.handle.lock().take() {
            // Panics of the exporter are caught in `run`.
            let _ = handle.join();
        }
    }
}

/// Runs the exporter; whatever ends it, recorders refuse spans afterwards and the ledger says
/// what became of the rest.
fn run(exporter: Exporter, shared: &Shared) -> Option<NetworkStats> {
    let result = catch_unwind(AssertUnwindSafe(|| exporter.run()));
    shared.signal.close();
    shared.counters.end();
    result.ok()
}

/// A worker's entry in the list of pinned threads, removed when its thread ends.
struct PinnedPlace {
    all: Arc<Mutex<Vec<PinnedWorker>>>,
    worker: PinnedWorker,
}

impl PinnedPlace {
    fn enter(&self) {
        self.all.lock().push(self.worker.clone());
    }
}

impl Drop for PinnedPlace {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(at) = all.iter().position(|worker| *worker == self.worker) {
            all.remove(at);
        }
    }
}
