//! The built-in load generator: each connection awaits a response before the next request.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use otlp_collector::{SpanContext, SpanId, TraceId};

pub const CONNECTIONS: u64 = 4;

/// Sends requests for this long.
pub fn run(address: SocketAddr, time: Duration) -> io::Result<()> {
    let end = Instant::now() + time;
    let callers: Vec<_> = (0..CONNECTIONS)
        .map(|number| thread::spawn(move || call(address, number, end)))
        .collect();
    for caller in callers {
        caller
            .join()
            .map_err(|_| io::Error::other("a caller panicked"))??;
    }
    Ok(())
}

fn call(address: SocketAddr, number: u64, end: Instant) -> io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut responses = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    let mut line = String::new();
    for round in 1_u64.. {
        if Instant::now() >= end {
            break;
        }
        request.clear();
        write_request(number << 48 | round, &mut request);
        stream.write_all(request.as_bytes())?;
        skip_response(&mut responses, &mut line)?;
    }
    Ok(())
}

/// Writes a request: mostly for an order, 1 % for one that does not exist, 0.1 % for a failure.
fn write_request(number: u64, request: &mut String) {
    match number % 1000 {
        0 => request.push_str("GET /fail"),
        _ => request.push_str(&format!(
            "GET /orders/{}",
            number.wrapping_mul(2_654_435_761) % 10_100
        )),
    }
    request.push_str(" HTTP/1.1\r\nHost: localhost\r\n");
    let high = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let trace_id = TraceId::from_u128(u128::from(high) << 64 | 1).expect("not 0");
    let span_id = SpanId::from_u64(number).expect("rounds begin with 1");
    SpanContext::new(trace_id, span_id).inject(|name, value| {
        request.push_str(name);
        request.push_str(": ");
        request.push_str(value);
        request.push_str("\r\n");
    });
    request.push_str("\r\n");
}

fn skip_response(responses: &mut impl BufRead, line: &mut String) -> io::Result<()> {
    let mut body = 0;
    loop {
        line.clear();
        if responses.read_line(line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(length) = line.strip_prefix("Content-Length: ") {
            body = length.trim().parse().map_err(io::Error::other)?;
        }
        if line == "\r\n" {
            break;
        }
    }
    io::copy(&mut responses.take(body), &mut io::sink())?;
    Ok(())
}
