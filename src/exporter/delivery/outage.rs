//! The outages of a destination, during which others need not keep up with it.

use std::time::{Duration, Instant};

/// Outages shorter than this are ignored; after a longer one, lagging destinations get this long to
/// catch up.
const OUTAGE: Duration = Duration::from_secs(1);

/// The last outage of one destination.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// The time since which no endpoint works.
    since: Option<Instant>,
    /// The time until which other destinations, which may have had the same outage, can catch up.
    recovering_until: Option<Instant>,
}

impl Outage {
    /// Notes whether any endpoint works now.
    pub(super) fn note(&mut self, is_down: bool, now: Instant) {
        if is_down {
            self.since.get_or_insert(now);
        } else if let Some(since) = self.since.take()
            && now >= since + OUTAGE
        {
            self.recovering_until = Some(now + OUTAGE);
        }
    }

    /// Returns whether the destination counts as up, so that others have to keep up with it. A short
    /// outage is ignored, a longer one lasts until others can have caught up.
    pub(super) fn counts_as_up(&self, now: Instant) -> bool {
        let is_down = self.since.is_some_and(|since| now >= since + OUTAGE);
        !is_down && self.recovering_until.is_none_or(|until| now >= until)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_destination_counts_as_up_a_second_after_a_long_outage() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut outage = Outage::default();
        outage.note(true, at(0));
        assert!(outage.counts_as_up(at(999)));
        outage.note(false, at(999));
        assert!(outage.counts_as_up(at(999)));

        outage.note(true, at(1000));
        outage.note(true, at(1500));
        assert!(!outage.counts_as_up(at(2000)));
        outage.note(false, at(2000));
        assert!(!outage.counts_as_up(at(2999)));
        assert!(outage.counts_as_up(at(3000)));
    }
}
