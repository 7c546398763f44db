//! The report as one page that needs nothing else, and as files for the HDR plotters.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::growth::Growth;
use crate::hdr::Distribution;
use crate::plot::{Axis, Line, svg};
use crate::report::{Report, Size, distribution};

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; max-width: 940px; margin: 2em auto; padding: 0 1em;
       color: #222; }
pre { background: #f5f5f2; padding: 1em; overflow-x: auto; font-size: 13px; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; }
.grid { stroke: #ddd; }
";

/// Writes what was measured below `target/bench-report`, or apart if it was a trial.
pub fn write(
    report: Option<&Report>,
    growth: Option<&[Growth]>,
    size: Size,
) -> Result<(), Box<dyn Error>> {
    let directory = directory(size);
    fs::create_dir_all(&directory)?;
    if let Some(report) = report {
        let text = format!("<pre>{}</pre>\n", escaped(&report.text()));
        let file = directory.join("report.html");
        write_page(&file, "bench report", &(text + &report_plots(report)))?;
        write_hgrm(report, &directory)?;
    }
    if let Some(growth) = growth {
        let plots: String = growth.iter().map(growth_plots).collect();
        write_page(&directory.join("growth.html"), "growth", &plots)?;
    }
    Ok(())
}

fn write_page(file: &Path, title: &str, content: &str) -> Result<(), Box<dyn Error>> {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <title>otlp-collector: {title}</title><style>{STYLE}</style>\n\
         <h1>otlp-collector: {title}</h1>\n<p>{}</p>\n{content}</html>\n",
        machine()
    );
    fs::write(file, page)?;
    println!("\nwritten: {}", file.display());
    Ok(())
}

/// On what was measured, and when.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |model| model.trim_start_matches([' ', '\t', ':']));
    let cores = otlp_collector::Collector::cores().len();
    escaped(&format!(
        "{}, {cores} cores, {model}",
        date().unwrap_or_default()
    ))
}

fn date() -> Option<String> {
    let output = Command::new("date").args(["-u", "+%F %R UTC"]).output();
    let date = String::from_utf8(output.ok()?.stdout).ok()?;
    Some(date.trim().to_string())
}

fn directory(size: Size) -> PathBuf {
    // Next to where cargo put this program.
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.ancestors().nth(3).map(Path::to_path_buf);
    let name = if size.is_trial() {
        "bench-trial"
    } else {
        "bench-report"
    };
    target.unwrap_or_default().join(name)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn write_hgrm(report: &Report, directory: &Path) -> Result<(), Box<dyn Error>> {
    let write = |name: String, distribution: Distribution| {
        let file = name.replace([' ', '/'], "-") + ".hgrm";
        fs::write(directory.join(file), distribution.hgrm())
    };
    for (endpoint, found) in &report.record {
        write(
            format!("record-ns {endpoint}"),
            distribution(&found["record_ns"]),
        )?;
        write(
            format!("jitter-ns {endpoint}"),
            distribution(&found["jitter_ns"]),
        )?;
    }
    write(
        "delivery-ms paced".into(),
        distribution(&report.paced["delivery_ms"]),
    )?;
    let flat_out = &report.flat_out[0];
    write(
        "delivery-ms flat-out".into(),
        distribution(&flat_out["delivery_ms"]),
    )?;
    Ok(())
}

fn report_plots(report: &Report) -> String {
    let mut record: Vec<_> = (report.record.iter())
        .map(|(endpoint, found)| (format!("endpoint {endpoint}"), &found["record_ns"]))
        .collect();
    record.push((
        "nothing (first run)".into(),
        &report.record[0].1["jitter_ns"],
    ));
    let delivery = [
        (
            "1 M spans/s, timeout 2 ms".to_string(),
            &report.paced["delivery_ms"],
        ),
        (
            "flat out (round 1)".to_string(),
            &report.flat_out[0]["delivery_ms"],
        ),
    ];
    [
        section(
            "Record, by what the endpoint does",
            "200,000 spans a second, each measured from when it was meant to begin, in turn with \
             the same loop without a span: what that shows is the machine's own.",
            &percentile_plot(&record, "ns"),
        ),
        section(
            "From a span's end to its acknowledgement",
            "At a steady rate counted from when the span was meant to end.",
            &percentile_plot(&delivery, "ms"),
        ),
        section(
            "Delivered over time, flat out",
            "Each round from its beginning, as the receiver acknowledged.",
            &throughput_plot(&report.flat_out),
        ),
    ]
    .concat()
}

fn section(title: &str, text: &str, plot: &str) -> String {
    format!("<h2>{title}</h2>\n<p>{text}</p>\n{plot}")
}

/// Latency against the part of all that is not above it, in ever finer steps.
fn percentile_plot(found: &[(String, &Value)], unit: &str) -> String {
    const STEPS: [(f64, &str); 7] = [
        (1.0, "0"),
        (10.0, "90 %"),
        (100.0, "99 %"),
        (1e3, "99.9 %"),
        (1e4, "99.99 %"),
        (1e5, "99.999 %"),
        (1e6, "99.9999 %"),
    ];
    let lines: Vec<_> = (found.iter())
        .map(|(name, found)| Line {
            name: name.clone(),
            points: percentile_points(&distribution(found)),
        })
        .collect();
    let values = || {
        lines
            .iter()
            .flat_map(|line| &line.points)
            .map(|point| point.1)
    };
    let (min, max) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(1.0, f64::max),
    );
    let x = Axis {
        marks: STEPS.map(|(at, text)| (at, text.to_string())).into(),
        ..Axis::log("percentile", 1.0, 1e6)
    };
    svg(&lines, &x, &Axis::log(unit, min.max(1e-3), max))
}

fn percentile_points(distribution: &Distribution) -> Vec<(f64, f64)> {
    (distribution.rows().iter())
        .filter(|row| row.quantile < 1.0)
        .map(|row| (1.0 / (1.0 - row.quantile), row.value))
        .collect()
}

fn throughput_plot(rounds: &[Value]) -> String {
    let lines: Vec<_> = (rounds.iter().enumerate())
        .map(|(round, found)| Line {
            name: format!("round {}", round + 1),
            points: throughput(&found["timeline"]),
        })
        .collect();
    let points = || lines.iter().flat_map(|line| &line.points);
    let (x_max, y_max) = (
        points().map(|point| point.0).fold(0.1, f64::max),
        points().map(|point| point.1).fold(0.1, f64::max),
    );
    svg(
        &lines,
        &Axis::linear("seconds", x_max),
        &Axis::linear("million spans/s", y_max),
    )
}

/// Million spans a second, each from some fortieth of a second.
fn throughput(timeline: &Value) -> Vec<(f64, f64)> {
    const STEPS: usize = 5;
    let timeline: Vec<_> = (timeline.as_array().into_iter().flatten())
        .map(|point| {
            let at = |index: usize| point[index].as_f64().unwrap_or(0.0);
            (at(0), at(1))
        })
        .collect();
    timeline
        .windows(STEPS + 1)
        .map(|window| {
            let ((began, before), (ended, after)) = (window[0], window[STEPS]);
            let rate = (after - before) / (ended - began) / 1e6;
            ((began + ended) / 2.0, rate)
        })
        .collect()
}

fn growth_plots(growth: &Growth) -> String {
    let steps = &growth.steps;
    let line = |name: &str, value: fn(&crate::growth::Step) -> f64| Line {
        name: name.to_string(),
        points: steps
            .iter()
            .map(|step| (step.at as f64, value(step)))
            .collect(),
    };
    let lines = [
        line("ns of CPU a span", |step| step.cpu_ns_per_span),
        line("ns of CPU a KB", |step| {
            step.cpu_ns_per_span / step.bytes_per_span * 1e3
        }),
    ];
    let values = || {
        lines
            .iter()
            .flat_map(|line| &line.points)
            .map(|point| point.1)
    };
    let x = Axis::at(growth.changed, steps.iter().map(|step| step.at));
    let y = Axis::log(
        "ns",
        values().fold(f64::INFINITY, f64::min),
        values().fold(1.0, f64::max),
    );
    section(
        &format!("Growth: {}", growth.title),
        "CPU time of the whole process, the kernel's included, for each span that an endpoint gets.",
        &svg(&lines, &x, &y),
    )
}
