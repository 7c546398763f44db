//! A server that follows a script for each connection, byte by byte.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// A step of a script. After the last one the server closes the connection.
#[derive(Clone, Debug)]
pub enum Step {
    /// Reads the head of a request.
    ReadHead,
    /// Reads this many bytes, or to the end of the stream.
    Read(usize),
    /// Reads a whole request.
    ReadRequest,
    /// Answers every request with an empty 200.
    ServeWell,
    /// Like `ServeWell`, but answers a body of more than this many bytes with this response.
    ServeUpTo(usize, Vec<u8>),
    /// Writes all bytes in one call.
    Write(Vec<u8>),
    /// Writes in pieces of this many bytes, each in its own segment.
    Trickle(Vec<u8>, usize),
    /// Neither reads nor writes until the server is dropped.
    Stall,
    /// Writes nothing more, but reads until the client closes.
    Drain,
    /// Ends the response stream, then reads until the client closes: unread bytes would make a close a
    /// reset.
    HalfClose,
    /// Waits at the barrier.
    Meet(Arc<Barrier>),
    /// Closes with a reset.
    Reset,
}

pub type Script = Vec<Step>;

/// Returns a response with `Content-Length`.
pub fn response(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Text\r\nContent-Length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

pub struct ScriptedServer {
    address: SocketAddr,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Scripts of the next connections. When none are left, all connections are served well.
    scripts: Mutex<VecDeque<Script>>,
    /// Creates the scripts of the connections after those, if set.
    endless: Mutex<Option<MakeScript>>,
    seen: Mutex<Seen>,
    open: Mutex<Vec<Arc<TcpStream>>>,
    ended: Mutex<bool>,
    ending: Condvar,
}

type MakeScript = Box<dyn FnMut() -> Script + Send>;

/// Everything a server has received so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub connections: usize,
    /// Complete heads of all requests.
    pub heads: Vec<String>,
    /// Ids of the spans in all requests that arrived completely.
    pub spans: HashSet<Vec<u8>>,
}

impl ScriptedServer {
    pub fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), scripts)
    }

    /// Starts a server that calls `make` for the script of each connection.
    pub fn start_endless(make: impl FnMut() -> Script + Send + 'static) -> Self {
        let server = Self::start([]);
        *server.state.endless.lock().unwrap() = Some(Box::new(make));
        server
    }

    pub fn start_on(listener: TcpListener, scripts: impl IntoIterator<Item = Script>) -> Self {
        let state = Arc::new(State {
            scripts: Mutex::new(scripts.into_iter().collect()),
            ..State::default()
        });
        Self {
            address: listener.local_addr().unwrap(),
            acceptor: Some(thread::spawn({
                let state = Arc::clone(&state);
                move || accept(&listener, &state)
            })),
            state,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds scripts for the next connections.
    pub fn add(&self, scripts: impl IntoIterator<Item = Script>) {
        self.state.scripts.lock().unwrap().extend(scripts);
    }

    pub fn seen(&self) -> Seen {
        self.state.seen.lock().unwrap().clone()
    }
}

impl State {
    fn next_script(&self) -> Script {
        if let Some(script) = self.scripts.lock().unwrap().pop_front() {
            return script;
        }
        let mut endless = self.endless.lock().unwrap();
        (endless.as_mut()).map_or_else(|| vec![Step::ServeWell], |make| make())
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        *self.state.ended.lock().unwrap() = true;
        self.state.ending.notify_all();
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        // Wakes the acceptor.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if *state.ended.lock().unwrap() {
            return;
        }
        state.seen.lock().unwrap().connections += 1;
        let stream = Arc::new(stream);
        state.open.lock().unwrap().push(Arc::clone(&stream));
        let script = state.next_script();
        let state = Arc::clone(state);
        thread::spawn(move || {
            let mut connection = Connection {
                stream: &stream,
                input: Vec::new(),
                state: &state,
            };
            // An error means that the client has ended the connection.
            let _ = connection.follow(&script);
            // The socket closes only with its last handle.
            let mut open = state.open.lock().unwrap();
            open.retain(|other| !Arc::ptr_eq(other, &stream));
        });
    }
}

struct Connection<'a> {
    stream: &'a TcpStream,
    input: Vec<u8>,
    state: &'a State,
}

impl Connection<'_> {
    fn follow(&mut self, script: &Script) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        for step in script {
            match step {
                Step::ReadHead => drop(self.read_head()?),
                Step::Read(bytes) => self.read_until(|input| input.len() >= *bytes)?,
                Step::ReadRequest => drop(self.read_request()?),
                Step::ServeWell => self.serve(usize::MAX, b"")?,
                Step::ServeUpTo(bytes_max, refusal) => self.serve(*bytes_max, refusal)?,
                Step::Write(bytes) => self.stream.write_all(bytes)?,
                Step::Trickle(bytes, piece) => {
                    for piece in bytes.chunks(*piece) {
                        self.stream.write_all(piece)?;
                    }
                }
                Step::Stall => {
                    let ended = self.state.ended.lock().unwrap();
                    drop(
                        self.state
                            .ending
                            .wait_while(ended, |ended| !*ended)
                            .unwrap(),
                    );
                }
                Step::Meet(barrier) => drop(barrier.wait()),
                Step::Drain => self.read_until(|_| false)?,
                Step::HalfClose => {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.read_until(|_| false)?;
                }
                Step::Reset => {
                    // Without lingering, a close is a reset even if no bytes are unread.
                    let stream = socket2::SockRef::from(self.stream);
                    return stream.set_linger(Some(Duration::ZERO));
                }
            }
        }
        Ok(())
    }

    fn read_until(&mut self, enough: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        while !enough(&self.input) {
            self.read()?;
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => {
                self.input.extend_from_slice(&buffer[..bytes]);
                Ok(())
            }
        }
    }

    /// Reads the next request's head, which stays in the input.
    fn read_head(&mut self) -> io::Result<String> {
        self.read_until(|input| head_end(input).is_some())?;
        let end = head_end(&self.input).unwrap();
        Ok(String::from_utf8_lossy(&self.input[..end]).into_owned())
    }

    fn serve(&mut self, bytes_max: usize, refusal: &[u8]) -> io::Result<()> {
        loop {
            if self.read_request()? > bytes_max {
                self.stream.write_all(refusal)?;
            } else {
                self.stream.write_all(&response(200, "", b""))?;
            }
        }
    }

    /// Reads a request and returns the length of its body.
    fn read_request(&mut self) -> io::Result<usize> {
        let head = self.read_head()?;
        let length = field(&head, "content-length").expect("a length");
        let length = length.parse().expect("a number");
        let end = head.len() + length;
        self.read_until(|input| input.len() >= end)?;
        let mut seen = self.state.seen.lock().unwrap();
        // Compressed bodies are not decoded.
        if field(&head, "content-encoding").is_none() {
            let request = ExportTraceServiceRequest::decode(&self.input[head.len()..end]);
            let spans = request.expect("valid OTLP").resource_spans.into_iter();
            let spans = (spans.flat_map(|resource| resource.scope_spans))
                .flat_map(|scope| scope.spans)
                .map(|span| span.span_id);
            seen.spans.extend(spans);
        }
        seen.heads.push(head);
        self.input.drain(..end);
        Ok(length)
    }
}

/// Returns the value of a header field.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let field = fields.find(|(other, _)| other.eq_ignore_ascii_case(name));
    field.map(|(_, value)| value.trim())
}

fn head_end(input: &[u8]) -> Option<usize> {
    let end = input.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}
