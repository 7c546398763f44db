//! Flush and shutdown end in time with any behaviour of the endpoint, from any number of threads.
//!
//! All other timeouts are a day, so that only the deadline can have ended the wait.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use common::PATIENCE;
use otlp_collector::config::Redirects;
use otlp_collector::{Collector, Compression, Config, EndpointOptions, Refused, Span};

use common::ClosedPort;
use common::script::{Script, ScriptedServer, Step, response};

const DAY_MS: u64 = 86_400_000;

fn collector(endpoint: String, change: impl FnOnce(&mut EndpointOptions)) -> Collector {
    let mut endpoint_options = EndpointOptions {
        connect_timeout_ms: DAY_MS,
        request_timeout_ms: DAY_MS,
        idle_timeout_ms: DAY_MS,
        retry_initial_ms: DAY_MS,
        retry_max_ms: DAY_MS,
        retry_budget_ms: DAY_MS,
        ..EndpointOptions::default()
    };
    change(&mut endpoint_options);
    Collector::new(Config {
        endpoint,
        endpoint_options,
        batch_timeout_ms: DAY_MS,
        shutdown_timeout_ms: 20,
        ..Config::default()
    })
    .unwrap()
}

/// Checks that a flush and a shutdown that cannot succeed end in time, and that every span has an
/// outcome.
fn check(what: &str, collector: &Collector) {
    for _ in 0..5000 {
        collector.collect(Span::new("span")).unwrap();
    }
    let began = Instant::now();
    let error = collector.flush(Duration::from_millis(20)).unwrap_err();
    assert!(error.is_timed_out(), "{what}: {error}");
    assert_eq!(error.ledger().unwrap().accepted, 5000, "{what}");
    let ledger = collector.shutdown().expect(what);
    assert!(began.elapsed() < PATIENCE, "{what}");
    assert_eq!(
        (ledger.dropped(), ledger.pending()),
        (5000, 0),
        "{what}: {ledger}"
    );
    let refused = collector.collect(Span::new("late"));
    assert_eq!(refused, Err(Refused::ShutDown), "{what}");
}

#[test]
fn deadlines_are_kept_with_any_endpoint() {
    let redirect = |location: String| {
        let headers = format!("Location: {location}\r\n");
        vec![Step::ReadRequest, Step::Write(response(307, &headers, b""))]
    };
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let to_silence = format!("http://{}", silent.local_addr().unwrap());
    let scripts: Vec<(&str, Script)> = vec![
        ("reads nothing", vec![Step::Stall]),
        ("reads the head", vec![Step::ReadHead, Step::Stall]),
        ("never responds", vec![Step::ReadRequest, Step::Drain]),
        (
            "starts a response",
            vec![
                Step::ReadRequest,
                Step::Write(b"HTTP/1.1 20".to_vec()),
                Step::Drain,
            ],
        ),
        (
            "answers 503",
            vec![Step::ReadRequest, Step::Write(response(503, "", b""))],
        ),
        (
            "answers Retry-After with an hour",
            vec![
                Step::ReadRequest,
                Step::Write(response(429, "Retry-After: 3600\r\n", b"")),
            ],
        ),
        (
            "resets the connection",
            vec![Step::ReadRequest, Step::Reset],
        ),
        ("redirects to a silent server", redirect(to_silence.clone())),
    ];
    for (what, script) in scripts {
        for compression in [Compression::None, Compression::Gzip] {
            let server = ScriptedServer::start(vec![script.clone(); 100]);
            let collector = collector(server.endpoint(), |options| {
                options.compression = compression;
                options.redirects = Redirects::Follow;
            });
            check(what, &collector);
        }
    }
    check("never accepts", &collector(to_silence, |_| {}));
    let closed = ClosedPort::new();
    check("refuses connections", &collector(closed.endpoint(), |_| {}));
    let nameless = format!("http://{}", "x".repeat(64));
    check("has no address", &collector(nameless, |_| {}));
}

#[test]
fn flush_and_shutdown_can_be_called_repeatedly_from_many_threads() {
    let server = ScriptedServer::start(vec![vec![Step::ReadRequest, Step::Drain]; 100]);
    let collector = collector(server.endpoint(), |_| {});
    for _ in 0..100 {
        collector.collect(Span::new("span")).unwrap();
    }
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Fails with the timeout, or because another thread has shut it down meanwhile.
                collector.flush(Duration::from_millis(20)).unwrap_err();
                let ledger = collector.shutdown().unwrap();
                assert_eq!((ledger.accepted, ledger.dropped()), (100, 100), "{ledger}");
            });
        }
    });
    assert!(began.elapsed() < PATIENCE);
    let error = collector.flush(PATIENCE).unwrap_err();
    assert!(error.is_shut_down(), "{error}");
    assert_eq!(collector.shutdown().unwrap().dropped(), 100);
}
