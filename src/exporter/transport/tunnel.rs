//! The tunnel that a proxy opens to a server: `CONNECT` (RFC 9110, 9.3.6).

use std::io::{self, IoSlice};

use super::tracked_stream::TrackedStream;
use crate::config::{Proxy, Target};

const RESPONSE_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 100;

/// Returns the request that opens a tunnel.
pub(in crate::exporter) fn head(proxy: &Proxy, target: &Target) -> Vec<u8> {
    let authority = target.host_and_port();
    let authorization = proxy.authorization_line();
    let head = format!(
        "CONNECT {authority} HTTP/1.1\r\n\
         Host: {authority}\r\n\
         {authorization}\
         \r\n"
    );
    head.into_bytes()
}

/// A tunnel that is being opened.
pub(super) struct Tunnel {
    request: Vec<u8>,
    sent: usize,
    /// Received and not yet parsed.
    response: Vec<u8>,
    /// Received in all, including interim responses.
    received: usize,
}

impl Tunnel {
    pub(super) fn new(proxy: &Proxy, target: &Target) -> Self {
        Self {
            request: head(proxy, target),
            sent: 0,
            response: Vec::new(),
            received: 0,
        }
    }

    /// Returns whether the proxy is connected to the server.
    pub(super) fn is_open(&mut self, stream: &mut TrackedStream) -> io::Result<bool> {
        while self.sent < self.request.len() {
            match stream.write(&[IoSlice::new(&self.request[self.sent..])])? {
                None => return Ok(false),
                Some(bytes) => self.sent += bytes,
            }
        }
        // A server sends nothing before a TLS client, so all bytes are the proxy's response.
        let mut buffer = [0; 1024];
        while let Some(bytes) = stream.read(&mut buffer)? {
            if bytes == 0 {
                return Err(failed("closed the connection without a response"));
            }
            self.response.extend_from_slice(&buffer[..bytes]);
            self.received += bytes;
            // Parsed at most once per line, however slowly it arrives.
            if buffer[..bytes].contains(&b'\n') && self.is_accepted()? {
                return Ok(true);
            }
            if self.received > RESPONSE_BYTES_MAX {
                return Err(failed("sent a response of more than 64 KiB"));
            }
        }
        Ok(false)
    }

    /// Returns whether the final response is complete and a success.
    fn is_accepted(&mut self) -> io::Result<bool> {
        loop {
            let is_break = |byte: &&u8| matches!(byte, b'\r' | b'\n');
            let breaks = self.response.iter().take_while(is_break).count();
            self.response.drain(..breaks);
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut response = httparse::Response::new(&mut headers);
            let end = match response.parse(&self.response) {
                Ok(httparse::Status::Complete(end)) => end,
                Ok(httparse::Status::Partial) => return Ok(false),
                Err(_) => return Err(failed("sent a response that is not HTTP/1.1")),
            };
            match response.code.unwrap_or_default() {
                // The final response follows.
                100..=199 => drop(self.response.drain(..end)),
                200..=299 if end == self.response.len() => return Ok(true),
                200..=299 => return Err(failed("sent bytes after its response")),
                407 => {
                    return Err(failed(
                        "responded with 407: check the user and password of proxy",
                    ));
                }
                status => return Err(failed(&format!("responded with {status}"))),
            }
        }
    }
}

fn failed(failure: &str) -> io::Error {
    io::Error::other(format!("the proxy {failure}"))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::config::{Config, EndpointOptions, Settings};
    use crate::exporter::network::simulated::{Peer, SimulatedNetwork};
    use crate::exporter::network::{ConnectionId, Network};

    const OPEN: &[u8] = b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n";

    /// A tunnel over a simulated connection to a proxy.
    struct Client {
        network: SimulatedNetwork,
        stream: TrackedStream,
        tunnel: Tunnel,
    }

    impl Client {
        fn new() -> (Self, Peer) {
            let config = Config {
                endpoint: "http://collector.test".to_string(),
                endpoint_options: EndpointOptions {
                    proxy: Some("http://user:word@127.0.0.1:3128".to_string()),
                    ..EndpointOptions::default()
                },
                ..Config::default()
            };
            let settings = Settings::new(&config).unwrap();
            let endpoint = &settings.destinations[0].endpoints[0];
            let network = SimulatedNetwork::new();
            let address = SocketAddr::from(([127, 0, 0, 1], 3128));
            let stream = network.connect(address, ConnectionId(0)).unwrap();
            let peer = network.take_connection();
            peer.accept();
            let client = Self {
                network,
                stream: TrackedStream::new(stream),
                tunnel: Tunnel::new(endpoint.proxy.as_ref().unwrap(), &endpoint.target),
            };
            (client, peer)
        }

        /// Passes readiness on and advances the tunnel.
        fn turn(&mut self) -> Result<bool, String> {
            for (_, readiness) in self.network.take_readiness() {
                self.stream.add_readiness(readiness);
            }
            let is_open = self.tunnel.is_open(&mut self.stream);
            is_open.map_err(|error| error.to_string())
        }
    }

    #[test]
    fn the_request_is_sent_as_the_line_has_room() {
        for room in [1, 7, 10_000] {
            let (mut client, peer) = Client::new();
            let mut received = Vec::new();
            while !received.ends_with(b"\r\n\r\n") {
                peer.set_room(room);
                assert_eq!(client.turn(), Ok(false));
                received.extend(peer.received());
            }
            let expected = "CONNECT collector.test:80 HTTP/1.1\r\n\
                            Host: collector.test:80\r\n\
                            Proxy-Authorization: Basic dXNlcjp3b3Jk\r\n\r\n";
            assert_eq!(String::from_utf8(received).unwrap(), expected);
        }
    }

    #[test]
    fn the_response_can_arrive_in_any_two_pieces_and_byte_by_byte() {
        let interim = [b"HTTP/1.1 100 Wait\r\n\r\n\r\n", OPEN].concat();
        for response in [OPEN, &interim] {
            for at in 1..response.len() {
                let (mut client, peer) = Client::new();
                let (first, second) = response.split_at(at);
                peer.send(first);
                assert_eq!(client.turn(), Ok(false), "{at}");
                peer.send(second);
                assert_eq!(client.turn(), Ok(true), "{at}");
            }
            let (mut client, peer) = Client::new();
            for byte in response {
                assert_eq!(client.turn(), Ok(false));
                peer.send(&[*byte]);
            }
            assert_eq!(client.turn(), Ok(true));
        }
    }

    #[test]
    fn a_proxy_that_opens_no_tunnel_is_an_error() {
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(70_000));
        let endless = "HTTP/1.1 100 Wait\r\n\r\n".repeat(4_000);
        for (response, error) in [
            ("HTTP/1.1 403 No\r\n\r\n", "the proxy responded with 403"),
            (
                "HTTP/1.1 407 Who?\r\n\r\n",
                "the proxy responded with 407: check the user and password of proxy",
            ),
            (
                "HTTP/1.1 200 OK\r\n\r\nmore",
                "the proxy sent bytes after its response",
            ),
            (
                "SSH-2.0-OpenSSH\r\n\r\n",
                "the proxy sent a response that is not HTTP/1.1",
            ),
            (&long, "the proxy sent a response of more than 64 KiB"),
            (&endless, "the proxy sent a response of more than 64 KiB"),
            ("", "the proxy closed the connection without a response"),
        ] {
            let (mut client, peer) = Client::new();
            peer.send(response.as_bytes());
            peer.close();
            assert_eq!(client.turn(), Err(error.to_string()));
        }
    }
}
