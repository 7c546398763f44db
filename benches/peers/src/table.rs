//! The figures, for people and for programs.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::check::Checked;
use crate::machine;
use crate::options::Options;
use crate::peers::{self, Configuration};
use crate::rounds::{Outcome, Results};
use crate::versions;

/// Columns: name in the JSON, head in the table, and decimal places.
const COLUMNS: &[(&str, &str, usize)] = &[
    ("record_p50_ns", "record p50 ns", 0),
    ("record_p99_ns", "p99", 0),
    ("record_p999_ns", "p99.9", 0),
    ("burst_ns_per_record", "ns per record, flat out", 0),
    ("allocations_per_span", "allocations per span", 2),
    ("paced_arrived_percent", "arrived, paced %", 2),
    ("flood_delivered_per_s", "flat out: delivered/s", 0),
    ("flood_arrived_percent", "arrived %", 1),
    ("flood_lost", "lost: offered less received", 0),
    ("flood_lost_worst", "lost, worst round", 0),
    ("flood_lost_by_own_count", "lost, by its own count", 0),
    ("flood_cpu_us_per_received", "CPU µs per received span", 2),
    ("flood_peak_resident_mb", "peak RSS MB", 0),
    ("bytes_per_span", "bytes per span", 0),
    ("attributes", "attributes", 0),
    ("crates", "crates", 0),
    ("clean_build_s", "clean build s", 1),
];

pub struct Table {
    rows: Vec<Row>,
    complaints: Vec<String>,
    /// Date and machine.
    measured: String,
    rounds: usize,
    clock_ns: f64,
    /// Share of their core that the producing threads had.
    core_percent: f64,
}

struct Row {
    library: &'static str,
    version: &'static str,
    way: &'static str,
    figures: Figures,
}

/// By the name of the column: one figure per round, or a single one.
type Figures = HashMap<&'static str, Vec<f64>>;

impl Table {
    pub fn new(
        contestants: &[&'static Configuration],
        checked: &[Checked],
        results: &[Results],
        options: &Options,
    ) -> io::Result<Self> {
        let builds = options.builds.as_deref().map(read_builds).transpose()?;
        let builds = builds.unwrap_or_default();
        let mut rows = Vec::new();
        let mut complaints = Vec::new();
        for ((configuration, checked), results) in contestants.iter().zip(checked).zip(results) {
            let Configuration { library, way, .. } = configuration;
            let mut figures = figures(checked, results);
            if let Some(build) = builds.get(*library) {
                figures.insert("crates", vec![build.crates]);
                figures.insert("clean_build_s", vec![build.seconds]);
            }
            rows.push(Row {
                library,
                version: versions::of(library).unwrap_or_default(),
                way,
                figures,
            });
            if let Some(complaint) = results.complaint() {
                complaints.push(format!("{library}, {way} returned at its end: {complaint}"));
            }
        }
        Ok(Self {
            rows,
            complaints,
            measured: options.measured.clone(),
            rounds: options.rounds,
            clock_ns: machine::clock_ns(),
            core_percent: core_percent(results),
        })
    }

    pub fn json(&self) -> Value {
        let rows: Vec<_> = self.rows.iter().map(Row::json).collect();
        json!({
            "measured": self.measured,
            "rounds": self.rounds,
            "clock_ns": self.clock_ns,
            "core_percent": self.core_percent,
            "rows": rows,
            "complaints": self.complaints,
        })
    }
}

fn figures(checked: &Checked, results: &Results) -> Figures {
    let Results {
        paced,
        bursts,
        floods,
    } = results;
    let mut figures = HashMap::from([
        ("bytes_per_span", vec![checked.bytes_per_span as f64]),
        ("attributes", vec![checked.attributes as f64]),
    ]);
    let mut add = |name, outcomes: &[Outcome], figure: &dyn Fn(&Outcome) -> f64| {
        figures.insert(name, outcomes.iter().map(figure).collect());
    };
    for name in ["record_p50_ns", "record_p99_ns", "record_p999_ns"] {
        add(name, paced, &|outcome| outcome.figure(name));
    }
    add("allocations_per_span", paced, &|outcome| {
        outcome.figure("allocations") / outcome.offered as f64
    });
    add("paced_arrived_percent", paced, &arrived_percent);
    add("burst_ns_per_record", bursts, &|outcome| {
        outcome.figure("producing_ns") / outcome.offered as f64
    });
    add("flood_delivered_per_s", floods, &|outcome| {
        outcome.received as f64 / (outcome.figure("until_finished_ns") / 1e9)
    });
    add("flood_arrived_percent", floods, &arrived_percent);
    add("flood_lost", floods, &lost);
    add("flood_lost_by_own_count", floods, &|outcome| {
        outcome.figure("lost")
    });
    add("flood_cpu_us_per_received", floods, &|outcome| {
        outcome.figure("cpu_ns") / 1e3 / outcome.received as f64
    });
    add("flood_peak_resident_mb", floods, &|outcome| {
        outcome.figure("peak_resident_bytes") / 1e6
    });
    add("receiver_cpu_us_per_received", floods, &|outcome| {
        outcome.receiver_cpu.as_nanos() as f64 / 1e3 / outcome.received as f64
    });
    // A median would hide losses in fewer than half of the rounds.
    let worst = floods.iter().map(lost).reduce(f64::max);
    figures.insert("flood_lost_worst", worst.into_iter().collect());
    figures
}

fn lost(outcome: &Outcome) -> f64 {
    outcome.offered as f64 - outcome.received as f64
}

fn arrived_percent(outcome: &Outcome) -> f64 {
    100.0 * outcome.received as f64 / outcome.offered as f64
}

/// Returns the share of a core that the paced tasks use, which spin and could use all of it.
fn core_percent(results: &[Results]) -> f64 {
    let outcomes = results.iter().flat_map(|results| &results.paced);
    let percents: Vec<_> = outcomes
        .map(|outcome| 100.0 * outcome.figure("producing_cpu_ns") / outcome.figure("producing_ns"))
        .collect();
    median(&percents).unwrap_or(f64::NAN)
}

/// Returns `None` if a figure is missing.
fn median(figures: &[f64]) -> Option<f64> {
    let mut figures = figures.to_vec();
    if figures.is_empty() || figures.iter().any(|figure| !figure.is_finite()) {
        return None;
    }
    figures.sort_by(f64::total_cmp);
    Some((figures[(figures.len() - 1) / 2] + figures[figures.len() / 2]) / 2.0)
}

/// Cost to build a program that uses a library.
struct Build {
    crates: f64,
    seconds: f64,
}

fn read_builds(path: &Path) -> io::Result<HashMap<String, Build>> {
    let mut builds = HashMap::new();
    for line in fs::read_to_string(path)?.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let [library, crates, seconds] = words[..] else {
            return Err(io::Error::other(format!("not a build: {line}")));
        };
        let number = |word: &str| word.parse().map_err(io::Error::other);
        let build = Build {
            crates: number(crates)?,
            seconds: number(seconds)?,
        };
        builds.insert(library.to_string(), build);
    }
    Ok(builds)
}

impl Row {
    fn json(&self) -> Value {
        let mut row = Map::new();
        row.insert("library".to_string(), self.library.into());
        row.insert("version".to_string(), self.version.into());
        row.insert("way".to_string(), self.way.into());
        for (name, _, _) in COLUMNS {
            row.insert((*name).to_string(), json!(self.median(name)));
        }
        row.insert("of_each_round".to_string(), json!(self.figures));
        row.into()
    }

    fn median(&self, name: &str) -> Option<f64> {
        median(self.figures.get(name)?)
    }

    fn cell(&self, name: &str, places: usize) -> String {
        match self.median(name) {
            Some(figure) => grouped(&format!("{figure:.places$}")),
            None => "-".to_string(),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| library | way |")?;
        for (_, head, _) in COLUMNS {
            write!(f, " {head} |")?;
        }
        write!(f, "\n| --- | --- |{}", " ---: |".repeat(COLUMNS.len()))?;
        for row in &self.rows {
            write!(f, "\n| {} {} | {} |", row.library, row.version, row.way)?;
            for (name, _, places) in COLUMNS {
                write!(f, " {} |", row.cell(name, *places))?;
            }
        }
        self.write_notes(f)
    }
}

impl Table {
    fn write_notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "\n\nMedians of {} rounds. Record: 100,000 spans/s for 3 s, each one measured, from its \
             start to its end; {:.0} ns of that are the clock that measures. Meanwhile the \
             producing threads had {:.0} % of their core (median): the rest went to others on the \
             machine. Flat out: a burst of 200,000 for the mean (with a full queue that is the cost \
             of a drop), 2,000,000 for all else; delivered/s is until the library's \
             own end of work. (--quick: a tenth of all.)",
            self.rounds, self.clock_ns, self.core_percent,
        )?;
        for note in peers::NOTES {
            write!(f, "\n\n{note}")?;
        }
        for complaint in &self.complaints {
            write!(f, "\n\n{complaint}")?;
        }
        Ok(())
    }
}

/// Returns a number with the digits before its point in groups of three.
fn grouped(number: &str) -> String {
    let (sign, number) = number.split_at(usize::from(number.starts_with('-')));
    let (whole, places) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{places}")
}
