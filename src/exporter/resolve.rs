//! Names to addresses, off the network thread: the system's resolver may block for seconds.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use mio::Waker;

/// The address, if `host` is one.
pub(crate) fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let address: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(address, port))
}

/// Asks the system on a thread of its own, which wakes the network thread when it knows.
pub(crate) fn resolve(
    host: &str,
    port: u16,
    waker: Arc<Waker>,
) -> io::Result<Receiver<io::Result<Vec<SocketAddr>>>> {
    let (answer, answers) = bounded(1);
    let host = host.to_string();
    thread::Builder::new()
        .name("otlp-resolve".to_string())
        .spawn(move || {
            let addresses = (host.as_str(), port).to_socket_addrs();
            // Nobody listens any more if the collector was shut down meanwhile.
            let _ = answer.send(addresses.map(Iterator::collect));
            let _ = waker.wake();
        })?;
    Ok(answers)
}
