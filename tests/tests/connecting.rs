//! Connecting to the endpoint: names, several addresses, connections that open and close.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::PATIENCE;
use otlp_collector::testing::{Answer, Receiver};
use otlp_collector::{Collector, Config, EndpointOptions, Span};

fn collector(endpoint: String) -> Collector {
    Collector::new(Config {
        endpoint,
        endpoint_options: EndpointOptions {
            retry_initial_ms: 1,
            retry_max_ms: 20,
            ..EndpointOptions::default()
        },
        ..Config::default()
    })
    .unwrap()
}

#[test]
fn all_addresses_of_a_name_are_tried() {
    let receiver = Receiver::start().unwrap();
    // Where localhost is also ::1, no server listens there.
    let endpoint = format!("http://localhost:{}", receiver.address().port());
    let collector = collector(endpoint);
    collector.collect(Span::new("by name")).unwrap();
    collector.flush(PATIENCE).unwrap();
    let port = receiver.address().port();
    let host = format!("localhost:{port}");
    assert_eq!(receiver.requests()[0].header("host"), Some(&*host));
}

#[test]
fn base_path_and_query_are_kept() {
    let receiver = Receiver::start().unwrap();
    let collector = collector(format!("{}/otlp/?tenant=7", receiver.endpoint()));
    collector.collect(Span::new("span")).unwrap();
    collector.flush(PATIENCE).unwrap();
    assert_eq!(receiver.requests()[0].path, "/otlp/v1/traces?tenant=7");
}

#[test]
fn requests_have_the_head_that_the_specification_requires() {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        endpoint_options: EndpointOptions {
            headers: vec![
                ("X-Tenant".to_string(), "shop".to_string()),
                ("User-Agent".to_string(), "shop/1.2".to_string()),
            ],
            ..EndpointOptions::default()
        },
        ..Config::default()
    })
    .unwrap();
    collector.collect(Span::new("span")).unwrap();
    collector.flush(PATIENCE).unwrap();
    let request = receiver.requests().remove(0);
    assert_eq!(request.path, "/v1/traces");
    let host = receiver.address().to_string();
    let version = env!("CARGO_PKG_VERSION");
    let agent = format!("shop/1.2 otlp-collector/{version} OTel-OTLP-Exporter-Rust/{version}");
    for (name, value) in [
        ("host", Some(&*host)),
        ("content-type", Some("application/x-protobuf")),
        ("user-agent", Some(&agent)),
        ("x-tenant", Some("shop")),
        // Never `identity`, which the OpenTelemetry Collector answers with 400.
        ("content-encoding", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
}

#[test]
fn no_request_is_sent_without_spans() {
    let receiver = Receiver::start().unwrap();
    let collector = collector(receiver.endpoint());
    let recorder = collector.recorder().unwrap();
    collector.flush(PATIENCE).unwrap();
    drop(recorder);
    collector.shutdown().unwrap();
    assert_eq!(receiver.counts().connections, 0);
}

#[test]
fn an_ipv6_address_can_be_an_endpoint() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        // This machine has no IPv6.
        return;
    };
    let collector = collector(format!("http://{}", listener.local_addr().unwrap()));
    let serving = serve(
        listener,
        vec![b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
    );
    collector.collect(Span::new("span")).unwrap();
    serving.recv_timeout(PATIENCE).unwrap();
    assert_eq!(collector.shutdown().unwrap().delivered(), 1);
}

#[test]
fn a_name_without_address_is_retried_and_does_not_delay_shutdown() {
    // A label of more than 63 characters is rejected without a network request.
    let name = "x".repeat(64);
    let collector = Collector::new(Config {
        endpoint: format!("http://{name}:4318"),
        endpoint_options: EndpointOptions {
            retry_initial_ms: 1,
            retry_max_ms: 1,
            ..EndpointOptions::default()
        },
        shutdown_timeout_ms: 1,
        ..Config::default()
    })
    .unwrap();
    collector.collect(Span::new("nowhere")).unwrap();
    assert!(collector.flush(Duration::ZERO).is_err());
    let error = loop {
        if let Some(error) = collector.stats().network.last_error {
            break error;
        }
    };
    assert!(
        error.contains(&format!("cannot resolve {name:?}")),
        "{error}"
    );
    assert_eq!(collector.shutdown().unwrap().dropped(), 1);
}

#[test]
fn a_connection_closed_by_the_server_while_idle_loses_no_span() {
    let receiver = Receiver::start().unwrap();
    let collector = collector(receiver.endpoint());
    for _ in 0..5 {
        collector.collect(Span::new("span")).unwrap();
        let ledger = collector.flush(PATIENCE).unwrap();
        assert_eq!(ledger.delivered(), receiver.counts().spans);
        receiver.close();
        receiver.reopen().unwrap();
    }
    assert_eq!(receiver.spans().len(), 5);
}

#[test]
fn a_server_that_closes_after_each_response_is_served() {
    let receiver = Receiver::start().unwrap();
    receiver.answer(Answer::ok().header("Connection", "close"));
    let collector = collector(receiver.endpoint());
    for _ in 0..5 {
        collector.collect(Span::new("span")).unwrap();
        collector.flush(PATIENCE).unwrap();
    }
    assert_eq!(receiver.counts().connections, 5);
    assert_eq!(receiver.spans().len(), 5);
}

#[test]
fn a_server_that_accepts_and_never_responds_does_not_delay_flush_and_shutdown() {
    // The kernel accepts connections; the program never reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Collector::new(Config {
        endpoint: format!("http://{}", silent.local_addr().unwrap()),
        endpoint_options: EndpointOptions {
            request_timeout_ms: 86_400_000,
            ..EndpointOptions::default()
        },
        shutdown_timeout_ms: 10,
        ..Config::default()
    })
    .unwrap();
    collector.collect(Span::new("span")).unwrap();
    let error = collector.flush(Duration::from_millis(10)).unwrap_err();
    assert!(error.is_timed_out());
    assert_eq!(error.ledger().unwrap().pending(), 1);

    let began = Instant::now();
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.dropped(), 1);
    // Far below the request's timeout, which it did not wait for.
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn a_malformed_response_counts_as_a_broken_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = collector(format!("http://{}", listener.local_addr().unwrap()));
    collector.collect(Span::new("span")).unwrap();
    for answer in [
        &b"220 mail.example ESMTP\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(answer).unwrap();
    }
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), 1);
    assert_eq!(collector.stats().network.retries, 3);
}

/// Serves connections on a thread: reads once from each, writes the next of `answers` and closes it.
/// Sends a message after each.
fn serve(listener: TcpListener, answers: Vec<&'static [u8]>) -> mpsc::Receiver<()> {
    let (served, serving) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer).unwrap();
            drop(stream);
            served.send(()).unwrap();
        }
    });
    serving
}

#[test]
fn delivery_continues_after_an_idle_connection_breaks() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    // The response that some servers send on a connection that was idle for too long.
    const OK_AND_TIMEOUT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n\
        HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = collector(format!("http://{}", listener.local_addr().unwrap()));
    let serving = serve(listener, vec![OK_AND_TIMEOUT, OK, OK_AND_TIMEOUT, OK]);
    for _ in 0..4 {
        collector.collect(Span::new("span")).unwrap();
        // Without a call that wakes the network thread, which must act by itself.
        serving.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(collector.shutdown().unwrap().delivered(), 4);
}

#[test]
fn a_server_that_sends_without_end_does_not_delay_shutdown() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = Collector::new(Config {
        endpoint: format!("http://{}", listener.local_addr().unwrap()),
        shutdown_timeout_ms: 10,
        ..Config::default()
    })
    .unwrap();
    collector.collect(Span::new("span")).unwrap();
    let talking = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        while stream.write_all(&interim).is_ok() {}
    });
    assert!(collector.flush(Duration::from_millis(10)).is_err());
    assert_eq!(collector.shutdown().unwrap().dropped(), 1);
    talking.join().unwrap();
}
