//! A receiver in a simulation. It parses requests, and reacts to each as its script decides.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::exporter::network::simulated::{ClientSide, Peer};
use crate::exporter::simulation::spans;

/// The interval at which a slow line takes bytes.
const TICK: Duration = Duration::from_millis(50);
/// Longer heads are not found.
const HEAD_BYTES_MAX: usize = 1000;

/// The reaction to a connection attempt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Greeting {
    Accept(Duration),
    Refuse(Duration),
    /// Neither, until the client gives up.
    Ignore,
}

/// The reaction to a request.
#[derive(Clone, Debug)]
pub(super) enum Reaction {
    Respond {
        after: Duration,
        status: u16,
        headers: String,
        body: Vec<u8>,
    },
    /// Ends the connection. With `has_accepted` the spans were accepted before.
    Break {
        after: Duration,
        is_reset: bool,
        has_accepted: bool,
    },
    /// Nothing, until the client gives up.
    Hang,
}

impl Reaction {
    pub(super) fn status(status: u16) -> Self {
        Self::with(status, "", b"")
    }

    pub(super) fn with(status: u16, headers: &str, body: &[u8]) -> Self {
        Self::Respond {
            after: Duration::from_millis(1),
            status,
            headers: headers.to_string(),
            body: body.to_vec(),
        }
    }

    pub(super) fn later(self, later: Duration) -> Self {
        match self {
            Self::Respond {
                status,
                headers,
                body,
                ..
            } => Self::Respond {
                after: later,
                status,
                headers,
                body,
            },
            other => other,
        }
    }

    fn after(&self) -> Option<Duration> {
        match self {
            Self::Respond { after, .. } | Self::Break { after, .. } => Some(*after),
            Self::Hang => None,
        }
    }
}

/// A request that was received in full.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) at: Instant,
    pub(super) path: String,
    pub(super) body_bytes: usize,
    /// The numbers of its spans; none in metrics.
    pub(super) spans: Vec<u64>,
}

type Script = Box<dyn FnMut(&Received) -> Reaction>;

pub(super) struct Server {
    script: Script,
    pub(super) greeting: Greeting,
    /// Bodies with more bytes are refused with 413 as soon as their head was read.
    pub(super) early_limit: Option<usize>,
    /// Bytes that each connection takes in a tick; `None` for a fast line.
    pub(super) line: Option<usize>,
    /// Resets connections that served a request before when the next one comes, without a word until
    /// then.
    pub(super) is_stale: bool,
    connections: Vec<ServerConnection>,
    pub(super) received: Vec<Received>,
    /// Connection attempts.
    pub(super) attempts: usize,
    /// How often each span was accepted.
    pub(super) accepted: BTreeMap<u64, u32>,
    /// Spans that responses accepted and rejected. The client has received these responses.
    pub(super) confirmed: u64,
    pub(super) rejected: u64,
    /// Spans that were accepted without a response that the client has received.
    pub(super) unconfirmed: u64,
    /// The end of the longest wait that a response has requested.
    wait_until: Option<Instant>,
}

struct ServerConnection {
    peer: Peer,
    greeting_at: Option<Instant>,
    is_established: bool,
    input: Vec<u8>,
    /// The beginning of the request that is being received.
    begun: Option<Instant>,
    served: u32,
    reaction: Option<(Instant, Received, Reaction)>,
    tick_at: Option<Instant>,
}

impl Server {
    pub(super) fn new(script: impl FnMut(&Received) -> Reaction + 'static) -> Self {
        Self {
            script: Box::new(script),
            greeting: Greeting::Accept(Duration::from_millis(1)),
            early_limit: None,
            line: None,
            is_stale: false,
            connections: Vec::new(),
            received: Vec::new(),
            attempts: 0,
            accepted: BTreeMap::new(),
            confirmed: 0,
            rejected: 0,
            unconfirmed: 0,
            wait_until: None,
        }
    }

    /// Reacts to requests from now on as another script decides.
    pub(super) fn follow(&mut self, script: impl FnMut(&Received) -> Reaction + 'static) {
        self.script = Box::new(script);
    }

    /// Closes all idle connections in the orderly way.
    pub(super) fn close_idle(&mut self) {
        let is_idle = |connection: &&ServerConnection| {
            connection.is_established
                && connection.input.is_empty()
                && connection.reaction.is_none()
        };
        for connection in self.connections.iter().filter(is_idle) {
            connection.peer.close();
        }
    }

    pub(super) fn connect(&mut self, peer: Peer, now: Instant) {
        self.attempts += 1;
        let greeting_at = match self.greeting {
            Greeting::Accept(after) | Greeting::Refuse(after) => Some(now + after),
            Greeting::Ignore => None,
        };
        self.connections.push(ServerConnection {
            peer,
            greeting_at,
            is_established: false,
            input: Vec::new(),
            begun: None,
            served: 0,
            reaction: None,
            tick_at: None,
        });
    }

    /// Returns the time of the next event that is due without the client.
    pub(super) fn next_event(&self) -> Option<Instant> {
        let connections = self.connections.iter();
        let events = connections.flat_map(|connection| {
            let reaction = connection.reaction.as_ref().map(|(at, ..)| *at);
            [connection.greeting_at, reaction, connection.tick_at]
        });
        events.flatten().min()
    }

    /// Does all that is due. Returns whether there was anything.
    pub(super) fn advance(&mut self, now: Instant) -> bool {
        let mut connections = std::mem::take(&mut self.connections);
        let mut has_acted = false;
        for connection in &mut connections {
            has_acted |= self.greet(connection, now);
            has_acted |= self.receive(connection, now);
            has_acted |= self.react(connection, now);
        }
        // The rest of an accepted request's connection is forgotten with its client.
        connections.retain(|connection| {
            connection.reaction.is_some() || connection.peer.client() == ClientSide::Open
        });
        self.connections = connections;
        has_acted
    }

    fn greet(&mut self, connection: &mut ServerConnection, now: Instant) -> bool {
        if connection.greeting_at.is_none_or(|at| now < at) {
            return false;
        }
        connection.greeting_at = None;
        match self.greeting {
            Greeting::Refuse(_) => connection.peer.refuse(io::ErrorKind::ConnectionRefused),
            Greeting::Accept(_) | Greeting::Ignore => {
                connection.is_established = true;
                connection.peer.accept();
                if let Some(bytes) = self.line {
                    connection.peer.set_room(bytes);
                }
            }
        }
        true
    }

    fn receive(&mut self, connection: &mut ServerConnection, now: Instant) -> bool {
        let has_ticked = connection.tick_at.is_some_and(|at| at <= now);
        if has_ticked {
            connection.tick_at = None;
            connection.peer.set_room(self.line.unwrap_or(usize::MAX));
        }
        let bytes = connection.peer.received();
        if bytes.is_empty() {
            return has_ticked;
        }
        if self.is_stale && connection.served > 0 {
            connection.peer.reset();
            return true;
        }
        if self.line.is_some() {
            connection.tick_at = Some(now + TICK);
        }
        if connection.begun.is_none() {
            connection.begun = Some(now);
            self.check_wait(&bytes, now);
        }
        connection.input.extend(bytes);
        let input = std::mem::take(&mut connection.input);
        match self.parse(&input, now) {
            Ok(Some(received)) => self.schedule(connection, received, now),
            Ok(None) => connection.input = input,
            Err(()) => {
                let response = response(413, "Connection: close\r\n", b"");
                connection.peer.send(&response);
                connection.peer.close();
            }
        }
        true
    }

    /// No request begins before the wait has ended, except one that follows a redirect.
    fn check_wait(&self, bytes: &[u8], now: Instant) {
        let is_redirected = bytes.starts_with(b"POST /moved");
        assert!(
            is_redirected || self.wait_until.is_none_or(|until| until <= now),
            "a request came {:?} too early",
            self.wait_until.unwrap() - now
        );
    }

    /// Returns the request if it is complete; an error if it is refused at once.
    fn parse(&mut self, input: &[u8], now: Instant) -> Result<Option<Received>, ()> {
        let searched = &input[..input.len().min(HEAD_BYTES_MAX)];
        let end = searched.windows(4).position(|end| end == b"\r\n\r\n");
        let Some(head) = end else {
            return Ok(None);
        };
        let (head, body) = (&input[..head], &input[head + 4..]);
        let head = std::str::from_utf8(head).unwrap();
        let length = head.split("Content-Length: ").nth(1).unwrap();
        let length: usize = length.lines().next().unwrap().parse().unwrap();
        if self.early_limit.is_some_and(|limit| length > limit) {
            return Err(());
        }
        assert!(body.len() <= length, "bytes after a request");
        if body.len() < length {
            return Ok(None);
        }
        let path = head.split(' ').nth(1).unwrap().to_string();
        let is_metrics = path.ends_with("/v1/metrics");
        let received = Received {
            at: now,
            path,
            body_bytes: length,
            spans: if is_metrics {
                Vec::new()
            } else {
                spans::numbers(body)
            },
        };
        self.received.push(received.clone());
        Ok(Some(received))
    }

    fn schedule(&mut self, connection: &mut ServerConnection, received: Received, now: Instant) {
        connection.begun = None;
        connection.tick_at = None;
        let reaction = (self.script)(&received);
        match reaction.after() {
            Some(after) => connection.reaction = Some((now + after, received, reaction)),
            None => connection.reaction = None,
        }
    }

    fn react(&mut self, connection: &mut ServerConnection, now: Instant) -> bool {
        if (connection.reaction.as_ref()).is_none_or(|(at, ..)| now < *at) {
            return false;
        }
        let Some((_, received, reaction)) = connection.reaction.take() else {
            return false;
        };
        connection.served += 1;
        if let Some(bytes) = self.line {
            connection.peer.set_room(bytes);
        }
        let is_open = connection.peer.client() == ClientSide::Open;
        match reaction {
            Reaction::Respond {
                status,
                headers,
                body,
                ..
            } => {
                connection.peer.send(&response(status, &headers, &body));
                if (200..300).contains(&status) {
                    self.accept(&received, is_open, &body);
                }
                if is_open {
                    self.note_wait(status, &headers, now);
                }
                if headers.contains("Connection: close") {
                    connection.peer.close();
                }
            }
            Reaction::Break {
                is_reset,
                has_accepted,
                ..
            } => {
                if has_accepted {
                    self.accept(&received, false, b"");
                }
                match is_reset {
                    true => connection.peer.reset(),
                    false => connection.peer.close(),
                }
            }
            Reaction::Hang => {}
        }
        true
    }

    fn accept(&mut self, received: &Received, is_confirmed: bool, body: &[u8]) {
        for span in &received.spans {
            *self.accepted.entry(*span).or_default() += 1;
        }
        let spans = received.spans.len() as u64;
        if !is_confirmed {
            self.unconfirmed += spans;
            return;
        }
        let partial = crate::otlp::PartialSuccess::decode(body).unwrap_or_default();
        let rejected = partial.rejected.min(spans);
        self.rejected += rejected;
        self.confirmed += spans - rejected;
    }

    fn note_wait(&mut self, status: u16, headers: &str, now: Instant) {
        let wait = headers.split("Retry-After: ").nth(1);
        let wait = wait.and_then(|value| value.lines().next()?.parse().ok());
        if let Some(seconds) = wait.filter(|_| matches!(status, 429 | 502..=504)) {
            let until = Some(now + Duration::from_secs(seconds));
            self.wait_until = self.wait_until.max(until);
        }
    }
}

fn response(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Text\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}
