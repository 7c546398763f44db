//! Cost of a dead, refusing or slow destination to the one beside it.
//!
//! `cargo bench --bench collector_bench -- isolation`: 200,000 spans a second for some seconds to a
//! healthy receiver, alone and beside each kind of faulty one, in turn.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use otlp_collector::config::Endpoint;
use otlp_collector::{Collector, Config, Destination, unix_nanos};

use crate::hdr;
use crate::receiver::{Manner, Receiver};
use crate::scenario::{closed_endpoint, pace};
use crate::workload;

const INTERVAL: Duration = Duration::from_micros(5);
const TIME: Duration = Duration::from_secs(5);
const ROUNDS: u32 = 3;

pub fn run() -> Result<(), Box<dyn Error>> {
    println!(
        "{:<10} {:>10} {:>10} {:>8} {:>8} {:>12} {:>12} {:>12} {:>10}",
        "beside",
        "accepted",
        "delivered",
        "lost",
        "refused",
        "delivery p50",
        "p99 ms",
        "record p50",
        "p99.9 ns"
    );
    for _ in 0..ROUNDS {
        for (name, manner) in [
            ("nothing", None),
            ("healthy", Some(Some(Manner::Takes))),
            ("dead", Some(None)),
            ("refusing", Some(Some(Manner::Refuses))),
            ("crawling", Some(Some(Manner::Crawls))),
        ] {
            measure(name, manner)?;
        }
    }
    Ok(())
}

/// Measures a healthy destination: alone (`None`), beside one that does not listen (`Some(None)`), or beside a
/// receiver with this behaviour.
fn measure(name: &str, beside: Option<Option<Manner>>) -> Result<(), Box<dyn Error>> {
    let cores = Collector::cores();
    let healthy = Receiver::start_on(Manner::Takes, cores[0])?;
    let mut destinations = vec![Destination::from(Endpoint::new(healthy.endpoint.clone()))];
    let other = beside
        .flatten()
        .map(|manner| Receiver::start_on(manner, cores[0]))
        .transpose()?;
    if beside.is_some() {
        let url = other
            .as_ref()
            .map_or_else(closed_endpoint, |other| Ok(other.endpoint.clone()))?;
        destinations.push(Endpoint::new(url).into());
    }
    let collector = Collector::new(Config {
        destinations,
        network_core: cores.first().copied(),
        shutdown_timeout_ms: 0,
        ..Config::default()
    })?;
    let core = cores[1 % cores.len()];
    let worker = collector.spawn_pinned(core, "worker", move |recorder| {
        let mut histogram = hdr::nanos();
        let times = (TIME.as_micros() / INTERVAL.as_micros()) as u32;
        pace(INTERVAL, times, &mut histogram, || {
            let now = unix_nanos();
            workload::record(&recorder, now, now)
        });
        histogram
    })?;
    let record = worker.join().map_err(|_| "the worker panicked")?;
    let accepted = collector.ledger().accepted;
    let patience = Instant::now() + Duration::from_secs(10);
    while collector.ledger().destinations[0].settled() < accepted && Instant::now() < patience {
        thread::sleep(Duration::from_millis(10));
    }
    let stats = collector.stats();
    let of_healthy = &stats.ledger.destinations[0];
    let delivery = &stats.network.delivery;
    let ms = |share| delivery.quantile(share).unwrap_or_default().as_secs_f64() * 1e3;
    println!(
        "{name:<10} {accepted:>10} {:>10} {:>8} {:>8} {:>12.2} {:>12.2} {:>12} {:>10}",
        of_healthy.delivered,
        of_healthy.dropped.total(),
        stats.ledger.refused.total(),
        ms(0.5),
        ms(0.99),
        record.value_at_quantile(0.5),
        record.value_at_quantile(0.999),
    );
    Ok(())
}
