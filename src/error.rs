//! Errors of the collector's calls.

use std::fmt;
use std::io;

use crate::platform::affinity::CoreError;
use crate::stats::ledger::Ledger;

/// An error of a call of the [`Collector`](crate::Collector). The text names the value and what to do.
pub struct Error(Box<Kind>);

/// Cause of an [`Error`], with the data of its text.
enum Kind {
    Config(String),
    Core(String),
    Resources(String, Option<io::Error>),
    TimedOut(Ledger, Option<String>),
    ShutDown(Ledger),
    NetworkThreadFailed(Ledger),
    Forked(Ledger),
}

impl Error {
    /// Returns whether a value of [`Config`](crate::Config), or of a scope, is unusable.
    #[must_use]
    pub fn is_config(&self) -> bool {
        matches!(*self.0, Kind::Config(_))
    }

    /// Returns whether a core does not exist, is not allowed, or could not be pinned to.
    #[must_use]
    pub fn is_core(&self) -> bool {
        matches!(*self.0, Kind::Core(_))
    }

    /// Returns whether memory, a thread or a socket poll could not be created, or
    /// [`Config::recorders_max`](crate::Config::recorders_max) or the limit of scopes is reached.
    #[must_use]
    pub fn is_resources(&self) -> bool {
        matches!(*self.0, Kind::Resources(..))
    }

    /// Returns whether the deadline passed before all spans had an outcome.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        matches!(*self.0, Kind::TimedOut(..))
    }

    /// Returns whether the collector was shut down before.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        matches!(*self.0, Kind::ShutDown(_))
    }

    /// Returns whether this process is a fork of the collector's process, which has its memory and not its
    /// network thread. Spans recorded in the fork are refused ([`Refused::Forked`](crate::Refused::Forked));
    /// create a collector after the fork.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        matches!(*self.0, Kind::Forked(_))
    }

    /// Returns the ledger at the time of a failed flush or shutdown.
    #[must_use]
    pub fn ledger(&self) -> Option<&Ledger> {
        match &*self.0 {
            Kind::TimedOut(ledger, _)
            | Kind::ShutDown(ledger)
            | Kind::NetworkThreadFailed(ledger)
            | Kind::Forked(ledger) => Some(ledger),
            Kind::Config(_) | Kind::Core(_) | Kind::Resources(..) => None,
        }
    }

    #[cold]
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self(Box::new(Kind::Config(message.into())))
    }

    #[cold]
    pub(crate) fn core(message: impl Into<String>) -> Self {
        Self(Box::new(Kind::Core(message.into())))
    }

    #[cold]
    pub(crate) fn resources(message: impl Into<String>, source: Option<io::Error>) -> Self {
        Self(Box::new(Kind::Resources(message.into(), source)))
    }

    #[cold]
    pub(crate) fn timed_out(ledger: Ledger, last_error: Option<String>) -> Self {
        Self(Box::new(Kind::TimedOut(ledger, last_error)))
    }

    #[cold]
    pub(crate) fn shut_down(ledger: Ledger) -> Self {
        Self(Box::new(Kind::ShutDown(ledger)))
    }

    #[cold]
    pub(crate) fn network_thread_failed(ledger: Ledger) -> Self {
        Self(Box::new(Kind::NetworkThreadFailed(ledger)))
    }

    #[cold]
    pub(crate) fn forked(ledger: Ledger) -> Self {
        Self(Box::new(Kind::Forked(ledger)))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Config(message) | Kind::Core(message) => f.write_str(message),
            Kind::Resources(message, None) => f.write_str(message),
            Kind::Resources(message, Some(source)) => write!(f, "{message}: {source}"),
            Kind::TimedOut(ledger, last_error) => {
                write!(f, "the deadline passed with spans undelivered")?;
                if let Some(error) = last_error {
                    write!(f, " (last error: {error})")?;
                }
                write!(f, "; the ledger: {ledger}")
            }
            Kind::ShutDown(ledger) => write!(f, "the collector is shut down; its ledger: {ledger}"),
            Kind::NetworkThreadFailed(ledger) => {
                write!(f, "the network thread panicked; the ledger: {ledger}")
            }
            Kind::Forked(ledger) => write!(
                f,
                "this process is a fork of the collector's process and has no network thread; create a \
                 collector after the fork; the ledger: {ledger}"
            ),
        }
    }
}

impl From<CoreError> for Error {
    fn from(error: CoreError) -> Self {
        Self::core(error.0)
    }
}

/// The same text as `Display`, so that it is readable where `main` returns it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Kind::Resources(_, Some(source)) => Some(source),
            _ => None,
        }
    }
}
