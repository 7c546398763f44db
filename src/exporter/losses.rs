//! Watches for spans that are lost, so that it is told.

use std::time::{Duration, Instant};

use crate::exporter::destination::Destination;
use crate::exporter::reporter::Reporter;
use crate::ledger::{DroppedSpans, RefusedSpans};
use crate::notice::NoticeKind;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_secs(1);

/// What was lost at the last look.
#[derive(Default)]
pub(crate) struct Losses {
    next_look: Option<Instant>,
    refused: RefusedSpans,
    /// Of each destination.
    dropped: Vec<DroppedSpans>,
}

impl Losses {
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next_look.is_none_or(|at| now >= at)
    }

    /// Tells what was lost since the last look.
    pub(crate) fn tell(
        &mut self,
        now: Instant,
        refused: Option<RefusedSpans>,
        destinations: &[Destination],
        reporter: &mut Reporter,
    ) {
        self.next_look = Some(now + INTERVAL);
        if let Some(refused) = refused {
            let more = refused - std::mem::replace(&mut self.refused, refused);
            if more.total() > 0 {
                let message = format!("recording refused {} spans ({more})", more.total());
                reporter.report(now, NoticeKind::Refused, None, &message);
            }
        }
        self.dropped
            .resize_with(destinations.len(), DroppedSpans::default);
        for (destination, before) in destinations.iter().zip(&mut self.dropped) {
            let dropped = destination.dropped();
            let more = dropped - std::mem::replace(before, dropped);
            if more.total() > 0 {
                let message = format!("{} spans were dropped ({more})", more.total());
                let name = Some(destination.name());
                reporter.report(now, NoticeKind::Dropped, name, &message);
            }
        }
    }
}
