//! The ledger: counts of all spans by outcome, which add up at any moment.

use std::fmt;
use std::ops::Sub;

use crate::stats::refused::Refused;

/// Counts of all spans by outcome. For each destination and at any moment,
/// `accepted = delivered + rejected + dropped + in flight + buffered`.
///
/// ```
/// # use otlp_collector::stats::DestinationLedger;
/// # use otlp_collector::Ledger;
/// # fn example(ledger: &Ledger) {
/// println!("{ledger}");
/// for destination in &ledger.destinations {
///     let DestinationLedger { in_flight, buffered, .. } = *destination;
///     assert_eq!(ledger.accepted, destination.settled() + in_flight + buffered);
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ledger {
    /// Spans accepted for delivery. Excludes held and sampled-out spans.
    pub accepted: u64,
    /// Spans for which recording returned [`Refused`](crate::Refused). Not accepted.
    pub refused: RefusedSpans,
    /// Open spans that sampling excluded. Not accepted.
    pub sampled_out: SampledOutSpans,
    /// Ended spans whose local root has not ended ([`TailSampling`](crate::span::TailSampling)). Not accepted
    /// yet.
    pub held: u64,
    /// Outcomes of the accepted spans at each destination.
    pub destinations: Vec<DestinationLedger>,
}

impl Ledger {
    /// Returns the delivered spans of all destinations.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.destinations.iter().map(|e| e.delivered).sum()
    }

    /// Returns the rejected spans of all destinations.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.destinations.iter().map(|e| e.rejected).sum()
    }

    /// Returns the dropped spans of all destinations.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.destinations.iter().map(|e| e.dropped.total()).sum()
    }

    /// Returns the spans in flight and buffered of all destinations.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.destinations
            .iter()
            .map(|e| e.in_flight + e.buffered)
            .sum()
    }
}

/// One line. Each count follows its name; reasons that did not occur are omitted.
impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SampledOutSpans { at_start, at_end } = self.sampled_out;
        write!(f, "accepted {}, ", self.accepted)?;
        write_count(f, "refused", &self.refused.by_reason())?;
        f.write_str(", ")?;
        let sampled_out = [("at start", at_start), ("at end", at_end)];
        write_count(f, "sampled out", &sampled_out)?;
        write!(f, ", held {}", self.held)?;
        for destination in &self.destinations {
            write!(f, "; {destination}")?;
        }
        Ok(())
    }
}

/// Refused spans by reason. See [`Refused`](crate::Refused).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedSpans {
    /// Spans refused while the buffer was full.
    pub buffer_full: u64,
    /// Spans larger than a slab.
    pub too_large: u64,
    /// Spans with the scope of another collector.
    pub unknown_scope: u64,
    /// Spans recorded after the collector was shut down.
    pub shut_down: u64,
    /// Spans refused while every shared recorder was in use.
    pub no_recorder: u64,
    /// Spans whose recorder had no slab for one more scope.
    pub no_slab: u64,
    /// Spans recorded in a fork of the collector's process.
    pub forked: u64,
}

impl RefusedSpans {
    /// Creates the counts from an array by [`Refused::index`].
    pub(crate) fn from_counts(counts: [u64; Refused::REASONS]) -> Self {
        let [
            buffer_full,
            too_large,
            unknown_scope,
            shut_down,
            no_recorder,
            no_slab,
            forked,
        ] = counts;
        Self {
            buffer_full,
            too_large,
            unknown_scope,
            shut_down,
            no_recorder,
            no_slab,
            forked,
        }
    }

    /// Returns the sum of all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        total(&self.by_reason())
    }

    /// Formats all counts with the names of their reasons.
    pub(crate) fn by_reason(&self) -> [(&'static str, u64); Refused::REASONS] {
        let Self {
            buffer_full,
            too_large,
            unknown_scope,
            shut_down,
            no_recorder,
            no_slab,
            forked,
        } = *self;
        [
            ("buffer full", buffer_full),
            ("too large", too_large),
            ("unknown scope", unknown_scope),
            ("shut down", shut_down),
            ("no recorder", no_recorder),
            ("no slab", no_slab),
            ("forked", forked),
        ]
    }
}

fn total(by_reason: &[(&str, u64)]) -> u64 {
    by_reason.iter().map(|(_, count)| count).sum()
}

/// Writes the sum, and in parentheses the reasons that occurred.
fn write_count(f: &mut fmt::Formatter<'_>, name: &str, by_reason: &[(&str, u64)]) -> fmt::Result {
    write!(f, "{name} {}", total(by_reason))?;
    let occurred = by_reason.iter().filter(|(_, count)| *count > 0);
    let occurred: Vec<_> = occurred.copied().collect();
    if occurred.is_empty() {
        return Ok(());
    }
    f.write_str(" (")?;
    write_reasons(f, &occurred)?;
    f.write_str(")")
}

/// Writes all reasons, including those that did not occur.
fn write_reasons(f: &mut fmt::Formatter<'_>, by_reason: &[(&str, u64)]) -> fmt::Result {
    let counts = by_reason.iter();
    let counts = counts.map(|(reason, count)| format!("{reason} {count}"));
    f.write_str(&counts.collect::<Vec<_>>().join(", "))
}

impl fmt::Display for RefusedSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_reasons(f, &self.by_reason())
    }
}

/// The increase since `before`.
impl Sub for RefusedSpans {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            buffer_full: self.buffer_full - before.buffer_full,
            too_large: self.too_large - before.too_large,
            unknown_scope: self.unknown_scope - before.unknown_scope,
            shut_down: self.shut_down - before.shut_down,
            no_recorder: self.no_recorder - before.no_recorder,
            no_slab: self.no_slab - before.no_slab,
            forked: self.forked - before.forked,
        }
    }
}

/// Open spans that sampling excluded, by the time of the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SampledOutSpans {
    /// Spans that the sampler excluded when they started.
    pub at_start: u64,
    /// Spans excluded when their local root ended, by [`TailSampling`](crate::span::TailSampling).
    pub at_end: u64,
}

impl SampledOutSpans {
    /// Returns the sum of both.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.at_start + self.at_end
    }
}

/// Outcomes of the accepted spans at one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DestinationLedger {
    /// URLs of the endpoints with commas between them.
    pub destination: String,
    /// Spans that the endpoint acknowledged with a success.
    pub delivered: u64,
    /// Spans that the endpoint rejected, by a final error status or in a partial success.
    pub rejected: u64,
    /// Spans that this process dropped.
    pub dropped: DroppedSpans,
    /// Spans in requests without a response yet.
    pub in_flight: u64,
    /// Spans that wait in a recorder's slab, for a connection, or for a retry.
    pub buffered: u64,
}

impl DestinationLedger {
    /// Returns the spans with a final outcome.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.delivered + self.rejected + self.dropped.total()
    }

    /// Counts accepted spans that are nowhere else as buffered, or as dropped once the network thread
    /// has ended.
    pub(crate) fn close(mut self, accepted: u64, ended: bool) -> Self {
        let without_outcome = accepted - self.settled();
        if ended {
            self.dropped.shut_down += without_outcome;
            self.in_flight = 0;
        } else {
            self.buffered = without_outcome - self.in_flight;
        }
        self
    }
}

impl fmt::Display for DestinationLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: delivered {}, rejected {}, ",
            self.destination, self.delivered, self.rejected
        )?;
        write_count(f, "dropped", &self.dropped.by_reason())?;
        let (in_flight, buffered) = (self.in_flight, self.buffered);
        write!(f, ", in flight {in_flight}, buffered {buffered}")
    }
}

/// Dropped spans by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DroppedSpans {
    /// Oldest spans, dropped to make room: with [`Overflow::DropOldest`](crate::Overflow), or at a
    /// destination that lags the others ([`Destination`](crate::Destination)).
    pub overflow: u64,
    /// Spans whose request failed for longer than
    /// [`retry_budget_ms`](crate::EndpointOptions::retry_budget_ms).
    pub retries: u64,
    /// Spans without outcome when the shutdown's deadline passed or the network thread failed.
    pub shut_down: u64,
}

impl DroppedSpans {
    /// Returns the sum of all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        total(&self.by_reason())
    }

    /// Formats all counts with the names of their reasons.
    pub(crate) fn by_reason(&self) -> [(&'static str, u64); 3] {
        let Self {
            overflow,
            retries,
            shut_down,
        } = *self;
        [
            ("overflow", overflow),
            ("retries", retries),
            ("shut down", shut_down),
        ]
    }
}

impl fmt::Display for DroppedSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_reasons(f, &self.by_reason())
    }
}

/// The increase since `before`.
impl Sub for DroppedSpans {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            overflow: self.overflow - before.overflow,
            retries: self.retries - before.retries,
            shut_down: self.shut_down - before.shut_down,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_count_and_the_reasons_that_occurred() {
        let mut ledger = Ledger {
            accepted: 5,
            destinations: vec![DestinationLedger {
                destination: "http://h".to_string(),
                delivered: 3,
                buffered: 2,
                ..DestinationLedger::default()
            }],
            ..Ledger::default()
        };
        assert_eq!(
            ledger.to_string(),
            "accepted 5, refused 0, sampled out 0, held 0; http://h: delivered 3, rejected 0, \
             dropped 0, in flight 0, buffered 2"
        );
        ledger.refused.buffer_full = 7;
        ledger.refused.no_slab = 1;
        ledger.sampled_out.at_end = 4;
        ledger.destinations[0].dropped.retries = 1;
        assert_eq!(
            ledger.to_string(),
            "accepted 5, refused 8 (buffer full 7, no slab 1), sampled out 4 (at end 4), held 0; \
             http://h: delivered 3, rejected 0, dropped 1 (retries 1), in flight 0, buffered 2"
        );
    }
}
