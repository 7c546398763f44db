//! A user's own request headers, checked and made into lines.

use http::{HeaderName, HeaderValue};

use crate::error::Error;

/// What users' headers become in a request's head.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HeaderLines {
    /// All but the user agent: `Name: value` and CRLF each.
    pub(super) lines: String,
    /// The user agent and a space, or nothing.
    pub(super) user_agent: String,
}

/// Headers that say how the message is to be read, or that are about the connection.
const OURS: [&str; 14] = [
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

/// Checks headers: names are tokens, values have no control characters but tabs (RFC 9110, 5.5),
/// so that none can end its line. Errors name the header and never show its value.
pub(super) fn header_lines(headers: &[(String, String)]) -> Result<HeaderLines, Error> {
    let mut made = HeaderLines::default();
    for (name, value) in headers {
        let wrong =
            |why: &str| Error::config(format!("the header {name:?} of endpoint_options {why}"));
        let parsed = HeaderName::try_from(name)
            .map_err(|_| wrong("has a name that HTTP does not allow: use letters, digits and -"))?;
        if OURS.contains(&parsed.as_str()) {
            return Err(wrong("is set by this library: leave it out"));
        }
        let value = value.trim_matches([' ', '\t']);
        HeaderValue::from_str(value).map_err(|_| {
            wrong("has a value (not shown) with line breaks or other control characters, which HTTP does not allow: remove them")
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
    fn lines_are_made_of_headers() {
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
    fn what_could_end_a_line_is_refused_and_values_are_not_shown() {
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
    fn headers_of_the_message_itself_are_refused() {
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
