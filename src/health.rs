//! How delivery is doing: see [`Collector::health`](crate::Collector::health).

use std::fmt;
use std::time::SystemTime;

/// How delivery is doing, and since when and why.
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
    /// Of the thread that delivers.
    pub network_thread: ThreadState,
    /// Times the network thread panicked and went on.
    pub panics: u64,
    /// Of each destination.
    pub destinations: Vec<DestinationHealth>,
}

/// How the network thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThreadState {
    /// It answers.
    Running,
    /// It has not answered for a second: nothing is known of the destinations.
    NotResponding,
    /// It is not there, since this process is a fork of the one that made the collector.
    Forked,
    /// The collector was shut down.
    Ended,
    /// It has panicked again and again, and was given up: spans are refused.
    Failed,
}

/// How one destination is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DestinationHealth {
    /// The URLs of its endpoints, with commas between them.
    pub destination: String,
    /// Of each endpoint.
    pub endpoints: Vec<EndpointHealth>,
}

/// How one endpoint is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointHealth {
    /// Its URL.
    pub endpoint: String,
    /// How it is doing.
    pub state: EndpointState,
    /// Since when.
    pub since: SystemTime,
    /// Why, in words: what went wrong last.
    pub reason: Option<String>,
}

/// How one endpoint is doing, as its last request has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EndpointState {
    /// It was sent nothing so far.
    Unused,
    /// It takes what it is sent.
    Connected,
    /// It cannot be reached, does not answer, or answers that it cannot for now (502, 503, 504). It
    /// is tried again.
    BackingOff,
    /// It has asked to be left alone for a while, by a 429 or a `Retry-After`.
    Throttled,
    /// It refuses what it is sent for good: those spans are lost.
    Failing,
}

impl Health {
    /// The network thread runs, and every destination has an endpoint that works or was not used so
    /// far.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.network_thread == ThreadState::Running
            && self.destinations.iter().all(DestinationHealth::is_healthy)
    }
}

impl DestinationHealth {
    /// It has an endpoint that works or was not used so far.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        let works = |state| matches!(state, EndpointState::Unused | EndpointState::Connected);
        self.endpoints.iter().any(|endpoint| works(endpoint.state))
    }
}

impl EndpointHealth {
    pub(crate) fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            state: EndpointState::Unused,
            since: SystemTime::now(),
            reason: None,
        }
    }

    /// Notes the state; tells whether it is another one.
    pub(crate) fn enter(&mut self, state: EndpointState, reason: Option<String>) -> bool {
        let is_new = self.state != state;
        if is_new {
            self.since = SystemTime::now();
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
            Self::Forked => "not there, since this process is a fork",
            Self::Ended => "ended",
            Self::Failed => "failed",
        })
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            network_thread,
            panics,
            destinations,
        } = self;
        write!(f, "network thread {network_thread}, {panics} panics")?;
        for endpoint in destinations.iter().flat_map(|d| &d.endpoints) {
            write!(f, "; {endpoint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for EndpointHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.since.elapsed().unwrap_or_default().as_secs();
        write!(f, "{}: {} for {seconds} s", self.endpoint, self.state)?;
        match &self.reason {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}
