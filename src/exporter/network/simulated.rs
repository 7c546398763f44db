//! A network in memory, for tests: every step of the other side is a call, so that a test alone decides
//! what happens and when.
//!
//! ```text
//!            client (code under test)                      server (test)
//!  connect ──────────────────────────────▶ take_connections: Peer
//!                                          accept, refuse, or neither
//!  write   ──────────────────────────────▶ received
//!  read    ◀────────────────────────────── send, close, reset
//!  look_up ──────────────────────────────▶ take_lookups: SimulatedLookup, answer
//! ```
//!
//! As with an operating system, a change of readiness is reported once: a test takes it from
//! [`SimulatedNetwork::take_readiness`] and passes it on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::exporter::network::{
    Addresses, ByteStream, ConnectionId, LookupReply, Network, Readiness,
};

/// The network between the code under test and the peers that a test plays.
#[derive(Default)]
pub(crate) struct SimulatedNetwork {
    connections: RefCell<Vec<Peer>>,
    lookups: RefCell<Vec<SimulatedLookup>>,
    /// The error of the next attempts to connect and to look up, if they fail at once.
    failure: RefCell<Option<io::ErrorKind>>,
    reports: Reports,
}

/// Changes of readiness that were not taken yet.
type Reports = Arc<Mutex<Vec<(ConnectionId, Readiness)>>>;

/// A look-up that waits for its answer.
pub(crate) struct SimulatedLookup {
    pub(crate) host: String,
    pub(crate) port: u16,
    reply: LookupReply,
}

/// The server's side of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) id: ConnectionId,
    pipe: Arc<Mutex<Pipe>>,
    reports: Reports,
}

/// Both directions of a connection.
struct Pipe {
    phase: Phase,
    to_client: VecDeque<u8>,
    /// The stream to the client ends after these bytes.
    is_ended: bool,
    from_client: Vec<u8>,
    /// Bytes that the client can write before writing blocks.
    room: usize,
    client: ClientSide,
}

enum Phase {
    Opening,
    Established,
    Failed(io::ErrorKind),
}

/// The state of the client's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientSide {
    Open,
    Closed,
    /// Closed, and bytes not yet sent were discarded.
    Aborted,
}

impl SimulatedNetwork {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Returns the connections begun since the last call.
    pub(crate) fn take_connections(&self) -> Vec<Peer> {
        self.connections.take()
    }

    /// Returns the only connection begun since the last call.
    #[track_caller]
    pub(crate) fn take_connection(&self) -> Peer {
        let mut peers = self.take_connections();
        assert_eq!(peers.len(), 1, "connections were begun");
        peers.remove(0)
    }

    /// Returns the look-ups begun since the last call.
    pub(crate) fn take_lookups(&self) -> Vec<SimulatedLookup> {
        self.lookups.take()
    }

    /// Makes attempts to connect and to look up fail at once, or no longer fail.
    pub(crate) fn fail_at_once(&self, error: Option<io::ErrorKind>) {
        self.failure.replace(error);
    }

    /// Returns the changes of readiness since the last call, in order.
    pub(crate) fn take_readiness(&self) -> Vec<(ConnectionId, Readiness)> {
        std::mem::take(&mut *self.reports.lock())
    }

    fn check_failure(&self) -> io::Result<()> {
        self.failure
            .borrow()
            .map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl Network for SimulatedNetwork {
    fn connect(&self, address: SocketAddr, id: ConnectionId) -> io::Result<Box<dyn ByteStream>> {
        self.check_failure()?;
        let pipe = Arc::new(Mutex::new(Pipe {
            phase: Phase::Opening,
            to_client: VecDeque::new(),
            is_ended: false,
            from_client: Vec::new(),
            room: usize::MAX,
            client: ClientSide::Open,
        }));
        self.connections.borrow_mut().push(Peer {
            address,
            id,
            pipe: Arc::clone(&pipe),
            reports: Arc::clone(&self.reports),
        });
        Ok(Box::new(SimulatedStream(pipe)))
    }

    fn look_up(&self, host: &str, port: u16, reply: LookupReply) -> io::Result<()> {
        self.check_failure()?;
        self.lookups.borrow_mut().push(SimulatedLookup {
            host: host.to_string(),
            port,
            reply,
        });
        Ok(())
    }
}

impl SimulatedLookup {
    pub(crate) fn answer(self, addresses: Addresses) {
        self.reply.send(addresses);
    }
}

impl Peer {
    /// Establishes the connection.
    pub(crate) fn accept(&self) {
        self.change(false, true, |pipe| pipe.phase = Phase::Established);
    }

    /// Lets the attempt to connect fail.
    pub(crate) fn refuse(&self, error: io::ErrorKind) {
        self.change(true, true, |pipe| pipe.phase = Phase::Failed(error));
    }

    /// Sends bytes to the client.
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.change(true, false, |pipe| pipe.to_client.extend(bytes));
    }

    /// Ends the stream to the client, after the bytes sent so far.
    pub(crate) fn close(&self) {
        self.change(true, false, |pipe| pipe.is_ended = true);
    }

    /// Breaks the connection: writes of the client fail. It can still read the bytes sent so far, and
    /// their end if there is one; further reads fail.
    pub(crate) fn reset(&self) {
        let error = io::ErrorKind::ConnectionReset;
        self.change(true, true, |pipe| pipe.phase = Phase::Failed(error));
    }

    /// Sets how many bytes the client can write from now on before writing blocks. Default: without
    /// limit.
    pub(crate) fn set_room(&self, bytes: usize) {
        self.change(false, bytes > 0, |pipe| pipe.room = bytes);
    }

    /// Takes the bytes that the client has written.
    pub(crate) fn received(&self) -> Vec<u8> {
        std::mem::take(&mut self.pipe.lock().from_client)
    }

    /// Returns the number of bytes sent that the client has not read.
    pub(crate) fn unread(&self) -> usize {
        self.pipe.lock().to_client.len()
    }

    pub(crate) fn client(&self) -> ClientSide {
        self.pipe.lock().client
    }

    /// Changes the connection and reports the readiness, unless the client has closed it.
    fn change(&self, readable: bool, writable: bool, change: impl FnOnce(&mut Pipe)) {
        let mut pipe = self.pipe.lock();
        change(&mut pipe);
        if pipe.client == ClientSide::Open && (readable || writable) {
            let readiness = Readiness { readable, writable };
            self.reports.lock().push((self.id, readiness));
        }
    }
}

/// The client's side of a connection.
struct SimulatedStream(Arc<Mutex<Pipe>>);

impl ByteStream for SimulatedStream {
    fn is_connected(&mut self) -> io::Result<bool> {
        match self.0.lock().phase {
            Phase::Opening => Ok(false),
            Phase::Established => Ok(true),
            Phase::Failed(error) => Err(error.into()),
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let pipe = &mut *self.0.lock();
        let (next, _) = pipe.to_client.as_slices();
        let bytes = buffer.len().min(next.len());
        if bytes == 0 {
            return match pipe.phase {
                _ if pipe.is_ended => Ok(0),
                Phase::Failed(error) => Err(error.into()),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        buffer[..bytes].copy_from_slice(&next[..bytes]);
        pipe.to_client.drain(..bytes);
        Ok(bytes)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let pipe = &mut *self.0.lock();
        if let Phase::Failed(error) = pipe.phase {
            return Err(error.into());
        }
        let before = pipe.from_client.len();
        for slice in slices {
            let bytes = slice.len().min(pipe.room);
            pipe.from_client.extend_from_slice(&slice[..bytes]);
            pipe.room -= bytes;
        }
        match pipe.from_client.len() - before {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            bytes => Ok(bytes),
        }
    }

    fn discard_unsent(&mut self) {
        self.0.lock().client = ClientSide::Aborted;
    }
}

impl Drop for SimulatedStream {
    fn drop(&mut self) {
        let client = &mut self.0.lock().client;
        if *client == ClientSide::Open {
            *client = ClientSide::Closed;
        }
    }
}

mod tests {
    use super::*;

    const ADDRESS: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4318);
    const ID: ConnectionId = ConnectionId(7);

    fn connect(network: &SimulatedNetwork) -> (Box<dyn ByteStream>, Peer) {
        let stream = network.connect(ADDRESS, ID).unwrap();
        let peer = network.take_connection();
        assert_eq!((peer.address, peer.id), (ADDRESS, ID));
        (stream, peer)
    }

    fn readiness(readable: bool, writable: bool) -> Vec<(ConnectionId, Readiness)> {
        vec![(ID, Readiness { readable, writable })]
    }

    #[test]
    fn an_accepted_connection_carries_bytes_both_ways_until_it_is_closed() {
        let network = SimulatedNetwork::new();
        let (mut stream, peer) = connect(&network);
        assert!(!stream.is_connected().unwrap());
        assert_eq!(network.take_readiness(), []);
        peer.accept();
        assert_eq!(network.take_readiness(), readiness(false, true));
        assert!(stream.is_connected().unwrap());

        peer.set_room(3);
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
        assert_eq!(stream.write(&slices).unwrap(), 3);
        let blocked = stream.write(&[IoSlice::new(b"d")]).unwrap_err();
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(peer.received(), b"abc");
        network.take_readiness();

        let mut buffer = [0; 4];
        let blocked = stream.read(&mut buffer).unwrap_err();
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        peer.send(b"12345");
        assert_eq!(network.take_readiness(), readiness(true, false));
        assert_eq!(peer.unread(), 5);
        peer.close();
        let mut read = Vec::new();
        while let bytes @ 1.. = stream.read(&mut buffer).unwrap() {
            read.extend_from_slice(&buffer[..bytes]);
        }
        assert_eq!(read, b"12345");

        network.take_readiness();
        assert_eq!(peer.client(), ClientSide::Open);
        drop(stream);
        assert_eq!(peer.client(), ClientSide::Closed);
        peer.send(b"6");
        assert_eq!(network.take_readiness(), []);
    }

    #[test]
    fn connections_fail_at_once_later_and_when_established() {
        let network = SimulatedNetwork::new();
        let refused = io::ErrorKind::ConnectionRefused;
        network.fail_at_once(Some(refused));
        let failed = network.connect(ADDRESS, ID).err().unwrap();
        assert_eq!(failed.kind(), refused);
        network.fail_at_once(None);
        assert!(network.take_connections().is_empty());

        let (mut stream, peer) = connect(&network);
        peer.refuse(refused);
        assert_eq!(network.take_readiness(), readiness(true, true));
        assert_eq!(stream.is_connected().unwrap_err().kind(), refused);

        let (mut stream, peer) = connect(&network);
        peer.accept();
        peer.send(b"x");
        peer.reset();
        let reset = io::ErrorKind::ConnectionReset;
        assert_eq!(
            stream.write(&[IoSlice::new(b"y")]).unwrap_err().kind(),
            reset
        );
        let mut buffer = [0; 4];
        assert_eq!(stream.read(&mut buffer).unwrap(), 1);
        assert_eq!(stream.read(&mut buffer).unwrap_err().kind(), reset);
        stream.discard_unsent();
        drop(stream);
        assert_eq!(peer.client(), ClientSide::Aborted);
    }

    #[test]
    fn look_ups_wait_for_their_answer() {
        let network = SimulatedNetwork::new();
        let permit = Arc::new(());
        let (sender, addresses) = crossbeam_channel::bounded(1);
        let reply = LookupReply::new(sender, &permit);
        network.look_up("collector.test", 4318, reply).unwrap();
        let lookup = network.take_lookups().remove(0);
        assert_eq!((&*lookup.host, lookup.port), ("collector.test", 4318));
        assert!(addresses.try_recv().is_err());
        assert_eq!(Arc::strong_count(&permit), 2);
        lookup.answer(Ok(vec![ADDRESS]));
        assert_eq!(addresses.try_recv().unwrap().unwrap(), [ADDRESS]);
        assert_eq!(Arc::strong_count(&permit), 1);
    }
}
