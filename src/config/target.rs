//! The parsed URL of an endpoint.

use http::Uri;
use http::uri::PathAndQuery;
use percent_encoding::{CONTROLS, utf8_percent_encode};

use crate::config::redaction::without_secrets;
use crate::error::Error;

/// The parsed URL that requests are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The URL as it is shown: without its query, which may contain secrets.
    pub(crate) url: String,
    pub(crate) is_https: bool,
    /// Name or address, without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Value of the `Host` header.
    pub(crate) authority: String,
    /// Path and query of the request line.
    pub(crate) path: String,
}

const NO_SCHEME: &str = "has no scheme";
const FRAGMENT: &str = "has a fragment";
const BLANKS: &str = "contains blanks";
const PORT: &str = "has an invalid port";

/// Returns the advice for a URL that is unusable for this reason.
fn remedy(why: &str) -> &'static str {
    match why {
        FRAGMENT => "remove the # and all after it",
        BLANKS => "remove them, or write %20 in a path",
        PORT => "it must be a number from 1 to 65535",
        _ => "write a URL such as http://localhost:4318",
    }
}

impl Target {
    /// Parses a base URL by the OTLP exporter specification: `path` is appended unless the URL ends with
    /// it, the default port is 80 or 443, everything else is kept.
    pub(crate) fn parse(endpoint: &str, path: &str) -> Result<Self, Error> {
        let shown = without_secrets(endpoint);
        let wrong = |why: &str| {
            let remedy = remedy(why);
            Error::config(format!("endpoint {shown:?} {why}; {remedy}"))
        };
        // At any place: in a malformed URL, too, the text before an @ may be a password.
        if endpoint.contains('@') {
            return Err(Error::config(
                "endpoint has a user name or password (not shown), which OTLP does not use: \
                 remove all up to the @ (in a path or query, write %40)",
            ));
        }
        if endpoint == "http://" || endpoint == "https://" {
            return Err(wrong("has no host"));
        }
        let mut target = Self::of_url(endpoint).map_err(|why| {
            if why == NO_SCHEME && !endpoint.starts_with('/') {
                let scheme = if endpoint.ends_with(":443") {
                    "https"
                } else {
                    "http"
                };
                let message = format!("endpoint {shown:?} {why}; write {scheme}://{shown}");
                return Error::config(message);
            }
            wrong(&why)
        })?;
        let wrong_path = |why| Error::config(format!("endpoint {shown:?} {why}"));
        target.append(path).map_err(wrong_path)?;
        Ok(target)
    }

    /// Parses an absolute URL; the error is a predicate.
    pub(super) fn of_url(url: &str) -> Result<Self, String> {
        if url.contains('#') {
            return Err(FRAGMENT.to_string());
        }
        if url.contains(char::is_whitespace) {
            return Err(BLANKS.to_string());
        }
        if let Some((_, rest)) = url.split_once("://") {
            check_port(rest.split(['/', '?']).next().unwrap_or_default())?;
        }
        let uri: Uri = url
            .parse()
            .map_err(|error| format!("is not a URL ({error})"))?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(scheme) => return Err(format!("has the unknown scheme {scheme:?}")),
            None => return Err(NO_SCHEME.to_string()),
        };
        let authority = uri.authority().ok_or("has no host")?;
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("has no host".to_string());
        }
        let default_port = if is_https { 443 } else { 80 };
        let port = port(authority.as_str(), default_port).ok_or(PORT)?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut target = Self {
            url: String::new(),
            is_https,
            host: host.to_string(),
            port,
            authority: authority.to_string(),
            path: visible(path),
        };
        target.write_url();
        Ok(target)
    }

    /// Appends `path` before the query, unless the URL's path ends with it.
    fn append(&mut self, path: &str) -> Result<(), String> {
        let (base, query) = match self.path.split_once('?') {
            Some((base, query)) => (base, format!("?{query}")),
            None => (&*self.path, String::new()),
        };
        if path.is_empty() {
            return Ok(());
        }
        let path = checked_path(path)?;
        let base = base.trim_end_matches('/');
        let appended = if base.ends_with(&path) { "" } else { &path };
        self.path = format!("{base}{appended}{query}");
        self.write_url();
        Ok(())
    }

    fn write_url(&mut self) {
        let scheme = if self.is_https { "https" } else { "http" };
        let url = format!("{scheme}://{}{}", self.authority, self.path);
        self.url = without_secrets(&url);
    }

    /// Resolves a redirect's `Location` (RFC 9110, 10.2.2); the error is a predicate.
    pub(crate) fn redirect(&self, location: &str) -> Result<Self, String> {
        // A fragment is for the reader of the response, not for its server.
        let location = location.split('#').next().unwrap_or_default();
        let scheme = if self.is_https { "https" } else { "http" };
        let url = if location.is_empty() {
            return Err("is empty or missing".to_string());
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{}{location}", self.authority)
        } else if has_scheme(location) {
            location.to_string()
        } else {
            let path = self.path.split('?').next().unwrap_or_default();
            let kept = match (location.starts_with('?'), path.rfind('/')) {
                (true, _) => path,
                (false, Some(end)) => &path[..=end],
                (false, None) => "/",
            };
            format!("{scheme}://{}{kept}{location}", self.authority)
        };
        if has_user(&url) {
            return Err(
                "has a user name or password (not shown), which is not sent: redirect without it"
                    .to_string(),
            );
        }
        let target = Self::of_url(&url)
            .map_err(|why| format!("{why}: \"{}\"", without_secrets(location)))?;
        if self.is_https && !target.is_https {
            return Err("leads from https to http".to_string());
        }
        Ok(target)
    }

    /// Returns the target of `CONNECT`: the port is mandatory (RFC 9110, 9.3.6).
    #[cfg(feature = "tls")]
    pub(crate) fn host_and_port(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    /// Returns whether both have the same origin, so that secrets for one may be sent to the other.
    pub(crate) fn has_origin_of(&self, other: &Self) -> bool {
        self.is_https == other.is_https
            && self.port == other.port
            && self.host.eq_ignore_ascii_case(&other.host)
    }
}

/// Returns a path with its query as they are sent; the error is a predicate.
fn checked_path(path: &str) -> Result<String, String> {
    let wrong = |why| {
        let path = without_secrets(path);
        Err(format!("cannot have the path {path:?}, which {why}"))
    };
    if !path.starts_with('/') {
        return Err(format!(
            "needs a path that starts with a slash; write \"/{}\"",
            without_secrets(path)
        ));
    }
    // The parser stops at a fragment and accepts anything after it.
    if path.contains('#') {
        return wrong("has a fragment; remove the # and all after it");
    }
    match PathAndQuery::try_from(path) {
        Ok(parsed) => Ok(visible(parsed.as_str())),
        Err(_) => wrong("has characters that a URL cannot contain; percent-encode them"),
    }
}

/// Percent-encodes characters that a request line cannot have and that the parser accepts: those
/// beyond ASCII.
fn visible(path: &str) -> String {
    utf8_percent_encode(path, CONTROLS).to_string()
}

/// Returns whether a reference begins with a scheme (RFC 3986, 4.2 and 3.1).
fn has_scheme(reference: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let scheme = reference.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.bytes().all(is_part))
}

/// Returns whether a user name or password precedes the host.
fn has_user(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?', '#']).next();
    authority.is_some_and(|authority| authority.contains('@'))
}

/// Checks the port after a host; the error is a predicate.
fn check_port(authority: &str) -> Result<(), String> {
    match port(authority, 1) {
        Some(_) => Ok(()),
        None => Err(PORT.to_string()),
    }
}

/// Returns the port after the last colon that is not inside an IPv6 address.
fn port(authority: &str, default: u16) -> Option<u16> {
    let after_host = authority
        .rfind(']')
        .map_or(authority, |at| &authority[at + 1..]);
    match after_host.rsplit_once(':') {
        None => Some(default),
        Some((_, port)) => port.parse().ok().filter(|port| *port > 0),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const TRACES: &str = "/v1/traces";

    #[test]
    fn urls_are_parsed() {
        for (endpoint, host, port, path) in [
            ("http://localhost:4318", "localhost", 4318, "/v1/traces"),
            ("http://localhost:4318/", "localhost", 4318, "/v1/traces"),
            ("http://10.0.0.1", "10.0.0.1", 80, "/v1/traces"),
            ("http://[::1]:9", "::1", 9, "/v1/traces"),
            ("http://[::1]", "::1", 80, "/v1/traces"),
            ("http://h/otlp/", "h", 80, "/otlp/v1/traces"),
            ("http://h/v1/traces", "h", 80, "/v1/traces"),
            ("http://h/a?key=b", "h", 80, "/a/v1/traces?key=b"),
            ("https://h", "h", 443, "/v1/traces"),
            ("HTTPS://h:1/", "h", 1, "/v1/traces"),
        ] {
            let target = Target::parse(endpoint, TRACES).unwrap();
            assert_eq!(
                (&*target.host, target.port, &*target.path),
                (host, port, path)
            );
        }
    }

    #[test]
    fn invalid_endpoints_are_errors_with_the_reason() {
        for (endpoint, reason) in [
            ("", "is not a URL"),
            ("localhost:4318", "has no"),
            ("http://", "has no host"),
            ("http://h/#here", "has a fragment; remove the #"),
            ("http://:4318", "has no host"),
            ("http://h:0", "invalid port"),
            (
                "http://h:99999",
                "port; it must be a number from 1 to 65535",
            ),
            ("http://h:x", "invalid port"),
            ("http://h:x/path", "invalid port"),
            ("http://h h", "contains blanks; remove them"),
            ("http://h:1/a b", "%20"),
            ("ftp://h", "unknown scheme \"ftp\""),
            ("/v1/traces", "has no scheme"),
        ] {
            let error = Target::parse(endpoint, TRACES).unwrap_err().to_string();
            assert!(error.contains(reason), "{endpoint}: {error}");
            assert!(error.contains(&format!("{endpoint:?}")), "{error}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let error = Target::parse("http://user:secret@h", TRACES)
            .unwrap_err()
            .to_string();
        assert!(error.contains("user name") && !error.contains("secret"));
    }

    #[test]
    fn without_a_path_to_append_the_url_is_used_as_it_is() {
        for (endpoint, path) in [
            ("http://h", "/"),
            ("http://h/", "/"),
            ("http://h/in/?a", "/in/?a"),
        ] {
            assert_eq!(Target::parse(endpoint, "").unwrap().path, path);
        }
        let error = Target::parse("http://h", "v1").unwrap_err().to_string();
        assert!(error.ends_with("; write \"/v1\""), "{error}");
    }

    #[test]
    fn a_path_that_could_end_the_request_line_is_an_error() {
        for (path, reason) in [
            ("/v1/traces#\r\nX-Injected: yes", "has a fragment"),
            ("/v1/traces#", "has a fragment"),
            ("/v1/traces\r\nX-Injected: yes", "percent-encode"),
            ("/v1/traces HTTP/1.1", "percent-encode"),
            ("/v1\0", "percent-encode"),
        ] {
            let error = Target::parse("http://h", path).unwrap_err().to_string();
            assert!(error.contains(reason), "{path:?}: {error}");
        }
    }

    #[test]
    fn characters_beyond_ascii_are_percent_encoded() {
        let target = Target::parse("http://h/\u{e9}?q=\u{df}", "/v\u{fc}").unwrap();
        assert_eq!(target.path, "/%C3%A9/v%C3%BC?q=%C3%9F");
        let moved = target.redirect("/caf\u{e9}").unwrap();
        assert_eq!(moved.path, "/caf%C3%A9");
    }

    #[test]
    fn locations_of_redirects_are_absolute_or_relative() {
        let from = Target::parse("http://h:1/a", TRACES).unwrap();
        for (location, url) in [
            ("http://other/x", "http://other/x"),
            ("https://h:1/x#part", "https://h:1/x"),
            ("//other:2/x?y", "http://other:2/x?(not shown)"),
            ("/x", "http://h:1/x"),
            ("x/y", "http://h:1/a/v1/x/y"),
            ("x?to=http://other/", "http://h:1/a/v1/x?(not shown)"),
            ("?q=1", "http://h:1/a/v1/traces?(not shown)"),
        ] {
            let to = from.redirect(location).unwrap();
            assert_eq!(to.url, url);
            let same = !location.contains("//") || location.starts_with('x');
            assert_eq!(from.has_origin_of(&to), same, "{location}");
        }
        for wrong in [
            "",
            "#x",
            "ftp://h",
            "http:/x",
            "http://",
            "http://a@h/",
            "http://h:0/",
            " ",
        ] {
            assert!(from.redirect(wrong).is_err(), "{wrong}");
        }
        let secure = Target::parse("https://h", TRACES).unwrap();
        assert!(secure.redirect("http://h/").unwrap_err().contains("https"));
        assert!(secure.redirect("//h/").unwrap().is_https);
    }
}
