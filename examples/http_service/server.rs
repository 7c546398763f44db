//! A handler thread: an event loop over the connections that it accepted.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener as StdListener;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use otlp_collector::recorder::CurrentSpan;
use otlp_collector::span::StatusRef;
use otlp_collector::{Collector, OpenSpan, SpanContext, span};

use crate::http::{self, Parsed, Request, Response};
use crate::latency::HandlerLatencies;
use crate::options::Tracing;
use crate::shop::Shop;

const LISTENER: Token = Token(0);
/// Maximum time until a stop takes effect.
const TICK: Duration = Duration::from_millis(100);
/// Number of consecutive requests that are traced, or not, with [`Tracing::Both`].
const TURN: u64 = 100;

pub struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: HashMap<Token, Connection>,
    next_token: usize,
    shop: Shop,
    tracing: Tracing,
    /// A disabled collector, for requests that are not traced.
    off: Collector,
    requests: u64,
    latencies: HandlerLatencies,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// Responses that have not been sent yet.
    output: Vec<u8>,
    /// Whether reading has ended. The connection closes once the output is sent.
    is_closing: bool,
}

impl Server {
    pub fn new(
        listener: StdListener,
        shop: Shop,
        tracing: Tracing,
        off: Collector,
        latencies: HandlerLatencies,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::from_std(listener);
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            connections: HashMap::new(),
            next_token: 1,
            shop,
            tracing,
            off,
            requests: 0,
            latencies,
        })
    }

    /// Serves connections while `running` is true.
    pub fn run(mut self, running: &AtomicBool) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        while running.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                } else {
                    self.serve(event.token());
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The caller has gone, or there are no file descriptors left.
                Err(_) => return Ok(()),
            };
            // Fails only if the caller is gone, which later reads detect.
            let _ = stream.set_nodelay(true);
            let token = Token(self.next_token);
            self.next_token += 1;
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut stream, token, interest)?;
            let connection = Connection {
                stream,
                input: Vec::new(),
                output: Vec::new(),
                is_closing: false,
            };
            self.connections.insert(token, connection);
        }
    }

    /// Handles a connection that is ready, and drops it when it is done or broken.
    fn serve(&mut self, token: Token) {
        let Some(mut connection) = self.connections.remove(&token) else {
            return;
        };
        if let Ok(true) = self.exchange(&mut connection) {
            self.connections.insert(token, connection);
        }
    }

    /// Reads requests and answers them. Returns false when the connection is done.
    fn exchange(&mut self, connection: &mut Connection) -> io::Result<bool> {
        connection.flush()?;
        connection.read()?;
        let input = std::mem::take(&mut connection.input);
        let mut rest = &input[..];
        while !rest.is_empty() && connection.output.is_empty() {
            let start = Instant::now();
            match http::parse(rest) {
                Parsed::Partial => break,
                Parsed::Complete(request) => {
                    let is_traced = self.is_next_traced();
                    let _off = (!is_traced).then(|| self.off.install_for_thread());
                    self.answer(connection, &request)?;
                    rest = &rest[request.len..];
                    let mut latencies = self
                        .latencies
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    latencies.record(is_traced, start.elapsed());
                }
                Parsed::Invalid(response) => {
                    response.write(false, false, None, &mut connection.output);
                    connection.is_closing = true;
                    connection.flush()?;
                    rest = &[];
                }
            }
        }
        connection.input = rest.to_vec();
        Ok(!connection.is_closing || !connection.output.is_empty())
    }

    fn is_next_traced(&mut self) -> bool {
        self.requests += 1;
        match self.tracing {
            Tracing::On => true,
            Tracing::Off => false,
            Tracing::Both => (self.requests / TURN).is_multiple_of(2),
        }
    }

    fn answer(&self, connection: &mut Connection, request: &Request<'_>) -> io::Result<()> {
        let span = start_span(request).entered();
        let response = self.shop.answer(request);
        response.write(
            request.method == "HEAD",
            request.keep_alive,
            span.context().map(|context| context.trace_id),
            &mut connection.output,
        );
        connection.is_closing |= !request.keep_alive;
        describe(&span, &response);
        // The span ends when it is dropped, after the response was sent.
        connection.flush()
    }
}

/// Starts the server span, as a child of the caller's span if the request has a `traceparent`.
fn start_span(request: &Request<'_>) -> OpenSpan {
    let caller = SpanContext::extract(request.headers());
    let mut span = span!(
        "HTTP request",
        kind: Server,
        parent: caller.as_ref(),
        http.request.method = request.method,
        url.path = request.path,
        url.scheme = "http",
    );
    if request.method == "GET" && request.path.starts_with("/orders/") {
        span.set_name("GET /orders/{id}")
            .set_attribute("http.route", "/orders/{id}");
    } else {
        span.set_name(request.method);
    }
    span
}

/// Adds the response to the span. By the semantic conventions for HTTP, a 4xx status is not an
/// error of a server span.
fn describe(span: &CurrentSpan, response: &Response) {
    span.set_attribute("http.response.status_code", response.status);
    if response.status >= 500 {
        span.set_status(StatusRef::Error(""));
    }
}

impl Connection {
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 8192];
        while !self.is_closing {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.is_closing = true,
                Ok(bytes) => self.input.extend_from_slice(&buffer[..bytes]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(bytes) => drop(self.output.drain(..bytes)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
