//! One measurement in a process of its own.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::machine;
use crate::peers::{self, Configuration, Peer};
use crate::workload::{Measured, Pace, Workload};

/// Argument that makes the program measure one configuration.
pub const ARGUMENT: &str = "--measure";

/// The work of one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    pub pace: Pace,
    pub spans: u64,
}

/// Measures in a new process. Returns the figures that it printed.
pub fn measure(
    configuration: &Configuration,
    task: Task,
    endpoint: &str,
) -> Result<Value, Box<dyn Error>> {
    let interval_ns = match task.pace {
        Pace::Every(interval) => interval.as_nanos(),
        Pace::FlatOut => 0,
    };
    // Libraries log to standard error, which is shown only after a failure.
    let output = Command::new(std::env::current_exe()?)
        .args([ARGUMENT, configuration.library, configuration.way])
        .args([interval_ns.to_string(), task.spans.to_string()])
        .arg(endpoint)
        .output()?;
    if !output.status.success() {
        let log = String::from_utf8_lossy(&output.stderr);
        let Configuration { library, way, .. } = configuration;
        return Err(format!("{library}, {way}: {}\n{log}", output.status).into());
    }
    // The figures are the last line.
    let printed = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(
        printed.lines().next_back().unwrap_or_default(),
    )?)
}

// ---- In that process ----

/// Measures the configuration that the arguments name, and prints the figures.
pub fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [library, way, interval_ns, spans, endpoint] = args else {
        return Err(format!("{ARGUMENT} takes five arguments").into());
    };
    let configuration = peers::ALL
        .iter()
        .find(|known| known.library == library && known.way == way)
        .ok_or("no such configuration")?;
    let pace = match interval_ns.parse()? {
        0 => Pace::FlatOut,
        nanos => Pace::Every(Duration::from_nanos(nanos)),
    };
    let workload = Workload::new(pace, spans.parse()?);
    println!("{}", work(configuration, workload, endpoint)?);
    Ok(())
}

fn work(
    configuration: &Configuration,
    workload: Workload,
    endpoint: &str,
) -> Result<Value, Box<dyn Error>> {
    let peer = (configuration.start)(endpoint);
    let cpu_before = machine::cpu_time();
    let measured = produce(&*peer, workload)?;
    let finished = peer.finish();
    let until_finished = measured.begun.elapsed();
    let cpu = machine::cpu_time() - cpu_before;
    let record_ns = &measured.record_ns;
    Ok(json!({
        "record_p50_ns": record_ns.value_at_quantile(0.5),
        "record_p99_ns": record_ns.value_at_quantile(0.99),
        "record_p999_ns": record_ns.value_at_quantile(0.999),
        "producing_ns": measured.duration.as_nanos() as u64,
        "producing_cpu_ns": measured.cpu.as_nanos() as u64,
        "allocations": measured.allocations,
        "until_finished_ns": until_finished.as_nanos() as u64,
        "cpu_ns": cpu.as_nanos() as u64,
        "peak_resident_bytes": machine::peak_resident_bytes(),
        "lost": finished.lost,
        "complaint": finished.complaint,
    }))
}

/// Makes the spans on a pinned thread.
fn produce(peer: &dyn Peer, mut workload: Workload) -> Result<Measured, Box<dyn Error>> {
    std::thread::scope(|scope| {
        let producer = scope.spawn(move || {
            machine::pin_to_last_core()?;
            peer.produce(&mut workload);
            Ok(workload.measured)
        });
        match producer.join() {
            Ok(result) => result.map_err(|error: std::io::Error| error.into()),
            Err(_) => Err("the producing thread panicked".into()),
        }
    })
}
