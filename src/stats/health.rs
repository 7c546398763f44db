//! The state of delivery: see [`Collector::health`](crate::Collector::health).

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::stats::ledger::{DroppedSpans, RefusedSpans};
use crate::stats::notice::{reasons, seconds, span_count};

/// Age below which a request is not shown.
const SHORT: Duration = Duration::from_millis(100);

/// State of delivery, with its start and reason.
///
/// ```
/// # use otlp_collector::{Collector, Config};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let collector = Collector::new(Config::default())?;
/// let health = collector.health();
/// if !health.is_healthy() {
///     eprintln!("{health}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// State of the network thread.
    pub network_thread: ThreadState,
    /// Panics that the network thread survived.
    pub panics: u64,
    /// Spans that recording refused in the last ten seconds. Counted once a second, so that the
    /// period is up to a second longer. After the collector ended: in the ten seconds before. Zero in
    /// a fork, while the network thread does not respond, and if the collector is disabled.
    pub refused_recently: RefusedSpans,
    /// One entry for each destination; empty while the network thread does not respond, in a fork,
    /// and if the collector is disabled.
    pub destinations: Vec<DestinationHealth>,
}

/// State of the network thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ThreadState {
    /// It responds.
    Running,
    /// It has not responded for a second. The state of the destinations is unknown.
    NotResponding,
    /// It does not exist: this process is a fork of the collector's process.
    Forked,
    /// It does not exist: the collector is disabled.
    Disabled,
    /// It ended: the collector was shut down.
    ShutDown,
    /// It ended after repeated panics. Spans are refused, and undelivered spans are dropped.
    Failed,
}

/// State of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DestinationHealth {
    /// URLs of the endpoints with commas between them.
    pub destination: String,
    /// One entry for each endpoint.
    pub endpoints: Vec<EndpointHealth>,
    /// Time since the end of the oldest span without outcome among those that the network thread has
    /// read; `None` if there is no such span.
    pub oldest_span_age: Option<Duration>,
    /// Spans dropped in the last ten seconds, counted as
    /// [`refused_recently`](Health::refused_recently).
    pub dropped_recently: DroppedSpans,
    /// Spans that endpoints rejected in the last ten seconds.
    pub rejected_recently: u64,
}

/// State of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointHealth {
    /// URL.
    pub endpoint: String,
    /// State.
    pub state: EndpointState,
    /// Start of this state.
    pub since: SystemTime,
    /// Time of this snapshot, which the durations of the text refer to.
    pub observed_at: SystemTime,
    /// Description of the last failure. Text of a server is cut to 300 characters.
    pub reason: Option<String>,
    /// Time since the start of the oldest request without a response; `None` if there is no such request.
    pub oldest_request_age: Option<Duration>,
    /// Earliest time of the next request, while the endpoint backs off, is throttled, fails, or has its
    /// rate limited; `None` if a request can be sent now.
    pub next_request_at: Option<SystemTime>,
}

/// State of an endpoint by the outcome of its last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndpointState {
    /// No request has succeeded or failed yet, or the endpoint is on stand-by: it failed, the wait after
    /// that is over, and an earlier endpoint of the group works.
    Unused,
    /// The last response accepted spans or asked for smaller requests.
    Connected,
    /// Connected or unused before, but silent for a second: with a request in flight, or while the only
    /// connection is being established.
    Stalled,
    /// Unreachable, disconnected or too slow, or unavailable by its response (502, 503, 504, or 407 from
    /// the proxy), or the network thread panicked. Requests are retried.
    BackingOff,
    /// The last response requires a pause, by a 429 or a `Retry-After`.
    Throttled,
    /// The last response rejected all spans of a request; they are lost. Includes redirects that are not
    /// followed.
    Failing,
}

impl EndpointState {
    pub(crate) const ALL: [Self; 6] = [
        Self::Unused,
        Self::Connected,
        Self::Stalled,
        Self::BackingOff,
        Self::Throttled,
        Self::Failing,
    ];

    /// Returns whether delivery is expected to work: connected or unused.
    #[must_use]
    pub fn works(self) -> bool {
        matches!(self, Self::Unused | Self::Connected)
    }
}

impl Health {
    /// Returns whether delivery works and has lost no span recently:
    ///
    /// * the network thread runs, or the collector is disabled;
    /// * every destination has an endpoint that is connected or unused;
    /// * in the last ten seconds no span was refused, dropped or rejected, for any reason.
    ///
    /// It stays false for ten seconds after the last loss.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let works = matches!(
            self.network_thread,
            ThreadState::Running | ThreadState::Disabled
        );
        works
            && self.refused_recently.total() == 0
            && self.destinations.iter().all(DestinationHealth::is_healthy)
    }
}

impl DestinationHealth {
    /// Returns whether an endpoint is connected or unused, and no span was dropped or rejected in the last
    /// ten seconds.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let mut states = self.endpoints.iter().map(|endpoint| endpoint.state);
        states.any(EndpointState::works)
            && self.dropped_recently.total() == 0
            && self.rejected_recently == 0
    }
}

impl EndpointHealth {
    pub(crate) fn new(endpoint: String, now: SystemTime) -> Self {
        Self {
            endpoint,
            state: EndpointState::Unused,
            since: now,
            observed_at: now,
            reason: None,
            oldest_request_age: None,
            next_request_at: None,
        }
    }

    /// Enters [`Stalled`](EndpointState::Stalled), unless the state is worse.
    pub(crate) fn stall(&mut self, silence: Duration, reason: String, now: SystemTime) {
        if self.state.works() {
            self.state = EndpointState::Stalled;
            self.since = now.checked_sub(silence).unwrap_or(now);
            self.reason = Some(reason);
        }
    }

    /// Leaves a failed state at the end of its wait. The reason stays.
    pub(crate) fn stand_by(&mut self, since: SystemTime) {
        let has_failed = matches!(
            self.state,
            EndpointState::BackingOff | EndpointState::Throttled | EndpointState::Failing
        );
        if has_failed {
            self.state = EndpointState::Unused;
            self.since = since.max(self.since);
        }
    }

    /// Enters the state. Returns whether it differs from the last one.
    pub(crate) fn enter(
        &mut self,
        state: EndpointState,
        reason: Option<String>,
        now: SystemTime,
    ) -> bool {
        let is_new = self.state != state;
        if is_new {
            self.since = now;
        }
        self.state = state;
        self.reason = reason;
        is_new
    }
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unused => "unused",
            Self::Connected => "connected",
            Self::Stalled => "stalled",
            Self::BackingOff => "backing off",
            Self::Throttled => "throttled",
            Self::Failing => "failing",
        })
    }
}

impl fmt::Display for ThreadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::NotResponding => "not responding",
            Self::Forked => "missing: this process is a fork",
            Self::Disabled => "disabled",
            Self::ShutDown => "shut down",
            Self::Failed => "failed",
        })
    }
}

/// One line for the network thread and refused spans, one for each endpoint, and one more for a
/// destination of several endpoints.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.is_healthy() {
            "healthy"
        } else {
            "UNHEALTHY"
        };
        write!(f, "{verdict}: network thread {}", self.network_thread)?;
        match self.panics {
            0 => {}
            panics => write!(f, ", {panics} panics")?,
        }
        let refused = self.refused_recently;
        write_recent(f, "refused", refused.total(), &refused.by_reason())?;
        let mut destinations = self.destinations.iter();
        destinations.try_for_each(|destination| write!(f, "\n{destination}"))
    }
}

/// One line for each endpoint, and one more for several together.
impl fmt::Display for DestinationHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.endpoints.iter().map(ToString::to_string);
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))?;
        let has_more = self.oldest_span_age.is_some()
            || self.dropped_recently.total() > 0
            || self.rejected_recently > 0;
        if self.endpoints.len() != 1 && has_more {
            write!(f, "\n{}: together", self.destination)?;
        }
        if let Some(age) = self.oldest_span_age {
            write!(f, ", oldest span without outcome {} old", seconds(age))?;
        }
        let dropped = self.dropped_recently;
        write_recent(f, "dropped", dropped.total(), &dropped.by_reason())?;
        write_recent(f, "rejected", self.rejected_recently, &[])
    }
}

fn write_recent(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    spans: u64,
    by_reason: &[(&str, u64)],
) -> fmt::Result {
    if spans == 0 {
        return Ok(());
    }
    write!(f, ", {what} {} in the last 10 s", span_count(spans))?;
    match reasons(by_reason) {
        reasons if reasons.is_empty() => Ok(()),
        reasons => write!(f, " ({reasons})"),
    }
}

impl fmt::Display for EndpointHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between =
            |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default();
        let lasted = between(self.since, self.observed_at);
        write!(
            f,
            "{}: {} for {}",
            self.endpoint,
            self.state,
            seconds(lasted)
        )?;
        if let Some(reason) = &self.reason {
            write!(f, " ({reason})")?;
        }
        if let Some(at) = self.next_request_at {
            let wait = between(self.observed_at, at);
            write!(f, ", next request in {}", seconds(wait))?;
        }
        // Short ones are normal, and a stalled endpoint's reason contains it.
        let is_known = |age: &Duration| {
            *age < SHORT || (self.state == EndpointState::Stalled && *age < lasted + SHORT)
        };
        match self.oldest_request_age.filter(|age| !is_known(age)) {
            Some(age) => write!(f, ", oldest request unanswered for {}", seconds(age)),
            None => Ok(()),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn destination(endpoints: &[&str]) -> DestinationHealth {
        let endpoints = endpoints.iter().map(ToString::to_string);
        DestinationHealth {
            destination: "a,b".to_string(),
            endpoints: endpoints
                .map(|url| EndpointHealth::new(url, SystemTime::UNIX_EPOCH))
                .collect(),
            oldest_span_age: Some(Duration::from_millis(1500)),
            dropped_recently: DroppedSpans {
                overflow: 3,
                ..DroppedSpans::default()
            },
            rejected_recently: 1,
        }
    }

    #[test]
    fn each_endpoint_has_one_line_and_a_group_one_more() {
        let mut health = Health {
            network_thread: ThreadState::Running,
            panics: 2,
            refused_recently: RefusedSpans::default(),
            destinations: vec![destination(&["a"])],
        };
        let endpoint = &mut health.destinations[0].endpoints[0];
        endpoint.enter(
            EndpointState::BackingOff,
            Some("responded with 503".to_string()),
            SystemTime::UNIX_EPOCH,
        );
        let after = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        endpoint.observed_at = after(7);
        endpoint.next_request_at = Some(after(9));
        endpoint.oldest_request_age = Some(Duration::from_secs(4));
        assert_eq!(
            health.to_string(),
            "UNHEALTHY: network thread running, 2 panics\n\
             a: backing off for 7.0 s (responded with 503), next request in 2.0 s, \
             oldest request unanswered for 4.0 s, oldest span without outcome 1.5 s old, dropped 3 spans in the last 10 s \
             (overflow 3), rejected 1 span in the last 10 s"
        );
        health.destinations = vec![destination(&["a", "b"])];
        assert_eq!(
            health.to_string().lines().skip(1).collect::<Vec<_>>(),
            [
                "a: unused for 0.0 s",
                "b: unused for 0.0 s",
                "a,b: together, oldest span without outcome 1.5 s old, dropped 3 spans in the \
                 last 10 s (overflow 3), rejected 1 span in the last 10 s",
            ]
        );
    }

    #[test]
    fn only_an_endpoint_that_works_can_stall() {
        let (silence, reason) = (Duration::from_secs(3), "no response for 3.0 s");
        for (state, stalled) in [
            (EndpointState::Unused, true),
            (EndpointState::Connected, true),
            (EndpointState::BackingOff, false),
            (EndpointState::Throttled, false),
            (EndpointState::Failing, false),
        ] {
            let mut health = EndpointHealth::new("a".to_string(), SystemTime::UNIX_EPOCH);
            health.enter(state, None, SystemTime::UNIX_EPOCH);
            health.stall(silence, reason.to_string(), SystemTime::UNIX_EPOCH);
            assert_eq!(health.state == EndpointState::Stalled, stalled, "{state}");
        }
    }
}
