//! Watches for spans that are lost, so that it is told.

use std::time::{Duration, Instant};

use crate::exporter::destination::Destination;
use crate::exporter::reporter::Reporter;
use crate::notice::NoticeKind;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// What was lost at the last look.
#[derive(Default)]
pub(crate) struct Losses {
    next_look: Option<Instant>,
    refused: u64,
    /// Of each destination.
    dropped: Vec<u64>,
}

impl Losses {
    /// Tells what was lost since the last look, if that is some time ago.
    pub(crate) fn report(
        &mut self,
        now: Instant,
        destinations: &[Destination],
        refused: impl Fn() -> Option<u64>,
        reporter: &mut Reporter,
    ) {
        if self.next_look.is_some_and(|at| now < at) {
            return;
        }
        self.next_look = Some(now + INTERVAL);
        if let Some(refused) = refused() {
            let more = refused - std::mem::replace(&mut self.refused, refused);
            if more > 0 {
                let message = format!("recording refused {more} spans: the ledger says why");
                reporter.report(now, NoticeKind::Refused, None, &message);
            }
        }
        self.dropped.resize(destinations.len(), 0);
        for (destination, before) in destinations.iter().zip(&mut self.dropped) {
            let dropped = destination.dropped();
            let more = dropped - std::mem::replace(before, dropped);
            if more > 0 {
                let message = format!("{more} spans were dropped: the ledger says why");
                let name = Some(destination.name());
                reporter.report(now, NoticeKind::Dropped, name, &message);
            }
        }
    }
}
