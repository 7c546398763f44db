//! Recorders and open spans: the application thread's half of the pipeline.

mod builder;
mod detached;
mod hold;
mod lease;
mod open_span;
mod scoped;
mod scratch;
mod state;
mod writer;

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Weak};

use crossbeam_utils::CachePadded;

use crate::error::Error;
use crate::otlp::Scratch;
use crate::otlp::draft::Draft;
use crate::otlp::encode::EncodeSpan;
use crate::otlp::finished::Finished;
use crate::platform::clock::unix_nanos;
use crate::shared::Shared;
use crate::span::attribute::{Attributes, Name, UseAttributes};
use crate::span::context::TraceFlags;
use crate::span::id::{SpanId, TraceId};
use crate::span::id_generator::Ids;
use crate::span::limits::SpanLimits;
use crate::span::scope::Scope;
use crate::span::{Span, SpanRef};
use crate::stats::counters::RecorderCounters;
use crate::stats::refused::Refused;

use self::hold::{Decision, HeldTraces, Hold};
use self::scratch::ScratchPool;
use self::state::RecorderState;
use self::writer::Writer;

pub use self::builder::SpanBuilder;
pub use self::detached::DetachedSpan;
pub(crate) use self::lease::Recorders;
pub use self::open_span::OpenSpan;
pub use self::scoped::ScopedRecorder;

/// Tests that a recorder is neither `Sync` nor `Clone`.
///
/// ```compile_fail,E0277
/// fn sync<T: Sync>() {}
/// sync::<otlp_collector::Recorder>();
/// ```
///
/// ```compile_fail,E0277
/// fn clone<T: Clone>() {}
/// clone::<otlp_collector::Recorder>();
/// ```
#[cfg(doctest)]
struct OneThreadAtATime;

/// A thread's way to record spans.
///
/// [`start`](Self::start) opens a span that ends later. [`record`](Self::record) takes a finished span.
/// Neither allocates, takes a lock, or waits for another thread, except that with
/// [`Overflow::Block`](crate::Overflow::Block) a full buffer makes the thread wait. The only system call
/// wakes the network thread, if that sleeps while a batch is complete or slabs are scarce.
///
/// A recorder can move to another thread (`Send`), but only one thread at a time uses it (neither `Sync`
/// nor `Clone`). Dropping it loses no recorded span.
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
    state: RefCell<RecorderState>,
    /// In a cell of its own, since a user's generator may record on this recorder.
    ids: RefCell<Ids>,
    counters: Arc<CachePadded<RecorderCounters>>,
    shared: Arc<Shared>,
    /// For spans that end on threads without a recorder.
    recorders: Weak<Recorders>,
}

/// The lane of the collector's own scope.
const OWN_SCOPE: usize = 0;

impl Recorder {
    fn new(
        shared: Arc<Shared>,
        writer: Writer,
        recorders: Weak<Recorders>,
        with_spans: bool,
    ) -> Self {
        let config = &shared.settings.config;
        let open_spans_max = if with_spans { config.open_spans_max } else { 0 };
        let tail_sampling = config.tail_sampling.as_ref().filter(|_| with_spans);
        Self {
            counters: Arc::clone(writer.counters()),
            state: RefCell::new(RecorderState {
                writer,
                scratch: ScratchPool::new(open_spans_max, config.open_span_bytes),
                held: HeldTraces::new(tail_sampling),
            }),
            ids: RefCell::new(shared.ids(with_spans)),
            shared,
            recorders,
        }
    }

    /// Starts a root span now. The sampler decides whether it is recorded.
    #[inline]
    pub fn start<'n>(&self, name: impl Into<Name<'n>>) -> OpenSpan<'_> {
        self.span_builder(name).start()
    }

    /// Starts a child of `parent` now.
    #[inline]
    pub fn start_child<'n>(
        &self,
        parent: &OpenSpan<'_>,
        name: impl Into<Name<'n>>,
    ) -> OpenSpan<'_> {
        self.span_builder(name).child_of(parent).start()
    }

    /// Creates a builder for a span that starts with more than a name.
    #[inline]
    pub fn span_builder<'b>(&self, name: impl Into<Name<'b>>) -> SpanBuilder<'_, 'b> {
        SpanBuilder::new(self, OWN_SCOPE, name.into())
    }

    /// Continues a detached span on this recorder, in its own instrumentation scope. Without a slab for
    /// that scope the span is refused and counted, and stops recording.
    pub fn attach(&self, span: DetachedSpan) -> OpenSpan<'_> {
        span.attach_to(self)
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
        if !self.shared.scopes.contains(scope) {
            return Err(Error::config(format!(
                "scope {:?} is registered with another collector; register it with this one's \
                 register_scope()",
                scope.definition().name
            )));
        }
        let lane = self.lane_of(scope).map_err(|why| match why {
            Refused::Forked => Error::forked(self.shared.counters.ledger()),
            _ => Error::resources(
                "no slab is left for the spans of one more scope; raise recorders_max",
                None,
            ),
        })?;
        Ok(ScopedRecorder {
            recorder: self,
            lane,
        })
    }

    /// Records a finished span. The sampler is not asked.
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
        self.record_in(OWN_SCOPE, span)
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
        self.record_with_in(OWN_SCOPE, span, attributes)
    }

    /// Records a finished span in the scope of a lane.
    #[inline(always)]
    fn record_in(&self, lane: usize, span: &SpanRef<'_>) -> Result<(), Refused> {
        let span = Finished {
            span,
            tuple: (),
            limits: self.limits(),
        };
        self.write(lane, &span)
    }

    /// Records a finished span with a tuple of attributes in the scope of a lane.
    #[inline(always)]
    fn record_with_in(
        &self,
        lane: usize,
        span: &SpanRef<'_>,
        attributes: impl Attributes,
    ) -> Result<(), Refused> {
        // Before anything is borrowed: a user's conversion may record on this recorder.
        attributes.convert(Record {
            recorder: self,
            lane,
            // A copy, so that fields that are constant at the call site are constant here.
            span: *span,
        })
    }

    /// Records an owned span, which ends now unless it has an end.
    fn record_owned(&self, span: &mut Span) -> Result<(), Refused> {
        if span.end_time == 0 {
            span.end_time = unix_nanos();
        }
        let lane = self.lane(span.scope.as_ref())?;
        let span = Finished {
            span: &*span,
            tuple: (),
            limits: self.limits(),
        };
        self.write(lane, &span)
    }

    /// Makes a trace id by [`Config::id_generator`], a random one by default.
    ///
    /// [`Config::id_generator`]: crate::Config::id_generator
    #[inline]
    pub fn new_trace_id(&self) -> TraceId {
        self.with_ids(|ids| ids.new_trace_id())
    }

    /// Makes a span id by [`Config::id_generator`], a random one by default.
    ///
    /// [`Config::id_generator`]: crate::Config::id_generator
    #[inline]
    pub fn new_span_id(&self) -> SpanId {
        self.with_ids(|ids| ids.new_span_id())
    }

    /// Makes the id of a new span, and of its trace unless that is given. Returns the flags of a new
    /// trace too.
    #[inline]
    fn new_ids(&self, trace_id: Option<TraceId>) -> (TraceId, SpanId, TraceFlags) {
        self.with_ids(
            #[inline(always)]
            |ids| {
                let random = if ids.are_random() {
                    TraceFlags::RANDOM
                } else {
                    TraceFlags::NONE
                };
                let (trace_id, span_id) = ids.for_span(trace_id);
                (trace_id, span_id, random)
            },
        )
    }

    /// Calls `make` with this recorder's ids, or with random ones within a call of the user's generator.
    #[inline(always)]
    fn with_ids<R>(&self, make: impl Fn(&mut Ids) -> R) -> R {
        match self.ids.try_borrow_mut() {
            Ok(mut ids) => make(&mut ids),
            Err(_) => Self::with_random_ids(make),
        }
    }

    #[cold]
    #[inline(never)]
    fn with_random_ids<R>(make: impl Fn(&mut Ids) -> R) -> R {
        make(&mut Ids::random())
    }

    /// Returns memory for a sampled span, if any is left, and its place in a held trace, if it has one.
    #[inline]
    fn prepare(
        &self,
        hold: impl FnOnce(&mut HeldTraces) -> Option<Hold>,
    ) -> (Option<Scratch>, Option<Hold>) {
        let state = &mut *self.state.borrow_mut();
        (state.scratch.take(), hold(&mut state.held))
    }

    #[inline]
    fn limits(&self) -> &SpanLimits {
        &self.shared.settings.config.span_limits
    }

    #[inline(always)]
    fn write(&self, lane: usize, span: &impl EncodeSpan) -> Result<(), Refused> {
        self.state.borrow_mut().writer.write(lane, span)
    }

    /// Returns the lane for spans of a scope.
    fn lane(&self, scope: Option<&Scope>) -> Result<usize, Refused> {
        let Some(scope) = scope else {
            return Ok(OWN_SCOPE);
        };
        let lane = if self.shared.scopes.contains(scope) {
            self.lane_of(scope)
        } else {
            Err(Refused::UnknownScope)
        };
        lane.map_err(|why| self.state.borrow_mut().writer.refuse(why))
    }

    /// Returns the lane of a scope of this collector. Lanes that recorders left are evicted to make room.
    fn lane_of(&self, scope: &Scope) -> Result<usize, Refused> {
        loop {
            let lane = self.state.borrow_mut().writer.lane(scope);
            let has_room = || (self.recorders.upgrade()).is_some_and(|recorders| recorders.evict());
            if lane != Err(Refused::NoSlab) || !has_room() {
                return lane;
            }
        }
    }

    // ---- Ending spans ----

    #[inline]
    fn end(
        &self,
        draft: &Draft,
        lane: usize,
        hold: Option<Hold>,
        end_time: u64,
    ) -> Result<(), Refused> {
        let state = &mut *self.state.borrow_mut();
        match hold {
            None => state.writer.write(lane, &draft.ended(end_time)),
            Some(hold) => state.end_held(draft, lane, hold, end_time),
        }
    }

    /// The trace of a span that leaves this thread is kept: what becomes of the span will not be
    /// known here. False if it was dropped before.
    fn release(&self, hold: Hold) -> bool {
        let state = &mut *self.state.borrow_mut();
        let is_kept = match state.held.trace(hold).decision() {
            Decision::Pending => {
                state.keep(hold);
                true
            }
            Decision::Kept => true,
            Decision::Dropped => {
                state.writer.counters().sample_out(1);
                false
            }
        };
        state.held.leave(hold);
        is_kept
    }
}

/// Records a finished span with the attributes that it is given.
struct Record<'r, 's> {
    recorder: &'r Recorder,
    lane: usize,
    span: SpanRef<'s>,
}

impl UseAttributes for Record<'_, '_> {
    type Output = Result<(), Refused>;

    #[inline(always)]
    fn call(self, attributes: impl Attributes) -> Result<(), Refused> {
        let span = Finished {
            span: self.span,
            tuple: attributes,
            limits: self.recorder.limits(),
        };
        self.recorder.write(self.lane, &span)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Only if an open span was leaked, so that its trace will not be decided.
        let state = self.state.get_mut();
        for hold in state.held.pending() {
            state.keep(hold);
        }
        if let Some(recorders) = self.recorders.upgrade() {
            recorders.retire(&mut state.writer);
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}
