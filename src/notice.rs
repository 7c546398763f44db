//! What happens rarely and is worth being told: see [`OnNotice`].

use std::fmt;
use std::sync::Arc;

/// Something that happened to delivery.
///
/// Of each kind there is at most one for an endpoint in ten seconds; those in between are counted in
/// the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// What it is.
    pub kind: NoticeKind,
    /// The endpoint or destination it is about, if it is about one.
    pub endpoint: Option<String>,
    /// What happened, in words.
    pub message: String,
    /// Notices of the same kind, about the same, that were not told since the last one.
    pub suppressed: u64,
}

/// The kinds of [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoticeKind {
    /// An endpoint works again.
    Recovered,
    /// An endpoint cannot be reached, or cannot answer for now.
    BackingOff,
    /// An endpoint has asked to be left alone for a while.
    Throttled,
    /// An endpoint has refused spans for good.
    Rejected,
    /// An endpoint has taken spans and has something to say, or says what cannot be read.
    Warned,
    /// Spans were given up: a destination is too far behind, or has failed for too long, or the
    /// time of the shutdown was over.
    Dropped,
    /// Recording has refused spans.
    Refused,
    /// The network thread has panicked and gone on.
    Panicked,
    /// The environment has a value that could not be used: see
    /// [`Config::warnings`](crate::Config::warnings). Each is reported, when the collector starts.
    Misconfigured,
}

impl NoticeKind {
    pub(crate) fn level(self) -> log::Level {
        match self {
            Self::Recovered => log::Level::Info,
            Self::BackingOff | Self::Throttled | Self::Warned | Self::Misconfigured => {
                log::Level::Warn
            }
            Self::Rejected | Self::Dropped | Self::Refused | Self::Panicked => log::Level::Error,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(endpoint) = &self.endpoint {
            write!(f, "{endpoint}: ")?;
        }
        f.write_str(&self.message)?;
        match self.suppressed {
            0 => Ok(()),
            more => write!(f, " (and {more} more like it before)"),
        }
    }
}

/// Your own function that is told of each [`Notice`], besides the `log` facade (target
/// `otlp_collector`).
///
/// It runs on a thread of its own, which is started when the first notice happens. So it may take its
/// time, and call the collector; what it cannot keep up with is not told. If it panics, it is
/// called again for the next one.
///
/// ```
/// use otlp_collector::{Config, OnNotice};
///
/// let config = Config {
///     on_notice: Some(OnNotice::new(|notice| eprintln!("tracing: {notice}"))),
///     ..Config::default()
/// };
/// # drop(config);
/// ```
#[derive(Clone)]
pub struct OnNotice(Arc<dyn Fn(&Notice) + Send + Sync>);

impl OnNotice {
    /// To be called for each notice.
    pub fn new(function: impl Fn(&Notice) + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    pub(crate) fn call(&self, notice: &Notice) {
        (self.0)(notice);
    }
}

impl PartialEq for OnNotice {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for OnNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnNotice")
    }
}
