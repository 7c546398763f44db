//! Access to a span of `tracing` as a span of the collector.

use std::fmt;

use crate::recorder::{OpenSpan, SharedRef};
use crate::span::attribute::{AnyValueRef, Key, KeyValueRef, Name};
use crate::span::context::SpanContext;
use crate::span::id::{SpanId, TraceId};
use crate::span::{AsStatus, LinkRef};
use crate::tracing::layer::OtlpLayer;
use crate::tracing::scratch::with_scratch;
use crate::tracing::subscriber::OtlpSubscriber;

/// Access to a span of `tracing` that is sent by an [`OtlpLayer`] or [`OtlpSubscriber`].
///
/// Without one, with one that a filter keeps from seeing this span, or behind a
/// `tracing_subscriber::reload::Layer`, all methods do nothing. Of several layers the outermost counts.
///
/// ```
/// use otlp_collector::tracing::SpanExt;
/// use otlp_collector::{Collector, Config, SpanContext};
/// use tracing_subscriber::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
/// # let layer = otlp_collector::tracing::layer(&collector);
/// # let _default = tracing_subscriber::registry().with(layer).set_default();
/// #[tracing::instrument]
/// fn handle(traceparent: &str) {
///     let span = tracing::Span::current();
///     if let Some(caller) = SpanContext::extract([("traceparent", traceparent)]) {
///         span.set_parent(&caller); // also after the span was entered
///     }
///     span.inject(|name, value| println!("send {name}: {value}"));
/// }
///
/// handle("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
/// # collector.shutdown()?;
/// # assert_eq!(receiver.span("handle").trace_id.to_string(), "0af7651916cd43dd8448eb211c80319c");
/// # Ok(())
/// # }
/// ```
pub trait SpanExt: Sealed {
    /// Runs `work` with the open span, which gives access to all that the other methods do not have.
    /// Returns `None` if there is none, or another thread is changing it.
    ///
    /// While `work` runs, other changes of this span, also by `work` through `tracing`, are omitted and
    /// counted as dropped attributes.
    fn with_open_span<R>(&self, work: impl FnOnce(&mut OpenSpan) -> R) -> Option<R> {
        self.shared()?.change(work)
    }

    /// Returns the context, to be passed to other processes. Allocates if there is a trace state.
    ///
    /// From then on parent, kind and sampling stay as they are.
    fn context(&self) -> Option<SpanContext<'static>> {
        let span = self.shared()?;
        span.read(|span| Some(span.context()?.into_owned()))?
    }

    /// Returns the trace's id, as [`context`](Self::context) does.
    fn trace_id(&self) -> Option<TraceId> {
        self.shared()?.read(|span| Some(span.context()?.trace_id))?
    }

    /// Returns the span's id, as [`context`](Self::context) does.
    fn span_id(&self) -> Option<SpanId> {
        self.shared()?.read(|span| Some(span.context()?.span_id))?
    }

    /// Passes the headers of W3C Trace Context to `set`.
    fn inject(&self, set: impl FnMut(&'static str, &str)) {
        if let Some(context) = self.context() {
            context.inject(set);
        }
    }

    /// Moves the span below another parent, if its context was not shown yet, and asks the sampler
    /// again. Returns whether it did. The context is shown by a child that starts, [`context`](Self::context),
    /// or [`inject`](Self::inject); not by entering the span, its fields or events.
    ///
    /// Fields that a span starts with are kept, even if it was not sampled before. Events are not.
    fn set_parent(&self, parent: &SpanContext<'_>) -> bool {
        let moved = self.with_open_span(|span| span.set_parent(parent));
        moved.unwrap_or_default()
    }

    /// Returns whether the span is sampled. If not, its data is ignored.
    fn is_recording(&self) -> bool {
        self.shared().is_some_and(|span| span.is_recording())
    }

    /// Adds a link to a related span.
    fn add_link(&self, link: &LinkRef<'_>) {
        self.with_open_span(|span| {
            span.add_link(link);
        });
    }

    /// Sets an attribute with any key, which need not be a field of the span.
    fn set_attribute<'a>(&self, key: impl Into<Key<'a>>, value: impl Into<AnyValueRef<'a>>) {
        let attribute = KeyValueRef::new(key, value);
        self.with_open_span(|span| {
            span.set_attribute(attribute.key, attribute.value);
        });
    }

    /// Sets an attribute to a formatted text, cut to 4 KiB.
    fn set_attribute_display<'a>(&self, key: impl Into<Key<'a>>, value: &dyn fmt::Display) {
        // Formatted before the span is taken.
        with_scratch(DISPLAY_MAX, |scratch| {
            self.set_attribute(
                key.into().text(),
                scratch.text.format(format_args!("{value}")),
            );
        });
    }

    /// Sets the status. Ok is final, Unset has no effect, and an error replaces an earlier one.
    fn set_status(&self, status: impl AsStatus) {
        self.with_open_span(|span| {
            span.set_status(status);
        });
    }

    /// Replaces the name.
    fn set_name<'a>(&self, name: impl Into<Name<'a>>) {
        self.with_open_span(|span| {
            span.set_name(name);
        });
    }

    /// Keeps or drops all spans of its trace, as [`OpenSpan::keep_trace`] does.
    fn keep_trace(&self, keep: bool) {
        self.with_open_span(|span| span.keep_trace(keep));
    }
}

const DISPLAY_MAX: usize = 4096;

/// The part of [`SpanExt`] that no one else can implement.
pub trait Sealed {
    #[doc(hidden)]
    fn shared(&self) -> Option<SharedSpanRef>;
}

/// A span in its place.
#[doc(hidden)]
#[derive(Debug)]
pub struct SharedSpanRef(SharedRef);

impl SharedSpanRef {
    fn change<R>(&self, change: impl FnOnce(&mut OpenSpan) -> R) -> Option<R> {
        self.0.change(change)
    }

    fn read<R>(&self, read: impl FnOnce(&OpenSpan) -> R) -> Option<R> {
        self.0.read(read)
    }

    fn is_recording(&self) -> bool {
        self.0.is_recording()
    }
}

impl Sealed for ::tracing::Span {
    fn shared(&self) -> Option<SharedSpanRef> {
        let span = self.with_subscriber(|(id, dispatch)| {
            if let Some(layer) = dispatch.downcast_ref::<OtlpLayer>() {
                return layer.door()?.span(id.into_u64());
            }
            let subscriber = dispatch.downcast_ref::<OtlpSubscriber>()?;
            subscriber.door()?.span(id.into_u64())
        });
        span.flatten().map(SharedSpanRef)
    }
}

impl SpanExt for ::tracing::Span {}
