//! Cost by sizes and counts. It must not grow faster than the work.

use std::error::Error;

use serde_json::{Value, json};

use crate::page;
use crate::report::{Size, median, number};
use crate::scenario::measure;

/// All sweeps, and when and where they were measured.
pub struct Growth {
    pub measured: String,
    pub sweeps: Vec<Sweep>,
}

/// Cost by one quantity that is changed in steps.
pub struct Sweep {
    pub title: String,
    pub changed: String,
    pub steps: Vec<Step>,
}

/// Cost at one value of that quantity.
pub struct Step {
    pub at: u64,
    pub spans_per_s: f64,
    pub cpu_ns_per_span: f64,
    pub bytes_per_span: f64,
}

pub fn run(size: Size) -> Result<Growth, Box<dyn Error>> {
    let spans = size.spans / 4;
    // The same number of bytes in each step.
    let sized = |bytes: u64| vec![spans * 200 / bytes.max(200), bytes];
    let sweeps = vec![
        sweep(
            size,
            ("Size of a span", "bytes", "sized"),
            sized,
            &[60, 125, 250, 500, 1000, 2000, 4000, 8000],
        )?,
        sweep(
            size,
            ("Recorders, each in a thread", "recorders", "flat-out"),
            |recorders| vec![spans, recorders],
            &[1, 2, 4, 8, 16, 32, 64],
        )?,
        sweep(
            size,
            (
                "Endpoints, each a process that gets all",
                "endpoints",
                "fan-out",
            ),
            |endpoints| vec![spans / endpoints, endpoints],
            &[1, 2, 4, 8],
        )?,
        sweep(
            size,
            ("Spans in a request", "spans", "batched"),
            |batch| vec![spans, batch],
            &[512, 1024, 2048, 4096, 8192, 16384, 32768],
        )?,
    ];
    let measured = page::measured();
    let growth = Growth { measured, sweeps };
    print!("{}", growth.text());
    Ok(growth)
}

/// Measures one sweep: its title, the quantity's name, and the name of the measurement.
fn sweep(
    size: Size,
    (title, changed, measurement): (&str, &str, &str),
    numbers: impl Fn(u64) -> Vec<u64>,
    steps: &[u64],
) -> Result<Sweep, Box<dyn Error>> {
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
    Ok(Sweep {
        title: title.to_string(),
        changed: changed.to_string(),
        steps: steps.collect(),
    })
}

impl Growth {
    fn text(&self) -> String {
        let mut text = String::new();
        for sweep in &self.sweeps {
            text += &format!("\n{}\n", sweep.title);
            for step in &sweep.steps {
                text += &format!(
                    "  {:>6} {:<9} {:8.2} M spans/s  {:6.0} ns of CPU a span  {:6.0} ns a KB\n",
                    step.at,
                    sweep.changed,
                    step.spans_per_s / 1e6,
                    step.cpu_ns_per_span,
                    step.cpu_ns_per_kilobyte(),
                );
            }
        }
        text
    }

    pub fn json(&self) -> Value {
        let sweeps: Vec<_> = self.sweeps.iter().map(Sweep::json).collect();
        json!({ "measured": self.measured, "sweeps": sweeps })
    }

    pub fn from_json(value: &Value) -> Self {
        let sweeps = value["sweeps"].as_array().into_iter().flatten();
        Self {
            measured: value["measured"].as_str().unwrap_or_default().to_string(),
            sweeps: sweeps.map(Sweep::from_json).collect(),
        }
    }
}

impl Sweep {
    fn json(&self) -> Value {
        let steps: Vec<_> = self.steps.iter().map(Step::json).collect();
        json!({ "title": self.title, "changed": self.changed, "steps": steps })
    }

    fn from_json(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_string();
        let steps = value["steps"].as_array().into_iter().flatten();
        Self {
            title: text("title"),
            changed: text("changed"),
            steps: steps.map(Step::from_json).collect(),
        }
    }
}

impl Step {
    pub fn cpu_ns_per_kilobyte(&self) -> f64 {
        self.cpu_ns_per_span / self.bytes_per_span * 1e3
    }

    fn json(&self) -> Value {
        json!({
            "at": self.at,
            "spans_per_s": self.spans_per_s,
            "cpu_ns_per_span": self.cpu_ns_per_span,
            "bytes_per_span": self.bytes_per_span,
        })
    }

    fn from_json(value: &Value) -> Self {
        Self {
            at: value["at"].as_u64().unwrap_or(0),
            spans_per_s: number(value, "spans_per_s"),
            cpu_ns_per_span: number(value, "cpu_ns_per_span"),
            bytes_per_span: number(value, "bytes_per_span"),
        }
    }
}
