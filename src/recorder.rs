//! Recorders and open spans: the application thread's half of the pipeline.

mod builder;
mod current;
#[cfg(feature = "tracing")]
mod door;
mod entered;
mod finished;
mod home;
mod installed;
mod instrumented;
mod lanes;
mod lease;
mod local;
mod open_span;
mod placement;
mod scoped;
#[cfg_attr(
    not(feature = "tracing"),
    allow(
        dead_code,
        reason = "shared spans are those of doors, which are features"
    )
)]
mod shared_span;
mod span_macro;
mod thread_recorder;
mod writer;

use std::fmt;
use std::rc::Rc;

use crate::error::Error;
use crate::span::SpanRef;
use crate::span::attribute::{Attributes, Name};
use crate::span::id::{SpanId, TraceId};
use crate::span::sampler::{SamplingInput, SamplingResult};
use crate::span::scope::Scope;
use crate::stats::refused::Refused;

use self::builder::Starter;
use self::thread_recorder::{OWN_SCOPE, ThreadRecorder};

pub use self::builder::{ParentRef, SpanBuilder, span_builder};
#[cfg(feature = "tracing")]
pub(crate) use self::current::shared_entries::{
    Innermost, drop_ended, enter_shared, exit_shared, innermost, innermost_shared, with_owned,
};
#[cfg(feature = "tracing")]
pub(crate) use self::door::{DoorParent, DoorStarter};
pub use self::entered::{CurrentSpan, Entered, EnteredSpan, current};
pub(crate) use self::installed::{
    InstallationNumber, install, install_for_thread, uninstall, uninstall_for_thread,
};
pub use self::instrumented::{Instrument, Instrumented};
pub(crate) use self::lease::Recorders;
pub(crate) use self::local::drop_orphans;
pub use self::open_span::OpenSpan;
pub use self::scoped::ScopedRecorder;
#[cfg(feature = "tracing")]
pub(crate) use self::shared_span::{SharedRef, SharedSpan};
pub use self::span_macro::__call_once;

/// Tests that a recorder is neither `Send` nor `Sync`.
///
/// ```compile_fail,E0277
/// fn sync<T: Sync>() {}
/// sync::<otlp_collector::Recorder>();
/// ```
///
/// ```compile_fail,E0277
/// fn send<T: Send>() {}
/// send::<otlp_collector::Recorder>();
/// ```
#[cfg(doctest)]
struct OneThread;

/// A handle on the calling thread's recorder.
///
/// [`start`](Self::start) opens a span that ends later. [`record`](Self::record) takes a finished span.
/// Neither allocates, takes a lock, or waits for another thread, except that a span started while
/// [`Config::open_span_bytes_total`](crate::Config::open_span_bytes_total) are in use takes 225 bytes from the
/// heap, and with [`Overflow::Block`](crate::Overflow::Block) a full buffer makes the thread wait. The only
/// system call wakes the network thread, if that sleeps while a batch is complete or slabs are scarce.
///
/// A thread has one recorder for each collector, which is given back when the thread ends and no handle
/// is left. A handle stays on its thread (neither `Send` nor `Sync`); spans can leave it. Recorded spans
/// are delivered whether or not the recorder still exists.
///
/// ```
/// use otlp_collector::span::StatusRef;
/// use otlp_collector::{Collector, Config, SpanKind};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let config = Config { endpoint: receiver.endpoint(), ..Config::default() };
/// let collector = Collector::new(config)?;
/// let recorder = collector.recorder()?;
///
/// let mut request = recorder.span_builder("GET /orders").kind(SpanKind::Server).start();
/// request.set_attribute("url.path", "/orders");
/// {
///     let mut query = recorder.start_child(&request, "SELECT orders");
///     query.set_attribute("db.system.name", "postgresql");
/// } // ends here
/// request.set_attribute("http.response.status_code", 200);
/// request.end();
/// # assert_eq!(collector.shutdown()?.delivered(), 2);
/// # Ok(())
/// # }
/// ```
pub struct Recorder {
    recorder: Rc<ThreadRecorder>,
}

impl Recorder {
    /// Returns the calling thread's recorder, with a slab.
    pub(crate) fn of_thread(recorders: &Recorders) -> Result<Self, Refused> {
        let recorder = local::recorder(recorders).ok_or(Refused::NoRecorder)?;
        recorder.open()?;
        Ok(Self { recorder })
    }

    /// Starts a root span now. The sampler decides whether it is recorded.
    #[inline]
    pub fn start<'n>(&self, name: impl Into<Name<'n>>) -> OpenSpan {
        self.span_builder(name).start()
    }

    /// Starts a child of `parent` now.
    #[inline]
    pub fn start_child<'n>(&self, parent: &OpenSpan, name: impl Into<Name<'n>>) -> OpenSpan {
        self.span_builder(name).child_of(parent).start()
    }

    /// Creates a builder for a span that starts with more than a name.
    #[inline]
    pub fn span_builder<'b>(&self, name: impl Into<Name<'b>>) -> SpanBuilder<'_, 'b> {
        SpanBuilder::new(Starter::Recorder(&self.recorder), 0, name.into())
    }

    /// Returns this recorder for spans of an instrumentation scope. The first call for a scope takes a
    /// slab ([`Config::slab_bytes`](crate::Config::slab_bytes)).
    ///
    /// # Errors
    /// * There is no slab for one more scope ([`Error::is_resources`]).
    /// * The scope is registered with another collector ([`Error::is_config`]).
    /// * This process is a fork of the collector's process, and the scope is new to this recorder
    ///   ([`Error::is_forked`]).
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use otlp_collector::span::InstrumentationScope;
    /// # use otlp_collector::{Collector, Config};
    /// # let receiver = otlp_collector::testing::Receiver::start()?;
    /// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
    /// let storage = collector.register_scope(InstrumentationScope::new("shop-storage"))?;
    ///
    /// let recorder = collector.recorder()?;
    /// let in_storage = recorder.with_scope(&storage)?;
    /// let request = recorder.start("GET /orders");
    /// let query = in_storage.start_child(&request, "SELECT orders");
    /// # drop((query, request));
    /// # assert_eq!(collector.shutdown()?.delivered(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_scope(&self, scope: &Scope) -> Result<ScopedRecorder<'_>, Error> {
        if !self.recorder.shared().scopes.contains(scope) {
            return Err(Error::config(format!(
                "scope {:?} is registered with another collector; register it with this one's \
                 register_scope()",
                scope.definition().name
            )));
        }
        let lane = self.recorder.lane_of(scope).map_err(|why| match why {
            Refused::Forked => Error::forked(self.recorder.shared().counters.ledger()),
            _ => Error::resources(
                "no slab is left for the spans of one more scope; raise recorders_max",
                None,
            ),
        })?;
        // There are few scopes.
        let id = scope.id() as u16;
        Ok(ScopedRecorder::new(&self.recorder, lane, id))
    }

    /// Records a finished span. The sampler is not asked: see [`should_sample`](Self::should_sample).
    ///
    /// ```
    /// use otlp_collector::span::KeyValueRef;
    /// use otlp_collector::{Collector, Config, SpanRef, unix_nanos};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let receiver = otlp_collector::testing::Receiver::start()?;
    /// # let config = Config { endpoint: receiver.endpoint(), ..Config::default() };
    /// let collector = Collector::new(config)?;
    /// let recorder = collector.recorder()?;
    ///
    /// let start_time = unix_nanos();
    /// let attributes = [KeyValueRef::new("http.response.status_code", 200)];
    /// let span = SpanRef {
    ///     start_time,
    ///     end_time: unix_nanos(),
    ///     attributes: &attributes,
    ///     ..SpanRef::new(recorder.new_trace_id(), recorder.new_span_id(), "GET /orders")
    /// };
    /// recorder.record(&span)?;
    /// # assert_eq!(collector.shutdown()?.delivered(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The span was refused. The reason is counted in the [`Ledger`](crate::Ledger) too.
    pub fn record(&self, span: &SpanRef<'_>) -> Result<(), Refused> {
        finished::record(&self.recorder, OWN_SCOPE, span)
    }

    /// Records a finished span with a tuple of [`Attributes`]. This is the fastest way: the compiler
    /// specialises the encoder for these attributes at the call site. They are sent before the span's own
    /// attributes. If a key occurs more than once, the last value is sent.
    ///
    /// ```
    /// use otlp_collector::{Collector, Config, SpanRef, key, name, unix_nanos};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let receiver = otlp_collector::testing::Receiver::start()?;
    /// # let config = Config { endpoint: receiver.endpoint(), ..Config::default() };
    /// let collector = Collector::new(config)?;
    /// let recorder = collector.recorder()?;
    ///
    /// let start_time = unix_nanos();
    /// let rows = 17;
    /// let (trace_id, span_id) = (recorder.new_trace_id(), recorder.new_span_id());
    /// let span = SpanRef {
    ///     start_time,
    ///     end_time: unix_nanos(),
    ///     ..SpanRef::new(trace_id, span_id, name!("SELECT orders"))
    /// };
    /// recorder.record_with(
    ///     &span,
    ///     (
    ///         (key!("db.system.name"), "postgresql"),
    ///         (key!("db.response.returned_rows"), rows),
    ///     ),
    /// )?;
    /// # assert_eq!(collector.shutdown()?.delivered(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The span was refused. The reason is counted in the [`Ledger`](crate::Ledger) too.
    #[inline(always)]
    pub fn record_with(
        &self,
        span: &SpanRef<'_>,
        attributes: impl Attributes,
    ) -> Result<(), Refused> {
        finished::record_with(&self.recorder, OWN_SCOPE, span, attributes)
    }

    /// Asks the sampler about a span that is recorded when it has finished, by
    /// [`record`](Self::record) or [`record_with`](Self::record_with), which record every span.
    ///
    /// ```
    /// # use otlp_collector::span::{ParentBased, Sampler, SamplingInput};
    /// # use otlp_collector::{Collector, Config, SpanRef};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let receiver = otlp_collector::testing::Receiver::start()?;
    /// let collector = Collector::new(Config {
    ///     sampler: ParentBased::new(Sampler::TraceIdRatio(0.001)).into(),
    ///     # endpoint: receiver.endpoint(),
    ///     ..Config::default()
    /// })?;
    /// let recorder = collector.recorder()?;
    /// let trace_id = recorder.new_trace_id();
    /// if recorder.should_sample(&SamplingInput::new(trace_id, "tick")).is_sampled {
    ///     recorder.record(&SpanRef::new(trace_id, recorder.new_span_id(), "tick"))?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn should_sample<'s>(&'s self, span: &SamplingInput<'_>) -> SamplingResult<'s> {
        let sampler = &self.recorder.shared().span_settings.sampler;
        sampler.should_sample(span)
    }

    /// Generates a trace id by [`Config::id_generator`], a random one by default.
    ///
    /// [`Config::id_generator`]: crate::Config::id_generator
    #[inline]
    pub fn new_trace_id(&self) -> TraceId {
        self.recorder.with_ids(|ids| ids.new_trace_id())
    }

    /// Generates a span id by [`Config::id_generator`], a random one by default.
    ///
    /// [`Config::id_generator`]: crate::Config::id_generator
    #[inline]
    pub fn new_span_id(&self) -> SpanId {
        self.recorder.with_ids(|ids| ids.new_span_id())
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}
