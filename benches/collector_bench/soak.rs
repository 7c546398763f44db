//! A soak test: 200,000 spans a second to three destinations whose servers make errors at random.
//!
//! `cargo bench --bench collector_bench -- soak [MINUTES]`, default 10. It fails if a span is
//! unaccounted for, or if memory grows.

use std::error::Error;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use otlp_collector::config::Endpoint;
use otlp_collector::{Collector, Config, Destination, EndpointOptions, Ledger, unix_nanos};

use crate::hdr;
use crate::machine;
use crate::receiver::{Manner, Received, Receiver};
use crate::scenario::pace;
use crate::workload;

const INTERVAL: Duration = Duration::from_micros(5);
const HEALTHY: Duration = Duration::from_secs(30);
/// Allowed growth of memory after the first ten seconds: for the allocator's reserves, not for a leak.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

pub fn run(minutes: u64) -> Result<(), Box<dyn Error>> {
    println!("healthy for {HEALTHY:?}");
    let healthy = phase(Manner::Takes, HEALTHY)?;
    println!("{healthy}");
    println!("with faults for {minutes} min");
    let erring = phase(Manner::Errs, Duration::from_secs(60 * minutes))?;
    println!("{erring}");
    healthy.check()?;
    erring.check()?;
    println!("every span is accounted for, and memory is flat");
    Ok(())
}

/// Results of one phase.
struct Phase {
    ledger: Ledger,
    received: Vec<Received>,
    retries: u64,
    panics: u64,
    connections: u64,
    /// Resident memory after ten seconds, and the maximum after that.
    memory_bytes: (u64, u64),
    record_ns: Histogram<u64>,
    cpu: Duration,
    elapsed: Duration,
}

fn phase(manner: Manner, time: Duration) -> Result<Phase, Box<dyn Error>> {
    let cores = Collector::cores();
    let receivers = (0..3).map(|_| Receiver::start_on(manner, cores[0]));
    let receivers = receivers.collect::<io::Result<Vec<_>>>()?;
    let destinations = receivers.iter().map(|receiver| {
        Destination::from(Endpoint {
            url: receiver.endpoint.clone(),
            options: EndpointOptions {
                request_timeout_ms: 2000,
                ..EndpointOptions::default()
            },
        })
    });
    let collector = Collector::new(Config {
        destinations: destinations.collect(),
        network_core: cores.first().copied(),
        buffer_capacity: 1_000_000,
        shutdown_timeout_ms: 30_000,
        ..Config::default()
    })?;
    let (began, cpu_before) = (Instant::now(), machine::cpu_time());
    let core = cores[1 % cores.len()];
    let worker = collector.spawn_pinned(core, "worker", move |recorder| {
        let mut histogram = hdr::nanos();
        let times = (time.as_micros() / INTERVAL.as_micros()) as u32;
        pace(INTERVAL, times, &mut histogram, || {
            let now = unix_nanos();
            workload::record(&recorder, now, now)
        });
        histogram
    })?;
    let memory_bytes = watch_memory(time);
    let record_ns = worker.join().map_err(|_| "the worker panicked")?;
    let (elapsed, cpu) = (began.elapsed(), machine::cpu_time() - cpu_before);
    let network = collector.stats().network;
    let ledger = collector.shutdown()?;
    Ok(Phase {
        ledger,
        received: (receivers.into_iter())
            .map(Receiver::end)
            .collect::<io::Result<_>>()?,
        retries: network.retries,
        panics: network.panics,
        connections: network.connections,
        memory_bytes,
        record_ns,
        cpu,
        elapsed,
    })
}

/// Returns the resident memory after it has settled, and the maximum after that.
fn watch_memory(time: Duration) -> (u64, u64) {
    let began = Instant::now();
    thread::sleep(time.min(Duration::from_secs(10)));
    let settled = machine::resident_bytes();
    let mut most = settled;
    while began.elapsed() < time {
        thread::sleep(Duration::from_millis(500));
        most = most.max(machine::resident_bytes());
    }
    (settled, most)
}

impl Phase {
    fn check(&self) -> Result<(), String> {
        for (destination, received) in self.ledger.destinations.iter().zip(&self.received) {
            let settled = destination.settled();
            if settled != self.ledger.accepted || destination.in_flight + destination.buffered > 0 {
                return Err(format!("the ledger does not close: {}", self.ledger));
            }
            if received.spans < destination.delivered || received.rejected < destination.rejected {
                return Err(format!("{destination}, but received were {received:?}"));
            }
        }
        if self.panics > 0 {
            return Err(format!("{} panics", self.panics));
        }
        let (settled, most) = self.memory_bytes;
        if most > settled + GROWTH_BYTES_MAX {
            return Err(format!("memory grew from {settled} to {most} bytes"));
        }
        Ok(())
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let accepted = self.ledger.accepted;
        let refused = self.ledger.refused.total();
        writeln!(
            f,
            "  accepted {accepted} ({:.0} a second), refused {refused}; {} requests sent again, {} connections",
            accepted as f64 / seconds,
            self.retries,
            self.connections
        )?;
        for (destination, received) in self.ledger.destinations.iter().zip(&self.received) {
            writeln!(f, "  {destination}")?;
            writeln!(
                f,
                "    the receiver counted {} spans accepted and {} rejected; {} faults",
                received.spans, received.rejected, received.faults
            )?;
        }
        let at = |quantile| self.record_ns.value_at_quantile(quantile);
        writeln!(
            f,
            "  record from its intended start: p50 {} ns, p99 {}, p99.9 {}, p99.99 {}, max {}",
            at(0.5),
            at(0.99),
            at(0.999),
            at(0.9999),
            self.record_ns.max()
        )?;
        let (settled, most) = self.memory_bytes;
        write!(
            f,
            "  resident {:.1} MB after 10 s, at most {:.1} MB; {:.2} cores, of which the pacing loop has one",
            settled as f64 / 1e6,
            most as f64 / 1e6,
            self.cpu.as_secs_f64() / seconds
        )
    }
}
