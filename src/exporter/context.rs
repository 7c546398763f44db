//! The parts of the network thread that endpoints work with.

use std::time::Instant;

use crate::exporter::compress::Compressor;
use crate::exporter::network::Network;
use crate::exporter::notices::reporter::Reporter;
use crate::otlp::Envelope;
use crate::stats::NetworkStats;

/// The parts of the network thread that an endpoint works with in one turn.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) network: &'a dyn Network,
    pub(crate) envelope: &'a Envelope,
    pub(crate) compressor: Option<&'a Compressor>,
    pub(crate) stats: &'a mut NetworkStats,
    pub(crate) reporter: &'a mut Reporter,
}
