//! Connections over a simulated network: a test plays the server and moves the clock.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{
    Compression, Config, EndpointOptions, EndpointSettings, RESPONSE_BYTES_DEFAULT, Settings,
};
use crate::exporter::connection::{Activity, Connection, ConnectionEvent, ConnectionLoss, Reply};
use crate::exporter::network::simulated::{ClientSide, Peer, SimulatedNetwork};
use crate::exporter::network::{ConnectionId, Readiness};
use crate::exporter::request::Request;
use crate::exporter::resolver::Resolver;

const ID: ConnectionId = ConnectionId(3);
const SECOND: Duration = Duration::from_secs(1);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const TOO_LARGE: &[u8] = b"HTTP/1.1 413 No\r\nContent-Length: 4\r\n\r\nlong";

/// A connection with its surroundings.
struct Client {
    network: SimulatedNetwork,
    settings: Arc<EndpointSettings>,
    connection: Connection,
    now: Instant,
}

impl Client {
    fn new(url: &str) -> Self {
        let options = EndpointOptions {
            connect_timeout_ms: 9_000,
            request_timeout_ms: 20_000,
            idle_timeout_ms: 60_000,
            ..EndpointOptions::default()
        };
        let config = Config {
            endpoint: url.to_string(),
            endpoint_options: options,
            ..Config::default()
        };
        let settings = Settings::new(&config).unwrap();
        let settings = Arc::clone(&settings.destinations[0].endpoints[0]);
        Self {
            network: SimulatedNetwork::new(),
            connection: Connection::new(ID, &settings, &Arc::new(Resolver::new(1))),
            settings,
            now: Instant::now(),
        }
    }

    /// Returns a client with an established connection.
    fn connected() -> (Self, Peer) {
        let mut client = Self::new("http://127.0.0.1:4318");
        assert!(client.open().is_none());
        let peer = client.network.take_connection();
        assert_eq!(client.turn(), "");
        peer.accept();
        assert_eq!(client.turn(), "connected");
        assert!(client.connection.is_ready());
        (client, peer)
    }

    /// Returns a client with a connection that has served a request.
    fn kept() -> (Self, Peer) {
        let (mut client, peer) = Self::connected();
        client.serve(&peer, OK);
        (client, peer)
    }

    fn open(&mut self) -> Option<ConnectionEvent> {
        (self.connection).open(self.now, &self.network)
    }

    fn start(&mut self) {
        let request = Arc::new(Request::of_texts(&["one ", "two"]));
        self.connection.start(request, Compression::None, self.now);
    }

    /// Sends a request and receives a response, after which the connection is kept.
    #[track_caller]
    fn serve(&mut self, peer: &Peer, response: &[u8]) {
        self.start();
        assert_eq!(self.turn(), "");
        assert!(peer.received().ends_with(b"\r\n\r\none two"));
        peer.send(response);
        let mut events = self.turn();
        while events.is_empty() {
            events = self.turn();
        }
        assert_eq!(events, "200");
        assert!(self.connection.is_ready());
    }

    fn pass_readiness(&mut self) {
        for (id, readiness) in self.network.take_readiness() {
            assert_eq!(id, ID);
            self.connection.add_readiness(readiness);
        }
    }

    /// Passes readiness on and advances the connection. Returns descriptions of the events.
    fn turn(&mut self) -> String {
        self.pass_readiness();
        let mut events = Vec::new();
        while let Some(event) = self.connection.advance(self.now, &self.network) {
            events.push(description(&event));
        }
        events.join(", ")
    }

    /// Moves the clock to the connection's deadline, then takes a turn.
    #[track_caller]
    fn turn_at_deadline(&mut self, expected: Duration) -> String {
        let deadline = self.connection.deadline(self.now).unwrap();
        assert_eq!(deadline - self.now, expected);
        self.now = deadline - Duration::from_nanos(1);
        assert_eq!(self.turn(), "", "too early");
        self.now = deadline;
        self.turn()
    }
}

fn description(event: &ConnectionEvent) -> String {
    match event {
        ConnectionEvent::Connected => "connected".to_string(),
        ConnectionEvent::Replied(Reply { response, .. }) => match response.broken {
            None => response.status.to_string(),
            Some(error) => format!("{} broken {error:?}", response.status),
        },
        ConnectionEvent::Lost { request, kind, .. } => {
            let request = if request.is_some() {
                "request"
            } else {
                "nothing"
            };
            format!("{kind:?} with {request}")
        }
    }
}

fn addresses<const N: usize>() -> [SocketAddr; N] {
    std::array::from_fn(|index| SocketAddr::from(([127, 0, 0, 1], 4001 + index as u16)))
}

// ---- Getting connected ----

#[test]
fn a_name_is_resolved_and_its_addresses_are_tried_in_order() {
    let mut client = Client::new("http://collector.test:4318");
    assert!(client.open().is_none());
    assert!(client.connection.is_opening());
    let lookup = client.network.take_lookups().remove(0);
    assert_eq!((&*lookup.host, lookup.port), ("collector.test", 4318));
    assert_eq!(client.turn(), "");
    let [first, second, third] = addresses();
    lookup.answer(Ok(vec![first, second, third]));
    assert_eq!(client.turn(), "");

    let peer = client.network.take_connection();
    assert_eq!(peer.address, first);
    peer.refuse(io::ErrorKind::ConnectionRefused);
    assert_eq!(client.turn(), "");
    assert_eq!(peer.client(), ClientSide::Closed);

    // It gets half of the time left, then the next one is tried.
    let hanging = client.network.take_connection();
    assert_eq!(hanging.address, second);
    assert_eq!(client.turn_at_deadline(SECOND * 9 / 2), "");
    assert_eq!(hanging.client(), ClientSide::Closed);

    let peer = client.network.take_connection();
    assert_eq!(peer.address, third);
    let connecting = Activity::Connecting(client.now - SECOND * 9 / 2);
    assert_eq!(client.connection.activity(), Some(connecting));
    peer.accept();
    assert_eq!(client.turn(), "connected");
    assert_eq!(client.connection.activity(), Some(Activity::Idle));
}

#[test]
fn addresses_that_fail_at_once_are_passed_over_in_one_turn() {
    let mut client = Client::new("http://collector.test");
    assert!(client.open().is_none());
    let lookup = client.network.take_lookups().remove(0);
    client
        .network
        .fail_at_once(Some(io::ErrorKind::NetworkUnreachable));
    lookup.answer(Ok(addresses::<20>().to_vec()));
    assert_eq!(client.turn(), "Unreachable with nothing");
    assert!(client.connection.is_closed());
    let event = client.open();
    assert_eq!(
        event.as_ref().map(description).unwrap(),
        "Unreachable with nothing"
    );
}

#[test]
fn each_of_many_addresses_gets_a_tenth_of_a_second() {
    let mut client = Client::new("http://collector.test");
    assert!(client.open().is_none());
    let lookup = client.network.take_lookups().remove(0);
    lookup.answer(Ok(addresses::<500>().to_vec()));
    assert_eq!(client.turn(), "");
    for _ in 1..90 {
        client.network.take_connection();
        assert_eq!(client.turn_at_deadline(SECOND / 10), "");
    }
    let last = client.turn_at_deadline(SECOND / 10);
    assert_eq!(last, "Unreachable with nothing");
}

#[test]
fn the_last_address_gets_all_the_time_left() {
    let mut client = Client::new("http://127.0.0.1:4318");
    assert!(client.open().is_none());
    let peer = client.network.take_connection();
    assert_eq!(
        client.turn_at_deadline(SECOND * 9),
        "Unreachable with nothing"
    );
    assert_eq!(peer.client(), ClientSide::Closed);
    assert_eq!(client.connection.deadline(client.now), None);
    assert_eq!(client.connection.activity(), None);
}

#[test]
fn a_server_whose_name_has_no_address_is_unreachable() {
    let mut client = Client::new("http://collector.test");
    for answer in [Ok(Vec::new()), Err(io::Error::other("no such name"))] {
        assert!(client.open().is_none());
        client.network.take_lookups().remove(0).answer(answer);
        assert_eq!(client.turn(), "Unreachable with nothing");
    }
    assert!(client.open().is_none());
    let unanswered = client.network.take_lookups().remove(0);
    assert_eq!(
        client.turn_at_deadline(SECOND * 9),
        "Unreachable with nothing"
    );

    // The unanswered look-up occupies the only place.
    let event = client.open().unwrap();
    assert_eq!(description(&event), "Unreachable with nothing");
    unanswered.answer(Ok(Vec::new()));
    assert!(client.open().is_none());
    drop(client.network.take_lookups());
    assert_eq!(client.turn(), "Unreachable with nothing");
}

// ---- Exchanges ----

#[test]
fn a_response_can_arrive_in_any_two_pieces_and_byte_by_byte() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                    2\r\nok\r\n3;x=y\r\nyes\r\n0\r\nA: b\r\n\r\n";
    let interim = [b"HTTP/1.1 100 Continue\r\n\r\n", OK].concat();
    let (mut client, peer) = Client::connected();
    for response in [OK, &chunked[..], &interim] {
        for at in 1..response.len() {
            client.start();
            assert_eq!(client.turn(), "");
            let (first, second) = response.split_at(at);
            peer.send(first);
            assert_eq!(client.turn(), "", "{at}");
            peer.send(second);
            assert_eq!(client.turn(), "200", "{at}");
            assert!(client.connection.is_ready(), "{at}");
        }
        client.start();
        for byte in response {
            assert_eq!(client.turn(), "");
            peer.send(&[*byte]);
        }
        assert_eq!(client.turn(), "200");
    }
}

/// Limits of one response do not add up over those of a kept connection.
#[test]
fn a_kept_connection_serves_more_than_the_limit_of_one_response() {
    let body = vec![b' '; RESPONSE_BYTES_DEFAULT];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let response = [head.as_bytes(), &body].concat();
    let interim = [&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(60), OK].concat();
    let (mut client, peer) = Client::connected();
    for _ in 0..5 {
        client.serve(&peer, &response);
        client.serve(&peer, &interim);
    }
}

#[test]
fn one_turn_reads_at_most_half_a_megabyte() {
    let (mut client, peer) = Client::connected();
    client.start();
    assert_eq!(client.turn(), "");
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n";
    peer.send(&[head.as_bytes(), &[0; 2_000_000]].concat());
    for _ in 0..3 {
        let before = peer.unread();
        assert_eq!(client.turn(), "");
        assert_eq!(before - peer.unread(), 512 * 1024);
        // No readiness will be reported for the rest.
        assert_eq!(client.connection.deadline(client.now), Some(client.now));
    }
    assert_eq!(client.turn(), "200");
}

#[test]
fn a_slow_line_carries_the_request_as_it_has_room() {
    let (mut client, peer) = Client::connected();
    peer.set_room(0);
    client.start();
    let started = client.now;
    assert_eq!(client.connection.busy_since(), Some(started));
    let mut received = Vec::new();
    while !received.ends_with(b"one two") {
        client.now += SECOND / 20;
        peer.set_room(7);
        assert_eq!(client.turn(), "");
        let busy = Activity::Busy(client.now);
        assert_eq!(client.connection.activity(), Some(busy));
        received.extend(peer.received());
    }
    assert_eq!(client.connection.busy_since(), Some(started));
    let text = String::from_utf8(received).unwrap();
    assert!(text.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{text}");
    peer.send(OK);
    assert_eq!(client.turn(), "200");
    assert!(client.connection.is_ready());
}

#[test]
fn a_compressed_body_is_sent_if_there_is_one() {
    for (compressed, expected) in [
        (Some("small"), Compression::Gzip),
        (None, Compression::None),
    ] {
        let (mut client, peer) = Client::connected();
        let request = Arc::new(Request::of_texts(&["one ", "two"]));
        let body = request.compressed(Compression::Gzip);
        assert!(body.begin());
        body.finish(compressed.map(Into::into));
        (client.connection).start(request, Compression::Gzip, client.now);
        assert_eq!(client.turn(), "");
        let received = String::from_utf8(peer.received()).unwrap();
        let has_coding = received.contains("\r\nContent-Encoding: gzip\r\n");
        assert_eq!(has_coding, compressed.is_some());
        let end = format!("\r\n\r\n{}", compressed.unwrap_or("one two"));
        assert!(received.ends_with(&end), "{received}");
        peer.send(OK);
        client.pass_readiness();
        let event = client.connection.advance(client.now, &client.network);
        let Some(ConnectionEvent::Replied(reply)) = event else {
            panic!("no reply");
        };
        assert_eq!(reply.compression, expected);
        assert_eq!(reply.started, client.now);
    }
}

// ---- Early ends ----

#[test]
fn an_early_error_response_counts_however_the_connection_ends() {
    type End = fn(&Peer);
    let ends: [End; 4] = [
        |_| {},
        |peer| peer.close(),
        |peer| peer.reset(),
        |peer| {
            peer.set_room(1);
            peer.close();
        },
    ];
    for end in ends {
        for room in [0, 1, 100] {
            let (mut client, peer) = Client::kept();
            peer.set_room(room);
            client.start();
            assert_eq!(client.turn(), "");
            assert_eq!(peer.received().len(), room);
            peer.send(TOO_LARGE);
            end(&peer);
            assert_eq!(client.turn(), "413");
            assert!(client.connection.is_closed());
            assert_ne!(peer.client(), ClientSide::Open);
        }
    }
}

/// The readiness to write can be reported before the readiness to read.
#[test]
fn a_response_counts_even_if_a_write_fails_before_it_is_announced() {
    let (mut client, peer) = Client::connected();
    peer.set_room(9);
    client.start();
    assert_eq!(client.turn(), "");
    peer.send(TOO_LARGE);
    peer.reset();
    client.network.take_readiness();
    client.connection.add_readiness(Readiness {
        readable: false,
        writable: true,
    });
    assert_eq!(client.turn(), "413");
}

#[test]
fn an_early_status_counts_even_if_its_body_is_cut_off() {
    for length in 0..TOO_LARGE.len() {
        let (mut client, peer) = Client::connected();
        peer.set_room(9);
        client.start();
        assert_eq!(client.turn(), "");
        peer.send(&TOO_LARGE[..length]);
        peer.reset();
        let expected = if length < TOO_LARGE.len() - 4 {
            "Broken with request"
        } else {
            "413 broken Truncated"
        };
        assert_eq!(client.turn(), expected, "{length}");
        assert!(client.connection.is_closed());
    }
}

#[test]
fn a_body_until_the_end_is_complete_unless_the_connection_broke() {
    let endless = b"HTTP/1.1 400 No\r\n\r\nno such tenant";
    let (mut client, peer) = Client::connected();
    client.start();
    assert_eq!(client.turn(), "");
    peer.send(endless);
    assert_eq!(client.turn(), "");
    peer.close();
    assert_eq!(client.turn(), "400");

    let (mut client, peer) = Client::connected();
    peer.set_room(9);
    client.start();
    assert_eq!(client.turn(), "");
    peer.send(endless);
    peer.close();
    peer.reset();
    assert_eq!(client.turn(), "400 broken Truncated");
}

#[test]
fn a_response_that_announces_the_close_ends_the_connection() {
    let (mut client, peer) = Client::connected();
    client.start();
    assert_eq!(client.turn(), "");
    peer.send(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    assert_eq!(client.turn(), "204");
    assert!(client.connection.is_closed());
    assert_eq!(peer.client(), ClientSide::Closed);
}

// ---- Kept connections ----

#[test]
fn a_kept_connection_that_the_server_closes_causes_no_event() {
    let (mut client, peer) = Client::kept();
    peer.close();
    assert_eq!(client.turn(), "");
    assert!(client.connection.is_closed());
}

#[test]
fn a_request_on_a_connection_that_was_just_closed_is_lost_as_stale() {
    type End = fn(&Peer);
    let ends: [End; 2] = [|peer| peer.close(), |peer| peer.reset()];
    for end in ends {
        let (mut client, peer) = Client::kept();
        end(&peer);
        client.start();
        assert_eq!(client.turn(), "Stale with request");
        assert!(client.connection.is_closed());
        assert_eq!(peer.client(), ClientSide::Aborted);

        // With the first byte of a response the connection was not stale.
        let (mut client, peer) = Client::kept();
        client.start();
        assert_eq!(client.turn(), "");
        peer.send(b"H");
        end(&peer);
        assert_eq!(client.turn(), "Broken with request");

        let (mut client, peer) = Client::connected();
        end(&peer);
        client.start();
        assert_eq!(client.turn(), "Broken with request");
    }
}

#[test]
fn idle_connections_that_break_are_reported() {
    let (mut client, peer) = Client::connected();
    peer.close();
    assert_eq!(client.turn(), "Broken with nothing");
    for (is_kept, expected) in [(true, "Stale with nothing"), (false, "Broken with nothing")] {
        let client = || match is_kept {
            true => Client::kept(),
            false => Client::connected(),
        };
        let (mut broken, peer) = client();
        peer.reset();
        assert_eq!(broken.turn(), expected);
        assert_eq!(peer.client(), ClientSide::Aborted);
        let (mut surprised, peer) = client();
        peer.send(OK);
        assert_eq!(surprised.turn(), expected);
        assert!(surprised.connection.is_closed());
    }
}

#[test]
fn bytes_after_a_response_end_the_connection() {
    let (mut client, peer) = Client::connected();
    client.start();
    assert_eq!(client.turn(), "");
    peer.send(&[OK, b"HTTP"].concat());
    assert_eq!(client.turn(), "200");
    assert!(client.connection.is_closed());
}

#[test]
fn connections_are_closed_after_the_idle_timeout() {
    for (mut client, peer) in [Client::connected(), Client::kept()] {
        assert_eq!(client.turn_at_deadline(SECOND * 60), "");
        assert!(client.connection.is_closed());
        assert_eq!(peer.client(), ClientSide::Closed);
    }
}

// ---- Timeouts ----

#[test]
fn a_request_without_a_response_times_out() {
    let (mut client, peer) = Client::kept();
    client.start();
    assert_eq!(client.turn(), "");
    peer.send(b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.turn(), "");
    assert_eq!(
        client.turn_at_deadline(SECOND * 20),
        "TimedOut with request"
    );
    assert_eq!(peer.client(), ClientSide::Aborted);
}

#[test]
fn a_slow_line_does_not_extend_the_timeout() {
    let (mut client, peer) = Client::connected();
    peer.set_room(0);
    client.start();
    for _ in 0..19 {
        client.now += SECOND;
        peer.set_room(1);
        assert_eq!(client.turn(), "");
    }
    assert_eq!(client.turn_at_deadline(SECOND), "TimedOut with request");
}

#[test]
fn a_status_counts_even_if_its_body_comes_too_late() {
    let (mut client, peer) = Client::connected();
    client.start();
    assert_eq!(client.turn(), "");
    peer.send(&TOO_LARGE[..TOO_LARGE.len() - 1]);
    assert_eq!(client.turn(), "");
    assert_eq!(client.turn_at_deadline(SECOND * 20), "413 broken Late");
    assert!(client.connection.is_closed());
}

// ---- Redirects ----

#[test]
fn a_redirected_request_is_sent_to_its_new_target() {
    let (mut client, old) = Client::kept();
    let target = client.settings.target.redirect("http://127.0.0.2:80/moved");
    let target = Arc::new(target.unwrap());
    let request = Arc::new(Request::of_texts(&["span"]));
    for (is_permanent, has_moved, followed) in [(true, true, 1), (false, false, 2)] {
        let event = client.connection.follow(
            Arc::clone(&target),
            is_permanent,
            Arc::clone(&request),
            client.now,
            &client.network,
        );
        assert!(event.is_none());
        assert_eq!(old.client(), ClientSide::Closed);
        assert_eq!(client.connection.redirects(), followed);
        assert_eq!(client.connection.has_moved(), has_moved);
    }
    let [_, peer] = client.network.take_connections().try_into().ok().unwrap();
    assert_eq!(peer.address, SocketAddr::from(([127, 0, 0, 2], 80)));
    peer.accept();
    assert_eq!(client.turn(), "connected");
    let received = String::from_utf8(peer.received()).unwrap();
    assert!(received.starts_with("POST /moved HTTP/1.1\r\nHost: 127.0.0.2"));
    assert!(received.ends_with("\r\n\r\nspan"));
    peer.send(OK);
    assert_eq!(client.turn(), "200");

    client.start();
    assert_eq!(
        (client.connection.redirects(), client.connection.has_moved()),
        (0, false)
    );
    let own = Arc::clone(&client.settings.target);
    client.connection.close(&own);
    assert!(Arc::ptr_eq(client.connection.target(), &own));
    assert_eq!(peer.client(), ClientSide::Closed);
}

#[test]
fn a_redirected_request_is_lost_with_a_connection_that_cannot_be_made() {
    let (mut client, _) = Client::kept();
    let target = client
        .settings
        .target
        .redirect("http://127.0.0.2/")
        .unwrap();
    let request = Arc::new(Request::of_texts(&["span"]));
    client
        .network
        .fail_at_once(Some(io::ErrorKind::NetworkUnreachable));
    let event =
        client
            .connection
            .follow(Arc::new(target), true, request, client.now, &client.network);
    let Some(ConnectionEvent::Lost {
        request,
        kind,
        reason,
    }) = event
    else {
        panic!("no loss");
    };
    assert_eq!(
        (kind, request.is_some()),
        (ConnectionLoss::Unreachable, true)
    );
    assert!(reason.starts_with("cannot connect: "), "{reason}");
    assert!(client.connection.is_closed());
}

#[test]
fn only_permanent_redirects_move_a_target() {
    for (redirects, has_moved) in [
        (&[][..], false),
        (&[true], true),
        (&[true, true], true),
        (&[false, true], false),
        (&[true, false], false),
    ] {
        let (mut client, _) = Client::kept();
        let target = client.settings.target.redirect("/moved").map(Arc::new);
        for is_permanent in redirects {
            let (target, request) = (target.clone().unwrap(), Request::of_texts(&["span"]));
            let request = Arc::new(request);
            let connection = &mut client.connection;
            connection.follow(target, *is_permanent, request, client.now, &client.network);
        }
        assert_eq!(client.connection.has_moved(), has_moved, "{redirects:?}");
        assert_eq!(client.connection.redirects() as usize, redirects.len());
    }
}
