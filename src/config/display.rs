//! `Display` and `Debug` of a configuration, without secrets.

use std::fmt;

use crate::config::destination::Destination;
use crate::config::endpoint::Endpoint;
use crate::config::metrics::MetricsOptions;
use crate::config::options::Config;
use crate::config::redaction::{debug_struct, without_secrets};

/// One line for each option. Values of headers and secrets of URLs are hidden.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.destinations.is_empty() {
            let one = Endpoint {
                url: self.endpoint.clone(),
                options: self.endpoint_options.clone(),
            };
            write_endpoint(f, ["endpoint", "endpoint_options"], &one)?;
        }
        for (index, destination) in self.destinations.iter().enumerate() {
            write_destination(f, index, destination)?;
        }
        for (name, value) in self.fields() {
            match (name, &self.metrics) {
                ("endpoint" | "endpoint_options" | "destinations", _) => {}
                ("metrics", Some(metrics)) => write_metrics(f, metrics)?,
                _ => writeln!(f, "{name} = {value:?}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let redacted = Self {
            endpoint: without_secrets(&self.endpoint),
            ..self.clone()
        };
        debug_struct(f, "Config", redacted.fields())
    }
}

fn write_destination(
    f: &mut fmt::Formatter<'_>,
    index: usize,
    destination: &Destination,
) -> fmt::Result {
    let Destination {
        endpoints,
        selection,
    } = destination;
    writeln!(f, "destinations[{index}].selection = {selection:?}")?;
    for (number, endpoint) in endpoints.iter().enumerate() {
        let name = format!("destinations[{index}].endpoints[{number}]");
        let fields = [format!("{name}.url"), format!("{name}.options")];
        write_endpoint(f, fields.each_ref().map(String::as_str), endpoint)?;
    }
    Ok(())
}

fn write_metrics(f: &mut fmt::Formatter<'_>, metrics: &MetricsOptions) -> fmt::Result {
    let MetricsOptions {
        endpoint,
        interval_ms,
    } = metrics;
    let names = ["metrics.endpoint.url", "metrics.endpoint.options"];
    write_endpoint(f, names, endpoint)?;
    writeln!(f, "metrics.interval_ms = {interval_ms}")
}

fn write_endpoint(
    f: &mut fmt::Formatter<'_>,
    [url_name, options_name]: [&str; 2],
    endpoint: &Endpoint,
) -> fmt::Result {
    let Endpoint { url, options } = endpoint;
    writeln!(f, "{url_name} = {:?}", without_secrets(url))?;
    for (name, value) in options.redacted().fields() {
        writeln!(f, "{options_name}.{name} = {value:?}")?;
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::EndpointOptions;

    #[test]
    fn everything_is_shown_except_secrets() {
        let options = EndpointOptions {
            headers: vec![("api-key".to_string(), "hidden-1".to_string())],
            ..EndpointOptions::default()
        };
        let config = Config {
            endpoint: "http://user:hidden-2@h:1/a?token=hidden-3".to_string(),
            endpoint_options: options.clone(),
            metrics: Some(MetricsOptions::new("http://h")),
            ..Config::default()
        };
        assert!(!format!("{config:?}").contains("hidden"));
        let shown = config.to_string();
        assert!(!shown.contains("hidden"), "{shown}");
        for line in [
            "endpoint = \"http://(not shown)@h:1/a?(not shown)\"\n",
            "\nendpoint_options.headers = [(\"api-key\", \"(not shown)\")]\n",
            "\nendpoint_options.retry_max_ms = 2000\n",
            "\nbatch_size = 4096\n",
            "\nmetrics.endpoint.options.path = \"/v1/metrics\"\n",
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
        let named = Endpoint {
            url: "http://a".to_string(),
            options,
        };
        let group = Destination {
            endpoints: vec![named, Endpoint::new("http://b")],
            ..Destination::default()
        };
        let several = Config {
            destinations: vec![group, Endpoint::new("http://c").into()],
            ..Config::default()
        };
        let shown = several.to_string();
        assert!(
            !shown.contains("hidden") && !shown.contains("localhost"),
            "{shown}"
        );
        for line in [
            "destinations[0].endpoints[0].options.headers = [(\"api-key\"",
            "destinations[0].endpoints[1].url = \"http://b\"",
            "destinations[1].endpoints[0].url = \"http://c\"",
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
    }
}
