//! Time that single calls of `record_with` take, to the far tail.
//!
//! `cargo bench --bench collector_bench -- service-time [ROUNDS]`: 200,000 spans a second from a thread that has a
//! core for itself and waits busily, each call timed alone by `unix_nanos`, whose reads do not wait for the instructions before
//! them: with a dead endpoint and no complete batch, so that nothing wakes the network thread, and with a live endpoint.
//! The same loop without a span shows the machine's own share.

use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use otlp_collector::{Collector, Config, unix_nanos};
use serde_json::{Value, json};

use crate::hdr::{self, Distribution};
use crate::receiver::{Manner, Receiver};
use crate::scenario::{self, closed_endpoint};
use crate::workload;

const INTERVAL: Duration = Duration::from_micros(5);
/// Calls of one kind in a row.
const SLICE: u32 = 20_000;
const SECONDS: u64 = 8;
const QUANTILES: [f64; 5] = [0.5, 0.99, 0.999, 0.9999, 1.0];

pub fn run(rounds: u32) -> Result<(), Box<dyn Error>> {
    println!(
        "{:<14} {}",
        "ns",
        "p50 p99 p99.9 p99.99 max".replace(' ', "\t")
    );
    for round in 0..rounds {
        for name in ["service-dead", "service-live"] {
            let figures = scenario::measure(name, &[SECONDS])?;
            for (part, label) in [("record_ns", name), ("nothing_ns", "without a span")] {
                let distribution = Distribution::from_json(&figures[part]);
                let values = QUANTILES.map(|quantile| format!("{:.0}", distribution.at(quantile)));
                println!("{label:<14} {}", values.join("\t"));
                let directory =
                    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench-report");
                fs::create_dir_all(&directory)?;
                let file = format!("{name}-{part}-{round}.hgrm");
                fs::write(directory.join(file), distribution.hgrm())?;
            }
        }
    }
    Ok(())
}

/// Times single calls for half of this time, and the loop without them for the other half.
pub fn measure(is_live: bool, seconds: u64) -> Result<Value, Box<dyn Error>> {
    let cores = Collector::cores();
    let receiver = is_live
        .then(|| Receiver::start_on(Manner::Takes, cores[0]))
        .transpose()?;
    let endpoint = match &receiver {
        Some(receiver) => receiver.endpoint.clone(),
        None => closed_endpoint()?,
    };
    let slices = (seconds * 1_000_000 / u64::from(SLICE * INTERVAL.as_micros() as u32)).max(4) / 2;
    let all = slices as usize * SLICE as usize * 11 / 10;
    let defaults = Config::default();
    let collector = Collector::new(Config {
        endpoint,
        network_core: cores.first().copied(),
        shutdown_timeout_ms: 0,
        // Room for all spans, so that none is refused, and no batch is complete.
        buffer_capacity: if is_live {
            defaults.buffer_capacity
        } else {
            all
        },
        batch_size: if is_live { defaults.batch_size } else { all },
        batch_timeout_ms: if is_live {
            defaults.batch_timeout_ms
        } else {
            3_600_000
        },
        ..defaults
    })?;
    let worker = collector.spawn_pinned(cores[1 % cores.len()], "worker", move |recorder| {
        let (mut record, mut nothing) = (hdr::nanos(), hdr::nanos());
        for slice in 0..slices {
            if slice == 1 {
                // The first one warms up.
                (record, nothing) = (hdr::nanos(), hdr::nanos());
            }
            time(&mut nothing, |_| ());
            time(&mut record, |now| {
                let _ = black_box(workload::record(&recorder, now, now));
            });
        }
        (record, nothing)
    })?;
    let (record, nothing) = worker.join().map_err(|_| "the worker panicked")?;
    let ledger = collector.shutdown()?;
    if ledger.refused.total() > 0 {
        return Err(format!("spans were refused: {ledger}").into());
    }
    Ok(json!({
        "record_ns": Distribution::of(&record, 1.0).json(),
        "nothing_ns": Distribution::of(&nothing, 1.0).json(),
        "accepted": ledger.accepted,
    }))
}

/// Times single calls at an even pace. A call that is late is not made up for.
fn time(histogram: &mut Histogram<u64>, mut call: impl FnMut(u64)) {
    let mut due = Instant::now();
    for _ in 0..SLICE {
        due = (due + INTERVAL).max(Instant::now());
        // No spin-loop hint: a hypervisor might take the core away.
        while Instant::now() < due {}
        let began = unix_nanos();
        call(began);
        histogram.saturating_record(unix_nanos().saturating_sub(began));
    }
}
