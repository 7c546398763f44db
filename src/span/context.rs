//! Span contexts, and how they travel between processes (W3C Trace Context).

mod headers;
mod traceparent;
mod tracestate;

use std::fmt;
use std::ops::BitOr;

use crate::span::id::{SpanId, TraceId};

pub use headers::{TRACEPARENT, TRACESTATE};
pub use traceparent::Traceparent;
pub use tracestate::TraceState;

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

/// The flags of a trace (W3C Trace Context, `trace-flags`).
///
/// Flags that the specification does not define are dropped, as it requires.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TraceFlags(u8);

impl TraceFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The span is recorded and sent.
    pub const SAMPLED: Self = Self(1);
    /// The rightmost seven bytes of the trace id are random (Level 2).
    pub const RANDOM: Self = Self(2);

    /// Creates flags from bits, without the undefined ones.
    #[must_use]
    pub const fn new(bits: u8) -> Self {
        Self(bits & (Self::SAMPLED.0 | Self::RANDOM.0))
    }

    /// Returns the flags as bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns whether the span is recorded and sent.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.0 & Self::SAMPLED.0 != 0
    }

    /// Returns whether the rightmost seven bytes of the trace id are random.
    #[must_use]
    pub const fn is_random(self) -> bool {
        self.0 & Self::RANDOM.0 != 0
    }

    /// Returns the flags with the sampled flag set or cleared.
    #[must_use]
    pub const fn with_sampled(self, sampled: bool) -> Self {
        Self(self.0 & !Self::SAMPLED.0 | sampled as u8)
    }
}

impl BitOr for TraceFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for TraceFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceFlags({:02x})", self.0)
    }
}

/// The error of an invalid `traceparent` or `tracestate` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHeader {
    header: &'static str,
    why: &'static str,
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}: {}", self.header, self.why)
    }
}

impl std::error::Error for InvalidHeader {}
