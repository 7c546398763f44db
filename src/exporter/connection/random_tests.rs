//! Connections under random schedules: they keep their promises with any behaviour of network and
//! server, at any time.
//!
//! `PROPTEST_CASES` sets the number of schedules.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::config::{Compression, Config, Settings};
use crate::exporter::connection::{Connection, ConnectionEvent, ConnectionLoss};
use crate::exporter::network::ConnectionId;
use crate::exporter::network::simulated::{ClientSide, Peer, SimulatedLookup, SimulatedNetwork};
use crate::exporter::request::Request;
use crate::exporter::resolver::Resolver;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

#[derive(Clone, Debug)]
enum Step {
    /// Lets time pass.
    Wait(Duration),
    /// Answers the look-ups with this many addresses, or with an error.
    Answer(Option<u16>),
    Accept,
    Refuse,
    Send(&'static str),
    Close,
    Reset,
    SetRoom(usize),
    /// Makes attempts to connect fail at once, or no longer fail.
    FailAtOnce(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    let piece = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100 Wait\r\n\r\n",
        "HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 400 No\r\n\r\n",
        "Connection: close\r\n",
        "\r\n",
        "x",
    ]);
    prop_oneof![
        3 => (0_u64..12_000).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        4 => prop::option::weighted(0.8, 0_u16..4).prop_map(Step::Answer),
        8 => Just(Step::Accept),
        1 => Just(Step::Refuse),
        2 => piece.prop_map(Step::Send),
        8 => Just(Step::Send(OK)),
        1 => Just(Step::Close),
        1 => Just(Step::Reset),
        2 => (0_usize..300).prop_map(Step::SetRoom),
        1 => any::<bool>().prop_map(Step::FailAtOnce),
    ]
}

fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| {
        let config = Config {
            endpoint: "http://collector.test".to_string(),
            ..Config::default()
        };
        Settings::new(&config).unwrap()
    })
}

/// A connection that is always opened again and always has a request to send.
struct World {
    network: SimulatedNetwork,
    connection: Connection,
    now: Instant,
    lookups: Vec<SimulatedLookup>,
    peers: Vec<Peer>,
    /// The request without an outcome.
    in_flight: Option<Arc<Request>>,
    /// Responses received over the present connection, and over all.
    served: (u32, u32),
}

impl World {
    fn new(settings: &Settings) -> Self {
        Self {
            network: SimulatedNetwork::new(),
            connection: Connection::new(
                ConnectionId(0),
                &settings.destinations[0].endpoints[0],
                &Arc::new(Resolver::new(2)),
            ),
            now: Instant::now(),
            lookups: Vec::new(),
            peers: Vec::new(),
            in_flight: None,
            served: (0, 0),
        }
    }

    fn take(&mut self, step: &Step) {
        let peers = self.peers.iter();
        match *step {
            Step::Wait(time) => self.now += time,
            Step::Answer(addresses) => {
                for lookup in self.lookups.drain(..) {
                    let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
                    lookup.answer(match addresses {
                        Some(count) => Ok((1..=count).map(address).collect()),
                        None => Err(io::Error::other("no such name")),
                    });
                }
            }
            Step::Accept => peers.for_each(Peer::accept),
            Step::Refuse => peers.for_each(|peer| peer.refuse(io::ErrorKind::ConnectionRefused)),
            Step::Send(bytes) => peers.for_each(|peer| peer.send(bytes.as_bytes())),
            Step::Close => peers.for_each(Peer::close),
            Step::Reset => peers.for_each(Peer::reset),
            Step::SetRoom(bytes) => peers.for_each(|peer| peer.set_room(bytes)),
            Step::FailAtOnce(fails) => {
                let error = io::ErrorKind::NetworkUnreachable;
                self.network.fail_at_once(fails.then_some(error));
            }
        }
    }

    /// Does what an endpoint does in one turn.
    fn turn(&mut self) {
        for (_, readiness) in self.network.take_readiness() {
            self.connection.add_readiness(readiness);
        }
        self.advance();
        if self.connection.is_closed() {
            self.served.0 = 0;
            let event = (self.connection).open(self.now, &self.network);
            event.into_iter().for_each(|event| self.settle(event));
        }
        if self.connection.is_ready() {
            let request = Arc::new(Request::of_body("a body".into()));
            self.in_flight = Some(Arc::clone(&request));
            self.connection.start(request, Compression::None, self.now);
            self.advance();
        }
        self.lookups.extend(self.network.take_lookups());
        self.peers.extend(self.network.take_connections());
        self.peers.retain(|peer| peer.client() == ClientSide::Open);
        self.check();
    }

    fn advance(&mut self) {
        let mut events = 0;
        while let Some(event) = self.connection.advance(self.now, &self.network) {
            self.settle(event);
            events += 1;
            assert!(events < 4, "one turn has no end");
        }
    }

    /// Takes the request back. None is lost, and none comes back twice.
    fn settle(&mut self, event: ConnectionEvent) {
        let expected = self.in_flight.take();
        let request = match event {
            ConnectionEvent::Connected => None,
            ConnectionEvent::Replied(reply) => {
                assert!(matches!(reply.response.status, 200 | 400 | 503));
                self.served.0 += 1;
                self.served.1 += 1;
                Some(reply.request)
            }
            ConnectionEvent::Lost { request, kind, .. } => {
                let is_stale = kind == ConnectionLoss::Stale;
                assert!(!is_stale || self.served.0 > 0);
                assert!(self.connection.is_closed());
                request
            }
        };
        let address = |request: Option<Arc<Request>>| request.map(|r| Arc::as_ptr(&r));
        assert_eq!(address(request), address(expected));
    }

    fn check(&self) {
        assert_eq!(self.connection.is_busy(), self.in_flight.is_some());
        assert!(self.peers.len() <= 1, "several streams are open");
        let is_connected = self.connection.is_busy() || self.connection.is_ready();
        assert!(!is_connected || self.peers.len() == 1);
        match self.connection.deadline(self.now) {
            None => assert!(self.connection.is_closed()),
            Some(deadline) => assert!(deadline > self.now, "the network thread would not sleep"),
        }
    }

    /// With a good network and server, and time for what went wrong before, requests are served.
    fn recover(&mut self) {
        let before = self.served.1;
        for _ in 0..10 {
            for step in [
                Step::FailAtOnce(false),
                Step::Answer(Some(1)),
                Step::Accept,
                Step::SetRoom(usize::MAX),
                Step::Send(OK),
            ] {
                self.take(&step);
                self.turn();
            }
            if self.served.1 > before + 1 {
                return;
            }
            self.now += Duration::from_secs(5);
        }
        panic!("no request is served");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_request_is_lost_and_no_connection_hangs(
        steps in prop::collection::vec(any_step(), 0..60),
    ) {
        let mut world = World::new(settings());
        world.turn();
        for step in &steps {
            world.take(step);
            world.turn();
        }
        world.recover();
    }
}
