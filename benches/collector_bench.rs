//! Cost of spans, from one call to the whole way.
//!
//! ```sh
//! cargo bench --bench collector_bench              # everything
//! cargo bench --bench collector_bench -- record    # the small benches with this name
//! cargo bench --bench collector_bench -- report    # the way to a receiver in another process
//! cargo bench --bench collector_bench -- cold      # spans whose caches other work has taken
//! cargo bench --bench collector_bench -- growth    # its growth with sizes and counts
//! cargo bench --bench collector_bench -- service-time # single calls to the far tail
//! cargo bench --bench collector_bench -- draw      # the pages of both again, from the last results
//! cargo bench --bench collector_bench -- picture   # docs/speed.svg, from benches/peers/results.json
//! ```
//!
//! The report and the growth are also written below `target/bench-report`: as results in JSON, as pages
//! to look at and, of the latencies, as `.hgrm` files for the HDR plotters.

#[path = "collector_bench/cold.rs"]
mod cold;
#[path = "collector_bench/growth.rs"]
mod growth;
#[path = "collector_bench/growth_page.rs"]
mod growth_page;
#[path = "collector_bench/hdr.rs"]
mod hdr;
#[path = "collector_bench/isolation.rs"]
mod isolation;
#[path = "../examples/simple_collector/machine.rs"]
mod machine;
#[path = "collector_bench/page.rs"]
mod page;
#[path = "collector_bench/parts.rs"]
mod parts;
#[path = "collector_bench/picture.rs"]
mod picture;
#[path = "collector_bench/plot.rs"]
mod plot;
#[path = "collector_bench/receiver.rs"]
mod receiver;
#[path = "collector_bench/recording.rs"]
mod recording;
#[path = "collector_bench/report.rs"]
mod report;
#[path = "collector_bench/report_page.rs"]
mod report_page;
#[path = "collector_bench/scenario.rs"]
mod scenario;
#[path = "collector_bench/service_time.rs"]
mod service_time;
#[path = "collector_bench/soak.rs"]
mod soak;
#[path = "collector_bench/workload.rs"]
mod workload;

use std::error::Error;

use criterion::Criterion;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some(receiver::ARGUMENT) => Ok(receiver::run(&args[1..])?),
        Some(scenario::ARGUMENT) => measure(&args[1], &args[2..]),
        Some("isolation") => isolation::run(),
        Some("soak") => soak::run(args.get(1).and_then(|n| n.parse().ok()).unwrap_or(10)),
        Some("service-time") => {
            service_time::run(args.get(1).and_then(|n| n.parse().ok()).unwrap_or(5))
        }
        Some("draw") => page::draw(),
        Some("picture") => picture::write(),
        _ => bench(&args),
    }
}

/// Runs one measurement; its process does nothing else.
fn measure(name: &str, numbers: &[String]) -> Result<(), Box<dyn Error>> {
    let numbers: Vec<u64> = numbers
        .iter()
        .map(|number| number.parse())
        .collect::<Result<_, _>>()?;
    println!("{}", scenario::run(name, &numbers)?);
    Ok(())
}

fn bench(args: &[String]) -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default().configure_from_args();
    recording::benches(&mut criterion);
    parts::benches(&mut criterion);
    criterion.final_summary();

    // Cargo's own `--bench` is not a filter. With `--test` everything runs, shortened.
    let filter = args.iter().find(|arg| !arg.starts_with('-'));
    let size = if args.iter().any(|arg| arg == "--test") {
        report::Size::TRIAL
    } else {
        report::Size::FULL
    };
    if size.is_trial() {
        picture::check()?;
    }
    let wanted = |name: &str| filter.is_none_or(|filter| filter == name);
    if wanted("cold") {
        cold::run(size)?;
    }
    let report = wanted("report").then(|| report::run(size)).transpose()?;
    let growth = wanted("growth").then(|| growth::run(size)).transpose()?;
    page::write(report.as_ref(), growth.as_ref(), size)
}
