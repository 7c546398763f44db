//! Span contexts, and how they travel between processes (W3C Trace Context).

mod headers;
mod invalid_header;
mod span_context;
mod trace_flags;
mod traceparent;
mod tracestate;

pub use headers::{TRACEPARENT, TRACESTATE};
pub use invalid_header::InvalidHeader;
pub use span_context::SpanContext;
pub use trace_flags::TraceFlags;
pub use traceparent::Traceparent;
pub use tracestate::TraceState;
