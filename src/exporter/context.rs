//! The parts of the network thread that endpoints work with.

use std::time::Instant;

use mio::Registry;

use crate::exporter::compress::Compressor;
use crate::exporter::notices::reporter::Reporter;
use crate::otlp::Envelope;
use crate::stats::NetworkStats;

/// The parts of the network thread that an endpoint works with in one turn.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) registry: &'a Registry,
    pub(crate) envelope: &'a Envelope,
    pub(crate) compressor: Option<&'a Compressor>,
    pub(crate) stats: &'a mut NetworkStats,
    pub(crate) reporter: &'a mut Reporter,
}
