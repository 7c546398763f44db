//! Requests refused because of their size or compression are sent in another form, and refusals of
//! all requests never cause a request storm.

use std::time::Duration;

use common::{PATIENCE, retry_at_once};
use otlp_collector::testing::{Answer, Receiver};
use otlp_collector::{Collector, Compression, Config, EndpointOptions, Ledger, Span};

use common::script::{ScriptedServer, Step, field, response};

const HOUR_MS: u64 = 3_600_000;

fn collector(endpoint: String, change: impl FnOnce(&mut EndpointOptions)) -> Collector {
    let mut endpoint_options = retry_at_once();
    change(&mut endpoint_options);
    Collector::new(Config {
        endpoint,
        endpoint_options,
        // Only a flush sends requests.
        batch_size: 100_000,
        batch_timeout_ms: HOUR_MS,
        shutdown_timeout_ms: 10,
        ..Config::default()
    })
    .unwrap()
}

fn collect(collector: &Collector, spans: usize) {
    for _ in 0..spans {
        collector.collect(Span::new("x".repeat(100))).unwrap();
    }
}

fn flush(collector: &Collector, spans: usize) -> Ledger {
    collect(collector, spans);
    collector.flush(PATIENCE).unwrap()
}

/// Returns the number of requests with a longer body.
fn larger_than(server: &ScriptedServer, bytes: usize) -> usize {
    let heads = server.seen().heads.into_iter();
    let length = |head: &String| {
        field(head, "content-length")
            .unwrap()
            .parse::<usize>()
            .unwrap()
    };
    heads.filter(|head| length(head) > bytes).count()
}

#[test]
fn a_400_that_means_too_large_splits_the_request() {
    for message in [
        "http: request body too large",
        "too big data size exceeding 67108864 bytes",
    ] {
        let refusal = response(400, "Content-Type: text/plain\r\n", message.as_bytes());
        let small = Step::ServeUpTo(20_000, refusal);
        let server = ScriptedServer::start(vec![vec![small]; 100]);
        let collector = collector(server.endpoint(), |_| {});
        let ledger = flush(&collector, 1000);
        assert_eq!(
            (ledger.delivered(), ledger.rejected()),
            (1000, 0),
            "{ledger}"
        );
        // The size is remembered.
        let refused = larger_than(&server, 20_000);
        let ledger = flush(&collector, 1000);
        assert_eq!(ledger.delivered(), 2000, "{ledger}");
        assert_eq!(larger_than(&server, 20_000), refused);
    }
}

#[test]
fn a_400_with_the_same_message_for_the_smallest_request_does_not_concern_its_size() {
    let refusal = response(400, "", b"attribute value too large");
    let refuse = vec![Step::ReadRequest, Step::Write(refusal)];
    let server = ScriptedServer::start(vec![refuse; 3]);
    // On a busy machine a second connection would take a refusal.
    let collector = collector(server.endpoint(), |options| options.connections_max = 1);
    // About 14 KB, then 7 and 4. Smaller requests are not split but rejected.
    let ledger = flush(&collector, 100);
    assert_eq!(ledger.delivered() + ledger.rejected(), 100, "{ledger}");
    assert!(ledger.delivered() > 0 && ledger.rejected() > 0, "{ledger}");
    // The next requests are not split.
    let before = server.seen().heads.len();
    flush(&collector, 100);
    assert_eq!(server.seen().heads.len(), before + 1);
}

/// Returns the compressions of all requests, in order.
fn codings(receiver: &Receiver) -> Vec<Option<String>> {
    let requests = receiver.requests().into_iter();
    let coding = requests.map(|request| request.header("content-encoding").map(str::to_string));
    coding.collect()
}

#[test]
fn a_compression_that_the_receiver_does_not_support_is_turned_off() {
    let gzip = || Some("gzip".to_string());
    for refusal in [
        Answer::status(415),
        Answer::status(400).body("unsupported Content-Encoding: gzip"),
        // A receiver that ignores the header.
        Answer::status(400).body("proto: cannot parse invalid wire-format data"),
    ] {
        let receiver = Receiver::start().unwrap();
        receiver.answer_next([refusal]);
        let collector = collector(receiver.endpoint(), |options| {
            options.compression = Compression::Gzip;
        });
        for round in 1..=2 {
            let ledger = flush(&collector, 10);
            assert_eq!(
                (ledger.delivered(), ledger.rejected()),
                (round * 10, 0),
                "{ledger}"
            );
        }
        assert_eq!(codings(&receiver), [gzip(), None, None]);
        let error = collector.stats().network.last_error.unwrap();
        assert!(error.contains("without gzip"), "{error}");
    }
}

#[test]
fn a_request_refused_without_compression_too_is_rejected_and_compression_continues() {
    let gzip = || Some("gzip".to_string());
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([400, 400, 400].map(Answer::status));
    let collector = collector(receiver.endpoint(), |options| {
        options.compression = Compression::Gzip;
    });
    assert_eq!(flush(&collector, 10).rejected(), 10);
    // No further attempt without compression.
    assert_eq!(flush(&collector, 10).rejected(), 20);
    assert_eq!(flush(&collector, 10).delivered(), 10);
    assert_eq!(codings(&receiver), [gzip(), None, gzip(), gzip()]);
}

/// Like a receiver whose rate limit has a token bucket smaller than the request.
#[test]
fn a_large_request_that_is_always_answered_with_429_is_split() {
    let small = Step::ServeUpTo(20_000, response(429, "", b""));
    let server = ScriptedServer::start(vec![vec![small]; 1000]);
    let collector = collector(server.endpoint(), |_| {});
    collect(&collector, 1000);
    while collector.ledger().delivered() < 1000 {
        // Each flush skips one wait.
        let _ = collector.flush(Duration::from_millis(1));
    }
    assert_eq!(collector.ledger().rejected(), 0);
}

#[test]
fn refusals_of_all_requests_never_cause_a_request_storm() {
    // Requests of 40 KiB; the splits of a 413 end at 4 KiB.
    for (status, requests_max) in [(400, 2), (401, 2), (404, 2), (413, 6), (500, 2)] {
        let refuse = vec![Step::ReadRequest, Step::Write(response(status, "", b""))];
        let server = ScriptedServer::start(vec![refuse; 1000]);
        let collector = collector(server.endpoint(), |options| {
            options.retry_initial_ms = HOUR_MS;
            options.retry_max_ms = HOUR_MS;
            options.connections_max = 1;
            options.request_bytes_max = 70_000;
        });
        collect(&collector, 10_000);
        assert!(collector.flush(Duration::from_millis(50)).is_err());
        // With jitter the wait can be close to zero, but with a probability of 10^-6.
        let requests = server.seen().heads.len();
        assert!(requests <= requests_max, "{status}: {requests}");
        let ledger = collector.ledger();
        assert!(ledger.rejected() < 2000, "{status}: {ledger}");
    }
}

#[test]
fn one_refusal_among_successes_delays_nothing() {
    let receiver = Receiver::start().unwrap();
    let collector = collector(receiver.endpoint(), |options| {
        options.retry_initial_ms = HOUR_MS;
        options.retry_max_ms = HOUR_MS;
    });
    for round in 1..=5 {
        receiver.answer_next([Answer::status(400)]);
        assert_eq!(flush(&collector, 10).rejected(), round * 10);
        assert_eq!(flush(&collector, 10).delivered(), round * 10);
    }
}
