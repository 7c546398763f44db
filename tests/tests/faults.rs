//! Every fault that a server can cause, at every point of a connection: the ledger closes to the
//! span, nothing hangs, and the next good connection works.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use common::{PATIENCE, retry_at_once};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use otlp_collector::config::Redirects;
use otlp_collector::stats::{EndpointState, NoticeKind, OnNotice};
use otlp_collector::{Collector, Config, EndpointOptions, Ledger, Span};
use prost::Message;

use common::ClosedPort;
use common::script::{Script, ScriptedServer, Step, response};

const SPANS: u64 = 5;

/// The outcome of a request that the protocol requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Delivered, except this many rejected spans.
    Delivered {
        rejected: u64,
    },
    Rejected,
    /// Delivered later, over a good connection.
    SentAgain,
}

const DELIVERED: Fate = Fate::Delivered { rejected: 0 };

fn collector(server: &ScriptedServer, change: impl FnOnce(&mut EndpointOptions)) -> Collector {
    let mut endpoint_options = retry_at_once();
    change(&mut endpoint_options);
    Collector::new(Config {
        endpoint: server.endpoint(),
        endpoint_options,
        buffer_capacity: 1000,
        batch_size: 1000,
        // All spans of a round are sent in one request.
        batch_timeout_ms: 3_600_000,
        shutdown_timeout_ms: 60_000,
        ..Config::default()
    })
    .unwrap()
}

fn collect(collector: &Collector, spans: u64) {
    for _ in 0..spans {
        collector.collect(Span::new("span")).unwrap();
    }
}

/// Runs `script` for the first request, and checks its outcome and that delivery continues.
fn check(what: &str, script: Script, fate: Fate) {
    check_with(what, script, fate, |_| {});
}

fn check_with(
    what: &str,
    script: Script,
    fate: Fate,
    change: impl FnOnce(&mut EndpointOptions),
) -> Ledger {
    let server = ScriptedServer::start([script]);
    let collector = collector(&server, change);
    collect(&collector, SPANS);
    let ledger = collector.flush(PATIENCE).expect(what);
    let rejected = match fate {
        Fate::Delivered { rejected } => rejected,
        Fate::Rejected => SPANS,
        Fate::SentAgain => 0,
    };
    let outcome = (ledger.delivered(), ledger.rejected(), ledger.dropped());
    let seen = server.seen();
    let expected = (SPANS - rejected, rejected, 0);
    assert_eq!(outcome, expected, "{what}: {} {seen:?}", collector.stats());
    let retries = collector.stats().network.retries;
    assert_eq!(retries > 0, fate == Fate::SentAgain, "{what}: {retries}");
    assert_eq!(
        collector.stats().network.last_error.is_some(),
        fate != DELIVERED,
        "{what}"
    );

    // The next good connection works.
    collect(&collector, SPANS);
    let ledger = collector.shutdown().expect(what);
    assert_eq!(ledger.accepted, 2 * SPANS, "{what}");
    assert_eq!(ledger.delivered(), 2 * SPANS - rejected, "{what}: {ledger}");
    assert_eq!((ledger.pending(), ledger.dropped()), (0, 0), "{what}");
    ledger
}

fn fate_of(status: u16) -> Fate {
    match status {
        200..=299 => DELIVERED,
        429 | 502 | 503 | 504 => Fate::SentAgain,
        _ => Fate::Rejected,
    }
}

/// Statuses of every class, and all with a special meaning.
const STATUSES: [u16; 38] = [
    200, 201, 202, 203, 204, 205, 206, 226, 299, 300, 301, 302, 303, 304, 305, 400, 401, 402, 403,
    404, 405, 406, 408, 409, 411, 413, 414, 415, 418, 422, 429, 431, 500, 501, 502, 503, 504, 599,
];

/// Returns all forms of a response with this status, by name.
fn forms(status: u16) -> Vec<(&'static str, Vec<Step>)> {
    let head = |rest: &str| format!("HTTP/1.1 {status} Text\r\n{rest}").into_bytes();
    let write = |rest: &str| vec![Step::Write(head(rest))];
    let mut forms = vec![
        ("empty", vec![Step::Write(response(status, "", b""))]),
        ("no reason", {
            let line = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            vec![Step::Write(line.into_bytes())]
        }),
        ("HTTP/1.0", {
            let line = format!("HTTP/1.0 {status} Text\r\n\r\n");
            vec![Step::Write(line.into_bytes())]
        }),
        (
            "byte by byte",
            vec![Step::Trickle(response(status, "A: b\r\n", b""), 1)],
        ),
        (
            "closing",
            write("Connection: close\r\nContent-Length: 0\r\n\r\n"),
        ),
        ("interim first", {
            let interim =
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n";
            vec![
                Step::Write(interim.to_vec()),
                Step::Write(response(status, "", b"")),
            ]
        }),
        (
            "garbage after",
            vec![Step::Write(
                [response(status, "", b""), b"garbage".to_vec()].concat(),
            )],
        ),
        (
            "many headers",
            write(&("X: y\r\n".repeat(90) + "Content-Length: 0\r\n\r\n")),
        ),
    ];
    if matches!(status, 204 | 304) {
        return forms;
    }
    // Other statuses can have a body.
    let body = "x".repeat(100);
    forms.extend([
        (
            "with a body",
            // In a success these bytes are full success, in an error they are a message.
            vec![Step::Trickle(response(status, "A: b\r\n", b"\x0a\0"), 7)],
        ),
        ("chunked", write("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
        (
            "chunked with extensions and trailers",
            vec![Step::Trickle(
                head("Transfer-Encoding: chunked\r\n\r\n0A;a=b\r\n\x0a\x08\x18\x01\x18\x01\x18\x01\x18\x01\r\n0\r\nT: u\r\n\r\n"),
                3,
            )],
        ),
        ("until the end", write("Connection: close\r\n\r\n")),
    ]);
    // Successes with a broken body have their own test below.
    if fate_of(status) != DELIVERED {
        forms.extend(broken_bodies(status, &body));
    }
    forms
}

/// Returns responses that are broken after the head, by name. Their status still decides.
fn broken_bodies(status: u16, body: &str) -> Vec<(&'static str, Vec<Step>)> {
    let head = |rest: &str| format!("HTTP/1.1 {status} Text\r\n{rest}").into_bytes();
    let write = |rest: &str| vec![Step::Write(head(rest))];
    vec![
        (
            "a truncated body",
            write(&format!("Content-Length: 101\r\n\r\n{body}")),
        ),
        ("a reset in the body", {
            // Bytes written before the reset are read.
            let mut steps = write(&format!("Content-Length: 101\r\n\r\n{body}"));
            steps.push(Step::Reset);
            steps
        }),
        (
            "an oversized body",
            write("Content-Length: 99999999999\r\n\r\n"),
        ),
        (
            "a body of absurd length",
            write(&format!("Content-Length: {}\r\n\r\n", "9".repeat(40))),
        ),
        (
            "an oversized chunk",
            write("Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n"),
        ),
        (
            "a malformed chunk",
            write("Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ),
        (
            "a chunk without its end",
            write("Transfer-Encoding: chunked\r\n\r\n1\r\nxyz"),
        ),
        (
            "truncated chunks",
            write("Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
        ),
        ("a compressed body", {
            let body = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
            vec![Step::Write(response(
                status,
                "Content-Encoding: gzip\r\n",
                &body,
            ))]
        }),
        ("a body that is not protobuf", {
            let headers = "Content-Type: application/x-protobuf\r\n";
            vec![Step::Write(response(status, headers, b"<html>"))]
        }),
    ]
}

#[test]
fn every_status_is_handled_in_every_form() {
    for status in STATUSES {
        for (form, steps) in forms(status) {
            let script = [vec![Step::ReadRequest], steps].concat();
            check(&format!("{status} {form}"), script, fate_of(status));
        }
    }
}

#[test]
fn every_status_is_handled_on_a_kept_connection() {
    for status in STATUSES {
        for (form, steps) in forms(status) {
            let good = vec![
                Step::ReadRequest,
                Step::Write(response(200, "", b"")),
                Step::ReadRequest,
            ];
            let server = ScriptedServer::start([[good, steps].concat()]);
            let collector = collector(&server, |_| {});
            collect(&collector, SPANS);
            assert_eq!(collector.flush(PATIENCE).unwrap().delivered(), SPANS);
            collect(&collector, SPANS);
            let ledger = collector.flush(PATIENCE).unwrap();
            let rejected = if fate_of(status) == Fate::Rejected {
                SPANS
            } else {
                0
            };
            assert_eq!(ledger.rejected(), rejected, "{status} {form}: {ledger}");
            collect(&collector, SPANS);
            let ledger = collector.shutdown().unwrap();
            assert_eq!(
                ledger.delivered(),
                3 * SPANS - rejected,
                "{status} {form}: {ledger}"
            );
        }
    }
}

/// Behind one address there may be several servers, and a connection is to one of them.
#[test]
fn after_an_error_a_new_connection_is_opened() {
    for status in [400, 429, 503, 500] {
        let errs = vec![
            Step::ReadRequest,
            Step::Write(response(status, "Retry-After: 0\r\n", b"")),
            Step::ServeWell,
        ];
        let server = ScriptedServer::start([errs]);
        let collector = collector(&server, |_| {});
        for _ in 0..2 {
            collect(&collector, SPANS);
            collector.flush(PATIENCE).unwrap();
        }
        assert_eq!(server.seen().connections, 2, "{status}");
    }
}

#[test]
fn a_response_before_the_request_was_read_counts() {
    for status in STATUSES {
        let script = vec![
            Step::ReadHead,
            Step::Write(response(status, "", b"")),
            Step::ReadRequest,
        ];
        check(&format!("early {status}"), script, fate_of(status));
    }
}

#[test]
fn a_success_with_an_unreadable_body_is_a_success_and_is_reported() {
    for status in [200, 202] {
        for (form, steps) in broken_bodies(status, "x") {
            if form == "a body that is not protobuf" {
                continue;
            }
            let server = ScriptedServer::start([[vec![Step::ReadRequest], steps].concat()]);
            let collector = collector(&server, |_| {});
            collect(&collector, SPANS);
            let ledger = collector.flush(PATIENCE).unwrap();
            assert_eq!(ledger.delivered(), SPANS, "{status} {form}: {ledger}");
            let error = collector.stats().network.last_error.expect(form);
            assert!(error.contains("is unknown"), "{form}: {error}");
        }
    }
}

#[test]
fn partial_success_is_counted_and_reported_and_never_retried() {
    for (count, rejected) in [(3, 3), (0, 0), (-1, 0), (i64::MAX, SPANS)] {
        let answer = ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess {
                rejected_spans: count,
                error_message: "some had\nno name".to_string(),
            }),
        };
        let headers = "Content-Type: application/x-protobuf\r\n";
        let server = ScriptedServer::start([vec![
            Step::ReadRequest,
            Step::Write(response(200, headers, &answer.encode_to_vec())),
        ]]);
        let collector = collector(&server, |_| {});
        collect(&collector, SPANS);
        let ledger = collector.flush(PATIENCE).unwrap();
        assert_eq!(ledger.rejected(), rejected);
        assert_eq!(ledger.delivered(), SPANS - rejected);
        let stats = collector.stats();
        assert_eq!(stats.network.retries, 0);
        let error = stats.network.last_error.unwrap();
        assert!(error.contains("some had no name"), "{error}");
    }
    // An empty partial success is a full success.
    let empty = ExportTraceServiceResponse {
        partial_success: Some(ExportTracePartialSuccess::default()),
    };
    let answer = response(200, "", &empty.encode_to_vec());
    let script = vec![Step::ReadRequest, Step::Write(answer)];
    check("an empty partial success", script, DELIVERED);
}

#[test]
fn a_malformed_response_breaks_the_connection() {
    for garbage in [
        &b"\0\0\x12\x04\0\0\0\0\0\0\0\0"[..], // HTTP/2, as a gRPC port answers
        b"220 mail.example ESMTP\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"H",
        b"",
    ] {
        let what = String::from_utf8_lossy(garbage).into_owned();
        let script = vec![Step::ReadRequest, Step::Write(garbage.to_vec())];
        check(&what, script, Fate::SentAgain);
    }
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(100_000));
    let script = vec![
        Step::ReadRequest,
        Step::Write(endless.into_bytes()),
        Step::Drain,
    ];
    check("an endless head", script, Fate::SentAgain);
}

#[test]
fn a_request_is_retried_after_a_connection_that_ended_at_any_of_its_bytes() {
    for bytes in (1..=400).step_by(7) {
        for end in [None, Some(Step::Reset)] {
            let what = format!("{end:?} after {bytes} bytes");
            let script = [Step::Read(bytes)].into_iter().chain(end).collect();
            check(&what, script, Fate::SentAgain);
        }
    }
}

#[test]
fn a_request_is_retried_after_a_response_that_ended_at_any_of_its_bytes() {
    let answer = response(503, "", b"text");
    for bytes in 0..answer.len() {
        for end in [None, Some(Step::Reset)] {
            let what = format!("{end:?} after {bytes} bytes");
            let script = [Step::ReadRequest, Step::Write(answer[..bytes].to_vec())];
            let script = script.into_iter().chain(end).collect();
            check(&what, script, Fate::SentAgain);
        }
    }
}

#[test]
fn a_server_that_stalls_at_any_point_costs_one_timeout() {
    let head = b"HTTP/1.1 503 Text\r\nContent-Length: 10\r\n\r\n";
    for (what, steps) in [
        ("at once", vec![Step::Stall]),
        ("in the head", vec![Step::Read(50), Step::Stall]),
        ("in the body", vec![Step::ReadHead, Step::Stall]),
        ("after the request", vec![Step::ReadRequest, Step::Drain]),
        (
            "in the status line",
            vec![
                Step::ReadRequest,
                Step::Write(head[..10].to_vec()),
                Step::Drain,
            ],
        ),
        (
            "in the response's body",
            vec![Step::ReadRequest, Step::Write(head.to_vec()), Step::Drain],
        ),
        (
            "after an interim response",
            vec![
                Step::ReadRequest,
                Step::Write(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
                Step::Drain,
            ],
        ),
    ] {
        check_with(what, steps, Fate::SentAgain, |options| {
            options.request_timeout_ms = 50;
        });
    }
}

#[test]
fn a_closed_idle_connection_costs_one_immediate_retry_and_no_span() {
    for end in [None, Some(Step::Reset)] {
        // The server closes when the second request arrives, as if both had crossed.
        let stale = vec![
            Step::ReadRequest,
            Step::Write(response(200, "", b"")),
            Step::Read(1),
        ];
        let server = ScriptedServer::start([stale.into_iter().chain(end).collect()]);
        let collector = collector(&server, |options| {
            // A retry that is not immediate would exceed the test's patience.
            options.retry_initial_ms = 3_600_000;
            options.retry_max_ms = 3_600_000;
            options.retry_budget_ms = 0;
        });
        collect(&collector, SPANS);
        collector.flush(PATIENCE).unwrap();
        collect(&collector, SPANS);
        let ledger = collector.flush(PATIENCE).unwrap();
        assert_eq!(ledger.delivered(), 2 * SPANS, "{ledger}");
        assert_eq!(collector.stats().network.retries, 1);
        assert_eq!(server.seen().connections, 2);
    }
}

#[test]
fn an_unused_connection_is_closed_in_time() {
    let server = ScriptedServer::start([]);
    let collector = collector(&server, |options| options.idle_timeout_ms = 1);
    collect(&collector, SPANS);
    collector.flush(PATIENCE).unwrap();
    while collector.stats().network.connections == 1 {
        collect(&collector, 1);
        collector.flush(PATIENCE).unwrap();
    }
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.delivered(), ledger.accepted);
}

#[test]
fn a_request_is_dropped_when_it_has_failed_for_too_long() {
    let refuse = vec![Step::ReadRequest, Step::Write(response(503, "", b""))];
    let server = ScriptedServer::start([refuse]);
    let collector = collector(&server, |options| options.retry_budget_ms = 0);
    collect(&collector, SPANS);
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.destinations[0].dropped.retries, SPANS);
    // Later requests are not delayed.
    collect(&collector, SPANS);
    let ledger = collector.shutdown().unwrap();
    assert_eq!((ledger.delivered(), ledger.dropped()), (SPANS, SPANS));
}

#[test]
fn throttling_never_causes_a_request_storm() {
    for header in [
        "",
        "Retry-After: 0\r\n",
        "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "Retry-After: -5\r\n",
        "Retry-After: soon\r\n",
    ] {
        let refuse = vec![Step::ReadRequest, Step::Write(response(429, header, b""))];
        let server = ScriptedServer::start(vec![refuse; 1000]);
        let collector = collector(&server, |options| {
            options.retry_initial_ms = 3_600_000;
            options.retry_max_ms = 3_600_000;
        });
        collect(&collector, SPANS);
        assert!(collector.flush(Duration::from_millis(50)).is_err());
        // With jitter the wait can be close to zero, but with a probability of 10^-6.
        assert!(server.seen().connections <= 2, "{header}");
    }
}

#[test]
fn a_flush_respects_retry_after() {
    for wait in [
        "3600".to_string(),
        "9".repeat(30),
        "Fri, 31 Dec 9999 23:59:59 GMT".to_string(),
    ] {
        let header = format!("Retry-After: {wait}\r\n");
        let refuse = vec![Step::ReadRequest, Step::Write(response(503, &header, b""))];
        let server = ScriptedServer::start([refuse]);
        let collector = collector(&server, |_| {});
        collect(&collector, SPANS);
        while collector.stats().network.retries == 0 {
            assert!(collector.flush(Duration::from_millis(1)).is_err());
        }
        assert!(collector.flush(Duration::from_millis(20)).is_err());
        assert_eq!(server.seen().connections, 1);
    }
}

#[test]
fn a_success_on_another_connection_does_not_end_a_retry_after() {
    let barrier = Arc::new(Barrier::new(2));
    let late = vec![
        Step::ReadRequest,
        Step::Meet(Arc::clone(&barrier)),
        Step::Write(response(200, "", b"")),
        Step::ServeWell,
    ];
    let refuse = vec![
        Step::ReadRequest,
        Step::Write(response(503, "Retry-After: 3600\r\n", b"")),
    ];
    let server = ScriptedServer::start([late, refuse]);
    let collector = collector(&server, |_| {});
    collect(&collector, SPANS);
    while server.seen().heads.is_empty() {
        // Flushed, so that the second request uses another connection.
        assert!(collector.flush(Duration::from_millis(1)).is_err());
    }
    collect(&collector, SPANS);
    while collector.health().destinations[0].endpoints[0].state != EndpointState::Throttled {
        assert!(collector.flush(Duration::from_millis(1)).is_err());
    }
    barrier.wait();
    while collector.ledger().delivered() < SPANS {
        std::thread::yield_now();
    }
    assert!(collector.flush(Duration::from_millis(50)).is_err());
    assert_eq!(
        (server.seen().connections, server.seen().heads.len()),
        (2, 2)
    );
}

#[test]
fn redirects_that_keep_the_method_are_followed() {
    for status in [307, 308] {
        let other = ScriptedServer::start([]);
        let location = format!("Location: {}/moved?to=here\r\n", other.endpoint());
        let redirect = vec![
            Step::ReadRequest,
            Step::Write(response(status, &location, b"")),
        ];
        let server = ScriptedServer::start(vec![redirect; 2]);
        let collector = collector(&server, |options| {
            options.headers = vec![("X-Secret".to_string(), "42".to_string())];
            options.redirects = Redirects::Follow;
        });
        for _ in 0..2 {
            collect(&collector, SPANS);
            collector.flush(PATIENCE).unwrap();
        }
        let ledger = collector.shutdown().unwrap();
        assert_eq!(ledger.delivered(), 2 * SPANS, "{ledger}");
        assert_eq!(other.seen().spans.len() as u64, 2 * SPANS);
        // A permanent redirect is remembered.
        let asked = if status == 307 { 2 } else { 1 };
        assert_eq!(server.seen().heads.len(), asked);
        assert!(server.seen().heads[0].contains("X-Secret: 42\r\n"));
        let heads = other.seen().heads;
        assert!(heads[0].starts_with("POST /moved?to=here HTTP/1.1\r\n"));
        // Headers configured for one server are not sent to another.
        assert!(heads.iter().all(|head| !head.contains("X-Secret")));
    }
}

#[test]
fn a_redirect_on_the_same_server_keeps_the_headers() {
    let redirect = vec![
        Step::ReadRequest,
        Step::Write(response(308, "Location: /elsewhere\r\n", b"")),
    ];
    let server = ScriptedServer::start([redirect]);
    let collector = collector(&server, |options| {
        options.headers = vec![("X-Secret".to_string(), "42".to_string())];
    });
    collect(&collector, SPANS);
    collector.flush(PATIENCE).unwrap();
    let heads = server.seen().heads;
    assert!(
        heads[1].starts_with("POST /elsewhere HTTP/1.1\r\n"),
        "{heads:?}"
    );
    assert!(heads[1].contains("X-Secret: 42\r\n"));
}

#[test]
fn redirects_of_different_requests_do_not_add_up() {
    let redirect = Step::Write(response(307, "Location: /v1/traces\r\n", b""));
    let good = Step::Write(response(200, "", b""));
    // One connection that succeeds after a redirect, then redirects again.
    let both = vec![Step::ReadRequest, good, Step::ReadRequest, redirect.clone()];
    let first = vec![Step::ReadRequest, redirect];
    let server = ScriptedServer::start([vec![first], vec![both; 20]].concat());
    let collector = collector(&server, |_| {});
    for round in 1..=15 {
        collect(&collector, SPANS);
        let ledger = collector.flush(PATIENCE).unwrap();
        assert_eq!(ledger.delivered(), round * SPANS, "{ledger}");
    }
}

#[test]
fn secrets_echoed_by_a_server_are_not_shown() {
    const SECRET: &str = "c0nfidential";
    let body = format!("no such token: {SECRET}");
    let refuse = vec![
        Step::ReadRequest,
        Step::Write(response(401, "", body.as_bytes())),
    ];
    let location = format!("Location: ftp://h/v1/traces?token={SECRET}\r\n");
    let redirect = vec![
        Step::ReadRequest,
        Step::Write(response(307, &location, b"")),
    ];
    let server = ScriptedServer::start([refuse, redirect]);
    let config = Config {
        endpoint: format!("{}?key={SECRET}", server.endpoint()),
        endpoint_options: EndpointOptions {
            headers: vec![("Authorization".to_string(), format!("Bearer {SECRET}"))],
            ..EndpointOptions::default()
        },
        ..Config::default()
    };
    let mut shown = format!("{config:?} {config}");
    let collector = Collector::new(config).unwrap();
    for _ in 0..2 {
        collect(&collector, SPANS);
        collector.flush(PATIENCE).unwrap();
        let stats = collector.stats();
        shown += &format!("{stats:?} {stats} {}", stats.to_prometheus());
        shown += &format!("{:?} {}", collector.health(), collector.health());
    }
    assert!(shown.contains("no such token: (not shown)"), "{shown}");
    assert!(shown.contains("unknown scheme"), "{shown}");
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(server.seen().heads[0].contains(&format!("Authorization: Bearer {SECRET}\r\n")));
}

#[test]
fn redirects_that_cannot_be_followed_are_final() {
    for (status, location) in [
        (307, ""),
        (308, "Location: \r\n"),
        (307, "Location: ftp://127.0.0.1/\r\n"),
        (307, "Location: http://user:secret@127.0.0.1/\r\n"),
        (308, "Location: http://\r\n"),
        // Clients may change the method to GET for this one.
        (301, "Location: /moved\r\n"),
        (302, "Location: /moved\r\n"),
        (303, "Location: /moved\r\n"),
        // A loop.
        (307, "Location: /v1/traces\r\n"),
    ] {
        let redirect = vec![
            Step::ReadRequest,
            Step::Write(response(status, location, b"")),
        ];
        let in_circles = location.ends_with("traces\r\n");
        let times = if in_circles { 6 } else { 1 };
        let server = ScriptedServer::start(vec![redirect; times]);
        let collector = collector(&server, |_| {});
        collect(&collector, SPANS);
        let ledger = collector.flush(PATIENCE).unwrap();
        assert_eq!(ledger.rejected(), SPANS, "{status} {location}: {ledger}");
        let error = collector.stats().network.last_error.unwrap();
        assert!(!error.contains("secret"), "{error}");
        assert!(error.contains(&status.to_string()), "{error}");
        collect(&collector, SPANS);
        assert_eq!(collector.shutdown().unwrap().delivered(), SPANS);
        assert_eq!(server.seen().heads.len(), times + 1);
    }
}

#[test]
fn a_redirect_to_a_closed_port_is_retried_from_the_start() {
    let gone = ClosedPort::new();
    let location = format!("Location: {}/\r\n", gone.endpoint());
    let redirect = vec![
        Step::ReadRequest,
        Step::Write(response(308, &location, b"")),
    ];
    let what = "a redirect to a closed port";
    check_with(what, redirect, Fate::SentAgain, |options| {
        options.redirects = Redirects::Follow;
    });
}

#[test]
fn a_request_that_is_too_large_is_split_and_so_are_later_ones() {
    // Answers early, without reading the rest. The reset that follows may discard the response.
    let refuse = vec![Step::ReadHead, Step::Write(response(413, "", b""))];
    let read_on = vec![
        Step::ReadHead,
        Step::Write(response(413, "", b"")),
        Step::ReadRequest,
    ];
    let server = ScriptedServer::start([refuse, read_on]);
    let collector = Collector::new(Config {
        endpoint: server.endpoint(),
        endpoint_options: EndpointOptions {
            retry_initial_ms: 1,
            ..EndpointOptions::default()
        },
        batch_size: 100_000,
        batch_timeout_ms: 3_600_000,
        ..Config::default()
    })
    .unwrap();
    let lengths = || {
        let heads = server.seen().heads.into_iter();
        let length = |head: String| {
            let (_, rest) = head.split_once("Content-Length: ").unwrap();
            rest.split_once('\r').unwrap().0.parse::<usize>().unwrap()
        };
        heads.map(length).collect::<Vec<_>>()
    };
    for round in 1..=2 {
        for _ in 0..4000 {
            collector.collect(Span::new("x".repeat(200))).unwrap();
        }
        let ledger = collector.flush(PATIENCE).unwrap();
        assert_eq!(ledger.delivered(), round * 4000, "{ledger}");
    }
    // The first one may have been as large as before.
    let smaller = lengths().split_off(1);
    assert!(
        smaller.iter().all(|length| *length < 600_000),
        "{smaller:?}"
    );
}

/// A server with a size limit accepts everything below it, if necessary span by span.
#[test]
fn only_requests_of_a_single_span_are_rejected_as_too_large() {
    const LIMIT: usize = 7000;
    let server = ScriptedServer::start(vec![
        vec![Step::ServeUpTo(LIMIT, response(413, "", b""))];
        1000
    ]);
    let collector = Collector::new(Config {
        endpoint: server.endpoint(),
        batch_timeout_ms: 3_600_000,
        ..Config::default()
    })
    .unwrap();
    for index in 0..1000 {
        let length = if index == 500 { 2 * LIMIT } else { 100 };
        collector.collect(Span::new("x".repeat(length))).unwrap();
    }
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(
        (ledger.delivered(), ledger.rejected()),
        (999, 1),
        "{ledger}"
    );
}

#[test]
fn one_span_that_is_too_large_is_rejected() {
    let refuse = vec![Step::ReadRequest, Step::Write(response(413, "", b""))];
    let server = ScriptedServer::start([refuse]);
    let collector = collector(&server, |_| {});
    collector.collect(Span::new("x".repeat(20_000))).unwrap();
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!((ledger.delivered(), ledger.rejected()), (0, 1), "{ledger}");
    assert_eq!(server.seen().heads.len(), 1);
}

#[test]
fn a_small_request_answered_with_413_is_rejected() {
    let refuse = vec![Step::ReadRequest, Step::Write(response(413, "", b""))];
    check("413 to less than 4 KiB", refuse, Fate::Rejected);
}

/// The request exceeds all socket buffers, so it is stuck in the middle of the body.
#[test]
fn a_server_that_stops_reading_costs_one_timeout() {
    let server = ScriptedServer::start([vec![Step::ReadHead, Step::Stall]]);
    let collector = Collector::new(Config {
        endpoint: server.endpoint(),
        endpoint_options: EndpointOptions {
            request_bytes_max: 64 << 20,
            request_timeout_ms: 200,
            connections_max: 1,
            retry_initial_ms: 1,
            ..EndpointOptions::default()
        },
        batch_timeout_ms: 3_600_000,
        buffer_capacity: 300_000,
        ..Config::default()
    })
    .unwrap();
    for _ in 0..500 {
        collector.collect(Span::new("x".repeat(40_000))).unwrap();
    }
    while collector.stats().network.destinations[0].endpoints[0].unanswered == 0 {
        let _ = collector.flush(Duration::from_millis(1));
    }
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), 500, "{ledger}");
}

#[test]
fn an_unreadable_success_is_a_success_and_is_reported_once() {
    let page = response(200, "Content-Type: text/html\r\n", b"<html>Log in!</html>");
    let script = vec![
        Step::ReadRequest,
        Step::Write(page.clone()),
        Step::ReadRequest,
    ];
    let server =
        ScriptedServer::start([[script, vec![Step::Write(page), Step::ServeWell]].concat()]);
    let (told, notices) = std::sync::mpsc::channel();
    let collector = Collector::new(Config {
        endpoint: server.endpoint(),
        batch_timeout_ms: 3_600_000,
        on_notice: Some(OnNotice::new(move |notice| {
            told.send(notice.clone()).unwrap()
        })),
        ..Config::default()
    })
    .unwrap();
    for round in 1..=2 {
        collect(&collector, SPANS);
        assert_eq!(
            collector.flush(PATIENCE).unwrap().delivered(),
            round * SPANS
        );
    }
    collector.shutdown().unwrap();
    let notices: Vec<_> = notices.try_iter().collect();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!(notices[0].kind, NoticeKind::Warned);
    assert!(notices[0].message.contains("text/html"), "{notices:?}");
}

#[test]
fn delivery_to_a_good_server_has_no_errors() {
    check("a good server", vec![Step::ServeWell], DELIVERED);
}
