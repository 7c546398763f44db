//! Tables of the documents agree with the code.

use otlp_collector::config::TlsOptions;
use otlp_collector::span::SpanLimits;
use otlp_collector::{Collector, Config, EndpointOptions};

const INSTRUCTIONS: &str = include_str!("../../benches/instructions/baseline");
const README: &str = include_str!("../../README.md");
const BENCHMARKS: &str = include_str!("../../docs/benchmarks.md");
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");
const OBSERVING: &str = include_str!("../../docs/observing.md");

/// Returns the first two cells of each row of the table that starts with this heading.
fn table(document: &'static str, heading: &str) -> Vec<(&'static str, &'static str)> {
    let lines = document.lines();
    let rows: Vec<_> = lines
        .skip_while(|line| !line.starts_with(heading))
        .skip(2)
        .map_while(|line| line.strip_prefix("| `"))
        .map(|row| {
            let (name, rest) = row.split_once("` | ").unwrap();
            let (cell, _) = rest.split_once(" |").unwrap();
            (name, cell)
        })
        .collect();
    assert!(!rows.is_empty(), "no table with the heading {heading:?}");
    rows
}

/// Returns the rows of a table of options in the form of `Debug`.
fn options(heading: &str) -> String {
    let rows = table(CONFIGURATION, heading).into_iter();
    let fields = rows.map(|(field, default)| format!("{field}: {}", default.trim_matches('`')));
    fields.collect::<Vec<_>>().join(", ")
}

/// Returns the fields in the form of `Debug`, without the `inner` ones, which have their own rows.
fn fields(value: &dyn std::fmt::Debug, inner: &[(&dyn std::fmt::Debug, &str)]) -> String {
    let mut fields = format!("{value:?}");
    for (value, name) in inner {
        fields = fields.replace(&format!("{value:?}"), name);
    }
    let (_, fields) = fields.split_once(" { ").unwrap();
    fields.strip_suffix(" }").unwrap().to_string()
}

#[test]
fn the_tables_of_options_have_every_field_with_its_default() {
    let config = Config {
        service_name: "unknown_service:<executable>".to_string(),
        ..Config::default()
    };
    assert_eq!(
        options("| field of `Config`"),
        fields(
            &config,
            &[
                (&SpanLimits::default(), "SpanLimits::default()"),
                (&EndpointOptions::default(), "EndpointOptions::default()"),
            ]
        )
    );
    assert_eq!(
        options("| field of `EndpointOptions`"),
        fields(
            &EndpointOptions::default(),
            &[(&TlsOptions::default(), "TlsOptions::default()")]
        )
    );
}

#[test]
fn the_table_of_metrics_has_every_metric_with_its_description() {
    let collector = Collector::new(Config::default()).unwrap();
    let page = collector.stats().to_prometheus();
    let help = page.lines().filter_map(|line| line.strip_prefix("# HELP "));
    let metrics: Vec<_> = help.map(|line| line.split_once(' ').unwrap()).collect();
    let rows = table(OBSERVING, "| metric |");
    let mut findings = Vec::new();
    for ((name, description), (metric, help)) in rows.iter().zip(&metrics) {
        // Prometheus's name ends with the unit.
        if !metric.starts_with(&name.replace('.', "_")) || description != help {
            findings.push(format!("{metric}: {help}"));
        }
    }
    assert!(
        findings.is_empty(),
        "docs/observing.md differs in:\n{}",
        findings.join("\n")
    );
    assert_eq!(rows.len(), metrics.len());
}

#[test]
fn the_number_of_instructions_is_that_of_the_baseline() {
    let mut kinds = INSTRUCTIONS.lines().filter_map(|line| line.split_once(' '));
    let (_, count) = kinds.find(|(kind, _)| *kind == "record-with").unwrap();
    assert!(
        README.contains(&format!("| {count} | `.ci/instructions` |")),
        "{count}"
    );
    assert!(
        BENCHMARKS.contains(&format!("({count} for the first row")),
        "{count}"
    );
}

#[test]
fn readme_is_short() {
    let lines = README.lines().count();
    assert!(lines <= 160, "README.md has {lines} lines, of 160 at most");
}
