//! The silence of an endpoint: no response although one is expected.

use std::time::{Duration, Instant};

use crate::exporter::connection::Activity;
use crate::stats::notice::seconds;

/// Time after which an endpoint counts as stalled, and fail-over uses another one.
pub(crate) const STALLED: Duration = Duration::from_secs(1);

/// The silence of one endpoint.
pub(crate) struct Silence {
    /// The silence that is reported. A service that is only slow may respond before.
    reported_after: Duration,
    last_response: Option<Instant>,
    is_reported: bool,
}

/// A silence that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silent {
    pub(crate) since: Instant,
    expected: &'static str,
}

impl Silence {
    pub(crate) fn new(request_timeout: Duration) -> Self {
        Self {
            reported_after: STALLED.max(request_timeout / 2),
            last_response: None,
            is_reported: false,
        }
    }

    /// Notes a response.
    pub(crate) fn note_response(&mut self, now: Instant) {
        self.last_response = Some(now);
    }

    /// Ends the silence. Returns whether it was reported.
    pub(crate) fn finish(&mut self) -> bool {
        std::mem::take(&mut self.is_reported)
    }

    /// Returns the present silence, if a response or a connection is expected. While other responses
    /// come, a request is slow, not the endpoint. A connection only counts if there is no other.
    pub(crate) fn present(&self, connections: impl Iterator<Item = Activity>) -> Option<Silent> {
        let (mut response, mut connection, mut is_connected) = (None::<Instant>, None, false);
        let earlier = |first: Option<Instant>, at: Instant| Some(first.map_or(at, |f| f.min(at)));
        for activity in connections {
            match activity {
                Activity::Connecting(since) => connection = earlier(connection, since),
                Activity::Busy(since) => response = earlier(response, since),
                Activity::Idle => is_connected = true,
            }
        }
        if let Some(since) = response {
            return Some(Silent {
                since: self.last_response.map_or(since, |at| since.max(at)),
                expected: "response",
            });
        }
        connection.filter(|_| !is_connected).map(|since| Silent {
            since,
            expected: "connection",
        })
    }

    /// Returns the time at which the present silence is to be reported; `None` if it was.
    pub(crate) fn report_at(&self, silent: Option<Silent>) -> Option<Instant> {
        let silent = silent.filter(|_| !self.is_reported)?;
        Some(silent.since + self.reported_after)
    }

    pub(crate) fn reported(&mut self) {
        self.is_reported = true;
    }
}

impl Silent {
    pub(crate) fn lasts(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Returns the silence as text, with its duration.
    pub(crate) fn description(&self, now: Instant) -> String {
        format!("no {} for {}", self.expected, seconds(self.lasts(now)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn at(start: Instant, second: u64) -> Instant {
        start + Duration::from_secs(second)
    }

    #[test]
    fn an_endpoint_is_silent_since_the_oldest_request_or_the_last_response() {
        let start = Instant::now();
        let mut silence = Silence::new(Duration::from_secs(10));
        let since = |silence: &Silence, links: &[Activity]| {
            let silent = silence.present(links.iter().copied());
            silent.map(|silent| silent.since)
        };
        assert_eq!(since(&silence, &[]), None);
        assert_eq!(since(&silence, &[Activity::Idle]), None);
        let hanging = Activity::Busy(at(start, 3));
        let links = [Activity::Busy(at(start, 5)), hanging, Activity::Idle];
        assert_eq!(since(&silence, &links), Some(at(start, 3)));
        silence.note_response(at(start, 7));
        assert_eq!(since(&silence, &links), Some(at(start, 7)));
        // A response before the request was sent does not count.
        let later = Activity::Busy(at(start, 9));
        assert_eq!(since(&silence, &[later]), Some(at(start, 9)));
    }

    #[test]
    fn a_connection_counts_only_if_there_is_no_other() {
        let start = Instant::now();
        let silence = Silence::new(Duration::from_secs(10));
        let opening = Activity::Connecting(start);
        let silent = silence.present([opening].into_iter()).unwrap();
        assert_eq!(silent.description(at(start, 2)), "no connection for 2.0 s");
        let links = [opening, Activity::Idle];
        assert_eq!(silence.present(links.into_iter()), None);
    }

    #[test]
    fn a_silence_is_reported_once_after_half_of_the_timeout() {
        let start = Instant::now();
        let mut silence = Silence::new(Duration::from_secs(10));
        let links = || [Activity::Busy(start)].into_iter();
        let silent = silence.present(links());
        assert_eq!(silence.report_at(silent), Some(at(start, 5)));
        silence.reported();
        assert_eq!(silence.report_at(silent), None);
        assert!(silence.finish() && !silence.finish());
        assert_eq!(silence.report_at(silent), Some(at(start, 5)));
    }
}
