//! Errors about parts that the default build lacks name the feature that adds them.

use otlp_collector::{Collector, Compression, Config, EndpointOptions};

fn main() {
    for (feature, endpoint, compression) in [
        ("tls", "https://localhost:4318", Compression::None),
        ("gzip", "http://localhost:4318", Compression::Gzip),
        ("zstd", "http://localhost:4318", Compression::Zstd),
    ] {
        let error = Collector::new(Config {
            endpoint: endpoint.to_string(),
            endpoint_options: EndpointOptions {
                compression,
                ..EndpointOptions::default()
            },
            ..Config::default()
        })
        .expect_err(feature);
        let name = format!("the feature `{feature}`");
        assert!(error.is_config() && error.to_string().contains(&name), "{error}");
        println!("{error}");
    }
}
