//! Texts about the library as a whole, the files of the folder `docs`. Part of the documentation alone, and of
//! doctests.

/// Ways to record a span, threads, sampling, and the promise of the record path.
///
#[doc = include_str!("recording.md")]
///
/// # Types
///
/// [`Recorder`](crate::Recorder), [`OpenSpan`](crate::OpenSpan), [`SpanRef`](crate::SpanRef),
/// [`SpanContext`](crate::SpanContext), [`Sampler`](crate::span::Sampler), [`TailSampling`](crate::span::TailSampling)
pub mod recording {}

/// Spans and events of the crate `tracing`.
///
#[doc = include_str!("tracing.md")]
///
/// # Types
///
/// `OtlpLayer`, `OtlpSubscriber` and `SpanExt` in the module `tracing` (feature `tracing`)
pub mod tracing {}

/// All options with their defaults, several destinations, and memory.
///
#[doc = include_str!("configuration.md")]
///
/// # Types
///
/// [`Config`](crate::Config), [`EndpointOptions`](crate::EndpointOptions),
/// [`Destination`](crate::Destination), [`TlsOptions`](crate::config::TlsOptions), [`Config::from_env`](crate::Config::from_env)
pub mod configuration {}

/// Responses, overload, outages, and the guarantees of delivery.
///
#[doc = include_str!("delivery.md")]
///
/// # Types
///
/// [`Overflow`](crate::Overflow), [`Redirects`](crate::config::Redirects), [`Ledger`](crate::Ledger),
/// [`Collector::flush`](crate::Collector::flush), [`Collector::shutdown`](crate::Collector::shutdown)
pub mod delivery {}

/// The ledger, health, notices and metrics.
///
#[doc = include_str!("observing.md")]
///
/// # Types
///
/// [`Ledger`](crate::Ledger), [`Health`](crate::stats::Health), [`Notice`](crate::stats::Notice),
/// [`Stats`](crate::stats::Stats), [`MetricsOptions`](crate::config::MetricsOptions)
pub mod observing {}

/// Measurements, and the commands that repeat them.
///
#[doc = include_str!("benchmarks.md")]
pub mod benchmarks {}
