//! Relays a collector's requests to a receiver; also a proxy that does so.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::script::field;

/// Calls `serve` for each connection, on its own thread.
pub fn listen(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            // An error ends the connection.
            thread::spawn(move || drop(serve(stream)));
        }
    });
    address
}

/// A request or a response with a `Content-Length`.
struct Message {
    head: String,
    body: Vec<u8>,
}

/// Relays each request to the address that `route` returns, with the head that it returns, and
/// relays the responses back.
pub fn relay(
    client: &mut (impl Read + Write),
    mut route: impl FnMut(&str) -> io::Result<(SocketAddr, String)>,
) -> io::Result<()> {
    loop {
        let request = read_message(client)?;
        let (address, head) = route(&request.head)?;
        let mut server = TcpStream::connect(address)?;
        server.write_all(&[head.as_bytes(), &request.body].concat())?;
        let answer = read_message(&mut server)?;
        client.write_all(&[answer.head.as_bytes(), &answer.body].concat())?;
        client.flush()?;
    }
}

fn read_message(stream: &mut impl Read) -> io::Result<Message> {
    let head = read_head(stream)?;
    let length =
        field(&head, "content-length").map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Message { head, body })
}

fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).expect("a readable head"))
}

/// A proxy that resolves names which exist nowhere else.
pub struct Proxy {
    pub address: SocketAddr,
    /// Heads of all requests to the proxy.
    heads: Arc<Mutex<Vec<String>>>,
}

type Names = HashMap<String, SocketAddr>;

impl Proxy {
    pub fn start<'a>(names: impl IntoIterator<Item = (&'a str, SocketAddr)>) -> Self {
        let names: Names = (names.into_iter())
            .map(|(name, address)| (name.to_string(), address))
            .collect();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let address = listen({
            let heads = Arc::clone(&heads);
            move |stream| serve(stream, &names, &heads)
        });
        Self { address, heads }
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, names: &Names, heads: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut method = [0; 7];
    if stream.peek(&mut method)? == method.len() && method == *b"CONNECT" {
        let head = read_head(&mut stream)?;
        let authority = head.split(' ').nth(1).unwrap().to_string();
        heads.lock().unwrap().push(head);
        let server = TcpStream::connect(find(names, &authority)?)?;
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        return tunnel(stream, server);
    }
    relay(&mut stream, |head| {
        heads.lock().unwrap().push(head.to_string());
        let (_, rest) = head.split_once("http://").expect("the whole URL");
        let (authority, rest) = rest.split_once('/').unwrap();
        let lines = rest.lines();
        let lines = lines.filter(|line| !line.starts_with("Proxy-"));
        let head = format!("POST /{}\r\n", lines.collect::<Vec<_>>().join("\r\n"));
        Ok((find(names, authority)?, head))
    })
}

fn find(names: &Names, authority: &str) -> io::Result<SocketAddr> {
    let (host, _) = authority.rsplit_once(':').expect("a port");
    let known = names.get(host).copied();
    (known.or_else(|| authority.parse().ok())).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Relays all bytes in both directions.
fn tunnel(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let there = thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        to_server.shutdown(Shutdown::Write)
    });
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Write)?;
    there.join().expect("no panic")
}
