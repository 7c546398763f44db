//! A span between its start and its end.

use std::fmt;
use std::thread::panicking;

use crate::otlp::draft::Draft;
use crate::platform::clock::unix_nanos;
use crate::recorder::hold::Hold;
use crate::recorder::scratch::Home;
use crate::recorder::{DetachedSpan, Recorder};
use crate::span::StatusRef;
use crate::stats::refused::Refused;

/// A span between its start and its end, from [`Recorder::start`], [`Recorder::start_child`] or
/// [`SpanBuilder::start`](crate::recorder::SpanBuilder::start).
///
/// It ends with [`end`](Self::end) or when it is dropped. If a panic drops it, it gets the status error,
/// unless its status is Ok. Several spans can be open at once and end in any order. A span that is not
/// sampled passes its context on and records nothing.
///
/// Its data is encoded into memory of the recorder, of which it has
/// [`Config::open_span_bytes`](crate::Config::open_span_bytes). Attributes, events and links that do not
/// fit are dropped and counted in the span. A name that does not fit is truncated. A trace state that
/// takes more than half of the memory loses its last members. Spans opened beyond
/// [`Config::open_spans_max`](crate::Config::open_spans_max) keep only ids, times, kind, status code and
/// 31 bytes of name, and pass on no trace state;
/// [`Stats::spans_without_memory`](crate::stats::Stats::spans_without_memory) counts them.
pub struct OpenSpan<'r> {
    recorder: &'r Recorder,
    draft: Draft,
    lane: usize,
    hold: Option<Hold>,
    /// Sampled and not ended.
    is_recording: bool,
    /// The thread was already panicking at the start.
    in_panic: bool,
    /// The owner of its memory, if that is another recorder.
    home: Option<Home>,
}

impl<'r> OpenSpan<'r> {
    /// Creates a span that has just started.
    #[inline(always)]
    pub(super) fn new(
        recorder: &'r Recorder,
        draft: Draft,
        lane: usize,
        is_recording: bool,
        hold: Option<Hold>,
    ) -> Self {
        Self {
            recorder,
            draft,
            lane,
            hold,
            is_recording,
            in_panic: is_recording && panicking(),
            home: None,
        }
    }

    /// Creates a span that continues here with memory of another recorder.
    pub(super) fn attached(
        recorder: &'r Recorder,
        draft: Draft,
        lane: usize,
        is_recording: bool,
        home: Option<Home>,
    ) -> Self {
        let mut span = Self::new(recorder, draft, lane, is_recording, None);
        span.home = home;
        span
    }

    #[inline]
    pub(super) fn draft(&self) -> &Draft {
        &self.draft
    }

    /// Returns whether the span records on this recorder.
    #[inline]
    pub(super) fn records_on(&self, recorder: &Recorder) -> bool {
        self.is_recording && std::ptr::eq(self.recorder, recorder)
    }

    /// Returns its place in a held trace.
    #[inline]
    pub(super) fn hold(&self) -> Option<Hold> {
        self.hold
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
    /// The span was refused. The reason is counted in the [`Ledger`](crate::Ledger) too. The result is
    /// `Ok` for a span whose trace is sampled out or still held.
    pub fn try_end(mut self) -> Result<(), Refused> {
        let end_time = self.now();
        self.finish(end_time)
    }

    /// Ends the span at a time in nanoseconds since the Unix epoch.
    ///
    /// # Errors
    /// As [`try_end`](Self::try_end).
    pub fn try_end_at(mut self, unix_nanos: u64) -> Result<(), Refused> {
        self.finish(unix_nanos)
    }

    /// Keeps or drops all spans of its trace on this recorder when the local root ends, regardless of the
    /// rule of [`Config::tail_sampling`](crate::Config::tail_sampling). The last call before that end
    /// counts. Has no effect if the trace is not held.
    pub fn keep_trace(&mut self, keep: bool) {
        if let Some(hold) = self.hold {
            let held = &mut self.recorder.state.borrow_mut().held;
            held.trace(hold).force(keep);
        }
    }

    /// Detaches the span from this thread, so that it can end on another. It keeps its memory, and counts
    /// as open on this recorder until it ends. For children on other threads pass its context to
    /// [`SpanBuilder::parent`](crate::recorder::SpanBuilder::parent).
    ///
    /// If tail sampling holds its trace, the trace is kept from now on. If it dropped the trace already,
    /// the span is dropped too.
    #[must_use]
    pub fn detach(mut self) -> DetachedSpan {
        let hold = self.hold.take();
        let is_kept = hold.is_none_or(|hold| self.recorder.release(hold));
        let home = self.home.take();
        let was_recording = std::mem::replace(&mut self.is_recording, false);
        if was_recording && !is_kept {
            self.recorder.counters.end();
        }
        let is_recording = was_recording && is_kept;
        let draft = self.draft.take();
        DetachedSpan::new(
            self.recorder,
            self.lane,
            draft,
            is_recording,
            home,
            self.in_panic,
        )
    }

    /// Returns the current time, or the start if the clock was set back.
    #[inline]
    fn now(&self) -> u64 {
        if self.is_recording {
            unix_nanos().max(self.draft.start_time)
        } else {
            0
        }
    }

    #[inline(always)]
    fn finish(&mut self, end_time: u64) -> Result<(), Refused> {
        if self.is_recording || self.draft.content.has_scratch() {
            self.finish_recording(end_time)
        } else {
            Ok(())
        }
    }

    fn finish_recording(&mut self, end_time: u64) -> Result<(), Refused> {
        let mut result = Ok(());
        if std::mem::replace(&mut self.is_recording, false) {
            let hold = self.hold.take();
            self.recorder.counters.end();
            result = self.recorder.end(&self.draft, self.lane, hold, end_time);
        }
        if let Some(scratch) = self.draft.content.take_scratch() {
            match &self.home {
                None => self.recorder.state.borrow_mut().scratch.give_back(scratch),
                Some(home) => home.give_back(scratch),
            }
        }
        result
    }
}

impl Drop for OpenSpan<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.is_recording && panicking() && !self.in_panic {
            self.draft.content.set_status(StatusRef::Error("panicked"));
        }
        let end_time = self.now();
        // A refused span is counted.
        let _ = self.finish(end_time);
    }
}

impl fmt::Debug for OpenSpan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSpan")
            .field("context", &self.context())
            .field("is_recording", &self.is_recording)
            .finish_non_exhaustive()
    }
}

/// The methods that open and detached spans share.
macro_rules! setters {
    ($span:ty) => {
        impl $span {
            /// Returns the context of the span: for calls to other processes, and as a parent.
            #[inline]
            #[must_use]
            pub fn context(&self) -> crate::span::context::SpanContext<'_> {
                self.draft.context()
            }

            /// Returns whether the span is sampled. If not, its data is ignored.
            #[inline]
            #[must_use]
            pub fn is_recording(&self) -> bool {
                self.is_recording
            }

            /// Sets an attribute, and replaces one with the same key.
            ///
            /// [`key!`](crate::key) prepares constant keys at compile time.
            /// [`AnyValueRef`](crate::span::AnyValueRef) lists the types of values.
            #[inline(always)]
            pub fn set_attribute<'a>(
                &mut self,
                key: impl Into<crate::span::attribute::Key<'a>>,
                value: impl Into<crate::span::attribute::AnyValueRef<'a>>,
            ) -> &mut Self {
                if self.is_recording {
                    let attribute = crate::span::attribute::KeyValueRef::new(key, value);
                    self.draft
                        .content
                        .attribute(&attribute, self.recorder.limits());
                }
                self
            }

            /// Sets an attribute to a text that is formatted in place, without an allocation. The text
            /// is truncated to half of the memory that is left.
            pub fn set_attribute_display<'a>(
                &mut self,
                key: impl Into<crate::span::attribute::Key<'a>>,
                value: &dyn std::fmt::Display,
            ) -> &mut Self {
                if self.is_recording {
                    self.draft
                        .content
                        .attribute_display(key.into(), value, self.recorder.limits());
                }
                self
            }

            /// Adds an event that happens now.
            pub fn add_event(
                &mut self,
                name: &str,
                attributes: &[crate::span::attribute::KeyValueRef<'_>],
            ) -> &mut Self {
                if self.is_recording {
                    let now = crate::platform::clock::unix_nanos();
                    self.add_event_at(&crate::span::EventRef {
                        attributes,
                        ..crate::span::EventRef::new(name, now)
                    });
                }
                self
            }

            /// Adds an event with a time.
            pub fn add_event_at(&mut self, event: &crate::span::EventRef<'_>) -> &mut Self {
                if self.is_recording {
                    self.draft.content.event(event, self.recorder.limits());
                }
                self
            }

            /// Adds a link to a related span.
            pub fn add_link(&mut self, link: &crate::span::LinkRef<'_>) -> &mut Self {
                if self.is_recording {
                    self.draft.content.link(link, self.recorder.limits());
                }
                self
            }

            /// Sets the status. Ok is final, Unset has no effect, and an error replaces an earlier one.
            pub fn set_status(&mut self, status: impl crate::span::AsStatus) -> &mut Self {
                if self.is_recording {
                    self.draft.content.set_status(status.as_status());
                }
                self
            }

            /// Replaces the name.
            pub fn set_name<'a>(
                &mut self,
                name: impl Into<crate::span::attribute::Name<'a>>,
            ) -> &mut Self {
                if self.is_recording {
                    self.draft.content.set_name(name.into());
                }
                self
            }

            /// Adds the event `exception` with the attributes `exception.message` and
            /// `exception.type` (OpenTelemetry's semantic conventions), for an error or any other type
            /// with `Display`. Leaves the status alone; see [`set_status`](Self::set_status).
            ///
            /// The type is that of the argument at compile time, as [`std::any::type_name`] spells it,
            /// such as `std::io::error::Error` or `alloc::boxed::Box<dyn core::error::Error>`. Pass the
            /// concrete error if there is one. The message is truncated to half of the memory that is
            /// left. The type is omitted if it takes more than a quarter.
            pub fn record_error<E>(&mut self, error: &E) -> &mut Self
            where
                E: std::fmt::Display + ?Sized,
            {
                if self.is_recording {
                    let now = crate::platform::clock::unix_nanos();
                    let limits = self.recorder.limits();
                    let type_name = std::any::type_name::<E>();
                    self.draft.content.exception(&error, type_name, now, limits);
                }
                self
            }
        }
    };
}

pub(super) use setters;

setters!(OpenSpan<'_>);
