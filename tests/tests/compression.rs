//! Compressed bodies arrive intact, and are compressed once for all endpoints with the same encoding.

use common::{PATIENCE, retry_at_once};
use otlp_collector::config::{Endpoint, Selection};
use otlp_collector::testing::{Answer, Receiver};
use otlp_collector::{Collector, Compression, Config, Destination, EndpointOptions, Span};

fn endpoint(receiver: &Receiver, compression: Compression) -> Endpoint {
    Endpoint {
        url: receiver.endpoint(),
        options: EndpointOptions {
            compression,
            ..retry_at_once()
        },
    }
}

fn collector(destinations: Vec<Destination>) -> Collector {
    Collector::new(Config {
        destinations,
        overflow: otlp_collector::Overflow::Block { timeout_ms: 60_000 },
        // Only a flush sends incomplete batches, so that requests can be counted.
        batch_timeout_ms: 3_600_000,
        // A shutdown delivers everything, however slow the machine is.
        shutdown_timeout_ms: 60_000,
        ..Config::default()
    })
    .unwrap()
}

fn collect(collector: &Collector, spans: u64) {
    for number in 0..spans {
        collector
            .collect(Span::new(format!("span {number}")))
            .unwrap();
    }
}

/// Returns the bytes of all bodies with this encoding, and the names of their spans in order.
fn received(receiver: &Receiver, encoding: Option<&str>) -> (u64, Vec<String>) {
    for request in receiver.requests() {
        assert_eq!(request.header("content-encoding"), encoding);
    }
    let mut names: Vec<_> = receiver.spans().into_iter().map(|span| span.name).collect();
    names.sort();
    (receiver.counts().body_bytes, names)
}

#[test]
fn all_encodings_carry_the_same_spans() {
    let plain = Receiver::start().unwrap();
    let (gzip, zstd) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    let collector = collector(vec![
        endpoint(&plain, Compression::None).into(),
        endpoint(&gzip, Compression::Gzip).into(),
        endpoint(&zstd, Compression::Zstd).into(),
    ]);
    collect(&collector, 30_000);
    let ledger = collector.shutdown().unwrap();
    assert_eq!(ledger.delivered(), 90_000, "{ledger}");
    let (plain_bytes, names) = received(&plain, None);
    let (gzip_bytes, gzip_names) = received(&gzip, Some("gzip"));
    let (zstd_bytes, zstd_names) = received(&zstd, Some("zstd"));
    assert_eq!(names.len(), 30_000);
    assert!(names == gzip_names && names == zstd_names);
    assert!(
        gzip_bytes < plain_bytes * 7 / 10,
        "{gzip_bytes} of {plain_bytes}"
    );
    assert!(
        zstd_bytes < plain_bytes * 7 / 10,
        "{zstd_bytes} of {plain_bytes}"
    );
}

#[test]
fn a_retried_request_is_compressed_too() {
    let receiver = Receiver::start().unwrap();
    receiver.answer_next([
        Answer::status(503),
        Answer::disconnect(),
        Answer::status(429),
    ]);
    let collector = collector(vec![endpoint(&receiver, Compression::Gzip).into()]);
    collect(&collector, 100);
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), 100);
    assert_eq!(received(&receiver, Some("gzip")).1.len(), 100);
    assert_eq!(receiver.counts().requests, 4);
}

#[test]
fn endpoints_of_a_group_can_have_different_encodings() {
    let (first, second) = (Receiver::start().unwrap(), Receiver::start().unwrap());
    first.answer(Answer::status(503).header("Retry-After", "3600"));
    let collector = collector(vec![Destination {
        endpoints: vec![
            endpoint(&first, Compression::Zstd),
            endpoint(&second, Compression::Gzip),
        ],
        selection: Selection::FailOver,
    }]);
    collect(&collector, 100);
    assert_eq!(collector.flush(PATIENCE).unwrap().delivered(), 100);
    assert_eq!(received(&first, Some("zstd")).1.len(), 0);
    assert_eq!(received(&second, Some("gzip")).1.len(), 100);
}

#[test]
fn a_body_is_compressed_once_for_all_endpoints_with_the_same_encoding() {
    let receivers: Vec<_> = (0..3).map(|_| Receiver::start().unwrap()).collect();
    let all = receivers
        .iter()
        .map(|r| endpoint(r, Compression::Gzip).into());
    let collector = collector(all.collect());
    collect(&collector, 20_000);
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), 60_000);
    let requests: u64 = receivers.iter().map(|r| r.counts().requests).sum();
    let compressed = collector.stats().network.compressed;
    // All three endpoints send the same requests, and each was compressed once.
    assert_eq!(compressed * 3, requests);
}
