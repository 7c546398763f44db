//! nginx in front of the rotel agent, as in production: TLS, client certificates, real 429s and 503s,
//! size limits, scripted responses. Run by `.ci/nginx`, which installs both.

use std::collections::HashSet;
use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::PATIENCE;
use otlp_collector::config::{Redirects, TlsOptions};
use otlp_collector::stats::EndpointState;
use otlp_collector::{Collector, Compression, Config, EndpointOptions, Ledger, Overflow, Span};

use common::agent::{Agent, free_addresses};
use common::certificates::{Files, authority, identity};

/// An nginx process with all [`SERVERS`], and the agent behind it.
struct Proxy {
    nginx: Child,
    agent: Option<Agent>,
    files: Files,
    ports: Vec<u16>,
}

/// The configuration of each server, in the order of the ports.
const SERVERS: [&str; 13] = [
    // 0: TLS 1.2.
    "listen PORT ssl; ssl_protocols TLSv1.2; location / { proxy_pass http://AGENT; }",
    // 1: TLS 1.3.
    "listen PORT ssl; ssl_protocols TLSv1.3; location / { proxy_pass http://AGENT; }",
    // 2: requires a client certificate.
    "listen PORT ssl; ssl_client_certificate CA; ssl_verify_client on;
     location / { proxy_pass http://AGENT; }",
    // 3: a rate limit, with a burst of one request.
    "listen PORT; limit_req zone=rate burst=1 nodelay; limit_req_status 429; limit_req_log_level info;
     location / { proxy_pass http://AGENT; }",
    // 4: unavailable twice, with the two forms of Retry-After, then available.
    "listen PORT; location / {
        access_by_lua_block {
            local turn = ngx.shared.turns:incr('unavailable', 1, 0)
            if turn > 2 then return end
            ngx.req.read_body()
            local soon = turn == 1 and '1' or ngx.http_time(ngx.time() + 1)
            ngx.header['Retry-After'] = soon
            ngx.exit(503)
        }
        proxy_pass http://AGENT;
     }",
    // 5: small requests only; larger ones are answered without being read.
    "listen PORT; client_max_body_size 100k; location / { proxy_pass http://AGENT; }",
    // 6: a partial success, in chunks.
    "listen PORT; location / { content_by_lua_block {
        ngx.req.read_body()
        ngx.header['Content-Type'] = 'application/x-protobuf'
        ngx.print('\\10\\8\\8\\3')
        ngx.flush(true)
        ngx.print('\\18\\4full')
     } }",
    // 7: two requests per connection, and a short keep-alive timeout.
    "listen PORT; keepalive_requests 2; keepalive_timeout 20ms;
     location / { proxy_pass http://AGENT; }",
    // 8: no upstream.
    "listen PORT; location / { proxy_pass http://127.0.0.1:9; }",
    // 9: moved permanently to the server with TLS 1.3.
    "listen PORT ssl; location / { return 308 https://localhost:TLS13$request_uri; }",
    // 10: moved to plain text, where no request may be sent.
    "listen PORT ssl; location / { return 307 http://localhost:LIMITED$request_uri; }",
    // 11: sometimes delays its response.
    "listen PORT; location / {
        access_by_lua_block {
            if ngx.shared.turns:incr('slow', 1, 0) % 3 == 1 then ngx.sleep(30) end
        }
        proxy_pass http://AGENT;
     }",
    // 12: breaks every second connection in the middle of the response.
    "listen PORT; location / { content_by_lua_block {
        ngx.req.read_body()
        if ngx.shared.turns:incr('broken', 1, 0) % 2 == 1 then
            local socket = ngx.req.socket(true)
            socket:send('HTTP/1.1 200 O')
            return ngx.exit(444)
        end
        ngx.exit(200)
     } }",
];

impl Proxy {
    fn start() -> Self {
        let (files, ca, agent) = (Files::new(), authority(), Agent::start());
        let server = identity(&ca, "localhost", |_| {});
        let client = identity(&ca, "shop", |_| {});
        let ca_file = files.write("ca.pem", &ca.pem());
        files.write("server.pem", &server.certificate);
        files.write("server.key", &server.key);
        files.write("client.pem", &client.certificate);
        files.write("client.key", &client.key);
        let ports = free_addresses::<{ SERVERS.len() }>().map(|address| address.port());
        let servers = SERVERS.iter().zip(ports).map(|(server, port)| {
            let server = (server.replace("PORT", &format!("127.0.0.1:{port}")))
                .replace("AGENT", &agent.http.to_string())
                .replace("CA", &ca_file.to_string_lossy())
                .replace("TLS13", &ports[1].to_string())
                .replace("LIMITED", &ports[5].to_string());
            format!("server {{ server_name localhost; {server} }}\n")
        });
        let directory = files.0.display();
        let configuration = format!(
            "load_module modules/ndk_http_module.so;
             load_module modules/ngx_http_lua_module.so;
             daemon off; worker_processes 1; pid {directory}/pid; error_log {directory}/log;
             events {{ }}
             http {{
                 access_log off;
                 client_max_body_size 64m;
                 client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
                 fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u;
                 scgi_temp_path {directory}/s;
                 ssl_certificate {directory}/server.pem;
                 ssl_certificate_key {directory}/server.key;
                 lua_shared_dict turns 1m;
                 limit_req_zone $server_name zone=rate:1m rate=20r/s;
                 {}
             }}",
            servers.collect::<String>()
        );
        let path = files.write("nginx.conf", &configuration);
        let nginx = Command::new("nginx")
            .args(["-p", "/usr/share/nginx", "-e"])
            .arg(files.0.join("log"))
            .arg("-c")
            .arg(path)
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx: run .ci/nginx");
        let proxy = Self {
            nginx,
            agent: Some(agent),
            files,
            ports: ports.to_vec(),
        };
        proxy.wait_until_ready()
    }

    fn wait_until_ready(mut self) -> Self {
        let deadline = Instant::now() + PATIENCE;
        for port in self.ports.clone() {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                let ended = self.nginx.try_wait().unwrap();
                assert!(ended.is_none(), "nginx exited: {}", self.log());
                assert!(Instant::now() < deadline, "nginx is not listening");
                thread::yield_now();
            }
        }
        self
    }

    fn log(&self) -> String {
        fs::read_to_string(self.files.0.join("log")).unwrap_or_default()
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.files.0.join(name))
    }

    /// Sends this many spans with distinct names to a server.
    fn send(&self, server: usize, spans: u64, change: impl FnOnce(&mut EndpointOptions)) -> Sent {
        let is_secure = SERVERS[server].contains("PORT ssl");
        let scheme = if is_secure { "https" } else { "http" };
        let mut endpoint_options = EndpointOptions {
            tls: TlsOptions {
                ca_file: self.file("ca.pem"),
                ..TlsOptions::default()
            },
            retry_initial_ms: 10,
            retry_max_ms: 100,
            redirects: Redirects::Follow,
            ..EndpointOptions::default()
        };
        change(&mut endpoint_options);
        let collector = Collector::new(Config {
            endpoint: format!("{scheme}://localhost:{}", self.ports[server]),
            endpoint_options,
            overflow: Overflow::Block { timeout_ms: 60_000 },
            // Only a flush sends them, so that requests are large.
            batch_size: 50_000,
            batch_timeout_ms: 3_600_000,
            ..Config::default()
        })
        .unwrap();
        for number in 0..spans {
            let span = Span::new(format!("server-{server}-span-{number}-"));
            collector.collect(span).unwrap();
        }
        let ledger = collector.flush(PATIENCE).unwrap();
        assert_eq!(ledger.delivered() + ledger.rejected(), spans, "{ledger}");
        let stats = collector.stats().network;
        let endpoint = &stats.destinations[0].endpoints[0];
        println!(
            "server {server}: {ledger}; responses {:?}, unanswered {}, last error {:?}",
            endpoint.responses, endpoint.unanswered, stats.last_error
        );
        Sent { collector, ledger }
    }

    /// Stops nginx and the agent. Returns the names of the spans that the agent has printed.
    fn end(mut self) -> HashSet<String> {
        let printed = self.agent.take().unwrap().end();
        let names = printed.split("server-").skip(1).filter_map(|rest| {
            let (server, rest) = rest.split_once("-span-")?;
            let (number, _) = rest.split_once('-')?;
            Some(format!("{server}/{number}"))
        });
        names.collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let pid = self.nginx.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.nginx.wait();
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

struct Sent {
    collector: Collector,
    ledger: Ledger,
}

impl Sent {
    /// Returns the number of responses with this status.
    fn answered(&self, status: u16) -> u64 {
        let stats = self.collector.stats().network;
        let responses = &stats.destinations[0].endpoints[0].responses;
        responses.get(&status).map_or(0, |some| some.count)
    }

    fn last_error(&self) -> String {
        let error = self.collector.stats().network.last_error;
        error.expect("an error was recorded")
    }
}

#[test]
#[ignore = "needs nginx and the rotel agent: run .ci/nginx"]
fn all_spans_arrive_through_nginx() {
    let proxy = Proxy::start();

    // Both versions of TLS, with many requests and with compression.
    for server in [0, 1] {
        let sent = proxy.send(server, 5000, |_| {});
        assert_eq!(sent.ledger.delivered(), 5000);
        assert_eq!(sent.collector.stats().network.retries, 0);
    }
    let sent = proxy.send(0, 5000, |options| options.compression = Compression::Gzip);
    assert_eq!(sent.ledger.delivered(), 5000);

    // Client certificates: without one nginx answers 400.
    let sent = proxy.send(2, 100, |options| {
        options.tls.client_certificate_file = proxy.file("client.pem");
        options.tls.client_key_file = proxy.file("client.key");
    });
    assert_eq!(sent.ledger.delivered(), 100);
    let sent = proxy.send(2, 100, |_| {});
    assert_eq!((sent.ledger.rejected(), sent.answered(400)), (100, 1));
    assert!(
        sent.last_error().contains("No required SSL certificate"),
        "{}",
        sent.last_error()
    );

    // Rate limits lose no span.
    let sent = proxy.send(3, 20_000, |options| options.request_bytes_max = 70_000);
    assert_eq!(sent.ledger.delivered(), 20_000);
    assert!(sent.answered(429) > 0);

    // Both forms of Retry-After.
    let began = Instant::now();
    let sent = proxy.send(4, 100, |_| {});
    assert_eq!((sent.ledger.delivered(), sent.answered(503)), (100, 2));
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "Retry-After was ignored"
    );

    // Requests that are too large are split until they fit.
    let sent = proxy.send(5, 20_000, |_| {});
    assert_eq!(sent.ledger.delivered(), 20_000);
    assert!(sent.answered(413) > 0);

    // A partial success, in chunks.
    let sent = proxy.send(6, 100, |_| {});
    assert_eq!((sent.ledger.delivered(), sent.ledger.rejected()), (97, 3));
    assert!(sent.last_error().contains("full"), "{}", sent.last_error());

    // Connections that are closed frequently lose no span.
    let sent = proxy.send(7, 10_000, |options| options.request_bytes_max = 70_000);
    assert_eq!(sent.ledger.delivered(), 10_000);

    // No upstream: retried until the spans are dropped.
    let collector = Collector::new(Config {
        endpoint: format!("http://localhost:{}", proxy.ports[8]),
        shutdown_timeout_ms: 100,
        ..Config::default()
    })
    .unwrap();
    collector.collect(Span::new("nowhere")).unwrap();
    assert!(collector.flush(Duration::from_millis(500)).is_err());
    let health = collector.health();
    let state = health.destinations[0].endpoints[0].state;
    assert_eq!(state, EndpointState::BackingOff, "{health}");
    assert_eq!(collector.shutdown().unwrap().dropped(), 1);

    // A permanent redirect, and one that must not be followed.
    let sent = proxy.send(9, 1000, |_| {});
    assert_eq!(sent.ledger.delivered(), 1000);
    let sent = proxy.send(10, 100, |_| {});
    assert_eq!(sent.ledger.rejected(), 100);
    assert!(
        sent.last_error().contains("from https to http"),
        "{}",
        sent.last_error()
    );

    // Sometimes slow, and sometimes broken.
    let sent = proxy.send(11, 100, |options| options.request_timeout_ms = 300);
    assert_eq!(sent.ledger.delivered(), 100);
    let sent = proxy.send(12, 100, |_| {});
    assert_eq!(sent.ledger.delivered(), 100);

    let arrived = proxy.end();
    let count = |server: usize| {
        let prefix = format!("{server}/");
        arrived
            .iter()
            .filter(|name| name.starts_with(&prefix))
            .count() as u64
    };
    assert_eq!([count(0), count(1), count(2)], [5000, 5000, 100]);
    assert_eq!([count(3), count(4), count(7)], [20_000, 100, 10_000]);
    assert_eq!(count(5), 20_000);
    assert_eq!([count(9), count(10), count(11)], [1000, 0, 100]);
    println!("the agent printed {} spans, none missing", arrived.len());
}
