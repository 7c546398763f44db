//! The receiver.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

use crate::testing::answer::Answer;
use crate::testing::received::{self, ReceivedRequest, ReceivedSpan};
use crate::testing::served_connection::accept;
use crate::testing::state::{ReceiverCounts, SharedState, shut_down};

/// A running receiver. Dropping it stops it.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<SharedState>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
    /// Reserves the port while the receiver is closed.
    reserved: Mutex<Option<OwnedFd>>,
}

impl Receiver {
    /// Starts a receiver that keeps all requests, for tests with few spans.
    ///
    /// # Errors
    /// The system has no socket or thread left.
    pub fn start() -> io::Result<Self> {
        Self::start_on(0)
    }

    /// Starts a receiver as [`start`](Self::start) does, on this port of 127.0.0.1, for programs whose
    /// endpoint cannot be changed. 0 chooses a free port.
    ///
    /// # Errors
    /// The port is in use, or the system has no socket or thread left.
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

    /// Starts a receiver that checks and counts spans without keeping them, for any number of spans.
    ///
    /// # Errors
    /// The system has no socket or thread left.
    pub fn start_counting() -> io::Result<Self> {
        Self::start_with(false, 0)
    }

    fn start_with(keeps: bool, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let receiver = Self {
            address: listener.local_addr()?,
            shared: Arc::new(SharedState::new(keeps)),
            acceptor: Mutex::new(None),
            reserved: Mutex::new(None),
        };
        receiver.open(listener)?;
        Ok(receiver)
    }

    /// Returns the URL to send spans to.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the address that the receiver listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    // ---- Behaviour ----

    /// Sets the answer to requests from now on, except those of [`answer_next`](Self::answer_next).
    pub fn answer(&self, answer: Answer) {
        self.shared.state.lock().answer = answer;
    }

    /// Adds answers to the next requests, one each.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.state.lock().answers_next.extend(answers);
    }

    /// Stops reading and answering until [`resume`](Self::resume). Connections stay open.
    pub fn pause(&self) {
        self.shared.state.lock().paused = true;
    }

    /// Continues after [`pause`](Self::pause).
    pub fn resume(&self) {
        self.shared.state.lock().paused = false;
        self.shared.changed.notify_all();
    }

    /// Closes all connections and refuses new ones. The port stays reserved.
    pub fn close(&self) {
        let connections = {
            let mut state = self.shared.state.lock();
            state.open = false;
            std::mem::take(&mut state.connections)
        };
        self.shared.changed.notify_all();
        connections.values().for_each(shut_down);
        if let Some(acceptor) = self.acceptor.lock().take() {
            // Wakes the acceptor.
            let _ = TcpStream::connect(self.address);
            let _ = acceptor.join();
            // Otherwise another process could receive the spans for this receiver.
            *self.reserved.lock() = reserve(self.address).ok();
        }
    }

    /// Listens again, on the same port, after [`close`](Self::close).
    ///
    /// # Errors
    /// Another process uses the port, or the system has no thread left.
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
        self.shared.state.lock().open = true;
        let shared = Arc::clone(&self.shared);
        let acceptor = thread::Builder::new()
            .name("otlp-receiver".to_string())
            .spawn(move || accept(&listener, &shared))?;
        *self.acceptor.lock() = Some(acceptor);
        Ok(())
    }

    // ---- Received requests and spans ----

    /// Returns the counters.
    #[must_use]
    pub fn counts(&self) -> ReceiverCounts {
        self.shared.state.lock().counts
    }

    /// Waits until `condition` holds for the counters; false if `timeout` passes before.
    pub fn wait_until(
        &self,
        timeout: Duration,
        condition: impl Fn(&ReceiverCounts) -> bool,
    ) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.state.lock();
        while !condition(&state.counts) {
            let wait = self.shared.changed.wait_until(&mut state, deadline);
            if wait.timed_out() {
                return condition(&state.counts);
            }
        }
        true
    }

    /// Returns the kept requests, the oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.state.lock().kept.clone()
    }

    /// Returns the uncompressed bodies of requests to `/v1/metrics`, the oldest first: encoded
    /// `ExportMetricsServiceRequest`s of OTLP. They are answered with success and not counted in
    /// [`counts`](Self::counts).
    #[must_use]
    pub fn metrics(&self) -> Vec<Vec<u8>> {
        self.shared.state.lock().metrics.clone()
    }

    /// Returns the spans of kept requests that were accepted, the oldest first. Includes all spans of a
    /// request with a partial success, which does not name the rejected ones.
    #[must_use]
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        let state = self.shared.state.lock();
        let accepted = state.kept.iter().filter(|request| request.accepted);
        let spans = accepted.flat_map(|request| &request.spans);
        spans.cloned().collect()
    }

    /// Returns the span with this name among [`spans`](Self::spans).
    ///
    /// # Panics
    /// There is no such span, or several. The message lists the received names.
    #[must_use]
    #[track_caller]
    pub fn span(&self, name: &str) -> ReceivedSpan {
        received::only(self.spans().iter(), name).clone()
    }
}

/// Binds a socket to the address without listening.
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
