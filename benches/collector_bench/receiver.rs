//! An endpoint in a process of its own, that does as little as can be for an exact count: it reads
//! requests, walks from span to span without looking into them, and answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// The argument with which the program is a receiver.
pub const ARGUMENT: &str = "--be-receiver";

/// How it treats those who come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes all.
    Takes,
    /// Answers 503 and takes nothing.
    Refuses,
    /// Reads a kilobyte in a second.
    Crawls,
}

impl Manner {
    const ALL: [(Self, &str); 3] = [
        (Self::Takes, "takes"),
        (Self::Refuses, "refuses"),
        (Self::Crawls, "crawls"),
    ];

    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(manner, _)| *manner == self);
        found.expect("all are listed").1
    }
}

/// A receiver that runs; killed when dropped.
pub struct Receiver {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub endpoint: String,
}

/// What a receiver has seen.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    pub spans: u64,
    pub cpu: Duration,
}

impl Receiver {
    pub fn start(manner: Manner) -> io::Result<Self> {
        Self::start_with(&[manner.name()])
    }

    /// One that keeps to a core.
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

    /// Ends it; tells what it has seen.
    pub fn end(mut self) -> io::Result<Received> {
        // It runs as long as its input does.
        drop(self.input.take());
        let line = self.line()?;
        let seen: Value = serde_json::from_str(&line)?;
        Ok(Received {
            spans: seen["spans"].as_u64().unwrap_or(0),
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

/// Receives until its input ends, then prints what it has seen. Takes its manner, and perhaps the
/// core it keeps to.
pub fn run(args: &[String]) -> io::Result<()> {
    let manner = args.first().ok_or(io::ErrorKind::InvalidInput)?;
    let found = Manner::ALL.iter().find(|(_, name)| name == manner);
    let manner = found.ok_or(io::ErrorKind::InvalidInput)?.0;
    if let Some(id) = args.get(1).and_then(|core| core.parse().ok()) {
        // All its threads are started by this one.
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("http://{}", listener.local_addr()?);
    let spans = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&spans);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let spans = Arc::clone(&counter);
            // An error is the end of the connection, which the other side sees.
            thread::spawn(move || serve(stream, manner, &spans));
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink())?;
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_ns = cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64;
    let seen = json!({ "spans": spans.load(Ordering::Acquire), "cpu_ns": cpu_ns });
    println!("{seen}");
    Ok(())
}

/// Small enough to stay in the cache of a core.
const BUFFER_BYTES: usize = 256 * 1024;

fn serve(mut stream: TcpStream, manner: Manner, spans: &AtomicU64) -> io::Result<()> {
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
            if manner == Manner::Takes {
                spans.fetch_add(request.spans, Ordering::Release);
            }
            stream.write_all(match manner {
                Manner::Refuses => b"HTTP/1.1 503 \r\nContent-Length: 0\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            })?;
            request = Request::default();
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// How far a request has come.
#[derive(Default)]
struct Request {
    has_head: bool,
    /// Bytes of the body that were walked over.
    at: u64,
    /// Bytes to be walked over without looking.
    skip: u64,
    /// Where the body and the messages end that `at` is in: request, resource, scope.
    ends: Vec<u64>,
    spans: u64,
}

impl Request {
    fn is_whole(&self) -> bool {
        self.has_head && self.ends.is_empty()
    }

    /// Walks over what can be; tells how much that was.
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

    /// Walks over a tag and a length, into what has spans, or prepares to skip it.
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

/// A number and how long it is, if it is all there.
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
