//! Measures layers for tracing beside each other: `peers doors [ROUNDS]`.
//!
//! Each is a process of its own, with a global subscriber. The figures are thread CPU time, the best burst of
//! each round, and the median of the rounds.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use otlp_collector::span::{ParentBased, Sampler};
use otlp_collector::testing::Receiver;
use otlp_collector::tracing::OtlpLayer;
use otlp_collector::{Collector, Config};
use rustix::time::{ClockId, clock_gettime};
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, info, info_span};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use crate::allocations;
use crate::workload::{POSTGRESQL, address, cached, rows};

/// First argument of this program for these measurements.
pub const ARGUMENT: &str = "doors";

/// Traces of a burst, which every queue has room for.
const TRACES: u64 = 500;
const EVENTS: u64 = 8;
const POLLS: u64 = 20_000;
const BURSTS: u32 = 150;

const DOORS: &[&str] = &[
    "Registry alone",
    "layer",
    "layer, all constants",
    "layer, location",
    "layer, unsampled",
    "subscriber",
    "subscriber, unsampled",
    "tracing-opentelemetry, lean",
    "tracing-opentelemetry, default",
    "tracing-opentelemetry, unsampled",
];

pub fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    match args {
        [door, endpoint] => measure(door, endpoint),
        [] => compare(3),
        [rounds] => compare(rounds.parse()?),
        _ => Err("doors [ROUNDS]".into()),
    }
}

fn compare(rounds: usize) -> Result<(), Box<dyn Error>> {
    let receiver = Receiver::start_counting()?;
    println!("| nanoseconds of thread CPU (allocations) | a span | an event | a poll |");
    println!("| --- | --- | --- | --- |");
    let mut all = vec![Vec::new(); DOORS.len()];
    for _ in 0..rounds {
        for (door, results) in DOORS.iter().zip(&mut all) {
            let output = Command::new(std::env::current_exe()?)
                .args([ARGUMENT, door, &receiver.endpoint()])
                .output()?;
            let text = String::from_utf8(output.stdout)?;
            let figures: Vec<f64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
            if figures.len() != 6 {
                return Err(format!("{door}: {text}{}", String::from_utf8_lossy(&output.stderr)).into());
            }
            results.push(figures);
        }
    }
    for (door, results) in DOORS.iter().zip(&all) {
        let median = |index: usize| {
            let mut values: Vec<_> = results.iter().map(|figures| figures[index]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let cell = |index: usize| format!("{:.0} ({:.1})", median(index), median(index + 3));
        println!("| {door} | {} | {} | {} |", cell(0), cell(1), cell(2));
    }
    Ok(())
}

/// A started library, to be kept until the end.
enum Started {
    None,
    Ours(Collector),
    Other(SdkTracerProvider),
}

fn install(subscriber: impl Subscriber + Send + Sync) -> Result<(), Box<dyn Error>> {
    Ok(tracing::subscriber::set_global_default(subscriber)?)
}

fn start(door: &str, endpoint: &str) -> Result<Started, Box<dyn Error>> {
    let registry = Registry::default().with(LevelFilter::INFO);
    let ours = |sampler: Option<Sampler>| {
        Collector::new(Config {
            endpoint: endpoint.to_owned(),
            buffer_capacity: 400_000,
            sampler: sampler.unwrap_or_default(),
            ..Config::default()
        })
    };
    let off = Sampler::from(ParentBased::new(Sampler::AlwaysOff));
    Ok(match door {
        "Registry alone" => {
            install(registry)?;
            Started::None
        }
        "layer" | "layer, all constants" | "layer, location" | "layer, unsampled" => {
            let collector = ours(door.ends_with("unsampled").then_some(off))?;
            let is_full = door.ends_with("constants");
            let has_location = is_full || door.ends_with("location");
            let constants =
                |layer: OtlpLayer| layer.with_location(has_location).with_target(is_full).with_level(is_full);
            install(registry.with(constants(otlp_collector::tracing::layer(&collector))))?;
            Started::Ours(collector)
        }
        "subscriber" | "subscriber, unsampled" => {
            let collector = ours(door.ends_with("unsampled").then_some(off))?;
            install(otlp_collector::tracing::subscriber(&collector).with_max_level(LevelFilter::INFO))?;
            Started::Ours(collector)
        }
        _ => {
            let provider = match door {
                "tracing-opentelemetry, unsampled" => SdkTracerProvider::builder()
                    .with_sampler(opentelemetry_sdk::trace::Sampler::AlwaysOff)
                    .build(),
                _ => crate::peers::sdk::tuned_provider(endpoint),
            };
            let is_lean = !door.ends_with("default");
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("doors"));
            install(
                registry.with(
                    layer
                        .with_location(!is_lean)
                        .with_threads(!is_lean)
                        .with_target(!is_lean)
                        .with_tracked_inactivity(!is_lean)
                        .with_context_activation(!is_lean),
                ),
            )?;
            Started::Other(provider)
        }
    })
}

fn measure(door: &str, endpoint: &str) -> Result<(), Box<dyn Error>> {
    let started = start(door, endpoint)?;
    let address = address();
    let spans = |with_events: bool| {
        for number in 0..TRACES {
            nested(&address, number, with_events);
        }
    };
    let (span, span_allocations) = best(TRACES * 3, || spans(false));
    let (with_events, event_allocations) = best(TRACES * 3, || spans(true));
    let polled = info_span!("polled");
    let (poll, poll_allocations) = best(POLLS, || {
        for _ in 0..POLLS {
            std::hint::black_box(&polled).in_scope(|| std::hint::black_box(()));
        }
    });
    let per_event = 3.0 / EVENTS as f64;
    println!(
        "{span} {} {poll} {span_allocations} {} {poll_allocations}",
        (with_events - span) * per_event,
        (event_allocations - span_allocations) * per_event,
    );
    drop(polled);
    match started {
        Started::None => {}
        Started::Ours(collector) => {
            let ledger = collector.shutdown()?;
            if ledger.refused.total() + ledger.dropped() > 0 {
                return Err(format!("spans were lost: {ledger}").into());
            }
        }
        Started::Other(provider) => provider.shutdown()?,
    }
    Ok(())
}

/// Spans nested three deep, with events in the innermost.
#[inline(never)]
fn nested(address: &str, number: u64, with_events: bool) {
    let _outer = span(address, number).entered();
    let _middle = span(address, number).entered();
    let _inner = span(address, number).entered();
    if with_events {
        for attempt in 0..EVENTS {
            info!(attempt, reason = address, "retried");
        }
    }
}

#[inline(always)]
fn span(address: &str, number: u64) -> tracing::Span {
    info_span!(
        "SELECT shop.articles",
        db.system.name = POSTGRESQL,
        server.address = address,
        db.response.returned_rows = rows(number),
        db.cached = cached(number),
    )
}

/// Returns the nanoseconds of thread CPU and the allocations of one item, in the best burst.
fn best(items: u64, mut burst: impl FnMut()) -> (f64, f64) {
    let (mut nanos, mut allocated) = (f64::MAX, f64::MAX);
    for _ in 0..BURSTS {
        let before = (thread_nanos(), allocations::of_this_thread());
        burst();
        let spent = thread_nanos() - before.0;
        let made = allocations::of_this_thread() - before.1;
        nanos = nanos.min(spent as f64 / items as f64);
        allocated = allocated.min(made as f64 / items as f64);
        // Time to send them.
        std::thread::sleep(Duration::from_millis(4));
    }
    (nanos, allocated)
}

fn thread_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
