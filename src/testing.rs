//! A small OTLP/HTTP receiver for tests and examples, on a loopback port of its own.
//!
//! It checks and counts the spans it is sent, keeps them if told to, and answers as it is told.
//! Needs the feature `testing`.
//!
//! ```
//! use otlp_collector::testing::{Answer, Receiver};
//! use otlp_collector::{Collector, Config};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let receiver = Receiver::start()?;
//! receiver.answer_next([Answer::status(503)]);
//!
//! let collector = Collector::new(Config {
//!     endpoint: receiver.endpoint(),
//!     ..Config::default()
//! })?;
//! let recorder = collector.recorder()?;
//! let mut request = recorder.start("GET /orders");
//! request.set_attribute("http.response.status_code", 200);
//! recorder.start_child(&request, "SELECT orders").end();
//! request.end();
//! collector.shutdown()?;
//!
//! assert_eq!(receiver.counts().requests, 2);
//! let request = receiver.span("GET /orders");
//! request.assert_root();
//! assert_eq!(request.attribute("http.response.status_code"), Some(200.into()));
//! receiver.span("SELECT orders").assert_child_of(&request);
//! # Ok(())
//! # }
//! ```

mod census;
mod serve;
mod spans;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prost::Message;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

pub use crate::otlp::proto;

/// A running receiver; dropping it stops it.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
    /// Keeps the port while nobody listens.
    reserved: Mutex<Option<OwnedFd>>,
}

/// How a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `None`: the connection is closed instead.
    status: Option<u16>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether the request's spans are taken, and how many of them are not.
    takes: bool,
    rejected: u64,
}

impl Answer {
    /// Success.
    #[must_use]
    pub fn ok() -> Self {
        Self::status(200)
    }

    /// A response with this status; takes the spans if it is a success.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self {
            status: Some(status),
            headers: Vec::new(),
            body: Vec::new(),
            takes: (200..300).contains(&status),
            rejected: 0,
        }
    }

    /// A success that takes all but `rejected` spans.
    #[must_use]
    pub fn partial_success(rejected: u64, message: impl Into<String>) -> Self {
        let response = proto::ExportTraceServiceResponse {
            partial_success: Some(proto::ExportTracePartialSuccess {
                rejected_spans: rejected as i64,
                error_message: message.into(),
            }),
        };
        Self {
            rejected,
            ..Self::ok().body(response.encode_to_vec())
        }
    }

    /// Reads the request, then closes the connection without taking the spans.
    #[must_use]
    pub fn disconnect() -> Self {
        Self {
            status: None,
            takes: false,
            ..Self::ok()
        }
    }

    /// Takes the spans, then closes the connection without saying so.
    #[must_use]
    pub fn take_and_disconnect() -> Self {
        Self {
            status: None,
            ..Self::ok()
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// What a receiver has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Requests read.
    pub requests: u64,
    /// Requests that were no valid OTLP, answered with 400.
    pub malformed: u64,
    /// Spans taken: those in requests that were answered with success.
    pub spans: u64,
    /// Bytes of the bodies of all requests.
    pub body_bytes: u64,
    /// The largest body.
    pub body_bytes_max: u64,
    /// CPU time that reading and checking took.
    pub cpu_time: Duration,
}

/// A request as it was received.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReceivedRequest {
    /// The path and query of the request line.
    pub path: String,
    /// Header names, in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The decoded body.
    pub body: proto::ExportTraceServiceRequest,
    /// Whether the spans were taken.
    pub taken: bool,
}

impl ReceivedRequest {
    /// The value of the first header with this name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Its spans.
    pub fn spans(&self) -> impl Iterator<Item = &proto::Span> {
        (self.body.resource_spans.iter())
            .flat_map(|resource| &resource.scope_spans)
            .flat_map(|scope| &scope.spans)
    }
}

/// What the receiver and its connections share.
#[derive(Debug)]
struct State {
    keeps: bool,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    open: bool,
    paused: bool,
    answer: Answer,
    answers_next: VecDeque<Answer>,
    counts: Counts,
    kept: Vec<ReceivedRequest>,
    metrics: Vec<proto::ExportMetricsServiceRequest>,
    /// By number, in the order they were accepted.
    connections: HashMap<u64, TcpStream>,
}

impl Receiver {
    /// Starts a receiver that keeps all requests, for tests with few spans.
    ///
    /// # Errors
    /// No socket or thread could be had.
    pub fn start() -> io::Result<Self> {
        Self::start_on(0)
    }

    /// Starts a receiver as [`start`](Self::start) does, on this port of 127.0.0.1: for a program whose
    /// endpoint cannot be changed. 0 is any free port.
    ///
    /// # Errors
    /// The port is in use, or no socket or thread could be had.
    ///
    /// ```no_run
    /// use otlp_collector::testing::Receiver;
    ///
    /// let receiver = Receiver::start_on(4318)?;
    /// assert_eq!(receiver.endpoint(), "http://127.0.0.1:4318");
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn start_on(port: u16) -> io::Result<Self> {
        Self::start_with(true, port)
    }

    /// Starts a receiver that checks and counts spans but keeps none, for any number of them.
    ///
    /// # Errors
    /// No socket or thread could be had.
    pub fn start_counting() -> io::Result<Self> {
        Self::start_with(false, 0)
    }

    fn start_with(keeps: bool, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let receiver = Self {
            address: listener.local_addr()?,
            state: Arc::new(State {
                keeps,
                inner: Mutex::new(Inner {
                    open: false,
                    paused: false,
                    answer: Answer::ok(),
                    answers_next: VecDeque::new(),
                    counts: Counts::default(),
                    kept: Vec::new(),
                    metrics: Vec::new(),
                    connections: HashMap::new(),
                }),
                changed: Condvar::new(),
            }),
            acceptor: Mutex::new(None),
            reserved: Mutex::new(None),
        };
        receiver.open(listener)?;
        Ok(receiver)
    }

    /// The URL to export to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    // ---- Telling it what to do ----

    /// Answers every request like this from now on, but for those of [`answer_next`].
    ///
    /// [`answer_next`]: Self::answer_next
    pub fn answer(&self, answer: Answer) {
        self.state.inner.lock().answer = answer;
    }

    /// Answers the next requests like this, one each.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.state.inner.lock().answers_next.extend(answers);
    }

    /// Reads and answers nothing until [`resume`](Self::resume); connections stay open.
    pub fn pause(&self) {
        self.state.inner.lock().paused = true;
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.state.inner.lock().paused = false;
        self.state.changed.notify_all();
    }

    /// Breaks all connections and refuses new ones; the port stays its own.
    pub fn close(&self) {
        let connections = {
            let mut inner = self.state.inner.lock();
            inner.open = false;
            std::mem::take(&mut inner.connections)
        };
        self.state.changed.notify_all();
        connections.values().for_each(shut_down);
        if let Some(acceptor) = self.acceptor.lock().take() {
            // Calls the acceptor out of its wait.
            let _ = TcpStream::connect(self.address);
            let _ = acceptor.join();
            // Otherwise somebody else might get what is sent to this one.
            *self.reserved.lock() = reserve(self.address).ok();
        }
    }

    /// Listens again, on the same port, after [`close`](Self::close).
    ///
    /// # Errors
    /// The port is taken by somebody else now, or no thread could be had.
    pub fn reopen(&self) -> io::Result<()> {
        match self.reserved.lock().take() {
            Some(socket) => {
                listen(&socket, 128)?;
                self.open(TcpListener::from(socket))
            }
            None => self.open(TcpListener::bind(self.address)?),
        }
    }

    fn open(&self, listener: TcpListener) -> io::Result<()> {
        self.state.inner.lock().open = true;
        let state = Arc::clone(&self.state);
        let acceptor = thread::Builder::new()
            .name("otlp-receiver".to_string())
            .spawn(move || serve::accept(&listener, &state))?;
        *self.acceptor.lock() = Some(acceptor);
        Ok(())
    }

    // ---- Asking what came ----

    /// What it has seen so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state.inner.lock().counts
    }

    /// Waits until `condition` holds for the counts; false if `timeout` passed before.
    pub fn wait_until(&self, timeout: Duration, condition: impl Fn(&Counts) -> bool) -> bool {
        let deadline = Instant::now() + timeout;
        let mut inner = self.state.inner.lock();
        while !condition(&inner.counts) {
            let wait = self.state.changed.wait_until(&mut inner, deadline);
            if wait.timed_out() {
                return condition(&inner.counts);
            }
        }
        true
    }

    /// The requests kept so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.state.inner.lock().kept.clone()
    }

    /// The requests to `/v1/metrics` so far, oldest first. They are answered with success, and not
    /// among the [`counts`](Self::counts).
    #[must_use]
    pub fn metrics(&self) -> Vec<proto::ExportMetricsServiceRequest> {
        self.state.inner.lock().metrics.clone()
    }

    /// The spans of the kept requests whose spans were taken, oldest first. (A partial success
    /// does not say which spans it rejects, so all of its request are here.)
    #[must_use]
    pub fn spans(&self) -> Vec<proto::Span> {
        let inner = self.state.inner.lock();
        let taken = inner.kept.iter().filter(|request| request.taken);
        taken.flat_map(ReceivedRequest::spans).cloned().collect()
    }

    /// The span with this name among [`spans`](Self::spans).
    ///
    /// # Panics
    /// There is none, or several: the message lists the names that were received.
    #[must_use]
    #[track_caller]
    pub fn span(&self, name: &str) -> proto::Span {
        spans::only(self.spans().iter(), name).clone()
    }
}

/// A socket that has the address and does not listen.
fn reserve(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    Ok(socket)
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.resume();
        self.close();
    }
}

impl State {
    /// Waits while the receiver is paused; false once it is closed.
    fn pass(&self) -> bool {
        let mut inner = self.inner.lock();
        while inner.paused && inner.open {
            self.changed.wait(&mut inner);
        }
        inner.open
    }

    /// Closes a connection for good.
    fn hang_up(&self, number: u64) {
        if let Some(connection) = self.inner.lock().connections.remove(&number) {
            shut_down(&connection);
        }
    }
}

fn shut_down(connection: &TcpStream) {
    // The other side may have closed it already.
    let _ = connection.shutdown(Shutdown::Both);
}
