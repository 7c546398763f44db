//! The look-ups of one endpoint: names to addresses, off the network thread.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use crate::exporter::network::{Addresses, LookupReply, Network};

/// Returns the address that `host` is, if it is one.
pub(crate) fn literal(host: &str, port: u16) -> Option<SocketAddr> {
    let address: IpAddr = host.parse().ok()?;
    Some(SocketAddr::new(address, port))
}

/// A look-up in progress.
pub(crate) type Lookup = Receiver<Addresses>;

/// The look-ups in progress of one endpoint, limited in number, including those that the endpoint gave up because they took too long.
pub(crate) struct Resolver {
    /// Each look-up holds a clone, as a permit.
    permits: Arc<()>,
    lookups_max: usize,
}

impl Resolver {
    pub(crate) fn new(lookups_max: usize) -> Self {
        Self {
            permits: Arc::new(()),
            lookups_max,
        }
    }

    /// Begins a look-up.
    pub(crate) fn look_up(
        &self,
        host: &str,
        port: u16,
        network: &dyn Network,
    ) -> io::Result<Lookup> {
        if Arc::strong_count(&self.permits) > self.lookups_max {
            return Err(io::Error::other(
                "earlier look-ups of the system have not ended",
            ));
        }
        let (sender, addresses) = bounded(1);
        network.look_up(host, port, LookupReply::new(sender, &self.permits))?;
        Ok(addresses)
    }
}
