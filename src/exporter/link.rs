//! The life of one connection to an endpoint, from a name to the responses that come over it.
//!
//! ```text
//!  Down ──▶ Resolving ──▶ Connecting ──▶ Up: request, response, request, …
//!   ▲            │             │          │
//!   └────────────┴─────────────┴──────────┘
//! ```
//!
//! It makes no decisions: it returns each event as an [`Event`], and the endpoint draws the
//! conclusions.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;

use crate::config::{Compression, EndpointSettings, Proxy, Target};
use crate::exporter::endpoint::silence::Activity;
use crate::exporter::http::connection::{Connection, Exchange, PARTS_MAX};
use crate::exporter::http::response::ResponseError;
use crate::exporter::network::{ConnectionId, Network, Readiness};
use crate::exporter::request::Request;
use crate::exporter::resolve::{self, Lookup, Resolver};
use crate::exporter::transport::Transport;

/// Reads of one turn: with the buffer's size half a megabyte.
const READS_MAX: u32 = 64;
/// An address that does not answer gets this long at least before the next is tried.
const ADDRESS_TIMEOUT_MIN: Duration = Duration::from_millis(100);

pub(crate) struct Link {
    id: ConnectionId,
    settings: Arc<EndpointSettings>,
    /// Where it leads.
    target: Arc<Target>,
    /// The compression of the last request.
    compression: Compression,
    /// A request that follows a redirect: it is sent once the connection stands.
    carried: Option<Arc<Request>>,
    /// How often that was redirected.
    redirects: u32,
    /// All of these redirects were permanent.
    has_moved: bool,
    /// When bytes could last be written: a slow line is not a silent server.
    sent_at: Option<Instant>,
    state: State,
}

enum State {
    Down,
    Resolving {
        lookup: Lookup,
        deadline: Instant,
    },
    Connecting {
        transport: Transport,
        /// To be tried if this one fails, the next one last.
        others: Vec<SocketAddr>,
        /// Of this address.
        next_at: Instant,
        /// Of all.
        deadline: Instant,
    },
    Up {
        transport: Transport,
        connection: Box<Connection>,
        /// The request on the way began then, or being idle did.
        since: Instant,
    },
}

/// An event on a link.
pub(crate) enum Event {
    Connected,
    Answered(Exchange),
    /// There is no connection any more, or none could be made.
    Lost(Loss),
}

pub(crate) struct Loss {
    /// The request that was on the way.
    pub(crate) request: Option<Arc<Request>>,
    pub(crate) why: Why,
    /// In words.
    pub(crate) reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// No connection could be made.
    Unreachable,
    /// It broke, and served requests before: most likely it was closed while it was idle.
    Stale,
    Broken,
    TimedOut,
}

impl Link {
    pub(crate) fn new(id: ConnectionId, settings: &Arc<EndpointSettings>) -> Self {
        Self {
            id,
            target: Arc::clone(&settings.target),
            settings: Arc::clone(settings),
            compression: Compression::None,
            carried: None,
            redirects: 0,
            has_moved: false,
            sent_at: None,
            state: State::Down,
        }
    }

    // ---- Queries ----

    /// The connection stands and nothing is on the way.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(&self.state, State::Up { connection, .. } if connection.is_idle())
    }

    pub(crate) fn is_down(&self) -> bool {
        matches!(self.state, State::Down)
    }

    pub(crate) fn is_opening(&self) -> bool {
        matches!(
            self.state,
            State::Resolving { .. } | State::Connecting { .. }
        )
    }

    /// When it wants to be advanced even if nothing happens.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        match &self.state {
            State::Down => None,
            State::Resolving { deadline, .. } => Some(*deadline),
            State::Connecting { transport, .. } | State::Up { transport, .. }
                if transport.is_readable() =>
            {
                Some(now)
            }
            State::Connecting { next_at, .. } => Some(*next_at),
            State::Up {
                connection, since, ..
            } => Some(*since + self.time_for(connection)),
        }
    }

    /// Since when a request is on the way, if one is.
    pub(crate) fn busy_since(&self) -> Option<Instant> {
        match &self.state {
            State::Up {
                connection, since, ..
            } if !connection.is_idle() => Some(*since),
            _ => None,
        }
    }

    /// The activity of the connection; `None` while there is none.
    pub(crate) fn activity(&self) -> Option<Activity> {
        match &self.state {
            State::Down => None,
            State::Resolving { deadline, .. } | State::Connecting { deadline, .. } => {
                let since = deadline.checked_sub(self.settings.connect_timeout);
                since.map(Activity::Connecting)
            }
            State::Up { connection, .. } if connection.is_idle() => Some(Activity::Idle),
            State::Up { since, .. } => Some(Activity::Busy(self.sent_at.max(Some(*since))?)),
        }
    }

    fn time_for(&self, connection: &Connection) -> Duration {
        if connection.is_idle() {
            self.settings.idle_timeout
        } else {
            self.settings.request_timeout
        }
    }

    // ---- Commands ----

    /// Begins to connect.
    pub(crate) fn open(
        &mut self,
        resolver: &Resolver,
        now: Instant,
        network: &dyn Network,
    ) -> Option<Event> {
        let deadline = now + self.settings.connect_timeout;
        let (host, port) = self.server();
        if let Some(address) = resolve::literal(host, port) {
            return self.connect(vec![address], deadline, None, now, network);
        }
        match resolver.look_up(host, port, network) {
            Ok(lookup) => self.state = State::Resolving { lookup, deadline },
            Err(error) => return Some(self.unresolved(&error)),
        }
        None
    }

    /// The server that connections are made to: the proxy, if there is one.
    fn server(&self) -> (&str, u16) {
        match &self.settings.proxy {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&self.target.host, self.target.port),
        }
    }

    /// Begins to send a request over the connection, which is ready.
    pub(crate) fn start(&mut self, request: Arc<Request>, compression: Compression, now: Instant) {
        self.redirects = 0;
        self.has_moved = false;
        self.compression = compression;
        self.transmit(request, now);
    }

    fn transmit(&mut self, request: Arc<Request>, now: Instant) {
        let compression = self.compression;
        let head = request.head(&self.target, compression, &self.settings);
        if let State::Up {
            connection, since, ..
        } = &mut self.state
        {
            connection.start(head, compression, request, now);
            *since = now;
        }
    }

    /// Sends a request to where it was redirected, on a new connection to there.
    pub(crate) fn follow(
        &mut self,
        target: Arc<Target>,
        is_permanent: bool,
        request: Arc<Request>,
        resolver: &Resolver,
        now: Instant,
        network: &dyn Network,
    ) -> Option<Event> {
        self.target = target;
        self.has_moved = is_permanent && (self.has_moved || self.redirects == 0);
        self.redirects += 1;
        self.carried = Some(request);
        self.open(resolver, now, network)
    }

    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// How often the request that it last carried was redirected in a row.
    pub(crate) fn redirects(&self) -> u32 {
        self.redirects
    }

    /// Whether permanent redirects alone have led to its target.
    pub(crate) fn has_moved(&self) -> bool {
        self.has_moved
    }

    /// Closes the connection and leads to the endpoint's own place again.
    pub(crate) fn close(&mut self, target: &Arc<Target>) {
        self.state = State::Down;
        self.carried = None;
        self.redirects = 0;
        self.has_moved = false;
        self.target = Arc::clone(target);
    }

    pub(crate) fn ready(&mut self, readiness: Readiness) {
        match &mut self.state {
            State::Connecting { transport, .. } | State::Up { transport, .. } => {
                transport.add_readiness(readiness);
            }
            State::Down | State::Resolving { .. } => {}
        }
    }

    /// Does what can be done without waiting, until something happens.
    pub(crate) fn advance(&mut self, now: Instant, network: &dyn Network) -> Option<Event> {
        match &self.state {
            State::Down => None,
            State::Resolving { .. } => self.resolved(now, network),
            State::Connecting { .. } => self.connected(now, network),
            State::Up { .. } => self.exchange(now),
        }
    }

    // ---- Getting connected ----

    fn resolved(&mut self, now: Instant, network: &dyn Network) -> Option<Event> {
        let State::Resolving { lookup, deadline } = &self.state else {
            return None;
        };
        let deadline = *deadline;
        match lookup.try_recv() {
            Err(TryRecvError::Empty) if now < deadline => None,
            Err(TryRecvError::Empty) => Some(self.unresolved(&io::ErrorKind::TimedOut.into())),
            Err(lost) => Some(self.unresolved(&io::Error::other(lost))),
            Ok(Err(error)) => Some(self.unresolved(&error)),
            Ok(Ok(mut addresses)) => {
                addresses.reverse();
                self.connect(addresses, deadline, None, now, network)
            }
        }
    }

    /// Tries the addresses from the last to the first.
    fn connect(
        &mut self,
        mut addresses: Vec<SocketAddr>,
        deadline: Instant,
        mut error: Option<io::Error>,
        now: Instant,
        network: &dyn Network,
    ) -> Option<Event> {
        let settings = &self.settings;
        while let Some(address) = addresses.pop().filter(|_| now < deadline) {
            match Transport::connect(address, &self.target, settings, network, self.id) {
                Ok(transport) => {
                    let left = deadline - now;
                    let share = left / (addresses.len() as u32 + 1);
                    self.state = State::Connecting {
                        transport,
                        others: addresses,
                        next_at: now + share.max(ADDRESS_TIMEOUT_MIN.min(left)),
                        deadline,
                    };
                    return self.advance(now, network);
                }
                Err(failed) => error = Some(failed),
            }
        }
        let reason = error.map_or("the name has no address".to_string(), |e| e.to_string());
        let by = match &settings.proxy {
            Some(Proxy { host, port, .. }) => format!(" through the proxy {host}:{port}"),
            None => String::new(),
        };
        Some(self.lost(Why::Unreachable, format!("cannot connect{by}: {reason}")))
    }

    fn connected(&mut self, now: Instant, network: &dyn Network) -> Option<Event> {
        let State::Connecting {
            transport, next_at, ..
        } = &mut self.state
        else {
            return None;
        };
        let connected = match transport.is_connected() {
            Ok(false) if now < *next_at => return None,
            Ok(false) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no connection in time",
            )),
            result => result,
        };
        let State::Connecting {
            transport,
            others,
            deadline,
            ..
        } = std::mem::replace(&mut self.state, State::Down)
        else {
            return None;
        };
        if let Err(error) = connected {
            drop(transport);
            return self.connect(others, deadline, Some(error), now, network);
        }
        self.state = State::Up {
            transport,
            connection: Box::new(Connection::new(self.settings.response_bytes_max)),
            since: now,
        };
        if let Some(request) = self.carried.take() {
            self.transmit(request, now);
        }
        Some(Event::Connected)
    }

    fn unresolved(&mut self, error: &io::Error) -> Event {
        let (host, _) = self.server();
        let reason = format!("cannot resolve {host:?}: {error}");
        self.lost(Why::Unreachable, reason)
    }

    // ---- Requests and responses ----

    /// Sends, then receives, then looks at the time.
    fn exchange(&mut self, now: Instant) -> Option<Event> {
        (self.send(now))
            .or_else(|| self.receive(now))
            .or_else(|| self.check_deadline(now))
    }

    fn send(&mut self, now: Instant) -> Option<Event> {
        let State::Up {
            transport,
            connection,
            ..
        } = &mut self.state
        else {
            return None;
        };
        loop {
            let mut slices = [IoSlice::new(&[]); PARTS_MAX];
            let filled = connection.unsent(&mut slices);
            let written = match filled {
                0 => transport.flush().map(|()| None),
                _ => transport.write(&slices[..filled]),
            };
            match written {
                Ok(None) => return None,
                Ok(Some(sent)) => {
                    connection.sent(sent);
                    self.sent_at = Some(now);
                }
                // The other side may have answered before it closed: that comes first.
                Err(error) => {
                    transport.assume_readable();
                    return self.receive_last().or_else(|| Some(self.broken(&error)));
                }
            }
        }
    }

    /// Reads what there is, within reason: a server that never stops must not keep the thread
    /// from everything else.
    fn receive(&mut self, now: Instant) -> Option<Event> {
        let mut buffer = [0; 8192];
        for _ in 0..READS_MAX {
            let State::Up {
                transport,
                connection,
                ..
            } = &mut self.state
            else {
                return None;
            };
            let received = match transport.read(&mut buffer) {
                Ok(None) => return None,
                Ok(Some(0)) if connection.is_idle() && connection.has_served() => {
                    self.state = State::Down;
                    return None;
                }
                Ok(Some(0)) if connection.is_idle() => {
                    return Some(self.lost(Why::Broken, "closed before it was used".to_string()));
                }
                Ok(Some(0)) => connection.end(),
                Ok(Some(bytes)) => connection.receive(&buffer[..bytes]),
                Err(error) => return Some(self.broken(&error)),
            };
            match received {
                Ok(None) => {}
                Ok(Some(exchange)) => return Some(self.answered(exchange, now)),
                Err(error) => return Some(self.broken(&error)),
            }
        }
        None
    }

    /// The response that had arrived before the connection broke, if there is one.
    fn receive_last(&mut self) -> Option<Event> {
        let mut buffer = [0; 8192];
        let State::Up {
            transport,
            connection,
            ..
        } = &mut self.state
        else {
            return None;
        };
        for _ in 0..READS_MAX {
            let received = match transport.read(&mut buffer) {
                Ok(Some(bytes)) if bytes > 0 => connection.receive(&buffer[..bytes]),
                _ => return None,
            };
            if let Some(exchange) = received.ok()? {
                self.state = State::Down;
                return Some(Event::Answered(exchange));
            }
        }
        None
    }

    /// A connection that can be used again is kept.
    fn answered(&mut self, exchange: Exchange, now: Instant) -> Event {
        if let State::Up { since, .. } = &mut self.state {
            *since = now;
        }
        if !exchange.response.keep_alive {
            self.state = State::Down;
        }
        Event::Answered(exchange)
    }

    fn check_deadline(&mut self, now: Instant) -> Option<Event> {
        let State::Up {
            connection, since, ..
        } = &self.state
        else {
            return None;
        };
        if now < *since + self.time_for(connection) {
            return None;
        }
        let State::Up { connection, .. } = &mut self.state else {
            return None;
        };
        if connection.is_idle() {
            self.state = State::Down;
            return None;
        }
        if let Some(exchange) = connection.salvage(ResponseError::Late) {
            self.state = State::Down;
            return Some(Event::Answered(exchange));
        }
        let timeout = self.settings.request_timeout;
        Some(self.lost(Why::TimedOut, format!("no response within {timeout:?}")))
    }

    // ---- Losing the connection ----

    fn broken(&mut self, error: &dyn std::fmt::Display) -> Event {
        let State::Up { connection, .. } = &mut self.state else {
            return self.lost(Why::Broken, error.to_string());
        };
        // Its final status may be known.
        if let Some(exchange) = connection.salvage(ResponseError::Truncated) {
            self.state = State::Down;
            return Event::Answered(exchange);
        }
        if connection.is_idle() && connection.has_served() {
            self.lost(
                Why::Stale,
                format!("an unused connection was broken: {error}"),
            )
        } else if connection.may_be_stale() {
            self.lost(Why::Stale, format!("a kept connection was broken: {error}"))
        } else {
            self.lost(Why::Broken, format!("the connection was broken: {error}"))
        }
    }

    fn lost(&mut self, why: Why, reason: String) -> Event {
        let request = match std::mem::replace(&mut self.state, State::Down) {
            State::Up {
                transport,
                mut connection,
                ..
            } => {
                transport.abort();
                connection.take_request()
            }
            _ => None,
        };
        Event::Lost(Loss {
            request: request.or_else(|| self.carried.take()),
            why,
            reason,
        })
    }
}
