//! The context of a span.

use crate::span::context::trace_flags::TraceFlags;
use crate::span::context::tracestate::TraceState;
use crate::span::id::{SpanId, TraceId};

/// The part of a span that is passed on to other processes, and received from them.
///
/// Build it with struct update syntax, `..SpanContext::new(trace_id, span_id)`: a minor release may add
/// fields.
///
/// ```
/// use otlp_collector::SpanContext;
///
/// let headers = [
///     ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
///     ("tracestate", "vendor=opaque"),
/// ];
/// let parent = SpanContext::extract(headers).expect("a valid traceparent");
/// assert!(parent.is_remote && parent.trace_flags.is_sampled());
/// assert_eq!(parent.trace_state.get("vendor"), Some("opaque"));
///
/// let mut sent = Vec::new();
/// parent.inject(|name, value| sent.push((name, value.to_string())));
/// assert_eq!(sent[0].1, headers[0].1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanContext<'a> {
    /// Id of the trace.
    pub trace_id: TraceId,
    /// Id of the span.
    pub span_id: SpanId,
    /// W3C trace flags. Default: sampled.
    pub trace_flags: TraceFlags,
    /// Whether the span is in another process. Default: no.
    pub is_remote: bool,
    /// Vendor-specific trace state. Default: empty.
    pub trace_state: TraceState<'a>,
}

impl SpanContext<'_> {
    /// Creates the context of a sampled span of this process, without trace state.
    #[must_use]
    pub const fn new(trace_id: TraceId, span_id: SpanId) -> Self {
        Self {
            trace_id,
            span_id,
            trace_flags: TraceFlags::SAMPLED,
            is_remote: false,
            trace_state: TraceState::EMPTY,
        }
    }

    /// Returns a context that owns its data.
    #[inline]
    #[must_use]
    pub fn into_owned(self) -> SpanContext<'static> {
        SpanContext {
            trace_id: self.trace_id,
            span_id: self.span_id,
            trace_flags: self.trace_flags,
            is_remote: self.is_remote,
            trace_state: self.trace_state.into_owned(),
        }
    }
}
