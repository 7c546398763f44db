//! `Display` and `Debug` of a configuration, without secrets.

use std::fmt;

use crate::config::destination::Destination;
use crate::config::endpoint::Endpoint;
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
            write_endpoint(f, "endpoint", &one)?;
        }
        for (index, destination) in self.destinations.iter().enumerate() {
            write_destination(f, index, destination)?;
        }
        for (name, value) in self.fields() {
            if !matches!(name, "endpoint" | "endpoint_options" | "destinations") {
                writeln!(f, "{name} = {value:?}")?;
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
        write_endpoint(f, &name, endpoint)?;
    }
    Ok(())
}

fn write_endpoint(f: &mut fmt::Formatter<'_>, name: &str, endpoint: &Endpoint) -> fmt::Result {
    let Endpoint { url, options } = endpoint;
    writeln!(f, "{name} = {:?}", without_secrets(url))?;
    // `Debug` of the options hides secrets.
    writeln!(f, "{name}.options = {options:?}")
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
            ..Config::default()
        };
        assert!(!format!("{config:?}").contains("hidden"));
        let shown = config.to_string();
        assert!(!shown.contains("hidden"), "{shown}");
        for line in [
            "endpoint = \"http://(not shown)@h:1/a?(not shown)\"\n",
            "headers: [(\"api-key\", \"(not shown)\")]",
            "\nbatch_size = 4096\n",
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
            "destinations[0].endpoints[1] = \"http://b\"",
            "destinations[1].endpoints[0] = \"http://c\"",
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
    }
}
