//! The front door: start, pin, hand out recorders, collect, flush, shut down.

mod network;
mod network_thread;
mod pinned;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::unbounded;

use crate::config::{Config, Settings};
use crate::error::Error;
#[cfg(feature = "internals")]
use crate::exporter::Command;
use crate::exporter::Reporter;
use crate::otlp::seed_hash;
use crate::platform::affinity;
use crate::platform::clock;
use crate::recorder::{Recorder, Recorders};
use crate::shared::Shared;
use crate::span::Span;
use crate::span::scope::{InstrumentationScope, Scope};
use crate::stats::health::Health;
use crate::stats::ledger::Ledger;
use crate::stats::refused::Refused;
use crate::stats::{DestinationStats, Stats};

use self::network::NetworkHandle;
use self::pinned::PinnedThreads;
pub use self::pinned::{PinnedJoinHandle, PinnedThread, Pinning, pin_current_thread};

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
    pipeline: Arc<Pipeline>,
}

struct Pipeline {
    shared: Arc<Shared>,
    recorders: Arc<Recorders>,
    network: NetworkHandle,
    pinned_threads: PinnedThreads,
}

impl Collector {
    /// Starts the pipeline: allocates and touches the buffer, starts the network thread and
    /// pins it. The endpoint need not be up. With [`Config::disabled`] it does none of this.
    ///
    /// Reports [`Config::warnings`].
    ///
    /// # Errors
    /// A value of `config` is not usable ([`Error::is_config`]), a core is not available
    /// ([`Error::is_core`]), or memory or the thread cannot be had ([`Error::is_resources`]).
    pub fn new(config: Config) -> Result<Self, Error> {
        let mut reporting = Reporter::new(config.on_notice.clone());
        reporting.0.report_configuration(&config.warnings);
        let settings = match Settings::new(&config) {
            Ok(settings) => settings,
            Err(error) => {
                let (reporter, told) = reporting;
                // The warnings may explain the error; their callback gets a moment.
                drop(reporter);
                let _ = told.recv_timeout(REPORT_TIMEOUT);
                return Err(error);
            }
        };
        clock::start();
        seed_hash();
        let (arrivals, recorders) = unbounded();
        let leases = settings.leases;
        let (shared, network) = NetworkHandle::start(settings, recorders, reporting)?;
        Ok(Self {
            pipeline: Arc::new(Pipeline {
                recorders: Recorders::new(Arc::clone(&shared), arrivals, leases),
                shared,
                network,
                pinned_threads: PinnedThreads::default(),
            }),
        })
    }

    /// Records a span from any thread; one that has not ended ends now.
    ///
    /// Uses a recorder that no other thread is using, for the time of the call. Where more
    /// threads are in this call at the same moment than there are such recorders (32 for each
    /// core, at most 256), it waits for one. Spans of one [`scope`](Self::register_scope) all go through the
    /// same. For the least cost use [`recorder`](Self::recorder).
    ///
    /// # Errors
    /// The span was not accepted; the reason is counted in the [`Ledger`].
    pub fn collect(&self, span: Span) -> Result<(), Refused> {
        self.pipeline.recorders.collect(span)
    }

    /// A recorder: the fast way to record spans, for one thread.
    ///
    /// # Errors
    /// There are [`Config::recorders_max`] already ([`Error::is_resources`]), the collector was
    /// shut down ([`Error::is_shut_down`]), or this is a fork of its process
    /// ([`Error::is_forked`]).
    pub fn recorder(&self) -> Result<Recorder, Error> {
        self.pipeline.network.check_process()?;
        if self.pipeline.shared.signal.is_closed() {
            return Err(Error::ended(self.ledger()));
        }
        let max = self.pipeline.shared.settings.config.recorders_max;
        self.pipeline.recorders.recorder(max).ok_or_else(|| {
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
    /// [`Recorder::with_scope`], [`Span::scope`]. The same content gives the same scope.
    ///
    /// # Errors
    /// There are 256 already ([`Error::is_resources`]), it is so large that it fits into no
    /// request together with a slab ([`Error::is_config`]), or this is a fork of the collector's
    /// process ([`Error::is_forked`]).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use otlp_collector::{Collector, Config, InstrumentationScope, Span};
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
        settings
            .envelope
            .scope(scope)
            .ok_or_else(|| Error::resources("there are 256 scopes already: use fewer", None))
    }

    /// Starts a thread that is pinned to `core` and has a recorder.
    ///
    /// # Errors
    /// The core is not among [`Config::pinned_cores`], if any are given, or not among those the
    /// process may use ([`Error::is_core`]); there is no recorder or thread to be had, or the name
    /// has a zero byte ([`Error::is_resources`]); the collector was shut down
    /// ([`Error::is_shut_down`]); or this is a fork of its process ([`Error::is_forked`]).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use otlp_collector::{Collector, Config, SpanRef};
    /// # let receiver = otlp_collector::testing::Receiver::start()?;
    /// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
    /// let core = Collector::cores()[0];
    /// let worker = collector.spawn_pinned(core, "worker-0", |recorder| {
    ///     let (trace_id, span_id) = (recorder.new_trace_id(), recorder.new_span_id());
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
    ) -> Result<PinnedJoinHandle<T>, Error> {
        self.pipeline.check_pinned_core(core)?;
        let recorder = self.recorder()?;
        (self.pipeline.pinned_threads).spawn(name.into(), core, move || work(&recorder))
    }

    /// Which threads are pinned, as the operating system confirmed it.
    #[must_use]
    pub fn pinning(&self) -> Pinning {
        Pinning {
            network_core: self.pipeline.shared.settings.config.network_core,
            // A fork has none of its parent's threads, nor any who let go of the list's lock.
            threads: if self.pipeline.shared.is_forked() {
                Vec::new()
            } else {
                self.pipeline.pinned_threads.running()
            },
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
    /// Requests that wait for a backoff are tried again at once, unless the endpoint itself has asked
    /// for the wait. An outcome may also be that the endpoint rejected the spans; the ledger counts
    /// them.
    ///
    /// # Errors
    /// `timeout` passed before ([`Error::is_timed_out`]), the collector was shut down
    /// ([`Error::is_shut_down`]), or this is a fork of its process ([`Error::is_forked`]); all with
    /// the ledger.
    pub fn flush(&self, timeout: Duration) -> Result<Ledger, Error> {
        self.pipeline.network.flush(after(timeout))
    }

    /// Refuses spans from now on, delivers what is there within
    /// [`Config::shutdown_timeout_ms`], and ends the network thread.
    ///
    /// `Ok` does not mean that everything was delivered; undelivered spans are counted as dropped.
    /// Calling it again returns the ledger again.
    ///
    /// # Errors
    /// The network thread panicked, did not end in time ([`Error::is_timed_out`]), or this is a fork
    /// of its process ([`Error::is_forked`]); the error has the ledger.
    pub fn shutdown(&self) -> Result<Ledger, Error> {
        let deadline = after(self.pipeline.shared.settings.shutdown_timeout);
        self.pipeline.network.shut_down(deadline)
    }

    /// Where every span is now.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        self.pipeline.shared.counters.ledger()
    }

    /// How delivery is doing, since when and why. Asks the network thread, for a second at most.
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

    /// Returns counters and histograms of the pipeline so far. Asks the network thread, for a second at
    /// most, so it is not for hot paths; without an answer `network` is empty and the other fields are
    /// filled.
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

    /// Bytes of memory that hold spans, all allocated at start. 0 if the collector is disabled.
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

/// The moment when `timeout` has passed, or one a century from now.
fn after(timeout: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    Instant::now() + timeout.min(CENTURY)
}

/// The longest wait for callbacks about a configuration that is not usable.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);
/// Time for undelivered spans when the last clone of a collector is dropped.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

impl Pipeline {
    fn check_pinned_core(&self, core: usize) -> Result<(), Error> {
        let configured = &self.shared.settings.config.pinned_cores;
        if configured.is_empty() {
            return Ok(affinity::check(std::iter::once(&core))?);
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
        let _ = self.network.shut_down(after(timeout));
    }
}
