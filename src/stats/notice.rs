//! Notices of rare events: see [`OnNotice`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A rare event of delivery.
///
/// The same event is reported at most every ten seconds; notices in between are counted in the next one.
/// A new cause, such as another status, and a recovery are reported at once and in order. Limit for each
/// endpoint or destination and kind: a burst of six, then one every ten seconds.
/// [`Recovered`](NoticeKind::Recovered), [`BackingOff`](NoticeKind::BackingOff),
/// [`Throttled`](NoticeKind::Throttled) and [`Stalled`](NoticeKind::Stalled) count as one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// Kind of event.
    pub kind: NoticeKind,
    /// Endpoint or destination of the event, if it has one.
    pub endpoint: Option<String>,
    /// Description. Text of a server is cut to 300 characters.
    pub message: String,
    /// Spans refused, dropped, rejected or without memory since the last notice; in
    /// [`LossesEnded`](NoticeKind::LossesEnded) all of them. 0 for other kinds.
    pub spans: u64,
    /// Notices of the same kind and endpoint that were suppressed since the last one.
    pub suppressed: u64,
    /// Time of the event. A delayed notice arrives up to ten seconds later, or more if an endpoint flaps.
    pub at: SystemTime,
}

/// The kinds of [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoticeKind {
    /// An endpoint works again. The message has the incident's duration and counts its causes.
    Recovered,
    /// An endpoint has not responded for half of
    /// [`request_timeout_ms`](crate::EndpointOptions::request_timeout_ms), at least a second, or the only
    /// connection was not established in that time.
    Stalled,
    /// An endpoint is unreachable or unavailable. Requests are retried.
    BackingOff,
    /// An endpoint requested a delay.
    Throttled,
    /// An endpoint rejected spans.
    Rejected,
    /// An endpoint accepted spans but returned a warning or an unreadable body, or refused the
    /// compression of requests.
    Warned,
    /// Spans were dropped: a destination lags too far or has failed for too long, the shutdown's
    /// deadline passed, or the network thread failed.
    Dropped,
    /// Recording refused spans.
    Refused,
    /// Losses that took more than one notice have ended: none for three seconds, or the collector ended.
    /// The message has their duration and counts them by reason.
    LossesEnded,
    /// Spans were opened without memory for their data: see
    /// [`Stats::spans_without_memory`](crate::stats::Stats::spans_without_memory).
    WithoutMemory,
    /// Spans held by [`TailSampling`](crate::span::TailSampling) were kept before their local root ended: see
    /// [`Stats::spans_kept_early`](crate::stats::Stats::spans_kept_early).
    KeptEarly,
    /// The network thread panicked, and continued or ended.
    Panicked,
    /// The environment has an unusable value: see [`Config::warnings`](crate::Config::warnings). Each is
    /// reported when the collector starts.
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
            | Self::KeptEarly
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
            more => write!(f, " ({more} more suppressed)"),
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

/// Returns the reasons that occurred with their counts.
pub(crate) fn reasons(counts: &[(&str, u64)]) -> String {
    let occurred = counts.iter().filter(|(_, count)| *count > 0);
    let texts = occurred.map(|(reason, count)| format!("{reason} {count}"));
    texts.collect::<Vec<_>>().join(", ")
}

/// Callback for each [`Notice`], besides the `log` facade (target `otlp_collector`).
///
/// It runs on a thread of its own, which starts with the first notice, so it may block and call the
/// collector. Beyond 1,024 queued notices further ones are delayed. After a panic it is called for the
/// next notice.
///
/// ```
/// use otlp_collector::stats::OnNotice;
/// use otlp_collector::Config;
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
    /// Creates a callback.
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
