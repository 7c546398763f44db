//! The libraries that are measured, and how each makes a span.

mod emit;
mod fastrace;
mod ours;
pub mod sdk;
mod tracing;

use crate::workload::Workload;

/// A started library.
///
/// It is started and finished on a thread that is not pinned, so that its own threads are not pinned either.
pub trait Peer: Send + Sync {
    /// Makes spans on the measured thread.
    fn produce(&self, workload: &mut Workload);

    /// Sends the remaining spans as its documentation recommends for the end of a program.
    fn finish(self: Box<Self>) -> Finished;
}

/// Final report of a library.
#[derive(Debug, Default)]
pub struct Finished {
    /// Spans that it counted as lost, if its API has such a count.
    pub lost: Option<u64>,
    /// Error that it returned.
    pub complaint: Option<String>,
}

impl Finished {
    /// Returns the report of a library without such a count.
    fn of(result: Result<(), String>) -> Self {
        Self {
            lost: None,
            complaint: result.err(),
        }
    }
}

/// One line of the table.
pub struct Configuration {
    /// Name of the library, also in the list of builds.
    pub library: &'static str,
    /// Way to use it.
    pub way: &'static str,
    /// Whether numbers and booleans arrive with their types.
    pub has_types: bool,
    pub start: fn(endpoint: &str) -> Box<dyn Peer>,
}

impl Configuration {
    const fn new(
        library: &'static str,
        way: &'static str,
        start: fn(&str) -> Box<dyn Peer>,
    ) -> Self {
        Self {
            library,
            way,
            has_types: true,
            start,
        }
    }

    /// Marks a library that sends all attributes as text.
    const fn texts_only(mut self) -> Self {
        self.has_types = false;
        self
    }
}

pub const ALL: &[Configuration] = &[
    Configuration::new("otlp-collector", "record_with", ours::recording),
    Configuration::new(
        "otlp-collector",
        "record_with, tuned",
        ours::recording_tuned,
    ),
    Configuration::new("otlp-collector", "open spans", ours::open_spans),
    Configuration::new("otlp-collector", "collect", ours::collecting),
    Configuration::new("otlp-collector", "tracing layer", tracing::our_layer),
    Configuration::new(
        "otlp-collector",
        "tracing subscriber",
        tracing::our_subscriber,
    ),
    Configuration::new("opentelemetry_sdk", "default", sdk::default),
    Configuration::new("opentelemetry_sdk", "tuned", sdk::tuned),
    Configuration::new("fastrace", "default", fastrace::default).texts_only(),
    Configuration::new("fastrace", "tuned", fastrace::tuned).texts_only(),
    Configuration::new("emit", "default", emit::default),
    Configuration::new("emit", "tuned", emit::tuned),
    Configuration::new("tracing-opentelemetry", "default", tracing::default),
    Configuration::new("tracing-opentelemetry", "tuned", tracing::tuned),
];

/// Remarks that the numbers do not show.
pub const NOTES: &[&str] = &[
    ours::NOTES,
    sdk::NOTES,
    fastrace::NOTES,
    emit::NOTES,
    tracing::NOTES,
];
