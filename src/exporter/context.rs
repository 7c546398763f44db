//! The parts of the network thread that destinations and endpoints work with.

use crate::exporter::compress::Compressor;
use crate::exporter::moment::Moment;
use crate::exporter::network::Network;
use crate::exporter::notices::reporter::Reporter;
use crate::otlp::Envelope;
use crate::stats::NetworkStats;

/// The parts of the network thread that one turn works with.
pub(crate) struct Context<'a> {
    /// The time of the turn.
    pub(crate) moment: Moment,
    pub(crate) network: &'a dyn Network,
    pub(crate) envelope: &'a Envelope,
    pub(crate) compressor: Option<&'a Compressor>,
    pub(crate) stats: &'a mut NetworkStats,
    pub(crate) reporter: &'a mut Reporter,
}
