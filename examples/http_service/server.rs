//! A handler thread: an event loop over the connections that it accepted.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpListener as StdListener;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use otlp_collector::recorder::ScopedRecorder;
use otlp_collector::span::StatusRef;
use otlp_collector::{Key, Name, OpenSpan, Recorder, SpanContext, SpanKind, key, name};

use crate::http::{self, Parsed, Request, Response};
use crate::latency::HandlerLatencies;
use crate::options::Tracing;
use crate::shop::{Shop, Trace};

const LISTENER: Token = Token(0);
/// Maximum time until a stop takes effect.
const TICK: Duration = Duration::from_millis(100);
/// Number of consecutive requests that are traced, or not, with [`Tracing::Both`].
const TURN: u64 = 100;

const GET_ORDER: Name<'static> = name!("GET /orders/{id}");
const METHOD: Key<'static> = key!("http.request.method");
const ROUTE: Key<'static> = key!("http.route");
const PATH: Key<'static> = key!("url.path");
const SCHEME: Key<'static> = key!("url.scheme");
const STATUS: Key<'static> = key!("http.response.status_code");

pub struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: HashMap<Token, Connection>,
    next_token: usize,
    shop: Shop,
    tracing: Tracing,
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
        tracing: Tracing,
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
            shop: Shop::new(),
            tracing,
            requests: 0,
            latencies,
        })
    }

    /// Serves connections while `running` is true.
    pub fn run(
        mut self,
        recorder: &Recorder,
        storage: ScopedRecorder<'_>,
        running: &AtomicBool,
    ) -> io::Result<()> {
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
                    self.serve(event.token(), recorder, storage);
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
    fn serve(&mut self, token: Token, recorder: &Recorder, storage: ScopedRecorder<'_>) {
        let Some(mut connection) = self.connections.remove(&token) else {
            return;
        };
        if let Ok(true) = self.exchange(&mut connection, recorder, storage) {
            self.connections.insert(token, connection);
        }
    }

    /// Reads requests and answers them. Returns false when the connection is done.
    fn exchange(
        &mut self,
        connection: &mut Connection,
        recorder: &Recorder,
        storage: ScopedRecorder<'_>,
    ) -> io::Result<bool> {
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
                    let traced = is_traced.then_some((recorder, storage));
                    self.answer(connection, &request, traced)?;
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

    fn answer(
        &self,
        connection: &mut Connection,
        request: &Request<'_>,
        traced: Option<(&Recorder, ScopedRecorder<'_>)>,
    ) -> io::Result<()> {
        let mut span = traced.map(|(recorder, _)| start_span(recorder, request));
        let trace = traced
            .zip(span.as_ref())
            .map(|((recorder, storage), request)| Trace {
                recorder,
                storage,
                request,
            });
        let response = self.shop.answer(request, trace);
        response.write(
            request.method == "HEAD",
            request.keep_alive,
            span.as_ref().map(|span| span.context().trace_id),
            &mut connection.output,
        );
        connection.is_closing |= !request.keep_alive;
        if let Some(span) = &mut span {
            describe(span, &response);
        }
        // The span ends when it is dropped, after the response was sent.
        connection.flush()
    }
}

/// Starts the server span, as a child of the caller's span if the request has a `traceparent`.
fn start_span(recorder: &Recorder, request: &Request<'_>) -> OpenSpan {
    let caller = SpanContext::extract(request.headers());
    let is_order = request.method == "GET" && request.path.starts_with("/orders/");
    let name = if is_order {
        GET_ORDER
    } else {
        Name::from(request.method)
    };
    let mut span = recorder
        .span_builder(name)
        .kind(SpanKind::Server)
        .parent(caller.as_ref())
        .start();
    if is_order {
        span.set_attribute(ROUTE, "/orders/{id}");
    }
    span.set_attribute(METHOD, request.method)
        .set_attribute(PATH, request.path)
        .set_attribute(SCHEME, "http");
    span
}

/// Adds the response to the span. By the semantic conventions for HTTP, a 4xx status is not an
/// error of a server span.
fn describe(span: &mut OpenSpan, response: &Response) {
    span.set_attribute(STATUS, response.status);
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
