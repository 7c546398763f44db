//! Records realistic spans from several pinned threads and accounts for every one of them.
//!
//! `cargo run --release --example simple_collector` needs no other program: it embeds a receiver.
//! `-- --help` lists the options.

mod machine;
mod options;
mod report;
mod workload;

use std::error::Error;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use otlp_collector::collector::PinnedJoinHandle;
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, Overflow};

use options::Options;
use report::{Outcome, Report};
use workload::{Plan, Records};

fn main() -> ExitCode {
    let options = match Options::from_args() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    if options.help {
        println!("{}", options::HELP);
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(report) => {
            println!("{report}");
            if options.json {
                println!("{}", report.json());
            }
            if report.adds_up() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Report, Box<dyn Error>> {
    let receiver = match &options.endpoint {
        Some(_) => None,
        None => Some(Receiver::start_counting()?),
    };
    let rss_before = machine::resident_bytes();
    let collector = Collector::new(config(options, receiver.as_ref()))?;
    introduce(options, &collector, receiver.as_ref());

    let cpu_before = machine::cpu_time();
    let mut records = Records::new();
    for worker in work(options, &collector)? {
        records.add(&worker.join().map_err(|_| "a worker panicked")?);
    }
    let rss_after = machine::resident_bytes();
    let ledger = collector.shutdown()?;
    let cpu_time = machine::cpu_time() - cpu_before;

    Ok(Report::new(Outcome {
        spans: options.spans,
        ledger,
        network: collector.stats().network,
        records,
        received: receiver.map(|receiver| receiver.counts()),
        cpu_time,
        buffer_bytes: collector.buffer_bytes(),
        rss_growth_bytes: rss_after as i64 - rss_before as i64,
    }))
}

fn config(options: &Options, receiver: Option<&Receiver>) -> Config {
    let defaults = Config::from_env();
    Config {
        endpoint: receiver
            .map(Receiver::endpoint)
            .or_else(|| options.endpoint.clone())
            .unwrap_or(defaults.endpoint),
        service_name: "simple_collector".to_string(),
        // At a given rate a full buffer refuses spans, as it would in a service. Without a rate
        // the buffer is always full, so threads wait.
        overflow: match options.rate {
            Some(_) => Overflow::Refuse,
            None => Overflow::Block { timeout_ms: 30_000 },
        },
        network_core: Collector::cores().last().copied(),
        shutdown_timeout_ms: options.shutdown_timeout_ms,
        ..defaults
    }
}

fn introduce(options: &Options, collector: &Collector, receiver: Option<&Receiver>) {
    let target = match receiver {
        Some(receiver) => format!("the embedded receiver at {}", receiver.endpoint()),
        None => options.endpoint.clone().unwrap_or_default(),
    };
    let rate = match options.rate {
        Some(rate) => format!("at {} spans/s", report::grouped(rate)),
        None => "without rate limit".to_string(),
    };
    eprintln!(
        "Sending {} spans from {} threads, {rate}, to {target}",
        report::grouped(options.spans),
        options.threads,
    );
    eprintln!(
        "Cores {:?}; network thread {}; {:.1} MB of buffer; when it is full, {}",
        Collector::cores(),
        match collector.pinning().network_core {
            Some(core) => format!("on core {core}"),
            None => "not pinned".to_string(),
        },
        collector.buffer_bytes() as f64 / 1e6,
        match options.rate {
            Some(_) => "spans are refused",
            None => "threads wait up to 30 s for room",
        },
    );
}

/// Starts the threads, shows progress while they run, and returns them when all have finished.
fn work(
    options: &Options,
    collector: &Collector,
) -> Result<Vec<PinnedJoinHandle<Records>>, Box<dyn Error>> {
    let cores = Collector::cores();
    let start = Arc::new(Barrier::new(options.threads));
    let (finished, progress) = channel::<()>();
    let mut workers = Vec::new();
    for index in 0..options.threads {
        let plan = Plan::share(options, index);
        let start = Arc::clone(&start);
        let finished = finished.clone();
        let name = format!("worker-{index}");
        workers.push(collector.spawn_pinned(
            cores[index % cores.len()],
            name,
            move |recorder| {
                start.wait();
                let records = plan.run(&recorder);
                drop(finished);
                records
            },
        )?);
    }
    drop(finished);

    let began = Instant::now();
    // Frequent at first, since a short run takes less than a second.
    let mut interval = Duration::from_millis(100);
    let mut error_shown = None;
    while progress.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        let elapsed = began.elapsed();
        show_progress(collector, elapsed);
        let error = collector.stats().network.last_error;
        if error.is_some() && error != error_shown {
            eprintln!("\n{}", error.as_deref().unwrap_or_default());
            error_shown = error;
        }
        if elapsed >= Duration::from_secs(1) {
            interval = Duration::from_secs(1);
        }
    }
    Ok(workers)
}

fn show_progress(collector: &Collector, elapsed: Duration) {
    let ledger = collector.ledger();
    let line = format!(
        "{:6.1} s  accepted {:>13}  delivered {:>13}  refused {:>9}  waiting {:>9}",
        elapsed.as_secs_f64(),
        report::grouped(ledger.accepted),
        report::grouped(ledger.delivered()),
        report::grouped(ledger.refused.total()),
        report::grouped(ledger.pending()),
    );
    let mut out = std::io::stderr();
    // A terminal shows one line that is updated; other outputs get one line per report.
    let end = if out.is_terminal() { "\r" } else { "\n" };
    // Failing to show progress must not fail the run.
    let _ = write!(out, "{line}{end}");
}
