//! A connection to the receiver, on a thread of its own.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prost::Message;
use rustix::time::{ClockId, clock_gettime};

use crate::otlp::proto::ExportMetricsServiceRequest;
use crate::testing::answer::Answer;
use crate::testing::received::ReceivedRequest;
use crate::testing::state::SharedState;
use crate::testing::{census, decode};

/// Larger than any request of this crate by default.
const BODY_BYTES_MAX: usize = 64 << 20;
const HEADERS_MAX: usize = 64;

/// Accepts connections until the receiver is closed.
pub(super) fn accept(listener: &TcpListener, shared: &Arc<SharedState>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        let Some(number) = shared.register(&stream) else {
            return;
        };
        let shared = Arc::clone(shared);
        let serving = thread::Builder::new()
            .name("otlp-receiver".to_string())
            .spawn(move || {
                // An error ends the connection, as the peer notices.
                let _ = ServedConnection::new(stream, &shared).serve();
                shared.disconnect(number);
            });
        drop(serving);
    }
}

/// A connection to the receiver.
struct ServedConnection<'a> {
    stream: TcpStream,
    shared: &'a SharedState,
    /// Received bytes of requests that were not answered yet.
    input: Vec<u8>,
    /// CPU time of this thread that is counted already.
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
    fn new(stream: TcpStream, shared: &'a SharedState) -> Self {
        Self {
            stream,
            shared,
            input: Vec::new(),
            counted: Duration::ZERO,
        }
    }

    /// Answers requests until one side closes the connection.
    fn serve(mut self) -> io::Result<()> {
        while let Some(head) = self.read_head()? {
            let end = head.bytes + head.body_bytes;
            while self.input.len() < end {
                if self.read()? == 0 {
                    return Ok(());
                }
            }
            let answer = self.receive(&head);
            if !self.shared.wait_while_paused() {
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

    /// Reads more bytes once the receiver is not paused; 0 at the end.
    fn read(&mut self) -> io::Result<usize> {
        const STEP: usize = 256 * 1024;
        if !self.shared.wait_while_paused() {
            return Ok(0);
        }
        let len = self.input.len();
        self.input.resize(len + STEP, 0);
        let read = self.stream.read(&mut self.input[len..]);
        self.input
            .truncate(len + read.as_ref().map_or(0, |bytes| *bytes));
        read
    }

    /// Checks and counts a request and chooses its answer.
    fn receive(&mut self, head: &Head) -> Answer {
        if head.path.ends_with("/v1/metrics") {
            return self.receive_metrics(head);
        }
        let sent = &self.input[head.bytes..head.bytes + head.body_bytes];
        let plain = decompress(head, sent);
        let body = plain.as_deref().unwrap_or_default();
        let spans = plain.as_ref().and_then(|body| census::spans(body));
        let kept = (self.shared.keeps).then(|| request(head, body)).flatten();
        // A body that can be counted may not be decodable, such as one nested too deep.
        let spans = spans.filter(|_| kept.is_some() || !self.shared.keeps);

        let cpu_time = cpu_time();
        let mut state = self.shared.state.lock();
        let answer = match spans {
            None => Answer::status(400),
            Some(_) => {
                let next = state.answers_next.pop_front();
                next.unwrap_or_else(|| state.answer.clone())
            }
        };
        let counts = &mut state.counts;
        counts.requests += 1;
        counts.malformed += u64::from(spans.is_none());
        counts.body_bytes += sent.len() as u64;
        counts.body_bytes_max = counts.body_bytes_max.max(sent.len() as u64);
        counts.cpu_time += cpu_time - self.counted;
        if answer.accepts {
            counts.spans += spans.unwrap_or(0).saturating_sub(answer.rejected);
        }
        state.kept.extend(kept.map(|request| ReceivedRequest {
            accepted: answer.accepts,
            ..request
        }));
        self.counted = cpu_time;
        self.shared.changed.notify_all();
        answer
    }
}

impl ServedConnection<'_> {
    fn receive_metrics(&mut self, head: &Head) -> Answer {
        let sent = &self.input[head.bytes..head.bytes + head.body_bytes];
        let plain = decompress(head, sent);
        let valid = plain.filter(|body| ExportMetricsServiceRequest::decode(&**body).is_ok());
        let Some(metrics) = valid else {
            return Answer::status(400);
        };
        (self.shared.state.lock().metrics).push(metrics.into_owned());
        self.shared.changed.notify_all();
        Answer::ok()
    }
}

/// Removes the body's `Content-Encoding`; `None` if it is malformed or not supported.
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

fn request(head: &Head, body: &[u8]) -> Option<ReceivedRequest> {
    Some(ReceivedRequest {
        path: head.path.clone(),
        headers: head.headers.clone(),
        body: body.to_vec(),
        spans: decode::spans(body)?,
        accepted: false,
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

/// Returns the CPU time of the calling thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
