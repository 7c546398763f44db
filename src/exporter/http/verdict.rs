//! The meaning of a response for the spans of its request: the table of docs/delivery.md as a function.

use std::time::{Duration, SystemTime};

use crate::config::EndpointSettings;
use crate::exporter::http::complaint::Complaint;
use crate::exporter::http::reason;
use crate::exporter::http::response::Response;
use crate::exporter::http::retry::{is_retryable, retry_after};
use crate::otlp::PartialSuccess;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The spans were accepted, except those that the body rejects; an error says why that is not
    /// known.
    Accepted(Result<PartialSuccess, String>),
    /// The request belongs to another place: this one, or from now on all.
    Redirected { is_permanent: bool },
    /// The same request may be sent again, after the wait that the endpoint asks for.
    Retry {
        wait: Option<Duration>,
        is_rate_limit: bool,
    },
    /// The proxy did not let the request through.
    ProxyDenied,
    /// The request was refused as it is. It may be accepted in another form.
    Refused(Complaint),
}

impl Verdict {
    /// `now` is what a `Retry-After` with a date refers to.
    pub(crate) fn of(response: &Response, settings: &EndpointSettings, now: SystemTime) -> Self {
        match response.status {
            200..=299 => Self::Accepted(reason::partial_success(response, settings)),
            307 => Self::Redirected {
                is_permanent: false,
            },
            308 => Self::Redirected { is_permanent: true },
            407 if settings.proxy.is_some() => Self::ProxyDenied,
            status if is_retryable(status) => {
                let header = response.retry_after.as_deref();
                Self::Retry {
                    wait: header.and_then(|value| retry_after(value, now)),
                    is_rate_limit: status == 429,
                }
            }
            _ => Self::Refused(Complaint::of(response, settings)),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, EndpointOptions, Settings};
    use crate::exporter::http::response::ResponseParser;

    fn settings(proxy: Option<&str>) -> Arc<EndpointSettings> {
        let config = Config {
            endpoint_options: EndpointOptions {
                proxy: proxy.map(str::to_string),
                ..EndpointOptions::default()
            },
            ..Config::default()
        };
        let settings = Settings::new(&config).unwrap();
        Arc::clone(&settings.destinations[0].endpoints[0])
    }

    fn verdict(status: u16, headers: &str, body: &str, proxy: Option<&str>) -> Verdict {
        let length = body.len();
        let response =
            format!("HTTP/1.1 {status} Text\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        let mut parser = ResponseParser::default();
        let response = parser.receive(response.as_bytes()).unwrap().unwrap();
        Verdict::of(&response, &settings(proxy), SystemTime::UNIX_EPOCH)
    }

    const RETRY: Verdict = Verdict::Retry {
        wait: None,
        is_rate_limit: false,
    };
    const REJECTED: Verdict = Verdict::Refused(Complaint::Other);

    #[test]
    fn every_status_has_one_meaning() {
        for status in 200..=599 {
            let expected = match status {
                // Neither has a body to read.
                200..=299 => Verdict::Accepted(Ok(PartialSuccess::default())),
                307 | 308 => Verdict::Redirected {
                    is_permanent: status == 308,
                },
                400 => Verdict::Refused(Complaint::Malformed),
                413 => Verdict::Refused(Complaint::TooLarge),
                415 => Verdict::Refused(Complaint::Coding),
                429 => Verdict::Retry {
                    wait: None,
                    is_rate_limit: true,
                },
                502..=504 => RETRY,
                _ => REJECTED,
            };
            assert_eq!(verdict(status, "", "", None), expected, "{status}");
        }
    }

    #[test]
    fn headers_and_bodies_that_change_the_meaning() {
        let wait = |seconds| Some(Duration::from_secs(seconds));
        for (status, headers, body, expected) in [
            (
                503,
                "Retry-After: 7\r\n",
                "",
                Verdict::Retry {
                    wait: wait(7),
                    is_rate_limit: false,
                },
            ),
            (
                429,
                "Retry-After: Thu, 01 Jan 1970 00:00:09 GMT\r\n",
                "",
                Verdict::Retry {
                    wait: wait(9),
                    is_rate_limit: true,
                },
            ),
            (
                429,
                "Retry-After: soon\r\n",
                "",
                Verdict::Retry {
                    wait: None,
                    is_rate_limit: true,
                },
            ),
            // A wait does not make a final status one that is retried.
            (500, "Retry-After: 7\r\n", "", REJECTED),
            (
                400,
                "",
                "http: request body too large",
                Verdict::Refused(Complaint::TooLarge),
            ),
            (
                400,
                "",
                "unsupported encoding",
                Verdict::Refused(Complaint::Coding),
            ),
            (500, "", "request body too large", REJECTED),
        ] {
            assert_eq!(verdict(status, headers, body, None), expected, "{status}");
        }
        let partial = verdict(200, "", "\n\x06\x08\x02\x12\x02no", None);
        let Verdict::Accepted(Ok(partial)) = partial else {
            panic!("{partial:?}");
        };
        assert_eq!((partial.rejected, &*partial.message), (2, "no"));
        let page = verdict(200, "", "<html>", None);
        assert!(matches!(page, Verdict::Accepted(Err(_))), "{page:?}");
    }

    #[test]
    fn a_407_is_the_proxys_where_there_is_one() {
        let proxy = Some("http://proxy:3128");
        assert_eq!(verdict(407, "", "", proxy), Verdict::ProxyDenied);
        assert_eq!(verdict(407, "", "", None), REJECTED);
        assert_eq!(verdict(403, "", "", proxy), REJECTED);
    }
}
