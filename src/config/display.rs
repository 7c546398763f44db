//! A configuration for people, without secrets.

use std::fmt::{self, Debug};

use crate::config::{Config, Destination, Endpoint};

/// One line for each field. Values of headers, and what may be a secret in a URL, are not shown.
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
        let (_, others) = fields(self);
        others
            .iter()
            .try_for_each(|(name, value)| writeln!(f, "{name} = {value:?}"))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Config");
        shown.field("endpoint", &without_secrets(&self.endpoint));
        let (endpoints, others) = fields(self);
        for (name, value) in endpoints.into_iter().chain(others) {
            shown.field(name, value);
        }
        shown.finish()
    }
}

type Field<'a> = (&'static str, &'a dyn Debug);

/// All fields but the endpoint's URL: what else is about endpoints, and the others.
fn fields(config: &Config) -> ([Field<'_>; 2], [Field<'_>; 23]) {
    // In full, so that a new field is not forgotten.
    let Config {
        endpoint: _,
        endpoint_options,
        destinations,
        disabled,
        config_file,
        service_name,
        resource_attributes,
        resource_schema_url,
        sampler,
        tail_sampling,
        span_limits,
        id_generator,
        open_spans_max,
        open_span_bytes,
        batch_size,
        batch_timeout_ms,
        buffer_capacity,
        slab_bytes,
        metrics,
        on_notice,
        overflow,
        network_core,
        worker_cores,
        recorders_max,
        shutdown_timeout_ms,
        warnings,
    } = config;
    let endpoints: [Field<'_>; 2] = [
        ("endpoint_options", endpoint_options),
        ("destinations", destinations),
    ];
    let others: [Field<'_>; 23] = [
        ("disabled", disabled),
        ("config_file", config_file),
        ("service_name", service_name),
        ("resource_attributes", resource_attributes),
        ("resource_schema_url", resource_schema_url),
        ("sampler", sampler),
        ("tail_sampling", tail_sampling),
        ("span_limits", span_limits),
        ("id_generator", id_generator),
        ("open_spans_max", open_spans_max),
        ("open_span_bytes", open_span_bytes),
        ("batch_size", batch_size),
        ("batch_timeout_ms", batch_timeout_ms),
        ("buffer_capacity", buffer_capacity),
        ("slab_bytes", slab_bytes),
        ("metrics", metrics),
        ("on_notice", on_notice),
        ("overflow", overflow),
        ("network_core", network_core),
        ("worker_cores", worker_cores),
        ("recorders_max", recorders_max),
        ("shutdown_timeout_ms", shutdown_timeout_ms),
        ("warnings", warnings),
    ];
    (endpoints, others)
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
    // `Debug` of the options hides the values of headers.
    writeln!(f, "{name}.options = {options:?}")
}

/// The URL without user, password and query.
pub(super) fn without_secrets(url: &str) -> String {
    let (url, query) = match url.split_once('?') {
        Some((url, _)) => (url, "?(not shown)"),
        None => (url, ""),
    };
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://(not shown){}{query}", &url[..scheme], &url[at..])
        }
        (_, Some(at)) => format!("(not shown){}{query}", &url[at..]),
        (_, None) => format!("{url}{query}"),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::EndpointOptions;

    #[test]
    fn all_is_shown_but_secrets() {
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
            "headers: [\"api-key\"]",
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
