//! A receiver in a process of its own, as cheap as an exact count permits: it reads requests, skips from span
//! to span without decoding them, and responds.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use otlp_collector::collector::pin_current_thread;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Argument that makes the program a receiver.
pub const ARGUMENT: &str = "--be-receiver";

/// Behaviour towards clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Accepts everything.
    Takes,
    /// Responds with 503 to everything.
    Refuses,
    /// Reads a kilobyte per second.
    Crawls,
    /// Makes most of the errors that servers make, at random.
    Errs,
}

impl Manner {
    const ALL: [(Self, &str); 4] = [
        (Self::Takes, "takes"),
        (Self::Refuses, "refuses"),
        (Self::Crawls, "crawls"),
        (Self::Errs, "errs"),
    ];

    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(manner, _)| *manner == self);
        found.expect("all are listed").1
    }
}

/// A running receiver process, killed when dropped.
pub struct Receiver {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub endpoint: String,
}

/// Counts of a receiver.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Spans that it acknowledged.
    pub spans: u64,
    /// Spans that it rejected with a final status.
    pub rejected: u64,
    /// Errors that it made.
    pub faults: u64,
    pub cpu: Duration,
}

impl Receiver {
    pub fn start(manner: Manner) -> io::Result<Self> {
        Self::start_with(&[manner.name()])
    }

    /// Starts one that is pinned to a core.
    pub fn start_on(manner: Manner, core: usize) -> io::Result<Self> {
        Self::start_with(&[manner.name(), &core.to_string()])
    }

    fn start_with(args: &[&str]) -> io::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take();
        let output = process.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut receiver = Self {
            process,
            input,
            output: BufReader::new(output),
            endpoint: String::new(),
        };
        receiver.endpoint = receiver.line()?;
        Ok(receiver)
    }

    /// Ends it and returns its counts.
    pub fn end(mut self) -> io::Result<Received> {
        // It ends with its input.
        drop(self.input.take());
        let line = self.line()?;
        let seen: Value = serde_json::from_str(&line)?;
        Ok(Received {
            spans: seen["spans"].as_u64().unwrap_or(0),
            rejected: seen["rejected"].as_u64().unwrap_or(0),
            faults: seen["faults"].as_u64().unwrap_or(0),
            cpu: Duration::from_nanos(seen["cpu_ns"].as_u64().unwrap_or(0)),
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_string())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

// ---- In the receiver's process ----

/// Receives until its input ends, then prints its counts. Arguments: its behaviour, and optionally a core to
/// pin it to.
pub fn run(args: &[String]) -> io::Result<()> {
    let manner = args.first().ok_or(io::ErrorKind::InvalidInput)?;
    let found = Manner::ALL.iter().find(|(_, name)| name == manner);
    let manner = found.ok_or(io::ErrorKind::InvalidInput)?.0;
    if let Some(id) = args.get(1).and_then(|core| core.parse().ok()) {
        // Its other threads inherit this.
        pin_current_thread(id).map_err(io::Error::other)?;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("http://{}", listener.local_addr()?);
    let counts = Arc::new(Counts::default());
    let counter = Arc::clone(&counts);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let counts = Arc::clone(&counter);
            // An error ends the connection; the client notices that.
            thread::spawn(move || serve(stream, manner, &counts));
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink())?;
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_ns = cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64;
    let seen = json!({
        "spans": counts.spans.load(Ordering::Acquire),
        "rejected": counts.rejected.load(Ordering::Acquire),
        "faults": counts.faults.load(Ordering::Acquire),
        "cpu_ns": cpu_ns,
    });
    println!("{seen}");
    Ok(())
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
/// Fits into the cache of a core.
const BUFFER_BYTES: usize = 256 * 1024;

#[derive(Default)]
struct Counts {
    spans: AtomicU64,
    rejected: AtomicU64,
    faults: AtomicU64,
}

fn serve(mut stream: TcpStream, manner: Manner, counts: &Counts) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut filled = 0;
    let mut request = Request::default();
    loop {
        let room = match manner {
            Manner::Crawls => {
                thread::sleep(Duration::from_millis(100));
                (filled + 100).min(BUFFER_BYTES)
            }
            _ => BUFFER_BYTES,
        };
        let read = stream.read(&mut buffer[filled..room])?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let mut used = 0;
        loop {
            used += request.walk(&buffer[used..filled])?;
            if !request.is_whole() {
                break;
            }
            if manner == Manner::Errs {
                errors::answer(&mut stream, request.spans, counts)?;
            } else {
                if manner == Manner::Takes {
                    counts.spans.fetch_add(request.spans, Ordering::Release);
                }
                stream.write_all(match manner {
                    Manner::Refuses => b"HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n",
                    _ => OK,
                })?;
            }
            request = Request::default();
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// A server that makes errors.
mod errors {
    use std::hash::{BuildHasher, RandomState};
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    /// Usually accepts the spans. An error ends the connection.
    pub fn answer(stream: &mut TcpStream, spans: u64, counts: &Counts) -> io::Result<()> {
        let broken = || io::Error::from(io::ErrorKind::ConnectionAborted);
        // Out of order for three seconds of each half minute, at another time than other receivers.
        let second = SystemTime::now().duration_since(UNIX_EPOCH);
        let second = second.map_or(0, |time| time.as_secs());
        let is_out_of_order = (second + 10 * u64::from(std::process::id() % 3)) % 30 < 3;
        let random = RandomState::new().hash_one(0);
        let fault = if is_out_of_order { 0 } else { random % 100 };
        counts
            .faults
            .fetch_add(u64::from(fault < 20), Ordering::Release);
        let take = || counts.spans.fetch_add(spans, Ordering::Release);
        match fault {
            0..=1 => return Err(broken()),
            2 => {
                socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
                return Err(broken());
            }
            3..=5 => stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")?,
            6 => stream
                .write_all(b"HTTP/1.1 429 No\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n")?,
            7 => stream
                .write_all(b"HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")?,
            8 => {
                stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n")?;
                return Err(broken());
            }
            9 => {
                stream.write_all(b"HTTP/1.1 200 O")?;
                return Err(broken());
            }
            10 => {
                counts.rejected.fetch_add(spans, Ordering::Release);
                stream.write_all(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")?;
            }
            11..=12 => {
                // A partial success: one span rejected.
                counts.rejected.fetch_add(1, Ordering::Release);
                counts.spans.fetch_add(spans - 1, Ordering::Release);
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x0a\x02\x08\x01")?;
            }
            13..=14 => {
                thread::sleep(Duration::from_millis(200));
                take();
                stream.write_all(OK)?;
            }
            15 if random.is_multiple_of(7) => {
                // Longer than the client's timeout.
                thread::sleep(Duration::from_secs(3));
                stream.write_all(OK)?;
            }
            15..=19 => {
                take();
                for byte in OK {
                    stream.write_all(&[*byte])?;
                }
            }
            _ => {
                take();
                stream.write_all(OK)?;
            }
        }
        Ok(())
    }
}

/// Progress through a request.
#[derive(Default)]
struct Request {
    has_head: bool,
    /// Bytes of the body that were read.
    at: u64,
    /// Bytes to be skipped.
    skip: u64,
    /// Ends of the body and of the messages that contain `at`: request, resource, scope.
    ends: Vec<u64>,
    spans: u64,
}

impl Request {
    fn is_whole(&self) -> bool {
        self.has_head && self.ends.is_empty()
    }

    /// Reads as far as possible. Returns the number of bytes read.
    fn walk(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut used = 0;
        if !self.has_head {
            used = self.walk_head(bytes)?;
        }
        while let Some(end) = self.ends.last() {
            let rest = &bytes[used..];
            if self.at == *end {
                self.ends.pop();
                continue;
            }
            let step = if self.skip > 0 {
                let step = self.skip.min(rest.len() as u64);
                self.skip -= step;
                step
            } else {
                self.walk_tag(rest)?
            };
            if step == 0 {
                break;
            }
            self.at += step;
            used += step as usize;
        }
        Ok(used)
    }

    fn walk_head(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(0);
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"));
        let length: u64 = length
            .and_then(|length| length.trim().parse().ok())
            .ok_or_else(|| io::Error::other(format!("no length in {head}")))?;
        self.has_head = true;
        self.ends.push(length);
        Ok(end + 4)
    }

    /// Reads a tag and a length, and enters the message if it contains spans, else skips it.
    fn walk_tag(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let Some((tag, tag_len)) = varint(bytes) else {
            return Ok(0);
        };
        let after = &bytes[tag_len..];
        let (content, len) = match tag & 7 {
            0 => (0, varint(after).map(|(_, len)| len)),
            1 => (8, Some(0)),
            5 => (4, Some(0)),
            2 => match varint(after) {
                Some((content, len)) => (content, Some(len)),
                None => (0, None),
            },
            _ => return Err(io::Error::other(format!("tag {tag}"))),
        };
        let Some(len) = len else { return Ok(0) };
        let step = (tag_len + len) as u64;
        match (self.ends.len(), tag >> 3) {
            (1, 1) | (2, 2) => self.ends.push(self.at + step + content),
            (depth, field) => {
                self.spans += u64::from((depth, field) == (3, 2));
                self.skip = content;
            }
        }
        Ok(step)
    }
}

/// Decodes a varint. Returns it with its length, or `None` if it is incomplete.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, at + 1));
        }
    }
    None
}
