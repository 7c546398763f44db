//! HTTPS: trusted and untrusted servers, client certificates, and the errors.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use common::{PATIENCE, retry_at_once};
use otlp_collector::config::{Endpoint, TlsOptions};
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, Destination, EndpointOptions, Overflow, Span};
use rcgen::date_time_ymd;
use rustls::version;

use common::certificates::{Files, authority, identity};
use common::tls_flood::FloodingServer;
use common::tls_server::Server;

fn config(endpoint: String, tls: TlsOptions) -> Config {
    Config {
        endpoint,
        endpoint_options: EndpointOptions {
            tls,
            ..retry_at_once()
        },
        overflow: Overflow::Block { timeout_ms: 60_000 },
        shutdown_timeout_ms: 10,
        ..Config::default()
    }
}

fn trusting(ca_file: &Path) -> TlsOptions {
    TlsOptions {
        ca_file: Some(ca_file.to_path_buf()),
        ..TlsOptions::default()
    }
}

/// Delivers some spans in several requests.
fn deliver(server: &Server, config: Config) {
    let collector = Collector::new(config).unwrap();
    for round in 1..=3 {
        for _ in 0..20_000 {
            collector.collect(Span::new("over TLS")).unwrap();
        }
        let ledger = collector.flush(PATIENCE).unwrap();
        assert_eq!(ledger.delivered(), round * 20_000, "{ledger}");
    }
    assert_eq!(server.receiver.counts().spans, 60_000);
}

/// Returns the error of an endpoint that cannot be connected to. No span is lost meanwhile.
fn complaint(config: Config) -> String {
    let collector = Collector::new(config).unwrap();
    collector.collect(Span::new("nowhere")).unwrap();
    let error = loop {
        assert!(collector.flush(Duration::from_millis(1)).is_err());
        if let Some(error) = collector.stats().network.last_error {
            break error;
        }
    };
    assert_eq!(collector.ledger().pending(), 1);
    assert_eq!(collector.shutdown().unwrap().dropped(), 1);
    error
}

#[test]
fn both_versions_deliver() {
    let (files, ca) = (Files::new(), authority());
    let ca_file = files.write("ca.pem", &ca.pem());
    let identity = identity(&ca, "localhost", |_| {});
    for version in [&version::TLS12, &version::TLS13] {
        let server = Server::start_with(&identity, None, &[version]);
        deliver(&server, config(server.url("localhost"), trusting(&ca_file)));
    }
}

#[test]
fn a_certificate_can_be_for_an_address() {
    let (files, ca) = (Files::new(), authority());
    let ca_file = files.write("ca.pem", &ca.pem());
    let server = Server::start(&identity(&ca, "127.0.0.1", |_| {}));
    deliver(&server, config(server.url("127.0.0.1"), trusting(&ca_file)));
}

#[test]
fn an_untrusted_authority_is_the_reported_reason() {
    let (files, ca) = (Files::new(), authority());
    let ca_file = files.write("ca.pem", &authority().pem());
    let server = Server::start(&identity(&ca, "localhost", |_| {}));
    let error = complaint(config(server.url("localhost"), trusting(&ca_file)));
    assert!(
        error.contains("not trusted") && error.contains("ca_file"),
        "{error}"
    );
}

#[test]
fn a_certificate_for_another_name_is_the_reported_reason_unless_configured() {
    let (files, ca) = (Files::new(), authority());
    let ca_file = files.write("ca.pem", &ca.pem());
    let server = Server::start(&identity(&ca, "otlp.example", |_| {}));
    let error = complaint(config(server.url("localhost"), trusting(&ca_file)));
    assert!(
        error.contains("another name") && error.contains("server_name"),
        "{error}"
    );
    let expecting = TlsOptions {
        server_name: Some("otlp.example".to_string()),
        ..trusting(&ca_file)
    };
    deliver(&server, config(server.url("localhost"), expecting));
}

#[test]
fn an_expired_or_future_certificate_is_the_reported_reason() {
    let (files, ca) = (Files::new(), authority());
    let ca_file = files.write("ca.pem", &ca.pem());
    for (from, until, reason) in [(1990, 1991, "has expired"), (2990, 2991, "not valid yet")] {
        let server = Server::start(&identity(&ca, "localhost", |params| {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
        }));
        let error = complaint(config(server.url("localhost"), trusting(&ca_file)));
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_client_certificate_is_sent_on_request() {
    let (files, ca, clients) = (Files::new(), authority(), authority());
    let client = identity(&clients, "shop", |_| {});
    let tls = TlsOptions {
        client_certificate_file: Some(files.write("client.pem", &client.certificate)),
        client_key_file: Some(files.write("client.key", &client.key)),
        ..trusting(&files.write("ca.pem", &ca.pem()))
    };
    let identity = identity(&ca, "localhost", |_| {});
    for version in [&version::TLS12, &version::TLS13] {
        let server = Server::start_with(&identity, Some(&clients), &[version]);
        deliver(&server, config(server.url("localhost"), tls.clone()));
        let anonymous = trusting(tls.ca_file.as_ref().unwrap());
        let error = complaint(config(server.url("localhost"), anonymous));
        assert!(error.contains("refused the TLS session"), "{error}");
    }
}

#[test]
fn unusable_files_are_errors_at_start() {
    let (files, ca) = (Files::new(), authority());
    let one = identity(&ca, "one", |_| {});
    let other = identity(&ca, "other", |_| {});
    let certificate = files.write("one.pem", &one.certificate);
    let key = files.write("one.key", &one.key);
    let other_key = files.write("other.key", &other.key);
    let garbage = files.write("garbage.pem", "garbage");
    let broken = files.write(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let missing = files.0.join("missing.pem");
    let none = TlsOptions::default;
    for (tls, reason) in [
        (trusting(&missing), "missing.pem"),
        (trusting(&garbage), "contains no PEM certificate"),
        (trusting(&broken), "broken.pem"),
        (
            TlsOptions {
                client_certificate_file: Some(certificate.clone()),
                ..none()
            },
            "without client_key_file",
        ),
        (
            TlsOptions {
                client_key_file: Some(key.clone()),
                ..none()
            },
            "without client_certificate_file",
        ),
        (
            TlsOptions {
                client_certificate_file: Some(certificate.clone()),
                client_key_file: Some(missing.clone()),
                ..none()
            },
            "missing.pem",
        ),
        (
            TlsOptions {
                client_certificate_file: Some(certificate.clone()),
                client_key_file: Some(garbage.clone()),
                ..none()
            },
            "client_key_file",
        ),
        (
            TlsOptions {
                client_certificate_file: Some(certificate),
                client_key_file: Some(other_key),
                ..none()
            },
            "client_certificate_file and client_key_file",
        ),
        (
            TlsOptions {
                server_name: Some("no name".to_string()),
                ..none()
            },
            "server_name",
        ),
    ] {
        let error = Collector::new(config("https://localhost:1".to_string(), tls)).unwrap_err();
        assert!(error.is_config(), "{error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
}

#[test]
fn a_server_without_tls_is_the_reported_reason() {
    let (files, ca) = (Files::new(), authority());
    let ca_file = files.write("ca.pem", &ca.pem());
    // Answers with an error in plain text.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let error = complaint(config(url, trusting(&ca_file)));
    assert!(error.contains("does not speak TLS"), "{error}");
}

#[test]
fn a_server_that_stalls_in_the_handshake_costs_the_connect_timeout() {
    let (files, ca) = (Files::new(), authority());
    let ca_file = files.write("ca.pem", &ca.pem());
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(
        format!("https://{}", silent.local_addr().unwrap()),
        trusting(&ca_file),
    );
    config.endpoint_options.connect_timeout_ms = 20;
    let error = complaint(config);
    assert!(error.contains("not connected in time"), "{error}");
}

/// Session tickets carry no data, and their number has no limit.
#[test]
fn a_flood_of_session_tickets_ends_the_connection_and_delays_no_other_destination() {
    let (files, ca) = (Files::new(), authority());
    let ca_file = files.write("ca.pem", &ca.pem());
    let server = FloodingServer::start(&identity(&ca, "localhost", |_| {}));
    let flooding = format!("https://localhost:{}", server.port);
    let good = Receiver::start().unwrap();
    let mut options = config(flooding.clone(), trusting(&ca_file)).endpoint_options;
    // Without the bound on tickets only this timeout would end the connection.
    options.request_timeout_ms = 3_600_000;
    let collector = Collector::new(Config {
        destinations: vec![
            Destination::from(Endpoint {
                url: flooding,
                options,
            }),
            Destination::from(Endpoint::new(good.endpoint())),
        ],
        shutdown_timeout_ms: 10,
        ..Config::default()
    })
    .unwrap();
    collector.collect(Span::new("span")).unwrap();
    loop {
        assert!(collector.flush(Duration::from_millis(1)).is_err());
        let error = collector.stats().network.last_error;
        if error.is_some_and(|error| error.contains("TLS records without data")) {
            break;
        }
    }
    assert!(good.wait_until(PATIENCE, |counts| counts.spans == 1));
    assert_eq!(collector.shutdown().unwrap().delivered(), 1);
}

/// The system's authorities are trusted, unless the environment names others. Runs in a child process
/// with that environment.
#[test]
fn authorities_from_the_environment_are_trusted() {
    let (files, ca) = (Files::new(), authority());
    let ca_file = files.write("ca.pem", &ca.pem());
    let server = Server::start(&identity(&ca, "localhost", |_| {}));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "runs_in_that_environment"])
        .env("SSL_CERT_FILE", &ca_file)
        .env_remove("SSL_CERT_DIR")
        .env("TEST_ENDPOINT", server.url("localhost"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(server.receiver.spans()[0].name, "with SSL_CERT_FILE");

    let nowhere = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "runs_in_that_environment"])
        .env("SSL_CERT_FILE", files.0.join("missing.pem"))
        .env_remove("SSL_CERT_DIR")
        .env("TEST_ENDPOINT", server.url("localhost"))
        .output()
        .unwrap();
    assert!(!nowhere.status.success());
    let output = String::from_utf8_lossy(&nowhere.stdout);
    assert!(output.contains("no trusted authorities"), "{output}");
}

#[test]
#[ignore = "started by the test above"]
fn runs_in_that_environment() {
    let endpoint = std::env::var("TEST_ENDPOINT").unwrap();
    let collector = match Collector::new(config(endpoint, TlsOptions::default())) {
        Ok(collector) => collector,
        Err(error) => panic!("{error}"),
    };
    collector.collect(Span::new("with SSL_CERT_FILE")).unwrap();
    assert_eq!(collector.flush(PATIENCE).unwrap().delivered(), 1);
}
