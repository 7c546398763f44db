//! The parsed URL of an HTTP proxy.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use crate::config::redaction::without_secrets;
use crate::config::target::Target;
use crate::error::Error;

/// The proxy that connections are made to instead of the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Value of `Proxy-Authorization` (RFC 9110, 11.7.1).
    pub(crate) authorization: Option<String>,
}

impl Proxy {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::config(format!(
                "proxy {:?} {why}; write a URL such as http://proxy.internal:3128",
                without_secrets(url)
            ))
        };
        let (scheme, rest) = url
            .split_once("://")
            .ok_or_else(|| wrong("has no scheme"))?;
        if scheme != "http" {
            return Err(wrong("is not an http proxy; no others are supported"));
        }
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let target = Target::of_url(&format!("http://{address}")).map_err(|why| wrong(&why))?;
        if target.path != "/" {
            return Err(wrong("has a path or a query"));
        }
        Ok(Self {
            host: target.host,
            port: target.port,
            authorization: user.map(basic),
        })
    }

    /// Returns a line of a request's head; empty without credentials.
    pub(crate) fn authorization_line(&self) -> String {
        let value = self.authorization.as_ref();
        value.map_or_else(String::new, |value| {
            format!("Proxy-Authorization: {value}\r\n")
        })
    }
}

/// Encodes the user part of a URL for the scheme `Basic` (RFC 7617).
fn basic(user: &str) -> String {
    let mut credentials: Vec<u8> = percent_decode_str(user).collect();
    if !user.contains(':') {
        credentials.push(b':');
    }
    format!("Basic {}", STANDARD.encode(credentials))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_url_is_parsed_and_its_user_encoded() {
        for (url, host, port, authorization) in [
            ("http://proxy.internal:3128", "proxy.internal", 3128, None),
            ("http://[::1]:8080/", "::1", 8080, None),
            ("http://proxy", "proxy", 80, None),
            // The example of RFC 7617, 2.
            (
                "http://Aladdin:open%20sesame@proxy:1",
                "proxy",
                1,
                Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ),
            ("http://a@b@proxy:1", "proxy", 1, Some("Basic YUBiOg==")),
        ] {
            let proxy = Proxy::parse(url).unwrap();
            assert_eq!((&*proxy.host, proxy.port), (host, port), "{url}");
            assert_eq!(proxy.authorization.as_deref(), authorization, "{url}");
        }
    }

    #[test]
    fn an_unusable_proxy_url_is_an_error_without_its_password() {
        for url in [
            "",
            "proxy:3128",
            "https://user:hidden@proxy:3128",
            "socks5://user:hidden@proxy:1080",
            "http://",
            "http://user:hidden@",
            "http://user:hidden@proxy:0",
            "http://user:hidden@proxy:1/path",
            "http://user:hidden@proxy:1?a=hidden",
            "http://user:hidden@pro xy",
            "http://proxy\r\nInjected: hidden",
        ] {
            let error = Proxy::parse(url).unwrap_err();
            assert!(error.is_config());
            let error = error.to_string();
            assert!(error.starts_with("proxy \""), "{error}");
            assert!(url.is_empty() || !error.contains("user:hidden"), "{error}");
        }
    }
}
