//! The parts of the network thread that destinations and endpoints work with.

use std::time::{Duration, Instant, SystemTime};

use crate::exporter::compress::Compressor;
use crate::exporter::network::Network;
use crate::exporter::notices::reporter::Reporter;
use crate::otlp::Envelope;
use crate::stats::NetworkStats;

/// The parts of the network thread that one turn works with.
pub(crate) struct Context<'a> {
    /// The time of the turn, by the steady clock.
    pub(crate) now: Instant,
    /// The same by the wall clock, in nanoseconds since the Unix epoch.
    pub(crate) unix_nanos: u64,
    pub(crate) network: &'a dyn Network,
    pub(crate) envelope: &'a Envelope,
    pub(crate) compressor: Option<&'a Compressor>,
    pub(crate) stats: &'a mut NetworkStats,
    pub(crate) reporter: &'a mut Reporter,
}

/// Converts a time in nanoseconds since the Unix epoch.
pub(crate) fn system_time(unix_nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(unix_nanos)
}
