//! A service of one thread on epoll, without a runtime: its connections keep open spans in their structs,
//! for as many turns of the loop as requests take.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use mio::net::{TcpListener, TcpStream as ServerStream};
use mio::{Events, Interest, Poll, Token};
use otlp_collector::span::StatusRef;
use otlp_collector::testing::{self, ReceivedSpan};
use otlp_collector::{AnyValue, Collector, OpenSpan, SpanId, SpanKind, Status, current, span};

use common::PATIENCE;

/// 10,000 connections take 20,000 files, since both ends are in this process, and usual limits are lower.
/// There are fewer connections, which have several requests in flight, as in HTTP/2.
const CONNECTIONS: usize = 400;
const STREAMS: usize = 12;
/// Open spans on the server's thread: one of each connection, and two of each request in flight.
const OPEN_AT_PEAK: usize = CONNECTIONS * (1 + 2 * STREAMS);
const _: () = assert!(OPEN_AT_PEAK == 10_000);
/// Number of peaks, during the same connections.
const ROUNDS: usize = 3;
const CLIENTS: usize = 2;

const LISTENER: Token = Token(usize::MAX);

// ---- The service ----

/// A request in flight: `GET <stream> <path>` began it, `BODY <stream> <length>` completes it.
struct Request {
    span: OpenSpan,
    /// A child of the request, as for a query to a database that takes several turns.
    query: OpenSpan,
}

struct Connection {
    stream: ServerStream,
    span: OpenSpan,
    /// Bytes of a line that is not complete.
    input: Vec<u8>,
    requests: HashMap<usize, Request>,
    reads: usize,
    served: usize,
}

impl Connection {
    fn new(stream: ServerStream, peer: SocketAddr) -> Self {
        Self {
            stream,
            span: span!("connection", parent: None, "client.port" = peer.port()),
            input: Vec::new(),
            requests: HashMap::new(),
            reads: 0,
            served: 0,
        }
    }

    /// Handles all bytes that have arrived. Returns whether the connection is still open.
    fn turn(&mut self) -> bool {
        let mut piece = [0; 512];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => return false,
                Ok(length) => {
                    self.reads += 1;
                    self.input.extend_from_slice(&piece[..length]);
                    self.handle_lines();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn handle_lines(&mut self) {
        let mut input = mem::take(&mut self.input);
        let complete = input.iter().rposition(|byte| *byte == b'\n');
        let rest = input.split_off(complete.map_or(0, |at| at + 1));
        // Spans started below, however deep in the stack, are its children.
        let _connection = self.span.enter();
        for line in str::from_utf8(&input).unwrap().lines() {
            let (verb, argument) = line.split_once(' ').unwrap();
            let (stream, argument) = argument.split_once(' ').unwrap();
            let stream = stream.parse().unwrap();
            if verb == "GET" {
                let request = begin(stream, argument);
                assert!(self.requests.insert(stream, request).is_none());
                continue;
            }
            let request = self.requests.remove(&stream).unwrap();
            let answer = complete_request(request, argument.parse().unwrap());
            // A response is far smaller than the socket's buffer.
            self.stream.write_all(answer.as_bytes()).unwrap();
            self.served += 1;
        }
        self.input = rest;
    }

    fn open_spans(&self) -> usize {
        1 + 2 * self.requests.len()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        (self.span.set_attribute("reads", self.reads)).set_attribute("requests", self.served);
    }
}

fn begin(stream: usize, path: &str) -> Request {
    current().add_event("request", &[]);
    let span = span!("GET", kind: Server, "url.path" = path, stream);
    let query = span!("query", kind: Client, parent: &span, "db.query.text" = path);
    Request { span, query }
}

fn complete_request(mut request: Request, length: usize) -> String {
    let is_found = !length.is_multiple_of(5);
    if !is_found {
        request.query.set_status(StatusRef::Error("no rows"));
    }
    request.query.set_attribute("db.rows", length);
    request.query.end();
    let status = if is_found { 200 } else { 404 };
    let mut response = String::new();
    request.span.in_scope(|| {
        let _rendering = span!("render", length).entered();
        response = format!("{status} {length}\n");
    });
    (request.span).set_attribute("http.response.status_code", status);
    response
}

/// Serves all connections until their clients close them. `peaks` receive a message whenever all requests
/// of a round are in flight.
fn serve(mut listener: TcpListener, peaks: &[Sender<()>]) -> io::Result<()> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(128));
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: HashMap<Token, Connection> = HashMap::new();
    let mut accepted = 0;
    let mut is_full = false;
    while accepted < CONNECTIONS || !connections.is_empty() {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, peer)) = listener.accept() {
                    let token = Token(accepted);
                    poll.registry()
                        .register(&mut stream, token, Interest::READABLE)?;
                    connections.insert(token, Connection::new(stream, peer));
                    accepted += 1;
                }
            } else if !connections.get_mut(&event.token()).unwrap().turn() {
                connections.remove(&event.token());
            }
        }
        let open: usize = connections.values().map(Connection::open_spans).sum();
        assert!(open <= OPEN_AT_PEAK);
        if open == OPEN_AT_PEAK && !is_full {
            peaks.iter().for_each(|peak| peak.send(()).unwrap());
        }
        is_full = open == OPEN_AT_PEAK;
    }
    Ok(())
}

// ---- Its clients ----

/// Length of the body of a request, which decides about its outcome.
fn length(stream: usize, round: usize) -> usize {
    7 * stream + round
}

/// Sends the requests of all rounds on some connections.
fn run_client(server: SocketAddr, peak: &Receiver<()>) {
    let connect = |_| {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let mut streams: Vec<_> = (0..CONNECTIONS / CLIENTS).map(connect).collect();
    for round in 0..ROUNDS {
        let bodies: String = (0..STREAMS)
            .map(|stream| format!("BODY {stream} {}\n", length(stream, round)))
            .collect();
        let (first, rest) = bodies.split_at(4);
        let requests: Vec<_> = (streams.iter())
            .map(|stream| requests(stream, round) + first)
            .collect();
        send_in_pieces(&mut streams, &requests);
        peak.recv_timeout(PATIENCE).unwrap();
        send_in_pieces(&mut streams, &vec![rest.to_string(); requests.len()]);
        for stream in &mut streams {
            let mut response = vec![0; responses(round).len()];
            stream.read_exact(&mut response).unwrap();
            assert_eq!(String::from_utf8(response).unwrap(), responses(round));
        }
    }
}

fn requests(connection: &TcpStream, round: usize) -> String {
    let port = connection.local_addr().unwrap().port();
    (0..STREAMS)
        .map(|stream| format!("GET {stream} /{port}/{round}/{stream}\n"))
        .collect()
}

fn responses(round: usize) -> String {
    let response = |length| format!("{} {length}\n", status(length));
    (0..STREAMS)
        .map(|stream| response(length(stream, round)))
        .collect()
}

fn status(length: usize) -> usize {
    if length.is_multiple_of(5) { 404 } else { 200 }
}

/// Sends a piece on each connection, then the next one, so that the server reads partial lines.
fn send_in_pieces(streams: &mut [TcpStream], texts: &[String]) {
    const PIECE: usize = 29;
    for start in (0..texts[0].len() + 16).step_by(PIECE) {
        for (stream, text) in streams.iter_mut().zip(texts) {
            let piece = text.as_bytes().iter().skip(start).take(PIECE);
            let piece: Vec<u8> = piece.copied().collect();
            stream.write_all(&piece).unwrap();
        }
    }
}

// ---- Spans that arrive ----

fn integer(span: &ReceivedSpan, key: &str) -> usize {
    match span.attribute(key) {
        Some(AnyValue::Int(value)) => value.try_into().unwrap(),
        other => panic!("{key} of {} is {other:?}", span.name),
    }
}

fn text(span: &ReceivedSpan, key: &str) -> String {
    match span.attribute(key) {
        Some(AnyValue::String(value)) => value.to_string(),
        other => panic!("{key} of {} is {other:?}", span.name),
    }
}

/// The numbers in a request's path: client's port, round and stream.
fn numbers(path: &str) -> [usize; 3] {
    let numbers = path.split('/').skip(1).map(|part| part.parse().unwrap());
    numbers.collect::<Vec<_>>().try_into().unwrap()
}

fn check_connection(span: &ReceivedSpan) {
    span.assert_root();
    // Each round has two parts, one of them after the peak.
    assert!(integer(span, "reads") >= 2 * ROUNDS);
    assert_eq!(integer(span, "requests"), ROUNDS * STREAMS);
    assert_eq!(
        (span.events.len(), span.attributes.len()),
        (ROUNDS * STREAMS, 3)
    );
}

fn check_request(span: &ReceivedSpan, connection: &ReceivedSpan) {
    let [port, round, stream] = numbers(&text(span, "url.path"));
    let status = status(length(stream, round));
    assert_eq!(
        (connection.name.as_str(), span.kind),
        ("connection", SpanKind::Server)
    );
    assert_eq!(integer(connection, "client.port"), port);
    assert_eq!(integer(span, "stream"), stream);
    assert_eq!(integer(span, "http.response.status_code"), status);
    assert_eq!(span.attributes.len(), 3);
}

fn check_query(span: &ReceivedSpan, request: &ReceivedSpan) {
    assert_eq!(
        (request.name.as_str(), span.kind),
        ("GET", SpanKind::Client)
    );
    assert_eq!(text(span, "db.query.text"), text(request, "url.path"));
    let [_, round, stream] = numbers(&text(request, "url.path"));
    assert_eq!(integer(span, "db.rows"), length(stream, round));
    let is_found = integer(request, "http.response.status_code") == 200;
    let expected = if is_found {
        Status::Unset
    } else {
        Status::Error("no rows".into())
    };
    assert_eq!(span.status, expected);
}

fn check_rendering(span: &ReceivedSpan, request: &ReceivedSpan) {
    assert_eq!(request.name, "GET");
    let [_, round, stream] = numbers(&text(request, "url.path"));
    assert_eq!(integer(span, "length"), length(stream, round));
}

/// Checks the parent and all data of each span.
fn check(spans: &[ReceivedSpan]) {
    let by_id: HashMap<SpanId, _> = spans.iter().map(|span| (span.span_id, span)).collect();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for span in spans {
        *counts.entry(&span.name).or_default() += 1;
        let dropped = span.dropped_attributes_count + span.dropped_events_count;
        assert_eq!(dropped, 0, "{span:?}");
        let Some(parent) = span.parent_span_id else {
            check_connection(span);
            continue;
        };
        let parent = by_id[&parent];
        span.assert_child_of(parent);
        match span.name.as_str() {
            "GET" => check_request(span, parent),
            "query" => check_query(span, parent),
            "render" => check_rendering(span, parent),
            other => panic!("{other} has a parent"),
        }
    }
    let requests = ROUNDS * CONNECTIONS * STREAMS;
    let expected = [
        ("connection", CONNECTIONS),
        ("GET", requests),
        ("query", requests),
        ("render", requests),
    ];
    assert_eq!(counts, HashMap::from(expected));
}

#[test]
fn a_service_on_epoll_keeps_ten_thousand_spans_in_its_connections() {
    let receiver = testing::Receiver::start().unwrap();
    // All other options have their defaults.
    let installed = Collector::new(common::config(&receiver)).unwrap();
    let installed = installed.install().unwrap();
    let listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let server = listener.local_addr().unwrap();
    let (peaks, at_peaks): (Vec<_>, Vec<_>) = (0..CLIENTS).map(|_| channel()).unzip();
    thread::scope(|scope| {
        scope.spawn(move || serve(listener, &peaks).unwrap());
        for peak in at_peaks {
            scope.spawn(move || run_client(server, &peak));
        }
    });
    assert_eq!(installed.collector().stats().spans_without_memory, 0);
    let ledger = installed.shutdown().unwrap();
    let spans = receiver.spans();
    check(&spans);
    let losses = (
        ledger.refused.total(),
        ledger.sampled_out.total(),
        ledger.held,
    );
    assert_eq!(losses, (0, 0, 0), "{ledger}");
    assert_eq!(ledger.accepted, spans.len() as u64, "{ledger}");
    assert_eq!(ledger.delivered(), ledger.accepted, "{ledger}");
}
