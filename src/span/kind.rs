//! The kind of a span.

/// The role of a span in a call between services (OTLP's `Span.SpanKind`).
///
/// OTLP closes the list, so the enum is exhaustive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// An operation within a service.
    #[default]
    Internal = 1,
    /// Handling of a request from another service.
    Server = 2,
    /// A request to another service.
    Client = 3,
    /// Sending of a message that is processed later.
    Producer = 4,
    /// Processing of a message of a producer.
    Consumer = 5,
}
