//! The outcome of one attempt to send a request. For responses it is the table of docs/delivery.md as a function.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::{EndpointSettings, Target};
use crate::exporter::connection::ConnectionLoss;
use crate::exporter::http::reason;
use crate::exporter::http::response::Response;
use crate::exporter::http::retry_after::retry_after;
use crate::otlp::PartialSuccess;
use crate::stats::Export;

/// Redirects that one request follows in a row.
const REDIRECTS_MAX: u32 = 5;

/// Time for which an endpoint remembers a refused size or coding, or a permanent redirect. The receiver
/// may then have been replaced or reconfigured.
pub(crate) const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// Phrases of receivers that respond to a large body with 400: the OpenTelemetry Collector ("http: request
/// body too large"), VictoriaTraces ("too big data size exceeding …"), and limits of gRPC gateways.
const TOO_LARGE: [&str; 5] = [
    "too large",
    "too big",
    "larger than max",
    "exceeds the maximum",
    "exceeds max",
];
/// Phrases of receivers that cannot decode a body.
const CODING: [&str; 4] = ["encoding", "compress", "gzip", "zstd"];

/// The outcome of one attempt to send a request.
///
/// The endpoint adapts its state to it, and the destination settles the request or puts it back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The spans were accepted, except those that the body rejects; an error gives the reason why
    /// their number is unknown.
    Accepted {
        status: u16,
        partial: Result<PartialSuccess, String>,
    },
    /// The spans were rejected for good.
    Rejected {
        status: u16,
        cause: RefusalCause,
        reason: String,
    },
    /// The same request may be sent again, after the wait that the endpoint requires.
    RetryAfter {
        status: u16,
        wait: Option<Duration>,
        /// Enough requests in a row were refused with 429 that their size may be the reason.
        should_split: bool,
        reason: String,
    },
    /// The request was refused for its size. Its spans go into smaller ones.
    TooLarge { status: u16, reason: String },
    /// The request was refused for its compression. It is sent again without.
    NotDecoded { status: u16, reason: String },
    /// The request is redirected to this target, with a permanent redirect all later ones, too.
    Redirected {
        status: u16,
        target: Arc<Target>,
        is_permanent: bool,
    },
    /// The proxy did not let the request through.
    ProxyDenied,
    /// No response came.
    Lost {
        kind: ConnectionLoss,
        reason: String,
    },
}

/// The cause for which a request was refused as it is, by the status and the message of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalCause {
    /// The body is larger than the receiver accepts.
    TooLarge,
    /// The receiver does not support the `Content-Encoding`.
    Coding,
    /// A 400 without a known cause. Receivers that ignore `Content-Encoding` find compressed bytes
    /// malformed.
    Malformed,
    /// Another cause, or none that is known.
    Other,
}

/// Facts that the meaning of a response depends on, besides the response itself.
pub(crate) struct ResponseContext<'a> {
    pub(crate) settings: &'a EndpointSettings,
    /// The target that the request was sent to.
    pub(crate) target: &'a Target,
    /// Redirects that the request has followed.
    pub(crate) redirects: u32,
    /// The request's spans fit into smaller requests.
    pub(crate) can_split: bool,
    /// The request was compressed, and is not known to be refused without compression too.
    pub(crate) is_coding_suspect: bool,
    /// A compressed request was accepted before.
    pub(crate) has_coding_worked: bool,
    /// One more 429 is one too many in a row.
    pub(crate) is_throttled_often: bool,
    /// The time that a `Retry-After` with a date refers to.
    pub(crate) now: SystemTime,
}

impl Outcome {
    /// Returns the meaning of a response.
    pub(crate) fn of(response: &Response, context: &ResponseContext<'_>) -> Self {
        let status = response.status;
        match status {
            200..=299 => Self::Accepted {
                status,
                partial: response.partial_success(context.settings),
            },
            307 | 308 => Self::of_redirect(response, context),
            407 if context.settings.proxy.is_some() => Self::ProxyDenied,
            _ if is_retryable(status) => Self::RetryAfter {
                status,
                wait: (response.retry_after.as_deref())
                    .and_then(|value| retry_after(value, context.now)),
                should_split: status == 429 && context.is_throttled_often && context.can_split,
                reason: response.description(context.settings),
            },
            _ => Self::of_refusal(response, context),
        }
    }

    /// Returns the outcome of a refusal: the request may be accepted in another form, or is rejected.
    fn of_refusal(response: &Response, context: &ResponseContext<'_>) -> Self {
        let status = response.status;
        let reason = response.description(context.settings);
        let cause = RefusalCause::of(response, context.settings);
        match cause {
            RefusalCause::TooLarge if context.can_split => Self::TooLarge { status, reason },
            _ if context.is_coding_refused(cause) => Self::NotDecoded { status, reason },
            _ => Self::Rejected {
                status,
                cause,
                reason,
            },
        }
    }

    /// Returns the outcome of a redirect after which method and body stay as they are (RFC 9110, 15.4.8
    /// and 15.4.9). Other redirects would make the request a GET, and are errors.
    fn of_redirect(response: &Response, context: &ResponseContext<'_>) -> Self {
        let status = response.status;
        let location = response.location.as_deref().unwrap_or_default();
        match context.redirect_target(location) {
            Ok(target) => Self::Redirected {
                status,
                target: Arc::new(target),
                is_permanent: status == 308,
            },
            Err(objection) => {
                let objection = reason::readable(&objection, context.settings);
                Self::Rejected {
                    status,
                    cause: RefusalCause::Other,
                    reason: format!("responded with {status}, but {objection}"),
                }
            }
        }
    }

    /// Returns the status of the response, if there is one.
    pub(crate) fn status(&self) -> Option<u16> {
        match *self {
            Self::Accepted { status, .. }
            | Self::Rejected { status, .. }
            | Self::RetryAfter { status, .. }
            | Self::TooLarge { status, .. }
            | Self::NotDecoded { status, .. }
            | Self::Redirected { status, .. } => Some(status),
            Self::ProxyDenied => Some(407),
            Self::Lost { .. } => None,
        }
    }

    /// Returns whether the attempt failed, so that the request may be sent again only within its retry
    /// budget.
    pub(crate) fn has_failed(&self) -> bool {
        match self {
            Self::RetryAfter { .. } | Self::ProxyDenied => true,
            Self::Lost { .. } => !self.is_stale(),
            Self::Accepted { .. }
            | Self::Rejected { .. }
            | Self::TooLarge { .. }
            | Self::NotDecoded { .. }
            | Self::Redirected { .. } => false,
        }
    }

    /// Returns whether a kept connection was lost that the server has most likely closed: no failure of
    /// the endpoint.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(
            self,
            Self::Lost {
                kind: ConnectionLoss::Stale,
                ..
            }
        )
    }

    /// Returns whether the request is sent again in smaller parts.
    pub(crate) fn needs_split(&self) -> bool {
        match self {
            Self::TooLarge { .. } => true,
            Self::RetryAfter { should_split, .. } => *should_split,
            Self::Lost { kind, .. } => *kind == ConnectionLoss::TimedOut,
            Self::Accepted { .. }
            | Self::Rejected { .. }
            | Self::NotDecoded { .. }
            | Self::Redirected { .. }
            | Self::ProxyDenied => false,
        }
    }

    /// Returns the end of an export operation of which this is the last attempt.
    pub(crate) fn export(&self, endpoint: usize) -> Export {
        let error = match self {
            Self::Accepted { partial, .. } => {
                let is_partial = partial.as_ref().is_ok_and(|partial| partial.rejected > 0);
                is_partial.then_some("rejected")
            }
            Self::Lost { kind, .. } => Some(match kind {
                ConnectionLoss::TimedOut => "timeout",
                ConnectionLoss::Unreachable | ConnectionLoss::Stale | ConnectionLoss::Broken => {
                    "connection_lost"
                }
            }),
            _ => None,
        };
        Export {
            endpoint,
            status: self.status(),
            error,
        }
    }
}

impl ResponseContext<'_> {
    /// Returns whether the compression is the likely reason of a refusal.
    fn is_coding_refused(&self, cause: RefusalCause) -> bool {
        self.is_coding_suspect
            && match cause {
                RefusalCause::Coding => true,
                RefusalCause::Malformed => !self.has_coding_worked,
                RefusalCause::TooLarge | RefusalCause::Other => false,
            }
    }

    /// Returns the target of a redirect, or the reason why it is not followed.
    fn redirect_target(&self, location: &str) -> Result<Target, String> {
        if self.redirects >= REDIRECTS_MAX {
            return Err(format!(
                "redirected more than {REDIRECTS_MAX} times in a row: use the final URL as the endpoint"
            ));
        }
        (self.target.redirect(location))
            .and_then(|target| self.permitted(target))
            .map_err(|objection| format!("its Location {objection}"))
    }

    /// Returns the target of a redirect unless the settings do not permit it.
    fn permitted(&self, target: Target) -> Result<Target, String> {
        if let Some(why) =
            (self.settings.options.redirects).objection(&self.settings.target, &target)
        {
            return Err(why);
        }
        if target.is_https && !self.settings.can_secure() {
            return Err("leads to https: use an https URL, with the feature `tls`".to_string());
        }
        Ok(target)
    }
}

impl RefusalCause {
    fn of(response: &Response, settings: &EndpointSettings) -> Self {
        match response.status {
            413 => Self::TooLarge,
            415 => Self::Coding,
            400 => Self::of_message(&response.message(settings).unwrap_or_default()),
            _ => Self::Other,
        }
    }

    fn of_message(message: &str) -> Self {
        let message = message.to_lowercase();
        let has_one_of = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
        if has_one_of(&TOO_LARGE) {
            Self::TooLarge
        } else if has_one_of(&CODING) {
            Self::Coding
        } else {
            Self::Malformed
        }
    }
}

/// Returns whether OTLP allows to send the same request again after this status.
fn is_retryable(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

#[cfg(all(test, not(loom)))]
mod tests;
