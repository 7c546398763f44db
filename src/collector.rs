//! The collector: starts the pipeline, creates recorders, pins threads, flushes, shuts down.

pub(crate) mod installed;
mod network;
mod network_thread;
mod pinned;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::unbounded;

use crate::config::{Config, Settings};
use crate::error::Error;
#[cfg(feature = "internals")]
use crate::exporter::Command;
use crate::exporter::Reporter;
use crate::otlp::seed_hash;
use crate::platform::affinity;
use crate::platform::clock;
use crate::recorder::{OpenSpan, Recorder, Recorders, SpanBuilder, drop_orphans};
use crate::shared::Shared;
use crate::span::Span;
use crate::span::attribute::Name;
use crate::span::sampler::{SamplingInput, SamplingResult};
use crate::span::scope::{InstrumentationScope, Scope};
use crate::stats::health::Health;
use crate::stats::ledger::Ledger;
use crate::stats::refused::Refused;
use crate::stats::{DestinationStats, Stats};

use self::network::NetworkHandle;
use self::pinned::PinnedThreads;
pub use self::pinned::{PinnedJoinHandle, PinnedThread, Pinning, pin_current_thread};

/// A started pipeline. Clones share it. Dropping the last clone shuts it down and gives undelivered spans
/// at most a second.
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
    pipeline: Arc<Pipeline>,
}

/// Parts of a started collector, shared by its handles.
struct Pipeline {
    shared: Arc<Shared>,
    recorders: Arc<Recorders>,
    network: NetworkHandle,
    pinned_threads: PinnedThreads,
    /// Dropped last.
    _orphans: DropOrphans,
}

/// Guard that frees the memory of this thread's recorder when its collector is dropped.
struct DropOrphans;

impl Drop for DropOrphans {
    fn drop(&mut self) {
        drop_orphans();
    }
}

impl Collector {
    /// Starts the pipeline: allocates and touches the buffer, starts the network thread and pins it. The
    /// endpoint need not be reachable. With [`Config::disabled`] it does none of this. Reports
    /// [`Config::warnings`].
    ///
    /// # Errors
    /// A value of `config` is unusable ([`Error::is_config`]), a core is not available
    /// ([`Error::is_core`]), or memory or a thread cannot be allocated ([`Error::is_resources`]).
    pub fn new(config: Config) -> Result<Self, Error> {
        let (mut reporter, reported) = Reporter::new(config.on_notice.clone());
        reporter.report_configuration(&config.all_warnings(), SystemTime::now());
        let settings = match Settings::new(&config) {
            Ok(settings) => settings,
            Err(error) => {
                // The warnings may explain the error, so their callbacks get time to run.
                drop(reporter);
                let _ = reported.recv_timeout(REPORT_TIMEOUT);
                return Err(error);
            }
        };
        drop_orphans();
        clock::start();
        seed_hash();
        let (arrivals, recorders) = unbounded();
        let leases = settings.leases;
        let (shared, network) = NetworkHandle::start(settings, recorders, reporter, reported)?;
        let recorders =
            Recorders::new(Arc::clone(&shared), arrivals, leases).inspect_err(|_| {
                let _ = network.shut_down(Instant::now());
            })?;
        Ok(Self {
            pipeline: Arc::new(Pipeline {
                recorders,
                shared,
                network,
                pinned_threads: PinnedThreads::default(),
                _orphans: DropOrphans,
            }),
        })
    }

    #[cfg(feature = "tracing")]
    pub(crate) fn recorders(&self) -> &Recorders {
        &self.pipeline.recorders
    }

    /// Records a finished span from any thread. A span without an end time ends now.
    ///
    /// The call borrows a shared recorder; there are 32 for each core, at most 256. If all are in use, it
    /// waits for one. Spans of one [`scope`](Self::register_scope) all use the same recorder. A
    /// [`recorder`](Self::recorder) of the thread's own costs less.
    ///
    /// # Errors
    /// The span was not accepted. The [`Ledger`] counts the reason.
    pub fn collect(&self, span: Span) -> Result<(), Refused> {
        self.pipeline.recorders.collect(span)
    }

    /// Starts a root span now, from any thread. The sampler decides whether it is recorded.
    ///
    /// [`Recorder::start`] costs a little less.
    #[inline]
    pub fn start<'n>(&self, name: impl Into<Name<'n>>) -> OpenSpan {
        self.span_builder(name).start()
    }

    /// Starts a span now, from any thread, as a child of `parent`.
    #[inline]
    pub fn start_child<'n>(&self, parent: &OpenSpan, name: impl Into<Name<'n>>) -> OpenSpan {
        self.span_builder(name).child_of(parent).start()
    }

    /// Returns a builder of a span that starts with more than a name, from any thread.
    #[inline]
    pub fn span_builder<'b>(&self, name: impl Into<Name<'b>>) -> SpanBuilder<'_, 'b> {
        SpanBuilder::of_thread(&self.pipeline.recorders, name.into())
    }

    /// Asks the sampler about a span that is recorded when it has finished; see
    /// [`Recorder::should_sample`].
    #[must_use]
    pub fn should_sample<'s>(&'s self, span: &SamplingInput<'_>) -> SamplingResult<'s> {
        let sampler = &self.pipeline.shared.span_settings.sampler;
        sampler.should_sample(span)
    }

    /// Returns the calling thread's recorder: the fast way to record spans. It has slabs of its own,
    /// and is given back when the thread ends; further calls on the same thread return the same one.
    ///
    /// # Errors
    /// [`Config::recorders_max`] are in use ([`Error::is_resources`]), the collector was shut down
    /// ([`Error::is_shut_down`]), or this is a fork of its process ([`Error::is_forked`]).
    pub fn recorder(&self) -> Result<Recorder, Error> {
        self.pipeline.network.check_process()?;
        if self.pipeline.shared.signal.is_closed() {
            return Err(Error::shut_down(self.ledger()));
        }
        Recorder::of_thread(&self.pipeline.recorders).map_err(|_| {
            let max = self.pipeline.shared.settings.config.recorders_max;
            Error::resources(
                format!(
                    "all {max} recorders are in use, including one for each further scope of a \
                     recorder; raise recorders_max"
                ),
                None,
            )
        })
    }

    /// Registers an instrumentation scope for spans of a library or a part of the program:
    /// [`Recorder::with_scope`], [`Span::scope`]. Equal definitions return the same scope. At most 256.
    ///
    /// # Errors
    /// There are 256 scopes ([`Error::is_resources`]), a request has no room for the scope and a slab
    /// ([`Error::is_config`]), or this is a fork of the collector's process ([`Error::is_forked`]).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use otlp_collector::span::InstrumentationScope;
    /// # use otlp_collector::{Collector, Config, Span};
    /// # let receiver = otlp_collector::testing::Receiver::start()?;
    /// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
    /// let storage = collector.register_scope(InstrumentationScope::new("shop-storage"))?;
    /// let mut span = Span::new("SELECT orders");
    /// span.scope = Some(storage);
    /// collector.collect(span)?;
    /// # assert_eq!(collector.shutdown()?.delivered(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn register_scope(&self, scope: InstrumentationScope) -> Result<Scope, Error> {
        let settings = &self.pipeline.shared.settings;
        self.pipeline.network.check_process()?;
        settings.check_scope(&scope)?;
        settings.envelope.scope(scope).ok_or_else(|| {
            Error::resources(
                "there are 256 scopes, the most a collector can have; use fewer",
                None,
            )
        })
    }

    /// Starts a thread that is pinned to `core`, and passes it its recorder, whose memory it touches
    /// itself.
    ///
    /// With more than one core, choose another one than [`Config::network_core`]: on the same core the
    /// thread and the network thread interrupt each other.
    ///
    /// # Errors
    /// * [`Error::is_core`]: the core is not one of [`Config::pinned_cores`], if that is set, or the process
    ///   may not use it.
    /// * [`Error::is_resources`]: there is no recorder or thread left, or the name contains a zero byte.
    /// * [`Error::is_shut_down`]: the collector was shut down.
    /// * [`Error::is_forked`]: this is a fork of the collector's process.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use otlp_collector::{Collector, Config, SpanRef};
    /// # let receiver = otlp_collector::testing::Receiver::start()?;
    /// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
    /// let core = Collector::cores()[0];
    /// let handle = collector.spawn_pinned(core, "worker-0", |recorder| {
    ///     let (trace_id, span_id) = (recorder.new_trace_id(), recorder.new_span_id());
    ///     recorder.record(&SpanRef::new(trace_id, span_id, "tick"))
    /// })?;
    /// handle.join().expect("the thread panicked")?;
    /// # assert_eq!(collector.shutdown()?.delivered(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn_pinned<T: Send + 'static>(
        &self,
        core: usize,
        name: impl Into<String>,
        work: impl FnOnce(Recorder) -> T + Send + 'static,
    ) -> Result<PinnedJoinHandle<T>, Error> {
        self.pipeline.check_pinned_core(core)?;
        let collector = self.clone();
        let recorder = move || {
            let recorder = collector.recorder();
            // The thread does not keep the collector running.
            drop(collector);
            recorder
        };
        (self.pipeline.pinned_threads).spawn(name.into(), core, recorder, work)
    }

    /// Returns the pinned threads, as confirmed by the operating system.
    #[must_use]
    pub fn pinning(&self) -> Pinning {
        Pinning {
            network_core: self.pipeline.shared.settings.config.network_core,
            // A fork has none of the threads, and one may have held the list's lock.
            threads: if self.pipeline.shared.is_forked() {
                Vec::new()
            } else {
                self.pipeline.pinned_threads.running()
            },
        }
    }

    /// Returns the cores that threads can be pinned to: those that the process may use.
    #[must_use]
    pub fn cores() -> Vec<usize> {
        affinity::cores()
    }

    /// Waits until every span that any thread recorded before has an outcome. Excludes open spans and
    /// spans held by [`TailSampling`](crate::span::TailSampling).
    ///
    /// Requests that wait for a backoff are sent at once, unless the endpoint asked for the pause. `Ok` does
    /// not mean that everything was delivered: the ledger counts rejected and dropped spans.
    ///
    /// # Errors
    /// `timeout` passed ([`Error::is_timed_out`]), the collector was shut down before
    /// ([`Error::is_shut_down`]), or this is a fork of its process ([`Error::is_forked`]). Each has the
    /// ledger.
    pub fn flush(&self, timeout: Duration) -> Result<Ledger, Error> {
        self.pipeline.network.flush(after(timeout))
    }

    /// Refuses spans from now on, delivers accepted ones within [`Config::shutdown_timeout_ms`], and ends
    /// the network thread.
    ///
    /// `Ok` does not mean that everything was delivered; undelivered spans are counted as dropped. Further
    /// calls return the ledger.
    ///
    /// # Errors
    /// The network thread failed or did not end in time ([`Error::is_timed_out`]), or this is a fork of the
    /// collector's process ([`Error::is_forked`]). Each has the ledger.
    pub fn shutdown(&self) -> Result<Ledger, Error> {
        let deadline = after(self.pipeline.shared.settings.shutdown_timeout);
        self.pipeline.shut_down(deadline)
    }

    /// Returns the counts of all spans by outcome.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.pipeline.shared.counters.ledger()
    }

    /// Returns the state of delivery, with its start and reason. Waits for the network thread for up to a
    /// second.
    #[must_use]
    pub fn health(&self) -> Health {
        let (network_thread, stats) = self.pipeline.network.stats();
        let destinations = stats.destinations.into_iter().map(DestinationStats::health);
        Health {
            network_thread,
            panics: stats.panics,
            refused_recently: stats.refused_recently,
            destinations: destinations.collect(),
        }
    }

    /// Returns counters and histograms since the start. Waits for the network thread for up to a second, so
    /// it is not for hot paths. Without a reply `network` is empty and the other fields are filled.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (_, network) = self.pipeline.network.stats();
        let account = self.pipeline.shared.counters.account();
        Stats::new(account, network, self.pipeline.shared.buffer_use())
    }

    #[cfg(feature = "internals")]
    pub(crate) fn command(&self, command: Command) {
        self.pipeline.network.command(command);
    }

    /// Returns the bytes of the memory for spans, allocated at start. 0 if the collector is disabled.
    #[must_use]
    pub fn buffer_bytes(&self) -> usize {
        self.pipeline.shared.pool.bytes()
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destinations = self.pipeline.shared.settings.destinations.iter();
        f.debug_struct("Collector")
            .field(
                "destinations",
                &destinations.map(|d| &d.name).collect::<Vec<_>>(),
            )
            .field("ledger", &self.ledger())
            .finish_non_exhaustive()
    }
}

/// Returns the time when `timeout` has passed, at most a century from now.
fn after(timeout: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    Instant::now() + timeout.min(CENTURY)
}

/// Longest wait for callbacks about an unusable configuration.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for undelivered spans when the last clone of a collector is dropped.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

impl Pipeline {
    fn shut_down(&self, deadline: Instant) -> Result<Ledger, Error> {
        if !self.shared.is_forked() {
            self.recorders.keep_held(deadline);
            self.shared.signal.close();
            // Spans that were held meanwhile are refused.
            self.recorders.keep_held(deadline);
        }
        self.network.shut_down(deadline)
    }

    fn check_pinned_core(&self, core: usize) -> Result<(), Error> {
        let configured = &self.shared.settings.config.pinned_cores;
        if configured.is_empty() {
            return Ok(affinity::check("core", core)?);
        }
        if configured.contains(&core) {
            return Ok(());
        }
        Err(Error::core(format!(
            "core {core} is not one of pinned_cores {configured:?}; use one of them, or add it"
        )))
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // There is no caller to return the error or the ledger to.
        let timeout = self.shared.settings.shutdown_timeout.min(DROP_TIMEOUT);
        let _ = self.shut_down(after(timeout));
    }
}
