//! An endpoint's incident: from its first failure to the recovery that is reported.

use std::fmt;
use std::time::Instant;

use crate::stats::notice::{seconds, span_count};

/// Causes that are counted separately.
const CAUSES_MAX: usize = 16;

/// The reason for which an endpoint did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A response with this status.
    Status(u16),
    /// No response came in time.
    TimedOut,
    /// The connection broke.
    Broken,
    /// No connection could be made.
    NoConnection,
    /// A request in flight has had no response for a while.
    Silence,
    /// Any other cause.
    Other,
}

/// The failures of one endpoint until the recovery that is reported.
pub(crate) struct Incident {
    began: Instant,
    /// The time of the last recovery, and the number of them.
    recovered: Instant,
    recoveries: u64,
    causes: Vec<(Cause, u64)>,
    rejected: u64,
    retries: u64,
    retried_spans: u64,
}

impl Incident {
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            recovered: began,
            recoveries: 0,
            causes: Vec::new(),
            rejected: 0,
            retries: 0,
            retried_spans: 0,
        }
    }

    pub(crate) fn add(&mut self, cause: Cause, rejected_spans: u64) {
        self.rejected += rejected_spans;
        if let Some((_, count)) = self.causes.iter_mut().find(|(other, _)| *other == cause) {
            *count += 1;
        } else if self.causes.len() < CAUSES_MAX {
            self.causes.push((cause, 1));
        } else if let Some((last, count)) = self.causes.last_mut() {
            *last = Cause::Other;
            *count += 1;
        }
    }

    pub(crate) fn add_retry(&mut self, spans: u64) {
        self.retries += 1;
        self.retried_spans += spans;
    }

    /// Notes that the endpoint works again.
    pub(crate) fn recover(&mut self, now: Instant) {
        self.recovered = now;
        self.recoveries += 1;
    }
}

/// The message of the notice at its end.
impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasted = seconds(self.recovered.saturating_duration_since(self.began));
        match self.recoveries {
            0 | 1 => write!(f, "works again after {lasted}")?,
            count => write!(f, "works again after {count} interruptions in {lasted}")?,
        }
        let causes = self.causes.iter().filter_map(|(cause, count)| {
            let what = match cause {
                Cause::Status(status) => format!("responses {status}"),
                Cause::TimedOut => "timeouts".to_string(),
                Cause::Broken => "broken connections".to_string(),
                Cause::NoConnection => "failed connections".to_string(),
                Cause::Other => "other failures".to_string(),
                Cause::Silence => return None,
            };
            Some(format!("{what}: {count}"))
        });
        let rejected = (self.rejected > 0).then(|| format!("spans rejected: {}", self.rejected));
        let retried = (self.retries > 0).then(|| {
            let spans = self.retried_spans;
            format!(
                "requests sent again: {} ({})",
                self.retries,
                span_count(spans)
            )
        });
        let facts: Vec<_> = causes.chain(rejected).chain(retried).collect();
        match facts.is_empty() {
            true => Ok(()),
            false => write!(f, "; {}", facts.join(", ")),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_summary_counts_by_cause_and_omits_zeros() {
        let start = Instant::now();
        let mut incident = Incident::new(start);
        incident.add(Cause::Silence, 0);
        incident.recover(start + Duration::from_millis(1500));
        assert_eq!(incident.to_string(), "works again after 1.5 s");
        incident.add(Cause::Status(503), 0);
        incident.add(Cause::Status(503), 0);
        incident.add(Cause::Status(400), 12);
        incident.add(Cause::NoConnection, 0);
        incident.add_retry(1);
        incident.add_retry(99);
        incident.recover(start + Duration::from_secs(60));
        assert_eq!(
            incident.to_string(),
            "works again after 2 interruptions in 60.0 s; responses 503: 2, responses 400: 1, \
             failed connections: 1, spans rejected: 12, requests sent again: 2 (100 spans)"
        );
    }

    #[test]
    fn any_number_of_causes_takes_bounded_memory_and_is_counted() {
        let mut incident = Incident::new(Instant::now());
        (400..600).for_each(|status| incident.add(Cause::Status(status), 0));
        assert_eq!(incident.causes.len(), CAUSES_MAX);
        let counts = incident.causes.iter().map(|(_, count)| count);
        assert_eq!(counts.sum::<u64>(), 200);
    }
}
