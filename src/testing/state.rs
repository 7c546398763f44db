//! State that a receiver shares with its threads.

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::testing::answer::Answer;
use crate::testing::received::ReceivedRequest;

/// Counters of a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiverCounts {
    /// Connections accepted.
    pub connections: u64,
    /// Requests read.
    pub requests: u64,
    /// Requests answered with 400 because they are not valid OTLP.
    pub malformed: u64,
    /// Spans accepted: those of requests that were answered with success.
    pub spans: u64,
    /// Bytes of the bodies of all requests.
    pub body_bytes: u64,
    /// Bytes of the largest body.
    pub body_bytes_max: u64,
    /// CPU time of reading and checking.
    pub cpu_time: Duration,
}

/// The state, and a signal of its changes.
#[derive(Debug)]
pub(super) struct SharedState {
    /// Whether requests are kept.
    pub(super) keeps: bool,
    pub(super) state: Mutex<ReceiverState>,
    pub(super) changed: Condvar,
}

/// State that a receiver changes and reads under its lock.
#[derive(Debug)]
pub(super) struct ReceiverState {
    pub(super) open: bool,
    pub(super) paused: bool,
    pub(super) answer: Answer,
    pub(super) answers_next: VecDeque<Answer>,
    pub(super) counts: ReceiverCounts,
    pub(super) kept: Vec<ReceivedRequest>,
    /// Bodies of requests to `/v1/metrics`.
    pub(super) metrics: Vec<Vec<u8>>,
    /// By number, in the order they were accepted.
    pub(super) connections: HashMap<u64, TcpStream>,
}

impl SharedState {
    pub(super) fn new(keeps: bool) -> Self {
        Self {
            keeps,
            state: Mutex::new(ReceiverState {
                open: false,
                paused: false,
                answer: Answer::ok(),
                answers_next: VecDeque::new(),
                counts: ReceiverCounts::default(),
                kept: Vec::new(),
                metrics: Vec::new(),
                connections: HashMap::new(),
            }),
            changed: Condvar::new(),
        }
    }

    /// Waits while the receiver is paused; false once it is closed.
    pub(super) fn wait_while_paused(&self) -> bool {
        let mut state = self.state.lock();
        while state.paused && state.open {
            self.changed.wait(&mut state);
        }
        state.open
    }

    /// Registers a connection, so that it can be closed; `None` if the receiver is closed.
    pub(super) fn register(&self, stream: &TcpStream) -> Option<u64> {
        let mut state = self.state.lock();
        if !state.open {
            return None;
        }
        state.counts.connections += 1;
        let number = state.counts.connections;
        if let Ok(clone) = stream.try_clone() {
            state.connections.insert(number, clone);
        }
        Some(number)
    }

    /// Closes a registered connection.
    pub(super) fn disconnect(&self, number: u64) {
        if let Some(connection) = self.state.lock().connections.remove(&number) {
            shut_down(&connection);
        }
    }
}

pub(super) fn shut_down(connection: &TcpStream) {
    // The peer may have closed it already.
    let _ = connection.shutdown(Shutdown::Both);
}
