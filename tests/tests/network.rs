//! A failing network: links down, packets dropped, resets, dead routes, a slow line, names that move.
//! Runs between two network namespaces that `.ci/network` creates.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::PATIENCE;
use otlp_collector::stats::EndpointState;
use otlp_collector::{Collector, Config, EndpointOptions, Ledger, Overflow, Span};

use common::script::ScriptedServer;

/// Addresses that `.ci/network` sets up.
const SERVER: &str = "10.213.7.2";
const MOVED: &str = "10.213.7.3";
const PORT: u16 = 4318;

/// A server in the other namespace.
struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(address: &str) -> Self {
        let namespace = env::var("SERVER_NAMESPACE").expect("run .ci/network");
        let mut child = Command::new("ip")
            .args(["netns", "exec", &namespace])
            .arg(env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "runs_the_server_process",
            ])
            .env("SERVER_ADDRESS", address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while line != "listening\n" {
            line.clear();
            assert!(
                stdout.read_line(&mut line).unwrap() > 0,
                "the server exited"
            );
        }
        Self {
            stdin: child.stdin.take(),
            stdout,
            child,
        }
    }

    /// Stops the server and returns how many distinct spans it has received.
    fn end(mut self) -> u64 {
        drop(self.stdin.take());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        let spans = rest.lines().find_map(|line| line.strip_prefix("spans "));
        spans.expect("the server's count").parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "started by the other tests"]
fn runs_the_server_process() {
    let Ok(address) = env::var("SERVER_ADDRESS") else {
        return;
    };
    let listener = TcpListener::bind((address, PORT)).unwrap();
    let server = ScriptedServer::start_on(listener, []);
    println!("\nlistening");
    // Runs until the process that started it closes the pipe.
    let _ = std::io::stdin().read_to_string(&mut String::new());
    println!("\nspans {}", server.seen().spans.len());
}

/// Runs a command that changes the network.
fn network(command: &str) {
    println!("    {command}");
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

fn collector(host: &str, change: impl FnOnce(&mut EndpointOptions)) -> Collector {
    let mut endpoint_options = EndpointOptions {
        connect_timeout_ms: 1000,
        request_timeout_ms: 1000,
        retry_max_ms: 200,
        ..EndpointOptions::default()
    };
    change(&mut endpoint_options);
    Collector::new(Config {
        endpoint: format!("http://{host}:{PORT}"),
        endpoint_options,
        overflow: Overflow::Block { timeout_ms: 60_000 },
        batch_timeout_ms: 20,
        shutdown_timeout_ms: 60_000,
        ..Config::default()
    })
    .unwrap()
}

fn collect(collector: &Collector, spans: u64) {
    for _ in 0..spans {
        collector.collect(Span::new("across a network")).unwrap();
    }
}

/// Applies the command `fault`, collects until the endpoint is reported as failing, and applies
/// `mend`.
fn through(collector: &Collector, fault: &str, mend: &str) -> Ledger {
    collect(collector, 1000);
    collector.flush(PATIENCE).unwrap();
    network(fault);
    let began = Instant::now();
    collect(collector, 1000);
    loop {
        let health = collector.health();
        let endpoint = &health.destinations[0].endpoints[0];
        if endpoint.state == EndpointState::BackingOff {
            println!("    after {:.1?}: {endpoint}", began.elapsed());
            break;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "the fault was not noticed: {health}"
        );
        thread::yield_now();
    }
    // Deadlines are kept in spite of the fault.
    let flushed = Instant::now();
    assert!(collector.flush(Duration::from_millis(300)).is_err());
    assert!(flushed.elapsed() < Duration::from_secs(5));
    collect(collector, 1000);
    network(mend);
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), ledger.accepted, "{ledger}");
    ledger
}

#[test]
#[ignore = "needs network namespaces: run .ci/network"]
fn spans_are_delivered_after_each_network_fault() {
    for (what, fault, mend) in [
        (
            "the link is down",
            "ip link set client down",
            "ip link set client up",
        ),
        (
            "packets are dropped",
            "nft add table ip t && nft add chain ip t out '{ type filter hook output priority 0; }' \
             && nft add rule ip t out tcp dport 4318 drop",
            "nft delete table ip t",
        ),
        (
            "responses are dropped",
            "nft add table ip t && nft add chain ip t in '{ type filter hook input priority 0; }' \
             && nft add rule ip t in tcp sport 4318 drop",
            "nft delete table ip t",
        ),
        (
            "connections are reset",
            "nft add table ip t && nft add chain ip t out '{ type filter hook output priority 0; }' \
             && nft add rule ip t out tcp dport 4318 reject with tcp reset",
            "nft delete table ip t",
        ),
        (
            "the route is a black hole",
            "ip route add blackhole 10.213.7.2/32",
            "ip route del blackhole 10.213.7.2/32",
        ),
        (
            "the route is prohibited",
            "ip route add unreachable 10.213.7.2/32",
            "ip route del unreachable 10.213.7.2/32",
        ),
    ] {
        println!("{what}");
        let server = Server::start(SERVER);
        let collector = collector(SERVER, |_| {});
        let ledger = through(&collector, fault, mend);
        collector.shutdown().unwrap();
        assert_eq!(server.end(), ledger.accepted, "{what}");
    }
}

#[test]
#[ignore = "needs network namespaces: run .ci/network"]
fn requests_adapt_to_a_slow_line() {
    println!("200 kbit/s");
    network("tc qdisc add dev client root tbf rate 200kbit burst 8kb latency 50ms");
    let server = Server::start(SERVER);
    let collector = collector(SERVER, |options| options.request_timeout_ms = 8000);
    // About 20 s at that rate. Each request would take longer than its timeout.
    collect(&collector, 9000);
    let began = Instant::now();
    let ledger = collector.flush(PATIENCE).unwrap();
    println!("    {:.1?}: {ledger}", began.elapsed());
    assert_eq!(ledger.delivered(), 9000, "{ledger}");
    network("tc qdisc del dev client root");
    collector.shutdown().unwrap();
    assert_eq!(server.end(), 9000);
}

#[test]
#[ignore = "needs network namespaces: run .ci/network"]
fn a_dead_address_is_skipped_and_a_moved_name_is_followed() {
    let hosts = env::var("HOSTS").expect("run .ci/network");
    // Written in place, since the file is a mount point.
    let name = |addresses: &[&str]| {
        let lines = addresses
            .iter()
            .map(|address| format!("{address} otlp.test\n"));
        fs::write(&hosts, lines.collect::<String>()).unwrap();
    };
    println!("the first address is dead");
    network("ip route add blackhole 10.213.9.9/32");
    network(
        "nft add table ip t && nft add chain ip t out '{ type filter hook output priority 0; }' \
         && nft add rule ip t out ip daddr 10.213.8.8 drop",
    );
    name(&["10.213.9.9", "10.213.8.8", "fd00:dead::1", SERVER]);
    let server = Server::start(SERVER);
    let collector = collector("otlp.test", |_| {});
    collect(&collector, 100);
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), 100, "{ledger}");
    assert_eq!(server.end(), 100);

    println!("the name moves while its address is unreachable");
    collect(&collector, 100);
    assert!(collector.flush(Duration::from_millis(300)).is_err());
    let server = Server::start(MOVED);
    name(&[MOVED]);
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), 200, "{ledger}");
    collector.shutdown().unwrap();
    assert_eq!(server.end(), 100);
    network("nft delete table ip t");
    network("ip route del blackhole 10.213.9.9/32");
}
