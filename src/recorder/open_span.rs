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

/// A span that has not ended: from [`Recorder::start`] and its like.
///
/// It ends with [`end`](Self::end), or when it is dropped; if that is because of a panic, it gets
/// the status error (unless it was set to Ok). What it says goes into a piece of the recorder's
/// memory ([`Config::open_span_bytes`](crate::Config::open_span_bytes)); what has no room there is
/// left out and counted in the span; a name that has no room is cut, and a trace state that takes more
/// than half of it loses its last members. If more
/// spans are open on the recorder than [`Config::open_spans_max`](crate::Config::open_spans_max),
/// the further ones say no more than the beginning of their name (31 bytes), their ids, times, kind
/// and status without description, and pass on no trace state: see
/// [`Stats::spans_without_memory`](crate::Stats::spans_without_memory).
///
/// Several can be open at a time, ending in any order. A span that the sampler did not choose is
/// there all the same, to be a parent and to tell others, and does nothing.
pub struct OpenSpan<'r> {
    recorder: &'r Recorder,
    draft: Draft,
    lane: usize,
    hold: Option<Hold>,
    /// Sampled, and not ended.
    is_recording: bool,
    /// The thread was panicking already when it began.
    in_panic: bool,
    /// Whose memory it has, if not the recorder's.
    home: Option<Home>,
}

impl<'r> OpenSpan<'r> {
    /// A span that was just started.
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

    /// A span that goes on here, with memory of another recorder.
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

    /// Whether it is of a trace that is recorded there.
    #[inline]
    pub(super) fn records_on(&self, recorder: &Recorder) -> bool {
        self.is_recording && std::ptr::eq(self.recorder, recorder)
    }

    /// Its place in a held trace.
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
    /// The span was refused. The reason is counted in the [`Ledger`](crate::Ledger) too. A span whose
    /// trace is sampled out or still held is no error.
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

    /// Decides that the spans of its trace on this recorder are all kept or all dropped, whatever
    /// [`Config::tail_sampling`](crate::Config::tail_sampling) says. The last one to say so before
    /// the local root's end counts. Does nothing if the trace is not held back.
    pub fn keep_trace(&mut self, keep: bool) {
        if let Some(hold) = self.hold {
            let held = &mut self.recorder.state.borrow_mut().held;
            held.trace(hold).force(keep);
        }
    }

    /// Lets it go from this thread, so that it can end on another. Until then it counts as open on
    /// this recorder, whose memory it keeps. Children elsewhere get its context as their parent:
    /// [`SpanBuilder::parent`](crate::SpanBuilder::parent).
    ///
    /// If its trace is held back by tail sampling, all of it is kept from now on; if it was dropped
    /// already, so is this span.
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

    /// Now, or its start if the clock was set back meanwhile.
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

/// What can be said about a span while it is open, on its thread or on the way to another.
macro_rules! setters {
    ($span:ty) => {
        impl $span {
            /// What other processes are told of it, and its children's parent.
            #[inline]
            #[must_use]
            pub fn context(&self) -> crate::span::context::SpanContext<'_> {
                self.draft.context()
            }

            /// Whether it was sampled; if not, nothing that is said about it goes anywhere.
            #[inline]
            #[must_use]
            pub fn is_recording(&self) -> bool {
                self.is_recording
            }

            /// Sets an attribute. One with the same key is replaced.
            ///
            /// Keys known at compile time can be prepared by [`key!`](crate::key). For what can be
            /// a value see [`AnyValueRef`](crate::AnyValueRef).
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

            /// Sets an attribute to a text that is formatted in place, at most as long as half of
            /// the room that is left.
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

            /// Adds an event with its time.
            pub fn add_event_at(&mut self, event: &crate::span::EventRef<'_>) -> &mut Self {
                if self.is_recording {
                    self.draft.content.event(event, self.recorder.limits());
                }
                self
            }

            /// Adds a link to another span.
            pub fn add_link(&mut self, link: &crate::span::LinkRef<'_>) -> &mut Self {
                if self.is_recording {
                    self.draft.content.link(link, self.recorder.limits());
                }
                self
            }

            /// Sets the status. Ok is final; Unset changes nothing; of several errors the last
            /// counts.
            pub fn set_status(&mut self, status: crate::span::StatusRef<'_>) -> &mut Self {
                if self.is_recording {
                    self.draft.content.set_status(status);
                }
                self
            }

            /// Gives it another name.
            pub fn set_name<'a>(
                &mut self,
                name: impl Into<crate::span::attribute::Name<'a>>,
            ) -> &mut Self {
                if self.is_recording {
                    self.draft.content.set_name(name.into());
                }
                self
            }

            /// Adds the event `exception` with `exception.message` and `exception.type`, as
            /// OpenTelemetry's conventions have it: for any error, or anything else that can be
            /// displayed. Does not set the status: see [`set_status`](Self::set_status).
            ///
            /// The type is the static one, as [`std::any::type_name`] spells it:
            /// `std::io::error::Error`, `dyn core::error::Error` or
            /// `alloc::boxed::Box<dyn core::error::Error>` where only that is known, and `str` for
            /// a text. So pass the concrete error where there is one. The message is cut to half
            /// of the room that is left; the type is omitted if it takes more than a quarter.
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
