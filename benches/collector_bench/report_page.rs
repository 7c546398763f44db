//! The report as the content of a page.

use serde_json::Value;

use crate::hdr::Distribution;
use crate::page::{distributions, escaped, hgrm_file};
use crate::plot::{Axis, Plot, Series, Shape, highest, lowest, nanos};
use crate::report::{Report, distribution, median, number};

pub fn content(report: &Report) -> String {
    [
        tiles(report),
        throughput(report),
        record(report),
        delivery(report),
        downloads(report),
    ]
    .concat()
}

// ---- The figures at the top ----

fn tiles(report: &Report) -> String {
    let healthy = &report.record[0].1;
    let (record, baseline) = (
        distribution(&healthy["record_ns"]),
        distribution(&healthy["jitter_ns"]),
    );
    let paced_cpu = number(&report.paced, "cpu_ns_per_span");
    let megabytes = |name| number(&report.memory, name) / 1e6;
    let verdict = if report.closes() {
        "<p>Every count closes: the receiver counted each accepted span.</p>"
    } else {
        "<p class=\"wrong\">A count does not close.</p>"
    };
    let tiles = [
        tile(
            &format!(
                "{:.1} M spans/s",
                median(&report.flat_out, "spans_per_s") / 1e6
            ),
            "delivered flat out by one recorder",
        ),
        tile(
            &format!("{} to record", nanos(record.at(0.5))),
            &format!(
                "median, clock included (the loop alone: {}); 99.9 %: {} ({})",
                nanos(baseline.at(0.5)),
                nanos(record.at(0.999)),
                nanos(baseline.at(0.999)),
            ),
        ),
        tile(
            &format!(
                "{:.0} ns of CPU",
                median(&report.flat_out, "cpu_ns_per_span")
            ),
            &format!(
                "per delivered span flat out, whole process; {paced_cpu:.0} ns at a million spans/s"
            ),
        ),
        tile(
            &format!("{:.1} MB", megabytes("growth_bytes")),
            &format!(
                "for 100,000 spans held; {:.1} MB after a million more were refused",
                megabytes("growth_after_bytes")
            ),
        ),
    ];
    format!(
        "<div class=\"tiles\">\n{}</div>\n{verdict}\n",
        tiles.concat()
    )
}

fn tile(figure: &str, text: &str) -> String {
    format!("<div class=\"tile\"><b>{figure}</b><span>{text}</span></div>\n")
}

fn section(title: &str, text: &str, content: &str) -> String {
    format!("<h2>{title}</h2>\n<p class=\"quiet\">{text}</p>\n{content}")
}

// ---- Throughput ----

fn throughput(report: &Report) -> String {
    let cases = [
        ("bare write loop", "baseline", &report.bare_loop),
        ("one recorder", "flat-out", &report.flat_out),
        ("64 recorders", "flat-out", &report.many_recorders),
        (
            "<code>collect</code>, 2 threads",
            "flat-out",
            &report.few_threads,
        ),
        (
            "<code>collect</code>, 1,000 threads",
            "flat-out",
            &report.many_threads,
        ),
    ];
    let all = cases
        .iter()
        .flat_map(|case| rates(case.2))
        .collect::<Vec<_>>();
    let bare_loop = median(&report.bare_loop, "spans_per_s");
    let rows = cases.map(|(name, colour, rounds)| {
        let cpu = median(rounds, "cpu_ns_per_span");
        let share = median(rounds, "spans_per_s") / bare_loop;
        format!(
            "<tr><th>{name}</th>{}<td>{share:.2}</td><td>{cpu:.0}</td></tr>\n",
            bar(&rates(rounds), highest(&all), colour)
        )
    });
    let table = format!(
        "<table class=\"throughput\"><thead><tr><th></th><th></th><th>M spans/s</th>\
         <th>of the loop</th><th>CPU, ns</th></tr></thead>\n<tbody>{}</tbody></table>\n",
        rows.concat()
    );
    let bytes = median(&report.flat_out, "bytes_per_span");
    let text = format!(
        "Medians of {} rounds in turn; the thin line in a bar is the range of the rounds. Spans of \
         {bytes:.0} bytes, from <code>collect</code> smaller ones, to a receiver in another process on \
         the same cores. The bare loop writes the same bytes and does nothing else.",
        report.flat_out.len()
    );
    let content = format!("<div class=\"beside\">{table}{}</div>\n", over_time(report));
    section("Throughput, flat out", &text, &content)
}

/// Millions of spans a second, of each round.
fn rates(rounds: &[Value]) -> Vec<f64> {
    let rates = rounds.iter().map(|round| number(round, "spans_per_s"));
    rates.map(|rate| rate / 1e6).collect()
}

/// Returns the cells of a median and of its bar with the range of the rounds.
fn bar(rates: &[f64], max: f64, colour: &str) -> String {
    let percent = |rate: f64| 100.0 * rate / max;
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted[sorted.len() / 2];
    let (low, high) = (percent(lowest(rates)), percent(highest(rates)));
    format!(
        "<td class=\"bar\"><div><i class=\"{colour}\" style=\"width:{:.1}%\"></i>\
         <u style=\"left:{low:.1}%;width:{:.1}%\"></u></div></td><td>{middle:.1}</td>",
        percent(middle),
        high - low
    )
}

/// Draws delivered spans over time: the range of the rounds, and their median.
fn over_time(report: &Report) -> String {
    let rounds: Vec<_> = (report.flat_out.iter())
        .map(|found| speed(&found["timeline"]))
        .collect();
    let (mut range, mut middle) = (Vec::new(), Vec::new());
    for at in grid(&rounds) {
        let mut rates: Vec<_> = rounds
            .iter()
            .filter_map(|round| value_at(round, at))
            .collect();
        // Rounds end at different times; later values do not represent all of them.
        if rates.len() * 2 <= rounds.len() {
            break;
        }
        rates.sort_by(f64::total_cmp);
        range.push((at, rates[0], rates[rates.len() - 1]));
        middle.push((at, rates[rates.len() / 2]));
    }
    let last = middle.last().map_or(0.1, |point| point.0);
    let max = range.iter().map(|point| point.2).fold(0.1, f64::max);
    let plot = Plot {
        title: "One recorder, delivered over time".into(),
        series: vec![
            Series {
                name: "range of the rounds".into(),
                colour: "flat-out",
                shape: Shape::Band(range),
            },
            Series::line("median", "flat-out", middle),
        ],
        x: Axis::linear("seconds", last),
        y: Axis::linear("million spans/s", max),
    };
    plot.figure("")
}

/// Points of time, evenly over the longest round.
fn grid(rounds: &[Vec<(f64, f64)>]) -> impl Iterator<Item = f64> {
    const POINTS: u32 = 120;
    let ends = rounds.iter().filter_map(|round| round.last());
    let end = ends.map(|point| point.0).fold(0.0, f64::max);
    (0..=POINTS).map(move |point| end * f64::from(point) / f64::from(POINTS))
}

/// Millions of spans a second, each over some fortieth of a second.
fn speed(timeline: &Value) -> Vec<(f64, f64)> {
    const STEPS: usize = 5;
    let timeline: Vec<_> = (timeline.as_array().into_iter().flatten())
        .map(|point| {
            let at = |index: usize| point[index].as_f64().unwrap_or(0.0);
            (at(0), at(1))
        })
        .collect();
    let windows = timeline.windows(STEPS + 1);
    windows
        .map(|window| {
            let ((began, before), (ended, after)) = (window[0], window[STEPS]);
            (
                (began + ended) / 2.0,
                (after - before) / (ended - began) / 1e6,
            )
        })
        .collect()
}

/// Interpolates between two points; the first one also counts for all before.
fn value_at(points: &[(f64, f64)], at: f64) -> Option<f64> {
    let after = points.iter().position(|point| point.0 >= at)?;
    let Some(before) = after.checked_sub(1) else {
        return Some(points[after].1);
    };
    let ((x0, y0), (x1, y1)) = (points[before], points[after]);
    Some(y0 + (y1 - y0) * (at - x0) / (x1 - x0))
}

// ---- Latency ----

fn record(report: &Report) -> String {
    let series: Vec<_> = (report.record.iter())
        .map(|(_, found)| {
            [
                percentile_line("record", "record", &distribution(&found["record_ns"]), 1.0),
                percentile_line(
                    "the same loop without a span",
                    "baseline",
                    &distribution(&found["jitter_ns"]),
                    1.0,
                ),
            ]
        })
        .collect();
    let values: Vec<_> = series.iter().flatten().flat_map(Series::values).collect();
    let y = Axis::log_nanos("time", &values);
    let figures = report
        .record
        .iter()
        .zip(series)
        .map(|((endpoint, found), series)| {
            let plot = Plot {
                title: format!("Endpoint {endpoint}"),
                series: series.into(),
                x: Axis::percentiles(1e6),
                y: y.clone(),
            };
            let counts = format!(
                "<p class=\"quiet\">{} spans accepted, {} refused</p>",
                thousands(&found["accepted"]),
                thousands(&found["refused"])
            );
            plot.figure(&(record_table(found) + &counts))
        });
    section(
        "Time to record, by the state of the endpoint",
        "200,000 spans a second, each measured from its intended start, with one clock read. Slices of \
         the same loop without a span alternate with it: the dashed line is the machine's own noise.",
        &format!(
            "<div class=\"figures\">{}</div>\n",
            figures.collect::<String>()
        ),
    )
}

fn record_table(found: &Value) -> String {
    let row = |name: &str, colour: &str, field: &str| {
        let found = distribution(&found[field]);
        let cells: String = [0.5, 0.99, 0.999, 0.9999, 1.0]
            .map(|quantile| format!("<td>{}</td>", nanos(found.at(quantile))))
            .concat();
        format!("<tr class=\"{colour}\"><th>{name}</th>{cells}</tr>\n")
    };
    format!(
        "<table><thead><tr><th></th><th>p50</th><th>p99</th><th>p99.9</th><th>p99.99</th><th>max</th>\
         </tr></thead>\n<tbody>{}{}</tbody></table>\n",
        row("record", "record", "record_ns"),
        row("without", "baseline", "jitter_ns"),
    )
}

fn delivery(report: &Report) -> String {
    let mut series = vec![percentile_line(
        "a million spans/s, batch timeout 2 ms",
        "paced",
        &distribution(&report.paced["delivery_ms"]),
        1e6,
    )];
    if let Some(first) = report.flat_out.first() {
        let found = distribution(&first["delivery_ms"]);
        series.push(percentile_line(
            "flat out, first round",
            "flat-out",
            &found,
            1e6,
        ));
    }
    let values: Vec<_> = series.iter().flat_map(Series::values).collect();
    let beyond = series.iter().map(last_x).fold(10.0, f64::max);
    let plot = Plot {
        title: "From a span's end to its acknowledgement".into(),
        series,
        x: Axis::percentiles(beyond),
        y: Axis::log_nanos("time", &values),
    };
    let counts = format!(
        "<p class=\"quiet\">At a million spans/s: {} delivered, {} refused</p>",
        thousands(&report.paced["delivered"]),
        thousands(&report.paced["refused"])
    );
    section(
        "Time to delivery",
        "Of one batch per request. At a steady rate it counts from the intended end of the span.",
        &format!("<div class=\"alone\">{}</div>\n", plot.figure(&counts)),
    )
}

/// Values times `unit`, by 1 / (1 - quantile).
fn percentile_line(
    name: &str,
    colour: &'static str,
    distribution: &Distribution,
    unit: f64,
) -> Series {
    let rows = distribution.rows().iter().filter(|row| row.quantile < 1.0);
    let points = rows.map(|row| (1.0 / (1.0 - row.quantile), row.value * unit));
    Series::line(name, colour, points.collect())
}

fn last_x(series: &Series) -> f64 {
    match &series.shape {
        Shape::Line(points) => points.last().map_or(0.0, |point| point.0),
        Shape::Band(points) => points.last().map_or(0.0, |point| point.0),
    }
}

/// Returns a count with its digits in groups of three.
fn thousands(count: &Value) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

// ---- Other forms ----

fn downloads(report: &Report) -> String {
    let links = distributions(report).into_iter().map(|(name, _)| {
        let file = hgrm_file(&name);
        format!("<li><a href=\"{file}\">{}</a></li>\n", escaped(&name))
    });
    format!(
        "<details><summary>The same as text</summary><pre>{}</pre></details>\n\
         <details><summary>The distributions as files for the HDR plotters</summary>\
         <ul>\n{}</ul></details>\n",
        escaped(&report.text()),
        links.collect::<String>()
    )
}
