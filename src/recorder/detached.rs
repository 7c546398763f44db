//! An open span between two threads.

use std::fmt;
use std::sync::{Arc, Weak};
use std::thread::panicking;

use crate::otlp::draft::Draft;
use crate::platform::clock::unix_nanos;
use crate::recorder::open_span::setters;
use crate::recorder::scratch::Home;
use crate::recorder::{OWN_SCOPE, OpenSpan, Recorder, Recorders};
use crate::shared::Shared;
use crate::span::StatusRef;
use crate::span::limits::SpanLimits;
use crate::span::scope::Scope;
use crate::stats::refused::Refused;

/// An open span that no thread owns, from [`OpenSpan::detach`].
///
/// [`end`](Self::end) and drop record it on any thread as
/// [`Collector::collect`](crate::Collector::collect) does, with a shared recorder.
/// [`Recorder::attach`] continues it on a recorder, which is faster. Its memory goes back to the
/// recorder on which it started.
///
/// ```
/// # use otlp_collector::span::StatusRef;
/// # use otlp_collector::{Collector, Config};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
/// let recorder = collector.recorder()?;
/// let mut job = recorder.start("resize image").detach();
/// std::thread::spawn(move || {
///     job.set_attribute("image.width", 640).set_status(StatusRef::Ok);
///     job.end();
/// })
/// .join()
/// .expect("no panic");
/// # assert_eq!(collector.shutdown()?.delivered(), 1);
/// # Ok(())
/// # }
/// ```
pub struct DetachedSpan {
    draft: Draft,
    is_recording: bool,
    scope: Option<Scope>,
    home: Option<Home>,
    /// The thread was already panicking at the start.
    in_panic: bool,
    recorder: HomeRecorder,
}

/// The parts of the recorder on which a span started that outlive it.
struct HomeRecorder {
    shared: Arc<Shared>,
    recorders: Weak<Recorders>,
}

impl HomeRecorder {
    fn limits(&self) -> &SpanLimits {
        &self.shared.settings.config.span_limits
    }

    /// Counts a span that ends after its collector.
    fn refuse(&self) -> Refused {
        let is_forked = self.shared.signal.is_forked();
        let why = if is_forked {
            Refused::Forked
        } else {
            Refused::ShutDown
        };
        self.shared.refuse(why)
    }
}

impl DetachedSpan {
    pub(super) fn new(
        recorder: &Recorder,
        lane: usize,
        draft: Draft,
        is_recording: bool,
        home: Option<Home>,
        in_panic: bool,
    ) -> Self {
        let state = recorder.state.borrow();
        Self {
            draft,
            is_recording,
            scope: state.writer.scope(lane),
            home: Some(home.unwrap_or_else(|| state.scratch.home())),
            in_panic,
            recorder: HomeRecorder {
                shared: Arc::clone(&recorder.shared),
                recorders: Weak::clone(&recorder.recorders),
            },
        }
    }

    /// Ends the span now. A refused span is counted in the [`Ledger`](crate::Ledger);
    /// [`try_end`](Self::try_end) also returns the reason.
    pub fn end(self) {
        let _ = self.try_end();
    }

    /// Ends the span at a time in nanoseconds since the Unix epoch. A refused span is counted in the
    /// [`Ledger`](crate::Ledger); [`try_end_at`](Self::try_end_at) also returns the reason.
    pub fn end_at(self, unix_nanos: u64) {
        let _ = self.try_end_at(unix_nanos);
    }

    /// Ends the span now.
    ///
    /// # Errors
    /// The span was refused. The reason is counted in the [`Ledger`](crate::Ledger) too.
    pub fn try_end(self) -> Result<(), Refused> {
        let end_time = unix_nanos().max(self.draft.start_time);
        self.try_end_at(end_time)
    }

    /// Ends the span at a time in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// As [`try_end`](Self::try_end).
    pub fn try_end_at(mut self, unix_nanos: u64) -> Result<(), Refused> {
        self.finish(unix_nanos)
    }

    pub(super) fn attach_to(mut self, recorder: &Recorder) -> OpenSpan<'_> {
        let is_recording = std::mem::replace(&mut self.is_recording, false);
        let draft = self.draft.take();
        // Without a lane the span is counted as refused, and can only be a parent.
        let lane = is_recording
            .then(|| recorder.lane(self.scope.as_ref()).ok())
            .flatten();
        if is_recording && lane.is_none() {
            recorder.counters.end();
        }
        let is_recording = lane.is_some();
        let lane = lane.unwrap_or(OWN_SCOPE);
        OpenSpan::attached(recorder, draft, lane, is_recording, self.home.take())
    }

    fn finish(&mut self, end_time: u64) -> Result<(), Refused> {
        let mut result = Ok(());
        if std::mem::replace(&mut self.is_recording, false) {
            self.recorder.shared.counters.end_detached();
            result = match self.recorder.recorders.upgrade() {
                Some(recorders) => recorders.with_recorder(self.scope.as_ref(), |recorder| {
                    let lane = recorder.lane(self.scope.as_ref())?;
                    recorder.end(&self.draft, lane, None, end_time)
                }),
                None => Err(self.recorder.refuse()),
            };
        }
        if let (Some(scratch), Some(home)) = (self.draft.content.take_scratch(), &self.home) {
            home.give_back(scratch);
        }
        result
    }
}

impl Drop for DetachedSpan {
    fn drop(&mut self) {
        if self.is_recording && panicking() && !self.in_panic {
            self.draft.content.set_status(StatusRef::Error("panicked"));
        }
        let end_time = unix_nanos().max(self.draft.start_time);
        // A refused span is counted.
        let _ = self.finish(end_time);
    }
}

impl fmt::Debug for DetachedSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DetachedSpan")
            .field("context", &self.context())
            .field("is_recording", &self.is_recording)
            .finish_non_exhaustive()
    }
}

setters!(DetachedSpan);
