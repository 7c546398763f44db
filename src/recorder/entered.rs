//! Entered spans: their guards, and access to the current one.

use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::ops::Deref;

use crate::recorder::current::{self, Position};
use crate::recorder::open_span::OpenSpan;
use crate::span::attribute::{AnyValueRef, Key, KeyValueRef, Name};
use crate::span::context::SpanContext;
use crate::span::{AsStatus, EventRef, LinkRef, SpanKind};

/// Returns access to the calling thread's current span.
///
/// ```
/// # use otlp_collector::{Collector, Config, span};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
/// # let installed = collector.install_for_thread();
/// fn look_up(key: &str) {
///     // Deep in the stack.
///     otlp_collector::current().set_attribute("cache.key", key);
/// }
///
/// let _request = span!("GET /orders").entered();
/// look_up("orders");
/// # drop((_request, installed));
/// # collector.shutdown()?;
/// # assert_eq!(receiver.span("GET /orders").attribute("cache.key"), Some("orders".into()));
/// # Ok(())
/// # }
/// ```
#[inline]
#[must_use]
pub fn current() -> CurrentSpan {
    CurrentSpan::new(Position::TOP)
}

/// Access to an entered span: from [`current`] the span that is current when a method is called, from a
/// guard the span of the guard.
///
/// Without such a span all methods do nothing. The same applies to calls from a `Display` that is formatted
/// into this very span, or from a sampler that is asked about a child; changes that they omit are counted
/// in the span as dropped attributes.
pub struct CurrentSpan {
    position: Position,
    /// The stack is this thread's.
    _not_send: PhantomData<*const ()>,
}

impl CurrentSpan {
    #[inline(always)]
    fn new(position: Position) -> Self {
        Self {
            position,
            _not_send: PhantomData,
        }
    }

    /// Changes the span by code that runs none of the user's.
    #[inline(always)]
    fn change(&self, change: impl FnOnce(&mut OpenSpan)) -> &Self {
        current::with(self.position, change);
        self
    }

    /// Returns the context. Allocates if there is a trace state: [`inject`](Self::inject) never does.
    ///
    /// From then on parent, kind, start time and sampling stay as they are.
    #[inline]
    #[must_use]
    pub fn context(&self) -> Option<SpanContext<'static>> {
        current::read(
            self.position,
            #[inline(always)]
            |span| span.context().map(SpanContext::into_owned),
        )?
    }

    /// As [`OpenSpan::inject`].
    pub fn inject(&self, set: impl FnMut(&'static str, &str)) {
        current::read(self.position, |span| span.inject(set));
    }

    /// As [`OpenSpan::is_recording`].
    #[inline]
    #[must_use]
    pub fn is_recording(&self) -> bool {
        current::read(self.position, OpenSpan::is_recording).unwrap_or_default()
    }

    /// As [`OpenSpan::set_attribute`].
    #[inline]
    pub fn set_attribute<'a>(
        &self,
        key: impl Into<Key<'a>>,
        value: impl Into<AnyValueRef<'a>>,
    ) -> &Self {
        let (key, value) = (key.into(), value.into());
        self.change(
            #[inline(always)]
            |span| {
                span.set_attribute(key, value);
            },
        )
    }

    /// As [`OpenSpan::set_attribute_display`].
    pub fn set_attribute_display<'a>(
        &self,
        key: impl Into<Key<'a>>,
        value: &dyn fmt::Display,
    ) -> &Self {
        let key = key.into();
        current::lend(self.position, |span| {
            span.set_attribute_display(key, value);
        });
        self
    }

    /// As [`OpenSpan::add_event`].
    pub fn add_event(&self, name: &str, attributes: &[KeyValueRef<'_>]) -> &Self {
        self.change(|span| {
            span.add_event(name, attributes);
        })
    }

    /// As [`OpenSpan::add_event_at`].
    pub fn add_event_at(&self, event: &EventRef<'_>) -> &Self {
        self.change(|span| {
            span.add_event_at(event);
        })
    }

    /// As [`OpenSpan::add_link`].
    pub fn add_link(&self, link: &LinkRef<'_>) -> &Self {
        self.change(|span| {
            span.add_link(link);
        })
    }

    /// As [`OpenSpan::set_status`].
    pub fn set_status(&self, status: impl AsStatus) -> &Self {
        let status = status.as_status();
        self.change(|span| {
            span.set_status(status);
        })
    }

    /// As [`OpenSpan::set_name`].
    pub fn set_name<'a>(&self, name: impl Into<Name<'a>>) -> &Self {
        let name = name.into();
        self.change(|span| {
            span.set_name(name);
        })
    }

    /// As [`OpenSpan::record_error`].
    pub fn record_error<E>(&self, error: &E) -> &Self
    where
        E: fmt::Display + ?Sized,
    {
        current::lend(self.position, |span| {
            span.record_error(error);
        });
        self
    }

    /// As [`OpenSpan::record_error_debug`].
    pub fn record_error_debug<E>(&self, error: &E) -> &Self
    where
        E: fmt::Debug + ?Sized,
    {
        current::lend(self.position, |span| {
            span.record_error_debug(error);
        });
        self
    }

    /// As [`OpenSpan::set_parent`].
    pub fn set_parent(&self, parent: &SpanContext<'_>) -> bool {
        current::lend(self.position, |span| span.set_parent(parent)).unwrap_or_default()
    }

    /// As [`OpenSpan::set_kind`].
    pub fn set_kind(&self, kind: SpanKind) -> bool {
        current::with(self.position, |span| span.set_kind(kind)).unwrap_or_default()
    }

    /// As [`OpenSpan::set_start_time`].
    pub fn set_start_time(&self, unix_nanos: u64) -> bool {
        current::with(self.position, |span| span.set_start_time(unix_nanos)).unwrap_or_default()
    }

    /// As [`OpenSpan::keep_trace`].
    pub fn keep_trace(&self, keep: bool) {
        self.change(|span| span.keep_trace(keep));
    }
}

impl fmt::Debug for CurrentSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = current::read(self.position, OpenSpan::ids).flatten();
        f.debug_struct("CurrentSpan")
            .field("trace_id", &ids.map(|ids| ids.trace_id))
            .field("span_id", &ids.map(|ids| ids.span_id))
            .finish_non_exhaustive()
    }
}

impl OpenSpan {
    /// Makes the span the current one of this thread until the guard is dropped. Spans started by
    /// [`span!`](crate::span!) meanwhile are its children.
    ///
    /// The guard gives access to the span. Guards may be dropped in any order: the current span is
    /// always the last one that was entered and not exited. A leaked guard leaves the span entered; it
    /// ends with the thread.
    ///
    /// Memory: a thread's first call allocates room for 32 entered spans, and each 32 more on top of
    /// each other the same.
    ///
    /// Do not hold a guard across an `.await`: other tasks of the thread would run in the span. Use
    /// [`Instrument`](crate::Instrument) there.
    #[inline]
    pub fn enter(&mut self) -> Entered<'_> {
        let position = current::enter(self);
        Entered {
            place: self,
            span: CurrentSpan::new(position),
        }
    }

    /// Makes the span the current one of this thread until the guard is dropped, which ends it. See
    /// [`enter`](Self::enter).
    #[inline]
    pub fn entered(mut self) -> EnteredSpan {
        let position = current::enter(&mut self);
        EnteredSpan {
            place: self,
            span: CurrentSpan::new(position),
        }
    }

    /// Runs `work` with this span as the current one.
    #[inline]
    pub fn in_scope<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let _entered = self.enter();
        work()
    }
}

/// Guard of a span that is entered and not owned by it: see [`OpenSpan::enter`].
///
/// ```compile_fail
/// fn send<T: Send>() {}
/// send::<otlp_collector::recorder::Entered<'_>>();
/// ```
///
/// ```compile_fail
/// fn sync<T: Sync>() {}
/// sync::<otlp_collector::recorder::Entered<'_>>();
/// ```
#[derive(Debug)]
#[must_use = "the span is exited when the guard is dropped"]
pub struct Entered<'s> {
    place: &'s mut OpenSpan,
    span: CurrentSpan,
}

impl Deref for Entered<'_> {
    type Target = CurrentSpan;

    #[inline]
    fn deref(&self) -> &CurrentSpan {
        &self.span
    }
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        current::exit(self.span.position, self.place);
    }
}

/// Guard of a span that is entered and ends with it: see [`OpenSpan::entered`].
#[derive(Debug)]
#[must_use = "the span ends when the guard is dropped"]
pub struct EnteredSpan {
    place: OpenSpan,
    span: CurrentSpan,
}

impl EnteredSpan {
    /// Returns the span, which is no longer entered.
    #[inline]
    #[must_use = "the span ends when it is dropped"]
    pub fn exit(mut self) -> OpenSpan {
        current::exit(self.span.position, &mut self.place);
        self.span.position = Position::NOWHERE;
        mem::take(&mut self.place)
    }
}

impl Deref for EnteredSpan {
    type Target = CurrentSpan;

    #[inline]
    fn deref(&self) -> &CurrentSpan {
        &self.span
    }
}

impl Drop for EnteredSpan {
    #[inline]
    fn drop(&mut self) {
        current::exit(self.span.position, &mut self.place);
    }
}
