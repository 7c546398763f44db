//! The end-to-end report: its measurements, how often each is made, and its form as text and JSON.

use std::error::Error;

use serde_json::{Value, json};

use crate::hdr::Distribution;
use crate::page;
use crate::scenario::measure;

/// Extent of the measurements.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Rounds of the measurements that are compared with each other.
    pub rounds: usize,
    pub spans: u64,
    pub seconds: u64,
}

impl Size {
    pub const FULL: Self = Self {
        rounds: 5,
        spans: 20_000_000,
        seconds: 10,
    };
    /// Runs everything briefly, without meaningful figures.
    pub const TRIAL: Self = Self {
        rounds: 1,
        spans: 200_000,
        seconds: 1,
    };

    pub fn is_trial(self) -> bool {
        self.rounds == Self::TRIAL.rounds
    }
}

/// The results of all measurements.
pub struct Report {
    /// Date and machine.
    pub measured: String,
    pub flat_out: Vec<Value>,
    pub bare_loop: Vec<Value>,
    pub many_recorders: Vec<Value>,
    pub few_threads: Vec<Value>,
    pub many_threads: Vec<Value>,
    /// The same with a single span each.
    pub threads_alone: Vec<Value>,
    pub paced: Value,
    pub memory: Value,
    /// As OpenTelemetry's performance specification asks, and without spans.
    pub specified: [Value; 2],
    /// By the state of the endpoint.
    pub record: Vec<(String, Value)>,
}

pub fn run(size: Size) -> Result<Report, Box<dyn Error>> {
    let mut report = Report {
        measured: page::measured(),
        flat_out: Vec::new(),
        bare_loop: Vec::new(),
        many_recorders: Vec::new(),
        few_threads: Vec::new(),
        many_threads: Vec::new(),
        threads_alone: Vec::new(),
        paced: Value::Null,
        memory: measure("memory", &[])?,
        specified: [Value::Null, Value::Null],
        record: Vec::new(),
    };
    // In turn, because the other load of the machine changes from minute to minute.
    for round in 0..size.rounds {
        eprintln!("end to end, round {} of {}", round + 1, size.rounds);
        report.bare_loop.push(measure("bare-loop", &[size.spans])?);
        report.flat_out.push(measure("flat-out", &[size.spans, 1])?);
        report
            .many_recorders
            .push(measure("flat-out", &[size.spans, 64])?);
        report.few_threads.push(measure("threads", &[2, 50_000])?);
        report.many_threads.push(measure("threads", &[1000, 100])?);
        report.threads_alone.push(measure("threads", &[1000, 1])?);
    }
    eprintln!("a million spans a second for {} s", size.seconds);
    report.paced = measure("paced", &[size.seconds])?;
    // At least 15 s by the specification.
    let seconds = if size.is_trial() {
        size.seconds
    } else {
        size.seconds.max(20)
    };
    eprintln!("10,000 spans a second for {seconds} s, and none");
    report.specified = [
        measure("specified", &[seconds, 1])?,
        measure("specified", &[seconds, 0])?,
    ];
    for (endpoint, name) in [
        ("healthy", "record-healthy"),
        ("dead", "record-dead"),
        ("refusing", "record-refusing"),
        ("reading 1 KB/s", "record-crawling"),
        ("dead, and the buffer full", "record-full"),
    ] {
        eprintln!(
            "record with an endpoint that is {endpoint}, {} s",
            size.seconds
        );
        report
            .record
            .push((endpoint.to_string(), measure(name, &[size.seconds])?));
    }
    print!("{}", report.text());
    if !report.closes() {
        return Err("a count does not close".into());
    }
    Ok(report)
}

impl Report {
    /// Formats it for people: four summary lines, then the details.
    pub fn text(&self) -> String {
        let verdict = if self.closes() {
            "Every count closes: each accepted span arrived."
        } else {
            "A COUNT DOES NOT CLOSE."
        };
        let mut lines = self.four_lines();
        lines.extend(self.throughput());
        lines.extend(self.specified());
        lines.extend(self.latency());
        lines.extend([String::new(), verdict.to_string(), String::new()]);
        lines.join("\n")
    }

    fn four_lines(&self) -> Vec<String> {
        let flat_out = median(&self.flat_out, "spans_per_s");
        let healthy = distribution(&self.record[0].1["record_ns"]);
        vec![
            String::new(),
            format!("Throughput: {} delivered", rate(flat_out)),
            format!("Latency:    record {} ns", percentiles(&healthy, 0)),
            format!(
                "CPU:        {:.0} ns per delivered span flat out, {:.0} ns at a million spans/s: {:.1} % of a core",
                median(&self.flat_out, "cpu_ns_per_span"),
                number(&self.paced, "cpu_ns_per_span"),
                number(&self.paced, "cpu_ns_per_span") / 10.0,
            ),
            format!(
                "Memory:     {:.1} MB for 100,000 spans held, {:.1} MB after a million more were refused",
                number(&self.memory, "growth_bytes") / 1e6,
                number(&self.memory, "growth_after_bytes") / 1e6,
            ),
            String::new(),
        ]
    }

    fn throughput(&self) -> Vec<String> {
        let bare_loop = median(&self.bare_loop, "spans_per_s");
        let paced = distribution(&self.paced["delivery_ms"]);
        vec![
            format!(
                "Flat out, one recorder, {:.0} bytes a span; medians of {}:",
                median(&self.flat_out, "bytes_per_span"),
                self.flat_out.len()
            ),
            row("a bare write loop", &self.bare_loop, bare_loop),
            row("one recorder", &self.flat_out, bare_loop),
            row("64 recorders", &self.many_recorders, bare_loop),
            "Owned spans through collect():".into(),
            row("2 threads, 50,000 each", &self.few_threads, bare_loop),
            row("1,000 threads, 100 each", &self.many_threads, bare_loop),
            format!(
                "    in {:.0} ms; the threads alone, with a single span each, take {:.0} ms",
                median(&self.many_threads, "seconds") * 1e3,
                median(&self.threads_alone, "seconds") * 1e3,
            ),
            String::new(),
            format!(
                "A million spans/s, batch timeout 2 ms; from a span's end to its acknowledgement, of one batch a request:\n  {} ms; {} delivered, {} refused",
                percentiles(&paced, 2),
                number(&self.paced, "delivered"),
                number(&self.paced, "refused"),
            ),
            String::new(),
        ]
    }

    /// Formats the table of OpenTelemetry's performance specification.
    fn specified(&self) -> Vec<String> {
        let [spans, none] = &self.specified;
        let percent = |found, name| 100.0 * number(found, name);
        vec![
            format!(
                "As OpenTelemetry's performance specification asks: 10,000 spans/s for {:.0} s, ten attributes of 20 + 20 characters",
                number(spans, "seconds")
            ),
            format!("  {:<34} {:>14} {:>14}", "", "10,000 spans/s", "no span"),
            row_of(
                "CPU of a core, average, %",
                percent(spans, "cpu_average"),
                percent(none, "cpu_average"),
                2,
            ),
            row_of(
                "CPU of a core, busiest second, %",
                percent(spans, "cpu_peak"),
                percent(none, "cpu_peak"),
                2,
            ),
            row_of(
                "memory, peak, MB",
                number(spans, "growth_peak_bytes") / 1e6,
                number(none, "growth_peak_bytes") / 1e6,
                1,
            ),
            row_of(
                "spans delivered",
                number(spans, "delivered"),
                number(none, "delivered"),
                0,
            ),
            row_of("spans lost", number(spans, "lost"), number(none, "lost"), 0),
            String::new(),
        ]
    }

    fn latency(&self) -> Vec<String> {
        let mut lines = vec![
            "Record at 200,000 spans/s from the intended start, one clock read included, ns:"
                .into(),
        ];
        for (endpoint, found) in &self.record {
            let (record, jitter) = (
                distribution(&found["record_ns"]),
                distribution(&found["jitter_ns"]),
            );
            lines.push(format!(
                "  endpoint {endpoint}: {} spans accepted, {} refused",
                found["accepted"], found["refused"]
            ));
            lines.push(format!("    record         {}", percentiles(&record, 0)));
            lines.push(format!("    without a span {}", percentiles(&jitter, 0)));
        }
        lines
    }

    pub fn json(&self) -> Value {
        json!({
            "measured": self.measured,
            "flat_out": self.flat_out,
            "bare_loop": self.bare_loop,
            "many_recorders": self.many_recorders,
            "few_threads": self.few_threads,
            "many_threads": self.many_threads,
            "threads_alone": self.threads_alone,
            "paced": self.paced,
            "memory": self.memory,
            "specified": self.specified,
            "record": self.record,
        })
    }

    pub fn from_json(value: &Value) -> Self {
        let rounds = |name: &str| value[name].as_array().cloned().unwrap_or_default();
        let record = rounds("record").into_iter().map(|pair| {
            let endpoint = pair[0].as_str().unwrap_or_default();
            (endpoint.to_string(), pair[1].clone())
        });
        Self {
            measured: value["measured"].as_str().unwrap_or_default().to_string(),
            flat_out: rounds("flat_out"),
            bare_loop: rounds("bare_loop"),
            many_recorders: rounds("many_recorders"),
            few_threads: rounds("few_threads"),
            many_threads: rounds("many_threads"),
            threads_alone: rounds("threads_alone"),
            paced: value["paced"].clone(),
            memory: value["memory"].clone(),
            specified: [0, 1].map(|index: usize| value["specified"][index].clone()),
            record: record.collect(),
        }
    }

    /// Returns whether each accepted span was delivered and counted by the receiver.
    pub fn closes(&self) -> bool {
        let all = [
            &self.flat_out,
            &self.bare_loop,
            &self.many_recorders,
            &self.few_threads,
            &self.many_threads,
            &self.threads_alone,
        ];
        let all = all.into_iter().flatten().chain([&self.paced]);
        let mut all = all.chain(&self.specified);
        all.all(|found| found["closes"] == true)
    }
}

fn row(name: &str, found: &[Value], bare_loop: f64) -> String {
    let spans_per_s = median(found, "spans_per_s");
    format!(
        "  {name:<26} {:>16}   {:.2} of the bare loop   {:5.0} ns of CPU a span",
        rate(spans_per_s),
        spans_per_s / bare_loop,
        median(found, "cpu_ns_per_span"),
    )
}

fn row_of(name: &str, spans: f64, none: f64, digits: usize) -> String {
    format!("  {name:<34} {spans:>14.digits$} {none:>14.digits$}")
}

fn rate(spans_per_s: f64) -> String {
    format!("{:.2} M spans/s", spans_per_s / 1e6)
}

pub fn distribution(found: &Value) -> Distribution {
    Distribution::from_json(found)
}

/// Formats p50, p99, p99.9, p99.99 and the maximum.
pub fn percentiles(distribution: &Distribution, digits: usize) -> String {
    format!(
        "P50 {:.digits$}  P99 {:.digits$}  P99.9 {:.digits$}  P99.99 {:.digits$}  max {:.digits$}",
        distribution.at(0.5),
        distribution.at(0.99),
        distribution.at(0.999),
        distribution.at(0.9999),
        distribution.max(),
    )
}

pub fn number(found: &Value, name: &str) -> f64 {
    found[name].as_f64().unwrap_or(f64::NAN)
}

pub fn median(found: &[Value], name: &str) -> f64 {
    let mut values: Vec<_> = found.iter().map(|found| number(found, name)).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
