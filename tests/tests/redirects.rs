//! A redirect never sends credentials to another server, and never changes an endpoint forever.

use std::time::Duration;

use common::{PATIENCE, retry_at_once};
use otlp_collector::config::{Redirects, TlsOptions};
use otlp_collector::{Collector, Config, EndpointOptions, Ledger, Span};

use common::certificates::{Files, authority, identity};
use common::script::{Script, ScriptedServer, Step, response};
use common::tls_server::Server;

fn collector(endpoint: String, redirects: Redirects, tls: TlsOptions) -> Collector {
    Collector::new(Config {
        endpoint,
        endpoint_options: EndpointOptions {
            redirects,
            tls,
            ..retry_at_once()
        },
        batch_timeout_ms: 3_600_000,
        shutdown_timeout_ms: 10,
        ..Config::default()
    })
    .unwrap()
}

fn deliver(collector: &Collector) -> Ledger {
    collector.collect(Span::new("span")).unwrap();
    collector.flush(PATIENCE).unwrap()
}

fn redirect(status: u16, location: &str) -> Script {
    let headers = format!("Location: {location}\r\n");
    vec![
        Step::ReadRequest,
        Step::Write(response(status, &headers, b"")),
    ]
}

#[test]
fn redirects_are_followed_as_far_as_the_option_allows() {
    for status in [307, 308] {
        for (redirects, own_path, elsewhere) in [
            (Redirects::Refuse, false, false),
            (Redirects::SameOrigin, true, false),
            (Redirects::Follow, true, true),
        ] {
            let other = ScriptedServer::start([]);
            for (location, follows) in [
                ("/moved".to_string(), own_path),
                (other.endpoint(), elsewhere),
            ] {
                let server = ScriptedServer::start([redirect(status, &location)]);
                let collector = collector(server.endpoint(), redirects, TlsOptions::default());
                let ledger = deliver(&collector);
                let outcome = (ledger.delivered(), ledger.rejected());
                assert_eq!(
                    outcome,
                    (u64::from(follows), u64::from(!follows)),
                    "{redirects:?} {ledger}"
                );
                if !follows {
                    let error = collector.stats().network.last_error.unwrap();
                    assert!(error.contains("redirects"), "{error}");
                }
            }
            assert_eq!(other.seen().heads.len(), usize::from(elsewhere));
        }
    }
}

#[test]
fn a_permanent_redirect_is_remembered_only_while_its_target_accepts() {
    let refuse = vec![
        Step::ReadRequest,
        Step::Write(response(200, "", b"")),
        Step::ReadRequest,
        Step::Write(response(404, "", b"")),
    ];
    let other = ScriptedServer::start([refuse]);
    let server = ScriptedServer::start([redirect(308, &other.endpoint())]);
    let collector = collector(server.endpoint(), Redirects::Follow, TlsOptions::default());
    assert_eq!(deliver(&collector).delivered(), 1);
    assert_eq!(deliver(&collector).rejected(), 1);
    // The next request goes to the endpoint itself again.
    assert_eq!(deliver(&collector).delivered(), 2);
    assert_eq!(
        (server.seen().heads.len(), other.seen().heads.len()),
        (2, 2)
    );
}

#[test]
fn a_permanent_redirect_whose_target_refuses_is_not_remembered() {
    for status in [400, 503] {
        let refuse = vec![Step::ReadRequest, Step::Write(response(status, "", b""))];
        let other = ScriptedServer::start([refuse]);
        let server = ScriptedServer::start([redirect(308, &other.endpoint())]);
        let collector = collector(server.endpoint(), Redirects::Follow, TlsOptions::default());
        deliver(&collector);
        deliver(&collector);
        // Both requests, plus the retry of the first one.
        let asked = if status == 503 { 3 } else { 2 };
        assert_eq!(
            (server.seen().heads.len(), other.seen().heads.len()),
            (asked, 1)
        );
    }
}

#[test]
fn the_client_certificate_is_not_sent_to_another_origin() {
    let (files, ca, clients) = (Files::new(), authority(), authority());
    let client = identity(&clients, "shop", |_| {});
    let tls = TlsOptions {
        ca_file: Some(files.write("ca.pem", &ca.pem())),
        client_certificate_file: Some(files.write("client.pem", &client.certificate)),
        client_key_file: Some(files.write("client.key", &client.key)),
        ..TlsOptions::default()
    };
    let identity = identity(&ca, "localhost", |_| {});
    // An internal service that accepts the client's certificate.
    let internal = Server::start_with(&identity, Some(&clients), rustls::ALL_VERSIONS);
    for own_asks_too in [true, false] {
        let own = Server::start_with(
            &identity,
            own_asks_too.then_some(&clients),
            rustls::ALL_VERSIONS,
        );
        let location = format!("{}/internal", internal.url("localhost"));
        own.receiver
            .answer(otlp_collector::testing::Answer::status(307).header("Location", location));
        let collector = collector(own.url("localhost"), Redirects::Follow, tls.clone());
        collector.collect(Span::new("span")).unwrap();
        let error = loop {
            assert!(collector.flush(Duration::from_millis(1)).is_err());
            if let Some(error) = collector.stats().network.last_error {
                break error;
            }
        };
        assert!(error.contains("refused the TLS session"), "{error}");
        assert!(own.receiver.counts().requests > 0);
    }
    assert_eq!(internal.receiver.counts().requests, 0);
}
