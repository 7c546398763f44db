//! Texts about the library as a whole, the files of the folder `docs`. Part of the documentation alone, and of
//! doctests.

/// Ways to record a span, threads, sampling, and the promise of the record path.
///
#[doc = include_str!("../docs/recording.md")]
pub mod recording {}

/// All options with their defaults, several destinations, and memory.
///
#[doc = include_str!("../docs/configuration.md")]
pub mod configuration {}

/// Responses, overload, outages, and the guarantees of delivery.
///
#[doc = include_str!("../docs/delivery.md")]
pub mod delivery {}

/// The ledger, health, notices and metrics.
///
#[doc = include_str!("../docs/observing.md")]
pub mod observing {}

/// Measurements, and the commands that repeat them.
///
#[doc = include_str!("../docs/benchmarks.md")]
pub mod benchmarks {}
