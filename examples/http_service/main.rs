//! A small HTTP service whose handler threads are pinned and traced.
//!
//! ```sh
//! cargo run --release --example http_service               # then: curl -i localhost:8080/orders/7
//! cargo run --release --example http_service -- --load 10  # its own load, with and without tracing
//! ```
//!
//! Each request is a server span with two children: the look-up and the page. Its parent is the
//! caller's `traceparent`, if present. Spans go to an embedded receiver or to `--endpoint`.
//! `-- --help` lists the options.

mod http;
mod latency;
mod load;
mod options;
mod server;
mod shop;

use std::error::Error;
use std::io::{IsTerminal, Read};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Stops, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use otlp_collector::collector::PinnedJoinHandle;
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config};

use latency::Latencies;
use options::Options;
use server::Server;
use shop::Shop;

/// Interval at which latencies are printed while there are requests.
const REPORT_EVERY: Duration = Duration::from_secs(5);

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
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let receiver = match &options.endpoint {
        Some(_) => None,
        None => Some(Receiver::start_counting()?),
    };
    let collector = Collector::new(Config {
        endpoint: match (&receiver, &options.endpoint) {
            (Some(receiver), _) => receiver.endpoint(),
            (None, Some(endpoint)) => endpoint.clone(),
            (None, None) => Config::from_env().endpoint,
        },
        service_name: "http_service".to_string(),
        tail_sampling: options.tail_sampling(),
        ..Config::from_env()
    })?;
    let installed = collector.install()?;
    let listener = TcpListener::bind(("127.0.0.1", options.port))
        .map_err(|error| format!("cannot listen on port {}: {error}", options.port))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;

    let running = Arc::new(AtomicBool::new(true));
    let latencies = Arc::new(Latencies::default());
    let handlers = start_handlers(options, &collector, &listener, &running, &latencies)?;
    println!(
        "Serving http://{address}/orders/7 on {} pinned threads",
        handlers.len()
    );
    if let Some(seconds) = options.load {
        println!(
            "Sending requests for {seconds} s from {} connections",
            load::CONNECTIONS
        );
        load::run(address, Duration::from_secs(seconds))?;
    } else {
        serve(options, &latencies);
    }

    running.store(false, Ordering::Relaxed);
    for handler in handlers {
        handler.join().map_err(|_| "a handler panicked")??;
    }
    println!("{latencies}");
    println!("{}", installed.shutdown()?);
    if let Some(error) = collector.stats().network.last_error {
        println!("Last error: {error}");
    }
    if let Some(receiver) = receiver {
        println!("The receiver got {} spans.", receiver.counts().spans);
    }
    Ok(())
}

/// Starts the handlers: pinned threads that all accept from the same socket.
fn start_handlers(
    options: &Options,
    collector: &Collector,
    listener: &TcpListener,
    running: &Arc<AtomicBool>,
    latencies: &Arc<Latencies>,
) -> Result<Vec<PinnedJoinHandle<std::io::Result<()>>>, Box<dyn Error>> {
    let cores = Collector::cores();
    let storage = collector.register_scope(shop::storage_scope())?;
    let off = Collector::new(Config {
        disabled: true,
        ..Config::default()
    })?;
    (0..options.threads)
        .map(|number| {
            let server = Server::new(
                listener.try_clone()?,
                Shop::new(storage.clone()),
                options.tracing,
                off.clone(),
                latencies.handler(),
            )?;
            let running = Arc::clone(running);
            let core = cores[number % cores.len()];
            let worker = collector.spawn_pinned(core, format!("http-{number}"), move |_| {
                server.run(&running)
            })?;
            Ok(worker)
        })
        .collect()
}

/// Prints latencies until the time is over or Enter is pressed.
fn serve(options: &Options, latencies: &Latencies) {
    let stops = stops_at_enter();
    let end = options
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut requests = 0;
    loop {
        let left = end.map_or(REPORT_EVERY, |end| {
            end.saturating_duration_since(Instant::now())
        });
        match stops.recv_timeout(left.min(REPORT_EVERY)) {
            Ok(()) => return,
            // There is no terminal, so only the end of the time can stop the service.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(left.min(REPORT_EVERY)),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if end.is_some_and(|end| end <= Instant::now()) {
            return;
        }
        if latencies.requests() > requests {
            requests = latencies.requests();
            println!("{latencies}");
        }
    }
}

fn stops_at_enter() -> Stops<()> {
    let (stop, stops) = channel();
    if std::io::stdin().is_terminal() {
        println!("Press Enter to stop.");
        thread::spawn(move || {
            let _ = std::io::stdin().read(&mut [0]);
            let _ = stop.send(());
        });
    }
    stops
}
