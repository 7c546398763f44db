//! The configured request headers as lines of a request's head.

use http::{HeaderName, HeaderValue};

use crate::error::Error;

/// The configured headers, checked and formatted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HeaderLines {
    /// All except the user agent: `Name: value` and CRLF each.
    pub(super) lines: String,
    /// The user agent and a space; empty without one.
    pub(super) user_agent: String,
}

/// Headers that define the message's framing and content, or are about the connection.
const RESERVED: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Formats headers. Names are tokens, values have no control characters except tabs (RFC 9110, 5.5), so
/// that none can end its line. Errors contain the header's name and not its value.
pub(super) fn header_lines(headers: &[(String, String)]) -> Result<HeaderLines, Error> {
    let mut made = HeaderLines::default();
    for (name, value) in headers {
        let wrong = |why: &str| Error::config(format!("header {name:?} of endpoint_options {why}"));
        let parsed = HeaderName::try_from(name)
            .map_err(|_| wrong("has a name that HTTP does not allow; use letters, digits and -"))?;
        if RESERVED.contains(&parsed.as_str()) {
            return Err(wrong("is set by this library; remove it"));
        }
        let value = value.trim_matches([' ', '\t']);
        HeaderValue::from_str(value).map_err(|_| {
            wrong(
                "has a value (not shown) with line breaks or other control characters; remove them",
            )
        })?;
        if parsed == http::header::USER_AGENT {
            made.user_agent = format!("{value} ");
        } else {
            made.lines += &format!("{name}: {value}\r\n");
        }
    }
    Ok(made)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn made(headers: &[(&str, &str)]) -> Result<HeaderLines, Error> {
        let owned: Vec<_> = (headers.iter())
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        header_lines(&owned)
    }

    #[test]
    fn headers_are_formatted_as_lines_of_a_request() {
        let made = made(&[
            ("X-Tenant", " shop "),
            ("user-agent", "shop/1"),
            ("a", ""),
            ("a", "b\tcé"),
        ]);
        assert_eq!(
            made.unwrap(),
            HeaderLines {
                lines: "X-Tenant: shop\r\na: \r\na: b\tcé\r\n".to_string(),
                user_agent: "shop/1 ".to_string(),
            }
        );
    }

    #[test]
    fn headers_that_could_end_a_line_are_errors_without_their_value() {
        for (name, value) in [
            ("X-Key", "secret\r\nInjected: 1"),
            ("X-Key", "secret\n"),
            ("X-Key", "secret\0"),
            ("X-Key", "secret\u{7f}"),
            ("X Key", "secret"),
            ("X-Key:", "secret"),
            ("", "secret"),
            ("X\r\nKey", "secret"),
        ] {
            let error = made(&[(name, value)]).unwrap_err();
            assert!(error.is_config());
            let error = error.to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
            assert!(!error.contains("ecret"), "{error}");
        }
    }

    #[test]
    fn reserved_headers_are_errors() {
        for name in [
            "Content-Length",
            "host",
            "TRANSFER-ENCODING",
            "Connection",
            "Proxy-Authorization",
        ] {
            let error = made(&[(name, "1")]).unwrap_err().to_string();
            assert!(error.contains("is set by this library"), "{error}");
        }
    }
}
