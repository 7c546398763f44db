//! Heads of requests under random configurations: for any strings in the configuration, a server that
//! parses the head finds exactly one request with the configured headers.
//!
//! `PROPTEST_CASES` sets the number of configurations.

use std::sync::Arc;

use proptest::prelude::*;

use crate::config::{
    Compression, Config, EndpointOptions, EndpointSettings, MetricsOptions, Settings, Target,
};
use crate::exporter::connection::outgoing::Outgoing;
use crate::exporter::request::Request;
#[cfg(feature = "tls")]
use crate::exporter::transport::connect_head;
use crate::span::attribute::KeyValue;
use crate::span::scope::InstrumentationScope;

/// Pieces of strings that could change the meaning of the bytes on the wire.
const PIECES: [&str; 24] = [
    "\r\n",
    "\r",
    "\n",
    "\0",
    " ",
    "\t",
    "\u{7f}",
    "\u{85}",
    "é",
    "#",
    "?",
    "%",
    "%0d%0a",
    "@",
    ":",
    "//",
    "/",
    "[",
    "]",
    "\\",
    "\"",
    "X-Injected: yes",
    " HTTP/1.1",
    "a",
];

/// Returns usable text with up to two pieces inserted anywhere.
fn near(usable: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(&PIECES[..]).prop_map(str::to_string),
        any::<char>().prop_map(String::from),
    ];
    let some = prop::collection::vec((any::<prop::sample::Index>(), piece), 1..3);
    // Mostly none, so that many configurations are accepted as a whole.
    let pieces = prop_oneof![4 => Just(Vec::new()), 1 => some];
    (prop::sample::select(usable), pieces).prop_map(|(usable, pieces)| {
        let mut text: Vec<char> = usable.chars().collect();
        for (at, piece) in pieces {
            let at = at.index(text.len() + 1);
            text.splice(at..at, piece.chars());
        }
        text.into_iter().collect()
    })
}

fn any_headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = near(&["X-Tenant", "Authorization", "User-Agent", "Host", "TE", ""]);
    let value = near(&["shop", "Bearer 123", "", "a, b"]);
    prop::collection::vec((name, value), 0..4)
}

fn any_config() -> impl Strategy<Value = (Config, String)> {
    let url = near(&[
        "http://h:4318",
        "http://h/in?a=b",
        "http://[::1]:1/v1/traces",
        "HTTPS://h.example/",
        "http://10.0.0.1/%7e/",
    ]);
    let path = near(&["/v1/traces", "/v1/metrics", "/", "/a?b=c", ""]);
    let proxy = near(&["http://p:3128", "http://user:pass%20word@[::1]:1/"]);
    let location = near(&["/x", "y/z", "http://other/x?y", "//other:2", "https://h/"]);
    let elsewhere = near(&["shop"]);
    let endpoint = (url, path, any_headers(), prop::option::of(proxy));
    (endpoint, location, elsewhere).prop_map(|((url, path, headers, proxy), location, text)| {
        let options = EndpointOptions {
            path,
            headers,
            proxy,
            ..EndpointOptions::default()
        };
        let mut metrics = MetricsOptions::new(url.clone());
        metrics.endpoint.options = options.clone();
        let config = Config {
            endpoint: url,
            endpoint_options: options,
            metrics: Some(metrics),
            service_name: text.clone(),
            resource_attributes: vec![KeyValue::new(format!("k{text}"), text.clone())],
            resource_schema_url: text,
            ..Config::default()
        };
        (config, location)
    })
}

/// Returns the header lines of the options, except `User-Agent`.
fn own_headers(options: &EndpointOptions) -> Vec<(String, String)> {
    let own = options.headers.iter();
    let own = own.filter(|(name, _)| !name.eq_ignore_ascii_case("user-agent"));
    own.map(|(name, value)| (name.clone(), value.trim_matches([' ', '\t']).to_string()))
        .collect()
}

/// Parses the head as exactly one request. Returns its target and its headers.
fn parse<'a>(head: &'a [u8], method: &str) -> (&'a str, Vec<(String, String)>) {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let shown = String::from_utf8_lossy(head);
    let parsed = request.parse(head);
    assert_eq!(
        parsed,
        Ok(httparse::Status::Complete(head.len())),
        "{shown:?}"
    );
    assert_eq!((request.method, request.version), (Some(method), Some(1)));
    let lines = head.split(|byte| *byte == b'\n').count();
    assert_eq!(lines, request.headers.len() + 3, "{shown:?}");
    let headers = request.headers.iter().map(|header| {
        let value = std::str::from_utf8(header.value).unwrap();
        (header.name.to_string(), value.to_string())
    });
    (request.path.unwrap(), headers.collect())
}

/// Returns whether the text can be part of a request line: visible ASCII characters (RFC 9112, 3).
fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_request(target: &Target, settings: &EndpointSettings, options: &EndpointOptions) {
    let request = Arc::new(Request::of_body(bytes::Bytes::from_static(b"body")));
    let head = Outgoing::new(request, Compression::None).head(target, settings);
    let (path, headers) = parse(&head, "POST");
    assert!(is_visible(path) && !path.contains('#'), "{path:?}");
    assert!(path.ends_with(&target.path), "{path:?}");
    let mut expected = vec![
        ("Host".to_string(), Some(target.authority.clone())),
        ("User-Agent".to_string(), None),
        ("Content-Type".to_string(), None),
        ("Content-Length".to_string(), Some("4".to_string())),
    ];
    if target.has_origin_of(&settings.target) {
        let own = own_headers(options);
        expected.extend(own.into_iter().map(|(name, value)| (name, Some(value))));
    }
    if let Some(proxy) = settings.proxy.as_ref().filter(|_| !target.is_https) {
        let authorization = proxy.authorization.clone();
        expected
            .extend(authorization.map(|value| ("Proxy-Authorization".to_string(), Some(value))));
    }
    let found: Vec<_> = (headers.into_iter().zip(&expected))
        .map(|((name, value), (_, expected))| (name, expected.as_ref().map(|_| value)))
        .collect();
    assert_eq!(found, expected);
}

#[cfg(feature = "tls")]
fn check_tunnel(target: &Target, settings: &EndpointSettings) {
    let Some(proxy) = &settings.proxy else {
        return;
    };
    let head = connect_head(proxy, target);
    let (path, headers) = parse(&head, "CONNECT");
    assert_eq!(path, target.host_and_port());
    let authorization = proxy.authorization.clone();
    let expected: Vec<_> = [("Host".to_string(), target.host_and_port())]
        .into_iter()
        .chain(authorization.map(|value| ("Proxy-Authorization".to_string(), value)))
        .collect();
    assert_eq!(headers, expected);
}

proptest! {
    #[test]
    fn a_configuration_that_is_accepted_sends_one_request_with_its_headers(
        (config, location) in any_config()
    ) {
        let Ok(settings) = Settings::new(&config) else {
            return Ok(());
        };
        let traces = &settings.destinations[0].endpoints[0];
        let metrics = &settings.metrics.as_ref().expect("they are configured").endpoint;
        for endpoint in [traces, metrics] {
            let redirected = endpoint.target.redirect(&location).ok();
            for target in [Some((*endpoint.target).clone()), redirected].iter().flatten() {
                check_request(target, endpoint, &config.endpoint_options);
                #[cfg(feature = "tls")]
                check_tunnel(target, endpoint);
            }
        }
        let scope = InstrumentationScope::new(config.service_name.clone());
        prop_assert!(settings.check_scope(&scope).is_ok());
    }
}
