//! What the README says of the configuration is what the code does.

use otlp_collector::{Config, EndpointOptions, SpanLimits, TlsOptions};

/// The rows of the table that begins with this heading, as `Debug` would show the fields.
fn table(heading: &str) -> String {
    let readme = include_str!("../../README.md");
    let rows: Vec<String> = (readme.lines())
        .skip_while(|line| !line.starts_with(heading))
        .skip(2)
        .map_while(|line| line.strip_prefix("| `"))
        .map(|row| {
            let (field, rest) = row.split_once("` | `").unwrap();
            let (default, _) = rest.split_once("` | ").unwrap();
            format!("{field}: {default}")
        })
        .collect();
    rows.join(", ")
}

/// The fields of the type, of which inner ones that have a row of their own are left out.
fn fields(value: &dyn std::fmt::Debug, inner: &[(&dyn std::fmt::Debug, &str)]) -> String {
    let mut fields = format!("{value:?}");
    for (value, name) in inner {
        fields = fields.replace(&format!("{value:?}"), name);
    }
    let (_, fields) = fields.split_once(" { ").unwrap();
    fields.strip_suffix(" }").unwrap().to_string()
}

#[test]
fn the_tables_have_every_field_with_its_default() {
    let config = Config {
        service_name: "unknown_service:<executable>".to_string(),
        ..Config::default()
    };
    assert_eq!(
        table("| field of `Config`"),
        fields(
            &config,
            &[
                (&SpanLimits::default(), "SpanLimits::default()"),
                (&EndpointOptions::default(), "EndpointOptions::default()"),
            ]
        )
    );
    assert_eq!(
        table("| field of `EndpointOptions`"),
        fields(
            &EndpointOptions::default(),
            &[(&TlsOptions::default(), "TlsOptions::default()")]
        )
    );
}
