//! What the README says of the configuration is what the code does.

use otlp_collector::{Config, SpanLimits};

#[test]
fn the_table_has_every_field_with_its_default() {
    let readme = include_str!("../README.md");
    let table: Vec<String> = (readme.lines())
        .skip_while(|line| !line.starts_with("| field of `Config`"))
        .skip(2)
        .map_while(|line| line.strip_prefix("| `"))
        .map(|row| {
            let (field, rest) = row.split_once("` | `").unwrap();
            let (default, _) = rest.split_once("` | ").unwrap();
            format!("{field}: {default}")
        })
        .collect();

    let config = Config {
        service_name: "unknown_service:<executable>".to_string(),
        ..Config::default()
    };
    let fields = format!("{config:?}");
    let limits = format!("{:?}", SpanLimits::default());
    let fields = fields.replace(&limits, "SpanLimits::default()");
    let fields = fields.strip_prefix("Config { ").unwrap();
    let fields = fields.strip_suffix(" }").unwrap();
    assert_eq!(table.join(", "), fields);
}
