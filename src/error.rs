//! What can go wrong at the front door.

use std::fmt;
use std::io;

use crate::platform::affinity::CoreError;
use crate::stats::ledger::Ledger;

/// Why a call on the [`Collector`](crate::Collector) failed: what was wrong, with the value, and
/// what to do about it.
pub struct Error(Box<Kind>);

enum Kind {
    Config(String),
    Core(String),
    Resources(String, Option<io::Error>),
    TimedOut(Ledger, Option<String>),
    Ended(Ledger),
    NetworkThreadFailed(Ledger),
    Forked(Ledger),
}

impl Error {
    /// A value of [`Config`](crate::Config) is not usable.
    #[must_use]
    pub fn is_config(&self) -> bool {
        matches!(*self.0, Kind::Config(_))
    }

    /// A core does not exist, is not allowed, or could not be pinned to.
    #[must_use]
    pub fn is_core(&self) -> bool {
        matches!(*self.0, Kind::Core(_))
    }

    /// The operating system gave no memory, thread or socket poll, or
    /// [`Config::recorders_max`](crate::Config::recorders_max) is reached.
    #[must_use]
    pub fn is_resources(&self) -> bool {
        matches!(*self.0, Kind::Resources(..))
    }

    /// The deadline passed before everything was delivered.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        matches!(*self.0, Kind::TimedOut(..))
    }

    /// The collector was shut down before.
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        matches!(*self.0, Kind::Ended(_))
    }

    /// This process is a fork of the one that made the collector: it has the memory of that, but
    /// not its network thread. Spans recorded in the fork are refused
    /// ([`Refused::Forked`](crate::Refused::Forked)); it is to make a collector of its own.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        matches!(*self.0, Kind::Forked(_))
    }

    /// The ledger at the moment of a failed flush or shutdown.
    #[must_use]
    pub fn ledger(&self) -> Option<&Ledger> {
        match &*self.0 {
            Kind::TimedOut(ledger, _)
            | Kind::Ended(ledger)
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
    pub(crate) fn ended(ledger: Ledger) -> Self {
        Self(Box::new(Kind::Ended(ledger)))
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
                write!(f, ": {ledger}")
            }
            Kind::Ended(ledger) => write!(f, "the collector was shut down before: {ledger}"),
            Kind::NetworkThreadFailed(ledger) => {
                write!(f, "the network thread panicked: {ledger}")
            }
            Kind::Forked(ledger) => write!(
                f,
                "this process is a fork of the one that made the collector, and has no network \
                 thread: make a collector after the fork ({ledger})"
            ),
        }
    }
}

impl From<CoreError> for Error {
    fn from(error: CoreError) -> Self {
        Self::core(error.0)
    }
}

/// The same words: so it is readable where `main` returns it.
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
