//! External text is bounded wherever it is shown, and secrets in it are redacted.

use common::PATIENCE;
use crossbeam_channel::Receiver as Notices;
use otlp_collector::config::TlsOptions;
use otlp_collector::stats::{Notice, OnNotice};
use otlp_collector::testing::{Answer, Receiver};
use otlp_collector::{Collector, Config, EndpointOptions, Overflow, Span};

use common::certificates::{Files, authority, identity};
use common::tls_server::Server;

/// Maximum characters of a message: its own words and 300 characters of external text.
const SHOWN_MAX: usize = 600;

/// Starts a collector, and returns it with its notices.
fn start(endpoint: String, options: EndpointOptions) -> (Collector, Notices<Notice>) {
    let (told, notices) = crossbeam_channel::unbounded();
    let collector = Collector::new(Config {
        endpoint,
        endpoint_options: EndpointOptions {
            retry_initial_ms: 1,
            retry_max_ms: 5,
            ..options
        },
        on_notice: Some(OnNotice::new(move |notice| {
            told.send(notice.clone()).unwrap()
        })),
        overflow: Overflow::Block { timeout_ms: 60_000 },
        shutdown_timeout_ms: 10,
        ..Config::default()
    })
    .unwrap();
    (collector, notices)
}

/// Sends a span and returns the texts about its failure: the notice, the reason in the health, the
/// last error.
fn shown(endpoint: String, options: EndpointOptions) -> Vec<String> {
    let (collector, notices) = start(endpoint, options);
    collector.collect(Span::new("unlucky")).unwrap();
    let notice = notices.recv_timeout(PATIENCE).unwrap();
    let mut shown = vec![notice.to_string()];
    let health = collector.health();
    shown.extend(health.destinations[0].endpoints[0].reason.clone());
    shown.extend(collector.stats().network.last_error);
    for text in &shown {
        let beginning: String = text.chars().take(1000).collect();
        let chars = text.chars().count();
        assert!(chars < SHOWN_MAX, "{chars} characters: {beginning}");
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    shown
}

fn shown_of(answer: Answer) -> Vec<String> {
    let receiver = Receiver::start().unwrap();
    receiver.answer(answer);
    shown(receiver.endpoint(), EndpointOptions::default())
}

#[test]
fn a_location_of_60_kilobytes_is_cut_in_messages() {
    for location in [
        "x".repeat(60_000) + " ",
        format!("ftp://h/{}", "\"".repeat(60_000)),
        format!("ftp://h/{}", "\"".repeat(7_000)),
        format!("{}://h/", "\u{200b}".repeat(2_000)),
    ] {
        let shown = shown_of(Answer::status(308).header("Location", location));
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(
            shown[0].contains("Location is not a URL")
                || shown[0].contains("Location contains blanks")
                || shown[0].contains("unknown scheme"),
            "{shown:?}"
        );
    }
}

#[test]
fn a_content_type_of_60_kilobytes_is_cut_in_messages() {
    for (name, value) in [
        ("Content-Type", "x".repeat(60_000)),
        ("Content-Type", "\"".repeat(7_000)),
        ("Content-Encoding", "\\".repeat(60_000)),
        ("Content-Encoding", "\u{200b}".repeat(2_000)),
        ("Retry-After", "9".repeat(60_000)),
    ] {
        let answer = Answer::ok().body("no protobuf").header(name, value);
        // The request succeeded, so the health has no reason.
        assert_eq!(shown_of(answer).len(), 2, "{name}");
    }
}

#[test]
fn messages_of_responses_are_cut() {
    let message = "\u{200b}no\r\n\0such tenant ".repeat(4_000);
    let shown = shown_of(Answer::status(400).body(message.clone()));
    assert!(shown[0].contains("no   such tenant"), "{shown:?}");
    shown_of(Answer::status(503).body(message.clone()));
    shown_of(Answer::partial_success(1, message));
}

#[test]
fn the_names_of_a_certificate_are_cut() {
    let (files, ca) = (Files::new(), authority());
    let ca_file = files.write("ca.pem", &ca.pem());
    let identity = identity(&ca, "otlp.example", |params| {
        for number in 0..200 {
            let name = format!("{number}.{}.example", "long".repeat(15));
            params
                .subject_alt_names
                .push(rcgen::SanType::DnsName(name.try_into().unwrap()));
        }
    });
    let server = Server::start(&identity);
    let options = EndpointOptions {
        tls: TlsOptions {
            ca_file: Some(ca_file),
            ..TlsOptions::default()
        },
        ..EndpointOptions::default()
    };
    let shown = shown(server.url("localhost"), options);
    assert!(shown[0].contains("another name"), "{shown:?}");
    assert_eq!(shown.len(), 3);
}

#[test]
fn no_part_of_a_secret_at_the_cut_is_shown() {
    const SECRET: &str = "c0nfidential-and-long-enough-to-be-cut";
    for before in [280, 290, 16_370, 70_000] {
        let receiver = Receiver::start().unwrap();
        let body = format!("{} {SECRET}", "x".repeat(before));
        receiver.answer(Answer::status(400).body(body));
        let options = EndpointOptions {
            headers: vec![("api-key".to_string(), SECRET.to_string())],
            ..EndpointOptions::default()
        };
        for text in shown(receiver.endpoint(), options) {
            assert!(!text.contains("c0nf"), "{text}");
        }
    }
}

#[test]
fn a_response_beyond_response_bytes_max_counts_by_its_status() {
    let receiver = Receiver::start().unwrap();
    let message = "taken with a remark".to_string();
    let length = 4 + message.len();
    for (bytes_max, remark) in [
        (length, &*message),
        (length - 1, "longer than response_bytes_max"),
    ] {
        receiver.answer(Answer::partial_success(0, message.clone()));
        let options = EndpointOptions {
            response_bytes_max: bytes_max,
            ..EndpointOptions::default()
        };
        let shown = shown(receiver.endpoint(), options);
        assert!(shown[0].contains(remark), "{bytes_max}: {shown:?}");
    }
    assert_eq!(receiver.counts().spans, 2);
    assert_eq!(receiver.counts().connections, 2);
}
