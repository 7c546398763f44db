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

/// An answer to come.
pub(crate) type Answer = Receiver<io::Result<Vec<SocketAddr>>>;

/// Asks the system, and does not lose sight of questions it gives no answer to.
pub(crate) struct Resolver {
    waker: Arc<Waker>,
    /// Each thread that asks has a clone.
    asking: Arc<()>,
    threads_max: usize,
}

impl Resolver {
    /// With so many questions at a time.
    pub(crate) fn new(waker: Arc<Waker>, threads_max: usize) -> Self {
        Self {
            waker,
            asking: Arc::new(()),
            threads_max,
        }
    }

    /// Asks on a thread of its own, which wakes the network thread when it knows.
    pub(crate) fn ask(&self, host: &str, port: u16) -> io::Result<Answer> {
        if Arc::strong_count(&self.asking) > self.threads_max {
            return Err(io::Error::other("the system has not answered so far"));
        }
        let (answer, answers) = bounded(1);
        let host = host.to_string();
        let waker = Arc::clone(&self.waker);
        let asking = Arc::clone(&self.asking);
        thread::Builder::new()
            .name("otlp-resolve".to_string())
            .spawn(move || {
                let addresses = (host.as_str(), port).to_socket_addrs();
                drop(asking);
                // Nobody listens any more if that took too long.
                let _ = answer.send(addresses.map(Iterator::collect));
                let _ = waker.wake();
            })?;
        Ok(answers)
    }
}
