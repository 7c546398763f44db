//! Texts about the library as a whole, the files of the folder `docs`. Part of the documentation alone, and of
//! doctests.

/// Ways to record a span, threads, sampling, and the promise of the record path.
///
#[doc = include_str!("../docs/recording.md")]
///
/// # Types
///
/// [`Recorder`](crate::Recorder), [`OpenSpan`](crate::OpenSpan), [`SpanRef`](crate::SpanRef),
/// [`SpanContext`](crate::SpanContext), [`Sampler`](crate::Sampler), [`TailSampling`](crate::TailSampling)
pub mod recording {}

/// All options with their defaults, several destinations, and memory.
///
#[doc = include_str!("../docs/configuration.md")]
///
/// # Types
///
/// [`Config`](crate::Config), [`EndpointOptions`](crate::EndpointOptions),
/// [`Destination`](crate::Destination), [`TlsOptions`](crate::TlsOptions), [`Config::from_env`](crate::Config::from_env)
pub mod configuration {}

/// Responses, overload, outages, and the guarantees of delivery.
///
#[doc = include_str!("../docs/delivery.md")]
///
/// # Types
///
/// [`Overflow`](crate::Overflow), [`Redirects`](crate::Redirects), [`Ledger`](crate::Ledger),
/// [`Collector::flush`](crate::Collector::flush), [`Collector::shutdown`](crate::Collector::shutdown)
pub mod delivery {}

/// The ledger, health, notices and metrics.
///
#[doc = include_str!("../docs/observing.md")]
///
/// # Types
///
/// [`Ledger`](crate::Ledger), [`Health`](crate::Health), [`Notice`](crate::Notice),
/// [`Stats`](crate::Stats), [`MetricsOptions`](crate::MetricsOptions)
pub mod observing {}

/// Measurements, and the commands that repeat them.
///
#[doc = include_str!("../docs/benchmarks.md")]
pub mod benchmarks {}
