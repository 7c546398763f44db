//! Delivery through an HTTP proxy: requests to `http` endpoints, tunnels to `https` ones.

use std::thread;

use common::PATIENCE;
use otlp_collector::config::TlsOptions;
use otlp_collector::stats::EndpointState;
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, EndpointOptions, Span};

use common::ClosedPort;
use common::certificates::{Files, authority, identity};
use common::relay::Proxy;
use common::script::{ScriptedServer, Step};
use common::tls_server::Server;

fn config(endpoint: &str, proxy: String) -> Config {
    Config {
        endpoint: endpoint.to_string(),
        endpoint_options: EndpointOptions {
            proxy: Some(proxy),
            headers: vec![("X-Tenant".to_string(), "shop".to_string())],
            ..EndpointOptions::default()
        },
        batch_size: 1,
        ..Config::default()
    }
}

#[test]
fn http_requests_go_through_the_proxy_which_resolves_the_name() {
    let receiver = Receiver::start().unwrap();
    let proxy = Proxy::start([("receiver.invalid", receiver.address())]);
    let url = format!("http://user:pass%20word@{}", proxy.address);
    let collector = Collector::new(config("http://receiver.invalid:4318", url)).unwrap();
    for _ in 0..3 {
        collector.collect(Span::new("span")).unwrap();
        collector.flush(PATIENCE).unwrap();
    }
    assert_eq!(collector.shutdown().unwrap().delivered(), 3);
    let heads = proxy.heads();
    assert_eq!(heads.len(), 3);
    for head in heads {
        assert!(
            head.starts_with("POST http://receiver.invalid:4318/v1/traces HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(head.contains("\r\nHost: receiver.invalid:4318\r\n"));
        assert!(head.contains("\r\nProxy-Authorization: Basic dXNlcjpwYXNzIHdvcmQ=\r\n"));
    }
    let requests = receiver.requests();
    assert!(
        requests
            .iter()
            .all(|r| r.header("x-tenant") == Some("shop"))
    );
    assert_eq!(receiver.counts().spans, 3);
}

#[test]
fn https_goes_through_a_tunnel_that_hides_the_request_from_the_proxy() {
    let issuer = authority();
    let server = Server::start(&identity(&issuer, "receiver.invalid", |_| {}));
    let address = ([127, 0, 0, 1], server.port).into();
    let proxy = Proxy::start([("receiver.invalid", address)]);
    let files = Files::new();
    let mut config = config(
        &server.url("receiver.invalid"),
        format!("http://user:secret@{}", proxy.address),
    );
    config.endpoint_options.tls = TlsOptions {
        ca_file: Some(files.write("ca.pem", &issuer.pem())),
        ..TlsOptions::default()
    };
    let collector = Collector::new(config).unwrap();
    for _ in 0..3 {
        collector.collect(Span::new("span")).unwrap();
        collector.flush(PATIENCE).unwrap();
    }
    assert_eq!(collector.shutdown().unwrap().delivered(), 3);
    let heads = proxy.heads();
    let authority = format!("receiver.invalid:{}", server.port);
    assert_eq!(
        heads,
        [format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\
             Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n"
        )]
    );
    let requests = server.receiver.requests();
    assert!(
        requests
            .iter()
            .all(|r| r.header("proxy-authorization").is_none())
    );
    assert!(
        requests
            .iter()
            .all(|r| r.header("x-tenant") == Some("shop"))
    );
}

/// Waits for the reason why the endpoint is not connected.
fn reported_reason(collector: &Collector) -> String {
    loop {
        let health = collector.health();
        let endpoint = &health.destinations[0].endpoints[0];
        if let Some(reason) = &endpoint.reason {
            assert_eq!(endpoint.state, EndpointState::BackingOff, "{endpoint}");
            return reason.clone();
        }
        thread::yield_now();
    }
}

/// All failures of a tunnel, and the reasons that are reported.
#[test]
fn a_failed_tunnel_is_reported_and_retried() {
    let answer = |text: &str| Step::Write(text.as_bytes().to_vec());
    let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(70_000));
    let cases = [
        (
            vec![
                Step::ReadHead,
                answer("HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n"),
            ],
            "responded with 407: check the user and password of proxy",
        ),
        (
            vec![Step::ReadHead, answer("HTTP/1.1 403 No\r\n\r\nbecause")],
            "responded with 403",
        ),
        (
            vec![
                Step::ReadHead,
                answer("HTTP/1.1 100 Wait\r\n\r\nHTTP/1.0 502 Gone\r\n\r\n"),
            ],
            "responded with 502",
        ),
        (
            vec![Step::ReadHead, answer("SSH-2.0-OpenSSH\r\n\r\n")],
            "not HTTP/1.1",
        ),
        (
            vec![Step::ReadHead, answer("HTTP/1.1 200 OK\r\n\r\nmore")],
            "sent bytes after its response",
        ),
        (
            vec![Step::ReadHead, answer(&long), Step::Drain],
            "more than 64 KiB",
        ),
        (
            vec![
                Step::ReadHead,
                answer(&"HTTP/1.1 100 Wait\r\n\r\n".repeat(10_000)),
                Step::Drain,
            ],
            "more than 64 KiB",
        ),
        (
            vec![Step::ReadHead],
            "closed the connection without a response",
        ),
        // The end of the stream or a reset, whichever is seen first.
        (vec![Step::ReadHead, Step::Reset], ""),
        // Covered by the connect timeout.
        (vec![Step::ReadHead, Step::Stall], "not connected in time"),
        // A tunnel, sent byte by byte, without a server behind it.
        (
            vec![
                Step::ReadHead,
                Step::Trickle(b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n".to_vec(), 1),
                Step::HalfClose,
            ],
            "closed the connection in the TLS handshake",
        ),
    ];
    for (script, reason) in cases {
        let proxy = ScriptedServer::start(vec![script; 100]);
        let address = proxy.endpoint();
        let mut config = config("https://receiver.invalid", address.clone());
        if reason == "not connected in time" {
            config.endpoint_options.connect_timeout_ms = 100;
        }
        config.shutdown_timeout_ms = 1;
        let collector = Collector::new(config).unwrap();
        collector.collect(Span::new("span")).unwrap();
        let reported = reported_reason(&collector);
        let place = address.trim_start_matches("http://");
        let through = format!("cannot connect through the proxy {place}: ");
        assert!(
            reported.starts_with(&through) && reported.contains(reason),
            "{reason}: {reported}"
        );
        let ledger = collector.shutdown().unwrap();
        assert_eq!((ledger.delivered(), ledger.dropped()), (0, 1));
    }
}

#[test]
fn errors_of_a_dead_or_unknown_proxy_contain_its_name() {
    let closed = ClosedPort::new();
    let gone = closed.endpoint();
    for (proxy, reason) in [
        (
            gone.clone(),
            format!("cannot connect through the proxy {}: ", &gone[7..]),
        ),
        (
            "http://proxy.invalid:3128".to_string(),
            "cannot resolve \"proxy.invalid\"".to_string(),
        ),
    ] {
        let mut config = config("http://127.0.0.1:1", proxy);
        config.shutdown_timeout_ms = 1;
        let collector = Collector::new(config).unwrap();
        collector.collect(Span::new("span")).unwrap();
        let reported = reported_reason(&collector);
        assert!(reported.starts_with(&reason), "{reason}: {reported}");
    }
}

#[test]
fn credentials_echoed_by_the_proxy_are_not_shown() {
    let body = "who is Basic dXNlcjpzZWNyZXQtNDI=?";
    let answer = format!(
        "HTTP/1.1 401 Who?\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let script = vec![Step::ReadRequest, Step::Write(answer.into_bytes())];
    let proxy = ScriptedServer::start([script]);
    let url = proxy
        .endpoint()
        .replace("http://", "http://user:secret-42@");
    let config = config("http://receiver.invalid", url);
    for shown in [config.to_string(), format!("{config:?}")] {
        assert!(shown.contains("(not shown)@127.0.0.1"), "{shown}");
        assert!(!shown.contains("secret-42"), "{shown}");
    }
    let collector = Collector::new(config).unwrap();
    collector.collect(Span::new("span")).unwrap();
    collector.flush(PATIENCE).unwrap();
    let reported = collector.stats().network.last_error.unwrap();
    assert!(
        reported.contains("401") && reported.contains("(not shown)"),
        "{reported}"
    );
    assert!(!reported.contains("dXNlcjpz"), "{reported}");
    assert_eq!(collector.shutdown().unwrap().rejected(), 1);
}

#[test]
fn a_407_is_attributed_to_the_proxy_not_to_the_endpoint() {
    let answer = b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n".to_vec();
    let proxy = ScriptedServer::start([vec![Step::ReadRequest, Step::Write(answer)]]);
    let collector = Collector::new(config("http://receiver.invalid", proxy.endpoint())).unwrap();
    collector.collect(Span::new("span")).unwrap();
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!((ledger.delivered(), ledger.rejected()), (1, 0), "{ledger}");
    let reported = collector.stats().network.last_error.unwrap();
    assert!(
        reported.contains("the proxy responded with 407"),
        "{reported}"
    );
}
