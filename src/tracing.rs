//! Spans and events of the crate `tracing`.
//!
//! [`subscriber`] is enough for those who need only this; it costs less. [`layer`] stands beside other layers on a `tracing_subscriber::Registry`. [`SpanExt`] gives access to
//! what `tracing` does not have: contexts, parents in other processes, links.

mod call_site;
mod door;
mod error_chain;
mod event_visitor;
mod layer;
mod options;
mod scratch;
mod span_ext;
mod span_table;
mod span_visitor;
mod subscriber;
mod thread_attributes;
mod timings;

pub use self::layer::{OtlpLayer, layer};
pub use self::span_ext::SpanExt;
pub use self::subscriber::{OtlpSubscriber, subscriber};
