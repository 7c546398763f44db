//! End-to-end measurements. Each runs in a process of its own, for its memory and CPU time, and prints its
//! results as one line of JSON.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use otlp_collector::config::Endpoint;
use otlp_collector::{
    Collector, Config, Destination, EndpointOptions, Ledger, Overflow, Recorder, Span, unix_nanos,
};
use serde_json::{Value, json};

use crate::hdr::{self, Distribution};
use crate::machine;
use crate::receiver::{Manner, Received, Receiver};
use crate::{service_time, workload};

/// Argument that makes the program run one measurement.
pub const ARGUMENT: &str = "--measure";

type Outcome = Result<Value, Box<dyn std::error::Error>>;

/// Limit of each wait.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the measurement with this name and these numbers in a new process.
pub fn measure(name: &str, numbers: &[u64]) -> Outcome {
    let output = Command::new(std::env::current_exe()?)
        .args([ARGUMENT, name])
        .args(numbers.iter().map(u64::to_string))
        .output()?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{name} failed: {error}").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Runs it in that process.
pub fn run(name: &str, numbers: &[u64]) -> Outcome {
    match (name, numbers) {
        ("flat-out", [spans, recorders]) => flat_out(*spans, *recorders as usize, None),
        ("sized", [spans, bytes]) => flat_out(*spans, 1, Some(*bytes as usize)),
        ("fan-out", [spans, endpoints]) => fan_out(*spans, *endpoints as usize),
        ("batched", [spans, batch]) => batched(*spans, *batch as usize),
        ("bare-loop", [spans]) => bare_loop(*spans),
        ("paced", [seconds]) => paced(Duration::from_secs(*seconds)),
        ("specified", [seconds, is_recording]) => specified(*seconds, *is_recording != 0),
        ("record-healthy", [seconds]) => latency(Some(Manner::Takes), *seconds, true),
        ("record-refusing", [seconds]) => latency(Some(Manner::Refuses), *seconds, true),
        ("record-crawling", [seconds]) => latency(Some(Manner::Crawls), *seconds, true),
        ("record-dead", [seconds]) => latency(None, *seconds, true),
        ("record-full", [seconds]) => latency(None, *seconds, false),
        ("service-dead", [seconds]) => service_time::measure(false, *seconds),
        ("service-live", [seconds]) => service_time::measure(true, *seconds),
        ("memory", []) => memory(),
        ("threads", [count, spans]) => threads(*count as usize, *spans),
        _ => Err(format!("no measurement is called {name} and takes {numbers:?}").into()),
    }
}

// ---- Throughput ----

/// Delivers spans as fast as possible, from this many recorders.
fn flat_out(spans: u64, recorders: usize, bytes: Option<usize>) -> Outcome {
    let receiver = Receiver::start(Manner::Takes)?;
    deliver(vec![receiver], Config::default(), spans, recorders, bytes)
}

/// Delivers each span to this many receivers.
fn fan_out(spans: u64, endpoints: usize) -> Outcome {
    let receivers = (0..endpoints).map(|_| Receiver::start(Manner::Takes));
    let receivers = receivers.collect::<io::Result<_>>()?;
    deliver(receivers, Config::default(), spans, 1, None)
}

fn batched(spans: u64, batch_size: usize) -> Outcome {
    let receiver = Receiver::start(Manner::Takes)?;
    let config = Config {
        batch_size,
        // One batch per request.
        endpoint_options: EndpointOptions {
            request_bytes_max: (batch_size * 209 + 512).max(70_000),
            ..EndpointOptions::default()
        },
        ..Config::default()
    };
    deliver(vec![receiver], config, spans, 1, None)
}

fn deliver(
    receivers: Vec<Receiver>,
    config: Config,
    spans: u64,
    recorders: usize,
    bytes: Option<usize>,
) -> Outcome {
    let cores = Collector::cores();
    let destinations = receivers.iter().map(|receiver| {
        Destination::from(Endpoint {
            url: receiver.endpoint.clone(),
            options: config.endpoint_options.clone(),
        })
    });
    let collector = Collector::new(Config {
        destinations: destinations.collect(),
        endpoint_options: EndpointOptions::default(),
        network_core: cores.first().copied(),
        overflow: Overflow::Block { timeout_ms: 60_000 },
        ..config
    })?;
    let share = spans / recorders as u64;
    let cpu_before = machine::cpu_time();
    let began = Instant::now();
    let workers: Vec<_> = (0..recorders)
        .map(|index| {
            // A single recorder does not share the network thread's core.
            let core = cores[(index + 1) % cores.len()];
            collector.spawn_pinned(core, format!("worker-{index}"), move |recorder| {
                record_all(&recorder, share, bytes);
            })
        })
        .collect::<Result<_, _>>()?;
    let expected = share * (recorders * receivers.len()) as u64;
    let timeline = watch(&collector, began, expected);
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")?;
    }
    let ledger = collector.flush(PATIENCE)?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = machine::cpu_time() - cpu_before;
    let network = collector.stats().network;
    let received = receivers
        .into_iter()
        .map(Receiver::end)
        .collect::<io::Result<Vec<_>>>()?;
    let mut figures = figures(&ledger, seconds, cpu, &received);
    figures["bytes_per_span"] = json!(network.body_bytes as f64 / ledger.delivered() as f64);
    figures["requests"] = json!(network.requests);
    figures["delivery_ms"] = Distribution::of(&hdr::nanos_of(&network.delivery), 1e6).json();
    figures["timeline"] = json!(timeline);
    Ok(figures)
}

fn record_all(recorder: &Recorder, spans: u64, bytes: Option<usize>) {
    let mut now = unix_nanos();
    for number in 0..spans {
        // Often enough for the delivery's latency, and too rarely to cost much.
        if number % 64 == 0 {
            now = unix_nanos();
        }
        let result = match bytes {
            None => workload::record(recorder, now, now),
            Some(bytes) => workload::record_sized(recorder, bytes, now),
        };
        result.expect("recording waits for room");
    }
}

/// Samples the delivered spans until all are, as pairs of seconds and spans.
fn watch(collector: &Collector, began: Instant, spans: u64) -> Vec<(f64, u64)> {
    let mut timeline = vec![(0.0, 0)];
    loop {
        thread::sleep(Duration::from_millis(5));
        let delivered = collector.ledger().delivered();
        timeline.push((began.elapsed().as_secs_f64(), delivered));
        // The last batch may wait for a flush.
        if delivered + 10_000 >= spans || began.elapsed() > PATIENCE {
            return timeline;
        }
    }
}

/// Computes figures per span and endpoint that it was delivered to.
fn figures(ledger: &Ledger, seconds: f64, cpu: Duration, received: &[Received]) -> Value {
    let delivered = ledger.delivered();
    let receivers_cpu: Duration = received.iter().map(|received| received.cpu).sum();
    let mut each = ledger.destinations.iter().zip(received);
    json!({
        "accepted": ledger.accepted,
        "delivered": delivered,
        "refused": ledger.refused.total(),
        "seconds": seconds,
        "spans_per_s": delivered as f64 / seconds,
        "cpu_ns_per_span": cpu.as_nanos() as f64 / delivered as f64,
        "receiver_ns_per_span": receivers_cpu.as_nanos() as f64 / delivered as f64,
        "closes": each.all(|(endpoint, received)| {
            endpoint.delivered == ledger.accepted && received.spans == ledger.accepted
        }),
    })
}

/// Measures the lower bound: a plain loop that writes the same request again and again, while another thread
/// reads the responses.
fn bare_loop(spans: u64) -> Outcome {
    let (request, spans_per_request) = a_request()?;
    let receiver = Receiver::start(Manner::Takes)?;
    let address = receiver.endpoint.trim_start_matches("http://").to_string();
    let mut stream = TcpStream::connect(address)?;
    let mut answers = stream.try_clone()?;
    let requests = spans / spans_per_request;
    let cpu_before = machine::cpu_time();
    let began = Instant::now();
    let reader = thread::spawn(move || {
        const ANSWER_BYTES: usize = 38;
        let mut left = requests as usize * ANSWER_BYTES;
        let mut buffer = [0; 4096];
        while left > 0 {
            match answers.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => left -= read,
            }
        }
    });
    for _ in 0..requests {
        stream.write_all(&request)?;
    }
    reader.join().map_err(|_| "the reader panicked")?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = machine::cpu_time() - cpu_before;
    let received = receiver.end()?;
    Ok(json!({
        "spans_per_s": received.spans as f64 / seconds,
        "cpu_ns_per_span": cpu.as_nanos() as f64 / received.spans as f64,
        "closes": received.spans == requests * spans_per_request,
    }))
}

/// Captures a request of a collector. Returns it with its number of spans.
fn a_request() -> Result<(Vec<u8>, u64), Box<dyn std::error::Error>> {
    const SPANS: u64 = 4096;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let reader = thread::spawn(move || -> io::Result<Vec<u8>> {
        let (mut stream, _) = listener.accept()?;
        let mut request = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let read = stream.read(&mut buffer)?;
            request.extend_from_slice(&buffer[..read]);
            if is_whole(&request) || read == 0 {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                return Ok(request);
            }
        }
    });
    let collector = Collector::new(Config {
        endpoint,
        batch_size: 2 * SPANS as usize,
        batch_timeout_ms: 3_600_000,
        ..Config::default()
    })?;
    let recorder = collector.recorder()?;
    let now = unix_nanos();
    for _ in 0..SPANS {
        workload::record(&recorder, now, now)?;
    }
    let ledger = collector.flush(PATIENCE)?;
    assert_eq!(ledger.delivered(), SPANS, "{ledger}");
    let request = reader.join().map_err(|_| "the reader panicked")??;
    Ok((request, SPANS))
}

fn is_whole(request: &[u8]) -> bool {
    let Some(head) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let text = String::from_utf8_lossy(&request[..head]).into_owned();
    let length = (text.lines()).find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    request.len() >= head + 4 + length
}

// ---- At a given rate ----

/// Delivers a million spans a second, from a thread that sleeps between bursts of a millisecond.
fn paced(time: Duration) -> Outcome {
    const BURST: Duration = Duration::from_millis(1);
    const SPANS_PER_BURST: u64 = 1000;
    let receiver = Receiver::start(Manner::Takes)?;
    let cores = Collector::cores();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint.clone(),
        network_core: cores.first().copied(),
        batch_timeout_ms: 2,
        ..Config::default()
    })?;
    let bursts = (time.as_secs_f64() / BURST.as_secs_f64()) as u32;
    let cpu_before = machine::cpu_time();
    let began = Instant::now();
    let began_unix = unix_nanos();
    let worker = collector.spawn_pinned(cores[1 % cores.len()], "worker", move |recorder| {
        for burst in 0..bursts {
            let due = BURST * burst;
            thread::sleep(due.saturating_sub(began.elapsed()));
            // The intended end of the spans, however late the thread woke up.
            let end_time = began_unix + due.as_nanos() as u64;
            for _ in 0..SPANS_PER_BURST {
                // A refusal is counted.
                let _ = workload::record(&recorder, end_time, end_time);
            }
        }
    })?;
    worker.join().map_err(|_| "the worker panicked")?;
    let seconds = began.elapsed().as_secs_f64();
    let ledger = collector.flush(PATIENCE)?;
    let cpu = machine::cpu_time() - cpu_before;
    let network = collector.stats().network;
    let mut figures = figures(&ledger, seconds, cpu, &[receiver.end()?]);
    figures["requests"] = json!(network.requests);
    figures["delivery_ms"] = Distribution::of(&hdr::nanos_of(&network.delivery), 1e6).json();
    Ok(figures)
}

/// Measures CPU, memory and loss as OpenTelemetry's performance specification asks: 10,000 spans a second to a
/// receiver in another process. Without spans, the thread only sleeps and wakes up as often.
fn specified(seconds: u64, is_recording: bool) -> Outcome {
    const BURST: Duration = Duration::from_millis(1);
    const SPANS_PER_BURST: u64 = 10;
    let receiver = Receiver::start(Manner::Takes)?;
    let resident = machine::resident_bytes();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint.clone(),
        ..Config::default()
    })?;
    let (began, cpu_before) = (Instant::now(), machine::cpu_time());
    let producing = collector.clone();
    let worker = thread::spawn(move || -> Result<(), otlp_collector::Error> {
        let recorder = producing.recorder()?;
        for burst in 0..seconds * 1_000 {
            let due = BURST * u32::try_from(burst).unwrap_or(u32::MAX);
            thread::sleep(due.saturating_sub(began.elapsed()));
            for _ in 0..SPANS_PER_BURST * u64::from(is_recording) {
                // A refusal is counted.
                let _ = workload::record_specified(&recorder);
            }
        }
        Ok(())
    });
    let (mut cpu_peak, mut resident_peak) = (0.0_f64, resident);
    let mut last = (began, cpu_before);
    for second in 1..=seconds {
        thread::sleep(Duration::from_secs(second).saturating_sub(began.elapsed()));
        let now = (Instant::now(), machine::cpu_time());
        let share = (now.1 - last.1).as_secs_f64() / (now.0 - last.0).as_secs_f64();
        cpu_peak = cpu_peak.max(share);
        resident_peak = resident_peak.max(machine::resident_bytes());
        last = now;
    }
    worker.join().map_err(|_| "the worker panicked")??;
    let elapsed = began.elapsed();
    let ledger = collector.flush(PATIENCE)?;
    let cpu = machine::cpu_time() - cpu_before;
    let received = receiver.end()?;
    Ok(json!({
        "seconds": elapsed.as_secs_f64(),
        "cpu_average": cpu.as_secs_f64() / elapsed.as_secs_f64(),
        "cpu_peak": cpu_peak,
        "growth_peak_bytes": resident_peak - resident,
        "buffer_bytes": collector.buffer_bytes(),
        "accepted": ledger.accepted,
        "delivered": ledger.delivered(),
        "lost": ledger.refused.total() + ledger.dropped() + ledger.accepted - received.spans,
        "closes": received.spans == ledger.accepted && ledger.delivered() == ledger.accepted,
    }))
}

/// Measures each of 200,000 calls of `record` a second, from its intended start. Slices of the same loop
/// without a span alternate with it and show the machine's own noise. With room for all spans, none is
/// refused in any state of the endpoint.
fn latency(manner: Option<Manner>, seconds: u64, has_room: bool) -> Outcome {
    const INTERVAL: Duration = Duration::from_micros(5);
    const SLICE: u32 = 50_000;
    let cores = Collector::cores();
    // Not on the core of the measured thread.
    let receiver = manner
        .map(|manner| Receiver::start_on(manner, cores[0]))
        .transpose()?;
    let endpoint = match &receiver {
        Some(receiver) => receiver.endpoint.clone(),
        None => closed_endpoint()?,
    };
    let defaults = Config::default();
    let collector = Collector::new(Config {
        endpoint,
        network_core: cores.first().copied(),
        shutdown_timeout_ms: 0,
        buffer_capacity: if has_room {
            (seconds.max(1) * 110_000) as usize
        } else {
            defaults.buffer_capacity
        },
        ..defaults
    })?;
    let slices = seconds * 1_000_000 / u64::from(SLICE * INTERVAL.as_micros() as u32);
    let worker = collector.spawn_pinned(cores[1 % cores.len()], "worker", move |recorder| {
        let (mut record, mut jitter) = (hdr::nanos(), hdr::nanos());
        for _ in 0..slices.max(2) / 2 {
            pace(INTERVAL, SLICE, &mut jitter, || ());
            pace(INTERVAL, SLICE, &mut record, || {
                let now = unix_nanos();
                black_box(workload::record(&recorder, now, now))
            });
        }
        (record, jitter)
    })?;
    let (record, jitter) = worker.join().map_err(|_| "the worker panicked")?;
    let ledger = collector.shutdown()?;
    Ok(json!({
        "record_ns": Distribution::of(&record, 1.0).json(),
        "jitter_ns": Distribution::of(&jitter, 1.0).json(),
        "accepted": ledger.accepted,
        "refused": ledger.refused.total(),
        "delivered": ledger.delivered(),
    }))
}

/// Calls `work` at an even pace. Times count from the intended start, so that a delay caused by the call before
/// counts in full.
pub fn pace<R>(
    interval: Duration,
    times: u32,
    histogram: &mut hdrhistogram::Histogram<u64>,
    mut work: impl FnMut() -> R,
) {
    let began = Instant::now();
    for number in 0..times {
        let due = began + interval * number;
        // No spin-loop hint: a hypervisor might take the core away.
        while Instant::now() < due {}
        black_box(work());
        hdr::record(histogram, due.elapsed());
    }
}

/// Returns a URL that refuses connections.
pub fn closed_endpoint() -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(format!("http://{}", listener.local_addr()?))
}

// ---- Memory and threads ----

/// Measures the memory of 100,000 spans that cannot be delivered, and after a million more.
fn memory() -> Outcome {
    let before = machine::resident_bytes();
    let collector = Collector::new(Config {
        endpoint: closed_endpoint()?,
        shutdown_timeout_ms: 0,
        ..Config::default()
    })?;
    let recorder = collector.recorder()?;
    let now = unix_nanos();
    let accepted = (0..100_000)
        .filter(|_| workload::record(&recorder, now, now).is_ok())
        .count();
    let holding = machine::resident_bytes();
    let more = (0..1_000_000)
        .filter(|_| workload::record(&recorder, now, now).is_ok())
        .count();
    thread::sleep(Duration::from_secs(1));
    let after = machine::resident_bytes();
    Ok(json!({
        "accepted": accepted,
        "accepted_more": more,
        "growth_bytes": holding as i64 - before as i64,
        "growth_after_bytes": after as i64 - before as i64,
        "buffer_bytes": collector.buffer_bytes(),
    }))
}

/// Delivers owned spans through `collect`, from threads that run at the same time.
fn threads(threads: usize, spans: u64) -> Outcome {
    let receiver = Receiver::start(Manner::Takes)?;
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint.clone(),
        overflow: Overflow::Block { timeout_ms: 60_000 },
        ..Config::default()
    })?;
    let start = Barrier::new(threads + 1);
    let failed = AtomicBool::new(false);
    let (mut began, mut cpu_before) = (Instant::now(), Duration::ZERO);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                start.wait();
                for _ in 0..spans {
                    let result = collector.collect(Span::new("GET /orders"));
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                }
            });
        }
        cpu_before = machine::cpu_time();
        began = Instant::now();
        start.wait();
    });
    let ledger = collector.flush(PATIENCE)?;
    let seconds = began.elapsed().as_secs_f64();
    let cpu = machine::cpu_time() - cpu_before;
    if failed.into_inner() {
        return Err(format!("spans were refused: {ledger}").into());
    }
    Ok(figures(&ledger, seconds, cpu, &[receiver.end()?]))
}
