//! Requests of other threads to the network thread.

use std::time::Instant;

use crossbeam_channel::Sender;

use crate::stats::NetworkStats;

/// A request of another thread to the network thread.
pub(crate) enum Command {
    /// Sends to `done` when all spans committed before have an outcome.
    Flush { deadline: Instant, done: Sender<()> },
    /// Sends the present statistics to `reply`.
    Stats { reply: Sender<NetworkStats> },
    /// Delivers spans until the deadline, then ends the thread.
    ShutDown { deadline: Instant },
    /// Panics, so that a test sees the recovery.
    #[cfg(feature = "internals")]
    Panic,
}
