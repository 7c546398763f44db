//! An endpoint's URL, taken apart.

use http::Uri;

use crate::error::Error;

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The full URL, for people.
    pub(crate) url: String,
    /// Name or address, without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What goes into the `Host` header.
    pub(crate) authority: String,
    /// Path and query of the request line.
    pub(crate) path: String,
}

const TRACES: &str = "/v1/traces";

impl Target {
    /// Takes an OTLP base URL apart, as the OTLP exporter specification says: `/v1/traces` is
    /// appended, no port means 80, everything else is kept.
    pub(crate) fn parse(endpoint: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::config(format!(
                "endpoint {endpoint:?} {why}; expected something like \"http://localhost:4318\""
            ))
        };
        if endpoint.contains('@') {
            return Err(Error::config(
                "endpoint has a user name or password (not shown), which OTLP does not use: \
                 remove all up to the @",
            ));
        }
        if endpoint.contains('#') {
            return Err(wrong("has a fragment"));
        }
        if endpoint == "http://" {
            return Err(wrong("has no host"));
        }
        let uri: Uri = endpoint
            .parse()
            .map_err(|error| wrong(&format!("is no URL ({error})")))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(wrong(
                    "needs TLS, the feature `tls`, which this version does not have yet: use an \
                     http endpoint, such as a local agent that forwards over TLS",
                ));
            }
            Some(scheme) => return Err(wrong(&format!("has the unknown scheme {scheme:?}"))),
            None => return Err(wrong("has no scheme")),
        }
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("has no host"));
        }
        let port = port(authority.as_str()).ok_or_else(|| wrong("has an invalid port"))?;
        let path = traces_path(&uri);
        Ok(Self {
            url: format!("http://{authority}{path}"),
            host: host.to_string(),
            port,
            authority: authority.to_string(),
            path,
        })
    }
}

/// The port after the last colon that is not inside an IPv6 address; 80 if there is none.
fn port(authority: &str) -> Option<u16> {
    let after_host = authority
        .rfind(']')
        .map_or(authority, |at| &authority[at + 1..]);
    match after_host.rsplit_once(':') {
        None => Some(80),
        Some((_, port)) => port.parse().ok().filter(|port| *port > 0),
    }
}

fn traces_path(uri: &Uri) -> String {
    let base = uri.path().trim_end_matches('/');
    let path = if base.ends_with(TRACES) {
        base.to_string()
    } else {
        format!("{base}{TRACES}")
    };
    match uri.query() {
        None => path,
        Some(query) => format!("{path}?{query}"),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (endpoint, host, port, path) in [
            ("http://localhost:4318", "localhost", 4318, "/v1/traces"),
            ("http://localhost:4318/", "localhost", 4318, "/v1/traces"),
            ("http://10.0.0.1", "10.0.0.1", 80, "/v1/traces"),
            ("http://[::1]:9", "::1", 9, "/v1/traces"),
            ("http://[::1]", "::1", 80, "/v1/traces"),
            ("http://h/otlp/", "h", 80, "/otlp/v1/traces"),
            ("http://h/v1/traces", "h", 80, "/v1/traces"),
            ("http://h/a?key=b", "h", 80, "/a/v1/traces?key=b"),
        ] {
            let target = Target::parse(endpoint).unwrap();
            assert_eq!(
                (&*target.host, target.port, &*target.path),
                (host, port, path)
            );
        }
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_the_reason() {
        for (endpoint, reason) in [
            ("", "is no URL"),
            ("localhost:4318", "has no"),
            ("http://", "has no host"),
            ("http://h/#here", "has a fragment"),
            ("http://:4318", "has no host"),
            ("http://h:0", "invalid port"),
            ("http://h:99999", "port"),
            ("http://h:x", "port"),
            ("http://h h", "is no URL"),
            ("ftp://h", "unknown scheme \"ftp\""),
            ("https://h:4318", "feature `tls`"),
            ("/v1/traces", "has no scheme"),
        ] {
            let error = Target::parse(endpoint).unwrap_err().to_string();
            assert!(error.contains(reason), "{endpoint}: {error}");
            assert!(error.contains(&format!("{endpoint:?}")), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let error = Target::parse("http://user:secret@h")
            .unwrap_err()
            .to_string();
        assert!(error.contains("user name") && !error.contains("secret"));
    }
}
