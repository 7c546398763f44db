//! The outcome of one attempt to send a request. For responses it is the table of docs/delivery.md as a function.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::config::{EndpointSettings, Target};
use crate::exporter::connection::LossKind;
use crate::exporter::http::complaint::Complaint;
use crate::exporter::http::reason;
use crate::exporter::http::response::Response;
use crate::exporter::http::retry::{is_retryable, retry_after};
use crate::otlp::PartialSuccess;
use crate::stats::Export;

/// Redirects that one request follows in a row.
const REDIRECTS_MAX: u32 = 5;

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
        complaint: Complaint,
        reason: String,
    },
    /// The same request may be sent again, after the wait that the endpoint asks for.
    RetryAfter {
        status: u16,
        wait: Option<Duration>,
        /// Enough requests in a row were refused with 429 that their size may be the reason.
        is_stuck: bool,
        reason: String,
    },
    /// The request was refused for its size. Its spans go into smaller ones.
    TooLarge { status: u16, reason: String },
    /// The request was refused for its compression. It is sent again without.
    NotDecoded { status: u16, reason: String },
    /// The request belongs to another place: this one, or with a permanent redirect all of them.
    Redirected {
        status: u16,
        target: Arc<Target>,
        is_permanent: bool,
    },
    /// The proxy did not let the request through.
    ProxyDenied,
    /// No response came.
    Lost { kind: LossKind, reason: String },
}

/// Facts that the meaning of a response depends on, besides the response itself.
pub(crate) struct Facts<'a> {
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
    pub(crate) fn of(response: &Response, facts: &Facts<'_>) -> Self {
        let status = response.status;
        match status {
            200..=299 => Self::Accepted {
                status,
                partial: reason::partial_success(response, facts.settings),
            },
            307 | 308 => Self::of_redirect(response, facts),
            407 if facts.settings.proxy.is_some() => Self::ProxyDenied,
            _ if is_retryable(status) => Self::RetryAfter {
                status,
                wait: (response.retry_after.as_deref())
                    .and_then(|value| retry_after(value, facts.now)),
                is_stuck: status == 429 && facts.is_throttled_often && facts.can_split,
                reason: reason::of_error(response, facts.settings),
            },
            _ => Self::of_refusal(response, facts),
        }
    }

    /// The request was refused as it is. It may be accepted in another form.
    fn of_refusal(response: &Response, facts: &Facts<'_>) -> Self {
        let status = response.status;
        let reason = reason::of_error(response, facts.settings);
        let complaint = Complaint::of(response, facts.settings);
        match complaint {
            Complaint::TooLarge if facts.can_split => Self::TooLarge { status, reason },
            _ if facts.is_coding_refused(complaint) => Self::NotDecoded { status, reason },
            _ => Self::Rejected {
                status,
                complaint,
                reason,
            },
        }
    }

    /// Method and body stay as they are (RFC 9110, 15.4.8 and 15.4.9). Other redirects would make the
    /// request a GET, and are errors.
    fn of_redirect(response: &Response, facts: &Facts<'_>) -> Self {
        let status = response.status;
        let location = response.location.as_deref().unwrap_or_default();
        match facts.redirect_target(location) {
            Ok(target) => Self::Redirected {
                status,
                target: Arc::new(target),
                is_permanent: status == 308,
            },
            Err(objection) => {
                let objection = reason::readable(&objection, facts.settings);
                Self::Rejected {
                    status,
                    complaint: Complaint::Other,
                    reason: format!("responded with {status}, but its Location {objection}"),
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
            Self::Lost { kind, .. } => *kind != LossKind::Stale,
            Self::Accepted { .. }
            | Self::Rejected { .. }
            | Self::TooLarge { .. }
            | Self::NotDecoded { .. }
            | Self::Redirected { .. } => false,
        }
    }

    /// Returns whether the request is sent again in smaller parts.
    pub(crate) fn needs_split(&self) -> bool {
        match self {
            Self::TooLarge { .. } => true,
            Self::RetryAfter { is_stuck, .. } => *is_stuck,
            Self::Lost { kind, .. } => *kind == LossKind::TimedOut,
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
                LossKind::TimedOut => "timeout",
                LossKind::Unreachable | LossKind::Stale | LossKind::Broken => "connection_lost",
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

impl Facts<'_> {
    /// Returns whether the compression is the likely reason of a refusal.
    fn is_coding_refused(&self, complaint: Complaint) -> bool {
        self.is_coding_suspect
            && match complaint {
                Complaint::Coding => true,
                Complaint::Malformed => !self.has_coding_worked,
                Complaint::TooLarge | Complaint::Other => false,
            }
    }

    /// Returns the target of a redirect, or the reason why it is not followed.
    fn redirect_target(&self, location: &str) -> Result<Target, String> {
        let target = self.target.redirect(location)?;
        if self.redirects >= REDIRECTS_MAX {
            return Err(format!("is one more after {REDIRECTS_MAX} in a row"));
        }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::{Config, EndpointOptions, Redirects, Settings};
    use crate::exporter::http::response_parser::ResponseParser;

    /// The facts of a table's row. Defaults: a request that could be split, without compression.
    #[derive(Clone, Copy)]
    struct Row {
        proxy: Option<&'static str>,
        redirects: Redirects,
        has_followed: u32,
        can_split: bool,
        is_coding_suspect: bool,
        has_coding_worked: bool,
        is_throttled_often: bool,
    }

    const ROW: Row = Row {
        proxy: None,
        redirects: Redirects::SameOrigin,
        has_followed: 0,
        can_split: true,
        is_coding_suspect: false,
        has_coding_worked: false,
        is_throttled_often: false,
    };
    const WHOLE: Row = Row {
        can_split: false,
        ..ROW
    };
    const COMPRESSED: Row = Row {
        is_coding_suspect: true,
        ..ROW
    };
    const TRUSTED: Row = Row {
        has_coding_worked: true,
        ..COMPRESSED
    };
    const OFTEN: Row = Row {
        is_throttled_often: true,
        ..ROW
    };

    fn outcome(row: Row, status: u16, headers: &str, body: &str) -> Outcome {
        let config = Config {
            endpoint_options: EndpointOptions {
                proxy: row.proxy.map(str::to_string),
                redirects: row.redirects,
                ..EndpointOptions::default()
            },
            ..Config::default()
        };
        let settings = Settings::new(&config).unwrap();
        let settings = &settings.destinations[0].endpoints[0];
        let length = body.len();
        let response =
            format!("HTTP/1.1 {status} Text\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        let mut parser = ResponseParser::default();
        let response = parser.receive(response.as_bytes()).unwrap().unwrap();
        let facts = Facts {
            settings,
            target: &settings.target,
            redirects: row.has_followed,
            can_split: row.can_split,
            is_coding_suspect: row.is_coding_suspect,
            has_coding_worked: row.has_coding_worked,
            is_throttled_often: row.is_throttled_often,
            now: SystemTime::UNIX_EPOCH,
        };
        Outcome::of(&response, &facts)
    }

    /// Returns the outcome in a word, as in the table, and with the numbers that it carries.
    fn word(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Accepted { partial, .. } => match partial {
                Ok(PartialSuccess {
                    rejected: 0,
                    message,
                }) if message.is_empty() => "delivered".to_string(),
                Ok(PartialSuccess { rejected, message }) => {
                    format!("delivered, {rejected} rejected: {message}")
                }
                Err(_) => "delivered, unreadable".to_string(),
            },
            Outcome::Rejected { .. } => "rejected".to_string(),
            Outcome::RetryAfter { wait, is_stuck, .. } => {
                let wait = wait.map(|wait| format!(" after {wait:?}"));
                let split = if *is_stuck { " in parts" } else { "" };
                format!("again{}{split}", wait.unwrap_or_default())
            }
            Outcome::TooLarge { .. } => "split".to_string(),
            Outcome::NotDecoded { .. } => "plain".to_string(),
            Outcome::Redirected {
                target,
                is_permanent,
                ..
            } => match is_permanent {
                false => format!("to {}", target.path),
                true => format!("to {} from now on", target.path),
            },
            Outcome::ProxyDenied => "again, denied".to_string(),
            Outcome::Lost { .. } => "lost".to_string(),
        }
    }

    #[test]
    fn every_status_has_one_meaning() {
        for status in 200..=599 {
            let expected = match status {
                200..=299 => "delivered",
                413 => "split",
                429 | 502..=504 => "again",
                _ => "rejected",
            };
            let outcome = outcome(ROW, status, "", "");
            assert_eq!(word(&outcome), expected, "{status}");
            assert_eq!(outcome.status(), Some(status));
        }
    }

    #[test]
    fn the_table_of_the_documentation() {
        const TOO_LARGE: &str = "http: request body too large";
        const DECODING: &str = "unsupported encoding";
        let proxied = Row {
            proxy: Some("http://proxy:3128"),
            ..ROW
        };
        let table = [
            // Any 2xx.
            (
                ROW,
                202,
                "",
                "\n\x06\x08\x02\x12\x02no",
                "delivered, 2 rejected: no",
            ),
            (
                ROW,
                200,
                "",
                "\n\x04\x12\x02ok",
                "delivered, 0 rejected: ok",
            ),
            (ROW, 200, "", "<html>", "delivered, unreadable"),
            (ROW, 200, "Retry-After: 7\r\n", "", "delivered"),
            // 429, 502, 503, 504.
            (ROW, 503, "Retry-After: 7\r\n", "", "again after 7s"),
            (
                ROW,
                429,
                "Retry-After: Thu, 01 Jan 1970 00:00:09 GMT\r\n",
                "",
                "again after 9s",
            ),
            (ROW, 429, "Retry-After: soon\r\n", "", "again"),
            (ROW, 504, "Retry-After: 99999\r\n", "", "again after 600s"),
            (OFTEN, 429, "", "", "again in parts"),
            (OFTEN, 503, "", "", "again"),
            (
                Row {
                    can_split: false,
                    ..OFTEN
                },
                429,
                "",
                "",
                "again",
            ),
            // A wait does not make a final status one that is retried.
            (ROW, 500, "Retry-After: 7\r\n", "", "rejected"),
            // 413, or a 400 that means the same.
            (ROW, 400, "", TOO_LARGE, "split"),
            (COMPRESSED, 413, "", "", "split"),
            (WHOLE, 413, "", "", "rejected"),
            (WHOLE, 400, "", TOO_LARGE, "rejected"),
            (ROW, 500, "", TOO_LARGE, "rejected"),
            // 415 or 400 to a compressed request.
            (COMPRESSED, 415, "", "", "plain"),
            (COMPRESSED, 400, "", "", "plain"),
            (COMPRESSED, 400, "", DECODING, "plain"),
            (TRUSTED, 415, "", "", "plain"),
            (TRUSTED, 400, "", "", "rejected"),
            (TRUSTED, 400, "", DECODING, "plain"),
            (COMPRESSED, 500, "", DECODING, "rejected"),
            (ROW, 415, "", "", "rejected"),
            (ROW, 400, "", DECODING, "rejected"),
            // 407 of a proxy.
            (proxied, 407, "", "", "again, denied"),
            (ROW, 407, "", "", "rejected"),
            (proxied, 403, "", "", "rejected"),
        ];
        for (row, status, headers, body, expected) in table {
            let outcome = outcome(row, status, headers, body);
            assert_eq!(word(&outcome), expected, "{status} {headers}{body}");
        }
    }

    #[test]
    fn redirects_are_followed_as_configured_and_five_times() {
        let row = |redirects, has_followed| Row {
            redirects,
            has_followed,
            ..ROW
        };
        let (refuse, same) = (Redirects::Refuse, Redirects::SameOrigin);
        let elsewhere = "http://elsewhere.test/x";
        for (row, status, location, expected) in [
            (row(same, 0), 307, "/x", "to /x"),
            (row(same, 4), 308, "/x", "to /x from now on"),
            (row(same, 5), 308, "/x", "rejected"),
            (row(refuse, 0), 307, "/x", "rejected"),
            (row(same, 0), 307, elsewhere, "rejected"),
            (row(Redirects::Follow, 0), 307, elsewhere, "to /x"),
            (
                row(Redirects::Follow, 0),
                307,
                "https://elsewhere.test/x",
                "rejected",
            ),
            (row(same, 0), 307, "ftp://elsewhere.test/x", "rejected"),
            (row(same, 0), 302, "/x", "rejected"),
        ] {
            let headers = format!("Location: {location}\r\n");
            let outcome = outcome(row, status, &headers, "");
            assert_eq!(word(&outcome), expected, "{status} {location}");
        }
        let Outcome::Rejected { reason, .. } = outcome(row(refuse, 0), 307, "Location: /x\r\n", "")
        else {
            panic!("not rejected");
        };
        assert_eq!(
            reason,
            "responded with 307, but its Location is not followed: redirects is Refuse"
        );
    }

    #[test]
    fn an_outcome_determines_retry_budget_split_and_export() {
        let lost = |kind| Outcome::Lost {
            kind,
            reason: String::new(),
        };
        let partial = outcome(ROW, 202, "", "\n\x06\x08\x02\x12\x02no");
        // Whether it counts as a failure, splits, and the export's status and error.
        for (outcome, has_failed, needs_split, status, error) in [
            (outcome(ROW, 200, "", ""), false, false, Some(200), None),
            (partial, false, false, Some(202), Some("rejected")),
            (outcome(ROW, 400, "", ""), false, false, Some(400), None),
            (outcome(ROW, 503, "", ""), true, false, Some(503), None),
            (outcome(OFTEN, 429, "", ""), true, true, Some(429), None),
            (outcome(ROW, 413, "", ""), false, true, Some(413), None),
            (
                outcome(COMPRESSED, 415, "", ""),
                false,
                false,
                Some(415),
                None,
            ),
            (Outcome::ProxyDenied, true, false, Some(407), None),
            (
                lost(LossKind::Stale),
                false,
                false,
                None,
                Some("connection_lost"),
            ),
            (
                lost(LossKind::Broken),
                true,
                false,
                None,
                Some("connection_lost"),
            ),
            (
                lost(LossKind::Unreachable),
                true,
                false,
                None,
                Some("connection_lost"),
            ),
            (lost(LossKind::TimedOut), true, true, None, Some("timeout")),
        ] {
            let expected = Export {
                endpoint: 3,
                status,
                error,
            };
            assert_eq!(outcome.export(3), expected);
            let decisions = (outcome.has_failed(), outcome.needs_split());
            assert_eq!(decisions, (has_failed, needs_split), "{outcome:?}");
        }
    }
}
