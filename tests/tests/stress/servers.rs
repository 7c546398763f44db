//! Destinations of every manner, and disturbances of them.

use std::path::Path;

use otlp_collector::config::{Endpoint, Selection, TlsOptions};
use otlp_collector::stats::DestinationLedger;
use otlp_collector::testing::{Answer, Receiver};
use otlp_collector::{Compression, Destination, EndpointOptions};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::dice::Dice;
use common::ClosedPort;
use common::any_script::any_script;
use common::certificates::{Files, authority, identity};
use common::script::{Script, ScriptedServer, Step, response};
use common::tls_server::Server;

/// How a destination treats requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Accepts everything, undisturbed.
    Good,
    /// Like `Good`, over TLS.
    Secure,
    /// Sometimes closes, pauses, or answers with errors.
    Flapping,
    /// Redirects every request to a receiver that accepts everything.
    Redirecting,
    /// Trickles its responses.
    Slow,
    /// A group of which one endpoint refuses connections.
    Group,
    /// Refuses connections.
    Dead,
    /// Accepts connections and never responds.
    Hanging,
    /// Follows random scripts.
    Hostile,
}

impl Manner {
    /// Manners that accept every span once they are no longer disturbed.
    pub const LASTING: [Self; 5] = [
        Self::Secure,
        Self::Flapping,
        Self::Redirecting,
        Self::Slow,
        Self::Group,
    ];
    pub const ALL: [Self; 8] = [
        Self::Secure,
        Self::Flapping,
        Self::Redirecting,
        Self::Slow,
        Self::Group,
        Self::Dead,
        Self::Hanging,
        Self::Hostile,
    ];
}

/// A running destination.
pub struct Place {
    pub manner: Manner,
    pub destination: Destination,
    receiver: Option<Receiver>,
    /// A server in front of the receiver, or without one.
    front: Front,
}

#[allow(dead_code, reason = "kept alive to serve")]
enum Front {
    None,
    ClosedPort(ClosedPort),
    Scripted(ScriptedServer),
    Secure(Server, Files),
}

/// Options with short timeouts and waits, for frequent failures.
fn hasty(dice: &mut Dice) -> EndpointOptions {
    EndpointOptions {
        compression: dice.pick(&[Compression::None, Compression::Gzip, Compression::Zstd]),
        connections_max: 1 + dice.below(4) as usize,
        connect_timeout_ms: 50,
        request_timeout_ms: 20 + dice.below(40),
        idle_timeout_ms: 5 + dice.below(1000),
        retry_initial_ms: 1,
        retry_max_ms: 3,
        retry_budget_ms: dice.pick(&[0, 30, 300_000]),
        ..EndpointOptions::default()
    }
}

/// Options with long timeouts, so that slow requests do not fail.
fn patient(dice: &mut Dice) -> EndpointOptions {
    EndpointOptions {
        connect_timeout_ms: 3_600_000,
        request_timeout_ms: 3_600_000,
        idle_timeout_ms: 3_600_000,
        retry_budget_ms: 3_600_000,
        ..hasty(dice)
    }
}

fn trusting(ca_file: &Path) -> TlsOptions {
    TlsOptions {
        ca_file: Some(ca_file.to_path_buf()),
        ..TlsOptions::default()
    }
}

fn endless(make: impl FnMut() -> Script + Send + 'static) -> ScriptedServer {
    ScriptedServer::start_endless(make)
}

impl Place {
    /// Starts a destination. If it `may_lose` spans, a flapping one has short timeouts; otherwise
    /// it accepts all spans in the end.
    pub fn start(manner: Manner, may_lose: bool, dice: &mut Dice) -> Self {
        let mut options = match manner {
            Manner::Dead | Manner::Hanging | Manner::Hostile => hasty(dice),
            Manner::Flapping if may_lose => hasty(dice),
            _ => patient(dice),
        };
        let receiver = match manner {
            Manner::Good | Manner::Flapping | Manner::Redirecting | Manner::Group => {
                Some(Receiver::start_counting().unwrap())
            }
            _ => None,
        };
        let behind = receiver.as_ref().map(Receiver::endpoint);
        let front = match manner {
            Manner::Good | Manner::Flapping => Front::None,
            Manner::Dead | Manner::Group => Front::ClosedPort(ClosedPort::new()),
            Manner::Secure => {
                let (files, ca) = (Files::new(), authority());
                options.tls = trusting(&files.write("ca.pem", &ca.pem()));
                let server = Server::start(&identity(&ca, "localhost", |_| {}));
                Front::Secure(server, files)
            }
            Manner::Redirecting => {
                let status = dice.pick(&[307, 308]);
                let location = behind.clone().expect("a receiver");
                let location = format!("Location: {location}/v1/traces\r\n");
                Front::Scripted(endless(move || {
                    let answer = response(status, &location, b"");
                    vec![Step::ReadRequest, Step::Write(answer)]
                }))
            }
            Manner::Slow => Front::Scripted(endless(|| {
                let answer = || Step::Trickle(response(200, "", b""), 1);
                (0..20)
                    .flat_map(|_| [Step::ReadRequest, answer()])
                    .collect()
            })),
            Manner::Hanging => {
                let mut drains = false;
                Front::Scripted(endless(move || {
                    drains = !drains;
                    vec![if drains { Step::Drain } else { Step::Stall }]
                }))
            }
            Manner::Hostile => Front::Scripted(hostile(dice)),
        };
        let endpoint = |url: String| Endpoint {
            url,
            options: options.clone(),
        };
        let urls = match &front {
            Front::None => behind.into_iter().collect(),
            Front::ClosedPort(closed) => [Some(closed.endpoint()), behind]
                .into_iter()
                .flatten()
                .collect(),
            Front::Scripted(server) => vec![server.endpoint()],
            Front::Secure(server, _) => vec![server.url("localhost")],
        };
        Self {
            manner,
            destination: Destination {
                endpoints: urls.into_iter().map(endpoint).collect(),
                selection: dice.pick(&[Selection::FailOver, Selection::RoundRobin]),
            },
            receiver,
            front,
        }
    }

    /// Returns the receiver that counts the spans of this destination, if there is one.
    fn counting(&self) -> Option<&Receiver> {
        match &self.front {
            Front::Secure(server, _) => Some(&server.receiver),
            _ => self.receiver.as_ref(),
        }
    }

    /// Disturbs a flapping receiver at random.
    pub fn disturb(&self, dice: &mut Dice) {
        let Some(receiver) = self.receiver.as_ref() else {
            return;
        };
        if self.manner != Manner::Flapping {
            return;
        }
        match dice.below(6) {
            0 => receiver.close(),
            1 => receiver.pause(),
            // Fails if the receiver is open already.
            2 | 3 => {
                receiver.resume();
                let _ = receiver.reopen();
            }
            _ => {
                let answers = (0..3).map(|_| any_refusal(dice)).collect::<Vec<_>>();
                receiver.answer_next(answers);
            }
        }
    }

    /// Ends all disturbances.
    pub fn restore(&self) {
        if self.manner == Manner::Flapping {
            let receiver = self.receiver.as_ref().expect("a receiver");
            receiver.resume();
            receiver.close();
            receiver.reopen().expect("the port is reserved");
        }
    }

    /// Checks the receiver's counts against the ledger of a collector that was shut down. Requests
    /// may have been sent twice if some were `interrupted`.
    pub fn check(&self, ledger: &DestinationLedger, interrupted: u64) {
        let Some(counts) = self.counting().map(Receiver::counts) else {
            return;
        };
        let manner = self.manner;
        let context = format!("{manner:?}: {ledger}; {counts:?}; {interrupted} interrupted");
        assert_eq!(counts.malformed, 0, "{context}");
        assert!(ledger.delivered <= counts.spans, "{context}");
        if manner == Manner::Good {
            assert_eq!(ledger.rejected, 0, "{context}");
            if interrupted == 0 {
                // Only requests in flight at the shutdown are missing from `delivered`.
                let more = counts.spans - ledger.delivered;
                assert!(more <= ledger.dropped.shut_down, "{context}");
            }
        }
    }
}

fn any_refusal(dice: &mut Dice) -> Answer {
    match dice.below(10) {
        0 => Answer::status(400),
        1 => Answer::status(413),
        2 => Answer::status(429).header("Retry-After", "0"),
        3 => Answer::status(429),
        4 => Answer::status(503),
        5 => Answer::partial_success(2, "two are too old"),
        6 => Answer::disconnect(),
        7 => Answer::accept_and_disconnect(),
        8 => Answer::ok().body("no protobuf"),
        _ => Answer::status(503).header("Retry-After", "0"),
    }
}

/// Starts a server with random scripts.
fn hostile(dice: &mut Dice) -> ScriptedServer {
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &dice.seed());
    let mut runner = TestRunner::new_with_rng(config, rng);
    endless(move || {
        let script = any_script().new_tree(&mut runner);
        script.expect("a script").current()
    })
}
