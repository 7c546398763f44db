//! The picture of README: the cost of a span beside other libraries, from results of `benches/peers/run`.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::page::escaped;
use crate::plot::nanos;
use crate::report::number;

const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/results.json");
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/speed.svg");

/// Readable on light and dark pages, independently of the page that contains the picture.
const STYLE: &str = "
:root { --page: #ffffff; --text: #1c2128; --quiet: #57606a; --grid: #dde1e6; --ours: #1f6fb2; --theirs: #848c96; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1317; --text: #e3e7ec; --quiet: #9aa4af; --grid: #2c343d; --ours: #6cb2f5; --theirs: #8b95a1; }
}
text { fill: var(--text); font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; }
.page { fill: var(--page); }
.quiet { fill: var(--quiet); font-size: 12px; }
.bold { font-weight: 600; }
.middle { text-anchor: middle; }
.end { text-anchor: end; }
.grid { stroke: var(--grid); }
.ours { color: var(--ours); }
.theirs { color: var(--theirs); }
.range { stroke: currentColor; stroke-width: 3; stroke-opacity: .55; }
.mark { fill: currentColor; }
";

const WIDTH: f64 = 880.0;
const TOP: f64 = 66.0;
const ROW: f64 = 21.0;
const GAP: f64 = 9.0;
const WAY_X: f64 = 186.0;
const RECORD_X: f64 = 305.0;
const RECORD_WIDTH: f64 = 300.0;
const CPU_X: f64 = 642.0;
const CPU_WIDTH: f64 = 110.0;
/// The axis of times, from 10 ns to 1 ms.
const POWERS: std::ops::RangeInclusive<i32> = 1..=6;

/// Draws `docs/speed.svg`.
pub fn write() -> Result<(), Box<dyn Error>> {
    fs::write(PICTURE, picture()?)?;
    println!("written: {}", Path::new(PICTURE).canonicalize()?.display());
    Ok(())
}

/// Fails if the picture in `docs` is not the one that the results give.
pub fn check() -> Result<(), Box<dyn Error>> {
    if fs::read_to_string(PICTURE)? != picture()? {
        let command = "cargo bench --bench collector_bench -- picture";
        return Err(format!("docs/speed.svg is out of date; draw it again: {command}").into());
    }
    Ok(())
}

fn picture() -> Result<String, Box<dyn Error>> {
    let results: Value = serde_json::from_slice(&fs::read(RESULTS)?)?;
    let rows = results["rows"].as_array().ok_or("no rows in the results")?;
    let text = |value: &Value| escaped(value.as_str().unwrap_or_default());
    let cpu_max = (rows.iter())
        .map(|row| number(row, "flood_cpu_us_per_received"))
        .fold(0.0, f64::max);
    let mut body = String::new();
    let mut y = TOP + ROW / 2.0;
    let mut library = String::new();
    for row in rows {
        let name = text(&row["library"]);
        if name != library {
            y += if library.is_empty() { 0.0 } else { GAP };
            let version = text(&row["version"]);
            let text_y = y + 4.5;
            let _ = writeln!(
                body,
                "<text x=\"14\" y=\"{text_y:.1}\"><tspan class=\"bold\">{name}</tspan></text>"
            );
            if rows
                .iter()
                .filter(|row| text(&row["library"]) == name)
                .count()
                > 1
            {
                let below = text_y + ROW - 3.0;
                let _ = writeln!(
                    body,
                    "<text class=\"quiet\" x=\"14\" y=\"{below:.1}\">{version}</text>"
                );
            }
            library = name;
        }
        body += &row_marks(row, y, &text(&row["way"]), cpu_max);
        y += ROW;
    }
    let bottom = y - ROW / 2.0 + 4.0;
    let height = bottom + 58.0;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"Time to record a span and CPU time per received \
         span, beside other libraries\">\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n{}{body}{}</svg>\n",
        frame(bottom),
        caption(&text(&results["measured"]), &results, bottom)
    ))
}

/// Heads of the columns, and the axis of times.
fn frame(bottom: f64) -> String {
    let mut frame = format!(
        "<text class=\"bold\" x=\"{RECORD_X}\" y=\"24\">Time to record a span</text>\n\
         <text class=\"quiet\" x=\"{RECORD_X}\" y=\"41\">● p50 to | p99.9, at 100,000 spans/s</text>\n\
         <text class=\"bold\" x=\"{CPU_X}\" y=\"24\">CPU per span received</text>\n\
         <text class=\"quiet\" x=\"{CPU_X}\" y=\"41\">2 M spans, flat out</text>\n\
         <text class=\"bold end\" x=\"{:.0}\" y=\"24\">Lost</text>\n",
        WIDTH - 14.0
    );
    for power in POWERS {
        let time = 10_f64.powi(power);
        let x = record_x(time);
        let _ = writeln!(
            frame,
            "<path class=\"grid\" d=\"M{x:.1} {}V{bottom:.1}\"/>\
             <text class=\"quiet middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            TOP - 6.0,
            bottom + 16.0,
            nanos(time)
        );
    }
    frame
}

fn row_marks(row: &Value, y: f64, way: &str, cpu_max: f64) -> String {
    let whose = match row["library"] == "otlp-collector" {
        true => "ours",
        false => "theirs",
    };
    let (p50, p999) = (number(row, "record_p50_ns"), number(row, "record_p999_ns"));
    let (from, to) = (record_x(p50), record_x(p999));
    let cpu = number(row, "flood_cpu_us_per_received");
    let bar = (cpu / cpu_max * CPU_WIDTH).max(1.5);
    let text_y = y + 4.5;
    format!(
        "<g class=\"{whose}\"><text x=\"{WAY_X}\" y=\"{text_y:.1}\" class=\"quiet\">{way}</text>\
         <path class=\"range\" d=\"M{from:.1} {y:.1}H{to:.1}\"/>\
         <circle class=\"mark\" cx=\"{from:.1}\" cy=\"{y:.1}\" r=\"4.5\"/>\
         <rect class=\"mark\" x=\"{:.1}\" y=\"{:.1}\" width=\"3\" height=\"12\"/>\
         <text class=\"end\" x=\"{:.1}\" y=\"{text_y:.1}\">{}</text>\
         <text x=\"{:.1}\" y=\"{text_y:.1}\">{}</text>\
         <rect class=\"mark\" x=\"{CPU_X}\" y=\"{:.1}\" width=\"{bar:.1}\" height=\"12\" rx=\"1\"/>\
         <text x=\"{:.1}\" y=\"{text_y:.1}\">{}</text>\
         <text class=\"end\" x=\"{:.1}\" y=\"{text_y:.1}\">{:.0} %</text></g>\n",
        to - 1.5,
        y - 6.0,
        from - 9.0,
        nanos(p50),
        to + 8.0,
        nanos(p999),
        y - 6.0,
        CPU_X + bar + 6.0,
        nanos(cpu * 1e3),
        WIDTH - 14.0,
        100.0 - number(row, "flood_arrived_percent"),
    )
}

fn caption(measured: &str, results: &Value, bottom: f64) -> String {
    let rounds = &results["rounds"];
    format!(
        "<text class=\"quiet\" x=\"14\" y=\"{:.1}\">{measured}; medians of {rounds} rounds of \
         benches/peers/run, spans with four attributes over OTLP/HTTP</text>\n",
        bottom + 42.0
    )
}

/// Returns the position of a time in nanoseconds.
fn record_x(time: f64) -> f64 {
    let (first, last) = (f64::from(*POWERS.start()), f64::from(*POWERS.end()));
    let place = (time.log10() - first) / (last - first);
    RECORD_X + place.clamp(0.0, 1.0) * RECORD_WIDTH
}
