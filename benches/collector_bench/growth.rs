//! Cost by what may make it grow: nothing may grow faster than its work.

use std::error::Error;

use crate::report::{Size, median};
use crate::scenario::measure;

/// Cost by one thing that was changed.
pub struct Growth {
    pub title: &'static str,
    pub changed: &'static str,
    /// What each step cost.
    pub steps: Vec<Step>,
}

pub struct Step {
    pub at: u64,
    pub spans_per_s: f64,
    pub cpu_ns_per_span: f64,
    pub bytes_per_span: f64,
}

pub fn run(size: Size) -> Result<Vec<Growth>, Box<dyn Error>> {
    let spans = size.spans / 4;
    // As many bytes in each step.
    let sized = |bytes: u64| vec![spans * 200 / bytes.max(200), bytes];
    let all = vec![
        growth(
            size,
            "Size of a span",
            "bytes",
            "sized",
            sized,
            &[60, 125, 250, 500, 1000, 2000, 4000, 8000],
        )?,
        growth(
            size,
            "Recorders, each in a thread",
            "recorders",
            "flat-out",
            |recorders| vec![spans, recorders],
            &[1, 2, 4, 8, 16, 32, 64],
        )?,
        growth(
            size,
            "Endpoints, each a process that gets all",
            "endpoints",
            "fan-out",
            |endpoints| vec![spans / endpoints, endpoints],
            &[1, 2, 4, 8],
        )?,
        growth(
            size,
            "Spans in a request",
            "spans",
            "batched",
            |batch| vec![spans, batch],
            &[512, 1024, 2048, 4096, 8192, 16384, 32768],
        )?,
    ];
    print!("{}", text(&all));
    Ok(all)
}

fn growth(
    size: Size,
    title: &'static str,
    changed: &'static str,
    measurement: &str,
    numbers: impl Fn(u64) -> Vec<u64>,
    steps: &[u64],
) -> Result<Growth, Box<dyn Error>> {
    eprintln!("growth: {title}");
    let mut found = vec![Vec::new(); steps.len()];
    for _ in 0..size.rounds.min(3) {
        for (step, found) in steps.iter().zip(&mut found) {
            found.push(measure(measurement, &numbers(*step))?);
        }
    }
    let steps = steps.iter().zip(&found).map(|(at, found)| Step {
        at: *at,
        spans_per_s: median(found, "spans_per_s"),
        cpu_ns_per_span: median(found, "cpu_ns_per_span"),
        bytes_per_span: median(found, "bytes_per_span"),
    });
    Ok(Growth {
        title,
        changed,
        steps: steps.collect(),
    })
}

fn text(all: &[Growth]) -> String {
    let mut text = String::new();
    for growth in all {
        text += &format!("\n{}\n", growth.title);
        for step in &growth.steps {
            text += &format!(
                "  {:>6} {:<9} {:8.2} M spans/s  {:6.0} ns of CPU a span  {:6.0} ns a KB\n",
                step.at,
                growth.changed,
                step.spans_per_s / 1e6,
                step.cpu_ns_per_span,
                step.cpu_ns_per_span / step.bytes_per_span * 1e3,
            );
        }
    }
    text
}
