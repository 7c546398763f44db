//! Who is measured, and how each of them makes a span.

mod emit;
mod fastrace;
mod ours;
mod sdk;
mod tracing;

use crate::workload::Workload;

/// A library that has been started.
///
/// It is started, and finished, on a thread that is not pinned, so its own threads are not either.
pub trait Peer: Send + Sync {
    /// Makes spans, on the thread that is measured.
    fn produce(&self, workload: &mut Workload);

    /// Sends what there is, in the way its documentation says to before a program ends.
    fn finish(self: Box<Self>) -> Finished;
}

/// What a library says at the end.
#[derive(Debug, Default)]
pub struct Finished {
    /// Spans it knows it has lost, if a user can ask.
    pub lost: Option<u64>,
    /// What went wrong, if it says so.
    pub complaint: Option<String>,
}

impl Finished {
    /// For those who cannot say what they lost.
    fn of(result: Result<(), String>) -> Self {
        Self {
            lost: None,
            complaint: result.err(),
        }
    }
}

/// One line of the table.
pub struct Configuration {
    /// Which library: the name of its line in the list of builds, too.
    pub library: &'static str,
    /// How it is used.
    pub way: &'static str,
    /// Whether numbers and bools arrive as what they are.
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

    /// Of a library whose attributes are all texts.
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
    Configuration::new("opentelemetry_sdk", "default", sdk::default),
    Configuration::new("opentelemetry_sdk", "tuned", sdk::tuned),
    Configuration::new("fastrace", "default", fastrace::default).texts_only(),
    Configuration::new("fastrace", "tuned", fastrace::tuned).texts_only(),
    Configuration::new("emit", "default", emit::default),
    Configuration::new("emit", "tuned", emit::tuned),
    Configuration::new("tracing-opentelemetry", "default", tracing::default),
    Configuration::new("tracing-opentelemetry", "tuned", tracing::tuned),
];

/// What cannot be seen in the numbers.
pub const NOTES: &[&str] = &[
    ours::NOTES,
    sdk::NOTES,
    fastrace::NOTES,
    emit::NOTES,
    tracing::NOTES,
];
