//! Rare events that the user should know: see [`OnNotice`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Something that happened to delivery.
///
/// The same is reported at most every ten seconds; notices in between are counted in the next one.
/// A new cause, for example another status, and a recovery are reported at once and in order. Limit,
/// also for an endpoint that flaps: for each endpoint or destination and kind, a burst of six and
/// then one every ten seconds; [`Recovered`](NoticeKind::Recovered),
/// [`BackingOff`](NoticeKind::BackingOff), [`Throttled`](NoticeKind::Throttled) and
/// [`Stalled`](NoticeKind::Stalled) count as one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// The kind of event.
    pub kind: NoticeKind,
    /// The endpoint or destination it is about, if it is about one.
    pub endpoint: Option<String>,
    /// Description in words. Text of a server is cut to 300 characters.
    pub message: String,
    /// Spans that it is about: refused, dropped, rejected or without memory since the last notice
    /// that was delivered; in [`LossesEnded`](NoticeKind::LossesEnded) all of them. 0 for other kinds.
    pub spans: u64,
    /// Notices of the same kind about the same endpoint that were suppressed since the last one.
    pub suppressed: u64,
    /// Time of the event. A notice that was held back arrives up to ten seconds later, or more if an
    /// endpoint flaps.
    pub at: SystemTime,
}

/// The kinds of [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoticeKind {
    /// An endpoint works again. The message has the length of the incident and counts what went
    /// wrong.
    Recovered,
    /// An endpoint has not answered for half of the
    /// [`request_timeout_ms`](crate::EndpointOptions::request_timeout_ms), at least a second. Also for
    /// a connection that is not established, if there is no other.
    Stalled,
    /// An endpoint cannot be reached, or cannot answer for now.
    BackingOff,
    /// An endpoint asked for a pause.
    Throttled,
    /// An endpoint has refused spans for good.
    Rejected,
    /// An endpoint accepted spans but returned a warning or an unreadable body, or refused the
    /// compression of requests.
    Warned,
    /// Spans were given up: a destination is too far behind, or has failed for too long, or the
    /// shutdown's deadline passed, or the network thread failed.
    Dropped,
    /// Recording has refused spans.
    Refused,
    /// Losses that one notice did not cover have ended: none for three seconds, or the collector
    /// ended. The message has their duration and counts them by reason.
    LossesEnded,
    /// Spans were recorded without memory for their data: see
    /// [`Stats::spans_without_memory`](crate::Stats::spans_without_memory).
    WithoutMemory,
    /// The network thread panicked and went on, or was given up.
    Panicked,
    /// The environment has a value that could not be used: see
    /// [`Config::warnings`](crate::Config::warnings). Each is reported, when the collector starts.
    Misconfigured,
}

impl NoticeKind {
    pub(crate) fn level(self) -> log::Level {
        match self {
            Self::Recovered => log::Level::Info,
            Self::BackingOff
            | Self::Throttled
            | Self::Stalled
            | Self::Warned
            | Self::LossesEnded
            | Self::WithoutMemory
            | Self::Misconfigured => log::Level::Warn,
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
            1 => f.write_str(" (and 1 more notice before it)"),
            more => write!(f, " (and {more} more notices before it)"),
        }
    }
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

pub(crate) fn span_count(spans: u64) -> String {
    match spans {
        1 => "1 span".to_string(),
        spans => format!("{spans} spans"),
    }
}

/// The reasons that occurred, with their counts.
pub(crate) fn reasons(counts: &[(&str, u64)]) -> String {
    let occurred = counts.iter().filter(|(_, count)| *count > 0);
    let texts = occurred.map(|(reason, count)| format!("{reason} {count}"));
    texts.collect::<Vec<_>>().join(", ")
}

/// Callback for each [`Notice`], besides the `log` facade (target `otlp_collector`).
///
/// It runs on a thread of its own, which is started when the first notice happens. So it may take its
/// time, and call the collector; beyond 1,024 waiting notices further ones are held back. If it
/// panics, it is called again for the next one.
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
