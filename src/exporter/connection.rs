//! The life of one connection to an endpoint, from a name to the responses that come over it.
//!
//! ```text
//!  Closed ──▶ Resolving ──▶ Connecting ──▶ Idle ──▶ Busy
//!                                           ▲        │
//!                                           └────────┘ response
//! ```
//!
//! From every state a failure, a timeout or a close leads back to `Closed`. Each state has a file of its
//! own. Its method `advance` consumes it and returns it if nothing has happened; a state that is not
//! returned is dropped, and its transport is closed with it.
//!
//! A connection decides nothing: it reports each event as a [`ConnectionEvent`] to its endpoint.

mod busy;
mod connecting;
mod event;
mod idle;
pub(crate) mod outgoing;
#[cfg(all(test, not(loom)))]
mod random_tests;
mod resolving;
#[cfg(all(test, not(loom)))]
mod tests;

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crate::config::{Compression, EndpointSettings, Proxy, Target};
use crate::exporter::network::{ConnectionId, Network, Readiness};
use crate::exporter::request::Request;
use crate::exporter::resolver::{self, Resolver};
use crate::exporter::transport::Transport;

use self::busy::Busy;
use self::connecting::Connecting;
pub(crate) use self::event::{Activity, ConnectionEvent, ConnectionLoss, Reply};
use self::idle::Idle;
use self::outgoing::Outgoing;
use self::resolving::Resolving;

/// One connection of an endpoint, which is opened again after it was closed.
pub(crate) struct Connection {
    id: ConnectionId,
    settings: Arc<EndpointSettings>,
    resolver: Arc<Resolver>,
    /// The target that requests are sent to.
    target: Arc<Target>,
    /// The request to be sent as soon as the connection is idle.
    waiting: Option<Arc<Request>>,
    /// The compression of the waiting request, or of the last one.
    compression: Compression,
    redirects: RedirectChain,
    state: ConnectionState,
}

/// The state of a connection, with all that is only needed in it.
#[derive(Default)]
enum ConnectionState {
    #[default]
    Closed,
    Resolving(Resolving),
    Connecting(Connecting),
    Idle(Idle),
    Busy(Box<Busy>),
}

/// The redirects that the last request has followed in a row, from the endpoint's own target on.
#[derive(Clone, Copy, Debug, Default)]
struct RedirectChain {
    followed: u32,
    permanent: u32,
}

impl Connection {
    /// Creates a connection that is closed.
    pub(crate) fn new(
        id: ConnectionId,
        settings: &Arc<EndpointSettings>,
        resolver: &Arc<Resolver>,
    ) -> Self {
        Self {
            id,
            target: Arc::clone(&settings.target),
            settings: Arc::clone(settings),
            resolver: Arc::clone(resolver),
            waiting: None,
            compression: Compression::None,
            redirects: RedirectChain::default(),
            state: ConnectionState::Closed,
        }
    }

    // ---- Queries ----

    /// Returns whether the connection is established and idle.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, ConnectionState::Idle(_))
    }

    /// Returns whether a request is in flight.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.state, ConnectionState::Busy(_))
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state, ConnectionState::Closed)
    }

    pub(crate) fn is_opening(&self) -> bool {
        matches!(
            self.state,
            ConnectionState::Resolving(_) | ConnectionState::Connecting(_)
        )
    }

    /// Returns the time by which [`Self::advance`] has to be called even if no readiness is reported.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let (transport, deadline) = match &self.state {
            ConnectionState::Closed => return None,
            ConnectionState::Resolving(resolving) => return Some(resolving.deadline()),
            ConnectionState::Connecting(connecting) => {
                (connecting.transport(), connecting.next_address_at())
            }
            ConnectionState::Idle(idle) => {
                (idle.transport(), idle.since() + self.settings.idle_timeout)
            }
            ConnectionState::Busy(busy) => (
                busy.transport(),
                busy.since() + self.settings.request_timeout,
            ),
        };
        // A turn reads a limited amount, so something may be left.
        Some(if transport.is_readable() {
            now
        } else {
            deadline
        })
    }

    /// Returns the time since which a request is in flight, if one is.
    pub(crate) fn busy_since(&self) -> Option<Instant> {
        match &self.state {
            ConnectionState::Busy(busy) => Some(busy.since()),
            _ => None,
        }
    }

    /// Returns the activity of the connection; `None` while it is closed.
    pub(crate) fn activity(&self) -> Option<Activity> {
        let opening_until = match &self.state {
            ConnectionState::Closed => return None,
            ConnectionState::Idle(_) => return Some(Activity::Idle),
            ConnectionState::Busy(busy) => return Some(Activity::Busy(busy.sent_at())),
            ConnectionState::Resolving(resolving) => resolving.deadline(),
            ConnectionState::Connecting(connecting) => connecting.deadline(),
        };
        let since = opening_until.checked_sub(self.settings.connect_timeout);
        since.map(Activity::Connecting)
    }

    /// Returns the target that requests are sent to.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Returns the number of redirects in a row that the last request followed.
    pub(crate) fn redirects(&self) -> u32 {
        self.redirects.followed
    }

    /// Returns whether permanent redirects alone have led to the target.
    pub(crate) fn has_moved(&self) -> bool {
        let RedirectChain {
            followed,
            permanent,
        } = self.redirects;
        followed > 0 && permanent == followed
    }

    // ---- Commands ----

    /// Closes the connection and begins to make a new one.
    pub(crate) fn open(&mut self, now: Instant, network: &dyn Network) -> Option<ConnectionEvent> {
        self.state = ConnectionState::Closed;
        let deadline = now + self.settings.connect_timeout;
        let (host, port) = self.server();
        if let Some(address) = resolver::literal(host, port) {
            return self.connect(vec![address], deadline, now, network);
        }
        match self.resolver.look_up(host, port, network) {
            Ok(lookup) => {
                self.state = ConnectionState::Resolving(Resolving::new(lookup, deadline));
                None
            }
            Err(error) => Some(self.unresolved(&error)),
        }
    }

    /// Returns the server that connections are made to: the proxy, if there is one.
    fn server(&self) -> (&str, u16) {
        match &self.settings.proxy {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&self.target.host, self.target.port),
        }
    }

    /// Sends a request as soon as the connection is idle, which it usually is.
    pub(crate) fn start(&mut self, request: Arc<Request>, compression: Compression, now: Instant) {
        self.redirects = RedirectChain::default();
        self.compression = compression;
        self.waiting = Some(request);
        self.send_waiting(now);
    }

    /// Sends a redirected request to its new target, over a new connection.
    pub(crate) fn follow(
        &mut self,
        target: Arc<Target>,
        is_permanent: bool,
        request: Arc<Request>,
        now: Instant,
        network: &dyn Network,
    ) -> Option<ConnectionEvent> {
        self.target = target;
        self.redirects.followed += 1;
        self.redirects.permanent += u32::from(is_permanent);
        self.waiting = Some(request);
        self.open(now, network)
    }

    /// Closes the connection, gives up its request and sets the target of the next one.
    pub(crate) fn close(&mut self, target: &Arc<Target>) {
        self.state = ConnectionState::Closed;
        self.waiting = None;
        self.redirects = RedirectChain::default();
        self.target = Arc::clone(target);
    }

    /// Notes a change of readiness. [`Self::advance`] makes use of it.
    pub(crate) fn add_readiness(&mut self, readiness: Readiness) {
        let transport = match &mut self.state {
            ConnectionState::Closed | ConnectionState::Resolving(_) => return,
            ConnectionState::Connecting(connecting) => connecting.transport_mut(),
            ConnectionState::Idle(idle) => idle.transport_mut(),
            ConnectionState::Busy(busy) => busy.transport_mut(),
        };
        transport.add_readiness(readiness);
    }

    /// Does all that is possible without waiting, up to the next event. To be called again after an
    /// event.
    pub(crate) fn advance(
        &mut self,
        now: Instant,
        network: &dyn Network,
    ) -> Option<ConnectionEvent> {
        match mem::take(&mut self.state) {
            ConnectionState::Closed => None,
            ConnectionState::Resolving(resolving) => self.resolve(resolving, now, network),
            ConnectionState::Connecting(connecting) => {
                let progress = connecting.advance(now, &self.dial(network));
                self.connecting(progress, now)
            }
            ConnectionState::Idle(idle) => self.rest(idle, now),
            ConnectionState::Busy(busy) => self.exchange(busy, now),
        }
    }

    // ---- Transitions ----

    fn resolve(
        &mut self,
        resolving: Resolving,
        now: Instant,
        network: &dyn Network,
    ) -> Option<ConnectionEvent> {
        let deadline = resolving.deadline();
        match resolving.advance(now) {
            Ok(ControlFlow::Continue(resolving)) => {
                self.state = ConnectionState::Resolving(resolving);
                None
            }
            Ok(ControlFlow::Break(addresses)) => self.connect(addresses, deadline, now, network),
            Err(error) => Some(self.unresolved(&error)),
        }
    }

    fn connect(
        &mut self,
        addresses: Vec<SocketAddr>,
        deadline: Instant,
        now: Instant,
        network: &dyn Network,
    ) -> Option<ConnectionEvent> {
        let connecting = Connecting::new(addresses, deadline, now, &self.dial(network));
        self.connecting(connecting.map(ControlFlow::Continue), now)
    }

    fn connecting(
        &mut self,
        progress: io::Result<ControlFlow<Transport, Connecting>>,
        now: Instant,
    ) -> Option<ConnectionEvent> {
        match progress {
            Ok(ControlFlow::Continue(connecting)) => {
                self.state = ConnectionState::Connecting(connecting);
                None
            }
            Ok(ControlFlow::Break(transport)) => {
                self.state = ConnectionState::Idle(Idle::new(transport, now));
                self.send_waiting(now);
                Some(ConnectionEvent::Connected)
            }
            Err(error) => Some(self.unconnected(&error)),
        }
    }

    fn dial<'a>(
        &'a self,
        network: &'a dyn Network,
    ) -> impl Fn(SocketAddr) -> io::Result<Transport> + 'a {
        move |address| Transport::connect(address, &self.target, &self.settings, network, self.id)
    }

    fn rest(&mut self, idle: Idle, now: Instant) -> Option<ConnectionEvent> {
        match idle.advance(now, self.settings.idle_timeout) {
            ControlFlow::Continue(idle) => {
                self.state = ConnectionState::Idle(idle);
                None
            }
            ControlFlow::Break(event) => event,
        }
    }

    /// Begins to send the waiting request if the connection is idle.
    fn send_waiting(&mut self, now: Instant) {
        self.state = match (mem::take(&mut self.state), self.waiting.take()) {
            (ConnectionState::Idle(idle), Some(request)) => {
                let outgoing = Outgoing::new(request, self.compression);
                let head = outgoing.head(&self.target, &self.settings);
                let response_bytes_max = self.settings.options.response_bytes_max;
                let busy = Busy::new(idle, head, outgoing, response_bytes_max, now);
                ConnectionState::Busy(Box::new(busy))
            }
            (state, waiting) => {
                self.waiting = waiting;
                state
            }
        };
    }

    fn exchange(&mut self, busy: Box<Busy>, now: Instant) -> Option<ConnectionEvent> {
        match busy.advance(now, self.settings.request_timeout) {
            ControlFlow::Continue(busy) => {
                self.state = ConnectionState::Busy(busy);
                None
            }
            ControlFlow::Break((event, idle)) => {
                self.state = idle.map_or(ConnectionState::Closed, ConnectionState::Idle);
                Some(event)
            }
        }
    }

    // ---- Failures ----

    fn unresolved(&mut self, error: &io::Error) -> ConnectionEvent {
        let (host, _) = self.server();
        let reason = format!("cannot resolve {host:?}: {error}");
        self.unreachable(reason)
    }

    fn unconnected(&mut self, error: &io::Error) -> ConnectionEvent {
        let by = match &self.settings.proxy {
            Some(Proxy { host, port, .. }) => format!(" through the proxy {host}:{port}"),
            None => String::new(),
        };
        self.unreachable(format!("cannot connect{by}: {error}"))
    }

    fn unreachable(&mut self, reason: String) -> ConnectionEvent {
        ConnectionEvent::Lost {
            request: self.waiting.take(),
            kind: ConnectionLoss::Unreachable,
            reason,
        }
    }
}
