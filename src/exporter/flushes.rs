//! Flushes under way.

use std::time::Instant;

use crossbeam_channel::Sender;

use crate::exporter::request::BatchNumber;

/// The flushes that have not ended.
#[derive(Default)]
pub(crate) struct Flushes(Vec<Flush>);

/// A flush of all batches before a number.
struct Flush {
    end: BatchNumber,
    deadline: Instant,
    done: Sender<()>,
}

impl Flushes {
    pub(crate) fn begin(&mut self, end: BatchNumber, deadline: Instant, done: Sender<()>) {
        self.0.push(Flush {
            end,
            deadline,
            done,
        });
    }

    /// Completes flushes whose batches all have an outcome, and forgets those whose time is over.
    pub(crate) fn finish(&mut self, now: Instant, are_settled: impl Fn(BatchNumber) -> bool) {
        self.0.retain(|flush| {
            if are_settled(flush.end) {
                // Fails if the caller's own wait has ended.
                let _ = flush.done.send(());
                return false;
            }
            now < flush.deadline
        });
    }
}
