//! The receiver's threads: one that accepts, and one for each connection.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prost::Message;
use rustix::time::{ClockId, clock_gettime};

use super::{Answer, ReceivedRequest, State, census};
use crate::otlp::proto::{ExportMetricsServiceRequest, ExportTraceServiceRequest};

/// More than any request of this crate has by default.
const BODY_BYTES_MAX: usize = 64 << 20;
const HEADERS_MAX: usize = 64;

/// Accepts connections until the receiver is closed.
pub(super) fn accept(listener: &TcpListener, state: &Arc<State>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let Some(number) = register(&stream, state) else {
            return;
        };
        let state = Arc::clone(state);
        let serving = thread::Builder::new()
            .name("otlp-receiver".to_string())
            .spawn(move || {
                // An error is the connection's end, which the other side sees.
                let _ = ServedConnection::new(stream, &state).serve();
                state.hang_up(number);
            });
        drop(serving);
    }
}

/// Numbers the connection and notes it, so that it can be broken; `None` if the receiver is
/// closed.
fn register(stream: &TcpStream, state: &State) -> Option<u64> {
    let mut inner = state.inner.lock();
    if !inner.open {
        return None;
    }
    inner.counts.connections += 1;
    let number = inner.counts.connections;
    if let Ok(clone) = stream.try_clone() {
        inner.connections.insert(number, clone);
    }
    Some(number)
}

struct ServedConnection<'a> {
    stream: TcpStream,
    state: &'a State,
    /// What was read and not yet used.
    input: Vec<u8>,
    /// CPU time of this thread that is in the counts.
    counted: Duration,
}

/// The head of a request.
struct Head {
    bytes: usize,
    path: String,
    headers: Vec<(String, String)>,
    body_bytes: usize,
}

impl<'a> ServedConnection<'a> {
    fn new(stream: TcpStream, state: &'a State) -> Self {
        Self {
            stream,
            state,
            input: Vec::new(),
            counted: Duration::ZERO,
        }
    }

    /// Answers requests until one side closes.
    fn serve(mut self) -> io::Result<()> {
        while let Some(head) = self.read_head()? {
            let end = head.bytes + head.body_bytes;
            while self.input.len() < end {
                if self.read()? == 0 {
                    return Ok(());
                }
            }
            let answer = self.take(&head);
            if !self.state.pass() {
                return Ok(());
            }
            self.input.drain(..end);
            let Some(status) = answer.status else {
                return Ok(());
            };
            self.stream.write_all(&response(status, &answer))?;
        }
        Ok(())
    }

    fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(head) = parse_head(&self.input)? {
                return Ok(Some(head));
            }
            if self.read()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads more, if the receiver is not paused; 0 at the end.
    fn read(&mut self) -> io::Result<usize> {
        const STEP: usize = 256 * 1024;
        if !self.state.pass() {
            return Ok(0);
        }
        let len = self.input.len();
        self.input.resize(len + STEP, 0);
        let read = self.stream.read(&mut self.input[len..]);
        self.input
            .truncate(len + read.as_ref().map_or(0, |bytes| *bytes));
        read
    }

    /// Checks and counts the request that was read, and decides on the answer.
    fn take(&mut self, head: &Head) -> Answer {
        if head.path.ends_with("/v1/metrics") {
            return self.take_metrics(head);
        }
        let sent = &self.input[head.bytes..head.bytes + head.body_bytes];
        let plain = decompress(head, sent);
        let body = plain.as_deref().unwrap_or_default();
        let spans = plain.as_ref().and_then(|body| census::spans(body));
        let kept = self.state.keeps.then(|| decode(head, body)).flatten();
        // What can be counted may still be more than can be decoded, such as nested too deep.
        let spans = spans.filter(|_| kept.is_some() || !self.state.keeps);

        let cpu_time = cpu_time();
        let mut inner = self.state.inner.lock();
        let answer = match spans {
            None => Answer::status(400),
            Some(_) => {
                let next = inner.answers_next.pop_front();
                next.unwrap_or_else(|| inner.answer.clone())
            }
        };
        let counts = &mut inner.counts;
        counts.requests += 1;
        counts.malformed += u64::from(spans.is_none());
        counts.body_bytes += sent.len() as u64;
        counts.body_bytes_max = counts.body_bytes_max.max(sent.len() as u64);
        counts.cpu_time += cpu_time - self.counted;
        if answer.takes {
            counts.spans += spans.unwrap_or(0).saturating_sub(answer.rejected);
        }
        inner.kept.extend(kept.map(|request| ReceivedRequest {
            taken: answer.takes,
            ..request
        }));
        self.counted = cpu_time;
        self.state.changed.notify_all();
        answer
    }
}

impl ServedConnection<'_> {
    fn take_metrics(&mut self, head: &Head) -> Answer {
        let sent = &self.input[head.bytes..head.bytes + head.body_bytes];
        let plain = decompress(head, sent);
        let metrics = plain.and_then(|body| ExportMetricsServiceRequest::decode(&*body).ok());
        let Some(metrics) = metrics else {
            return Answer::status(400);
        };
        self.state.inner.lock().metrics.push(metrics);
        self.state.changed.notify_all();
        Answer::ok()
    }
}

/// The body as it was before its `Content-Encoding`; `None` if it has one that is not known here.
fn decompress<'a>(head: &Head, body: &'a [u8]) -> Option<Cow<'a, [u8]>> {
    let mut headers = head.headers.iter();
    let Some((_, encoding)) = headers.find(|(name, _)| name == "content-encoding") else {
        return Some(Cow::Borrowed(body));
    };
    match &**encoding {
        #[cfg(feature = "gzip")]
        "gzip" => {
            let mut plain = Vec::new();
            let decoder = flate2::read::MultiGzDecoder::new(body);
            let mut decoder = decoder.take(BODY_BYTES_MAX as u64);
            decoder.read_to_end(&mut plain).ok()?;
            Some(plain.into())
        }
        #[cfg(feature = "zstd")]
        "zstd" => {
            let mut plain = Vec::new();
            let decoder = zstd::Decoder::new(body).ok()?;
            let mut decoder = decoder.take(BODY_BYTES_MAX as u64);
            decoder.read_to_end(&mut plain).ok()?;
            Some(plain.into())
        }
        _ => None,
    }
}

fn decode(head: &Head, body: &[u8]) -> Option<ReceivedRequest> {
    Some(ReceivedRequest {
        path: head.path.clone(),
        headers: head.headers.clone(),
        body: ExportTraceServiceRequest::decode(body).ok()?,
        taken: false,
    })
}

fn parse_head(input: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(input).map_err(io::Error::other)?;
    let httparse::Status::Complete(bytes) = parsed else {
        return Ok(None);
    };
    let headers: Vec<_> = (request.headers.iter())
        .map(|header| {
            let value = String::from_utf8_lossy(header.value);
            (header.name.to_ascii_lowercase(), value.trim().to_string())
        })
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let body_bytes = length
        .map_or(Ok(0), |(_, value)| value.parse())
        .map_err(io::Error::other)?;
    if body_bytes > BODY_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(Head {
        bytes,
        path: request.path.unwrap_or_default().to_string(),
        headers,
        body_bytes,
    }))
}

fn response(status: u16, answer: &Answer) -> Vec<u8> {
    let mut head = format!(
        "HTTP/1.1 {status} \r\nContent-Length: {}\r\n",
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    let mut response = head.into_bytes();
    response.extend_from_slice(&answer.body);
    response
}

/// CPU time of the calling thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
