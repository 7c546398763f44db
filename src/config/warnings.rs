//! Warnings about values that are valid and probably not meant.

use crate::config::endpoint::Endpoint;
use crate::config::options::Config;
use crate::config::redaction::without_secrets;
use crate::config::settings::destinations;
use crate::config::target::Target;

const GRPC_PORT: u16 = 4317;

impl Config {
    /// Returns the environment's warnings, and those about the values together.
    pub(crate) fn all_warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        if self.disabled {
            return warnings;
        }
        warnings.extend(warn_needless_tls(self));
        warnings.extend(warn_other_endpoint(self));
        let destinations = destinations(self);
        let endpoints = destinations.iter().flat_map(|d| &d.endpoints);
        warnings.extend(endpoints.filter_map(|endpoint| warn_port(self, endpoint)));
        for (index, destination) in destinations.iter().enumerate() {
            let before = destinations[..index].iter().flat_map(|d| &d.endpoints);
            let mut same = (destination.endpoints.iter())
                .filter(|endpoint| before.clone().any(|other| is_same(endpoint, other)));
            warnings.extend(same.next().map(|endpoint| {
                format!(
                    "endpoint {:?} is in more than one destination, so it gets each span more than \
                     once; remove one of them, or put endpoints that replace each other into one \
                     destination",
                    without_secrets(&endpoint.url)
                )
            }));
        }
        warnings
    }
}

fn target(endpoint: &Endpoint) -> Option<Target> {
    Target::parse(&endpoint.url, &endpoint.options.path).ok()
}

/// Returns whether both are the same receiver for the same tenant.
fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    let is_same_target = target(one).is_some_and(|one| Some(one) == target(other));
    is_same_target && one.options.headers == other.options.headers
}

fn warn_needless_tls(config: &Config) -> Option<String> {
    let names = config.needless_tls()?;
    Some(format!(
        "{} is ignored: endpoint {:?} is not https; write https://…, or unset the variable",
        names.join(", "),
        without_secrets(&config.endpoint)
    ))
}

fn warn_other_endpoint(config: &Config) -> Option<String> {
    let parts = config.options_of_another_endpoint();
    let (name, _) = config.variables.endpoint.as_ref()?;
    (!parts.is_empty()).then(|| {
        format!(
            "endpoint {:?} replaces that of {name}, but its requests still have {}; set \
             endpoint_options in code too",
            without_secrets(&config.endpoint),
            parts.join(" and ")
        )
    })
}

fn warn_port(config: &Config, endpoint: &Endpoint) -> Option<String> {
    let target = target(endpoint)?;
    (target.port == GRPC_PORT).then(|| {
        let source = config.source_of_endpoint();
        format!(
            "{} {:?} has port {GRPC_PORT}, which is usually for gRPC; the port of OTLP/HTTP is 4318",
            source.unwrap_or("endpoint"),
            without_secrets(&endpoint.url)
        )
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::{EndpointOptions, Redirects, Settings, TlsOptions};

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:1");
    const TRACES: (&str, &str) = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h:1/in");
    const HEADERS: (&str, &str) = ("OTEL_EXPORTER_OTLP_HEADERS", "key=hidden");
    const CA: (&str, &str) = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/ca.pem");

    fn from(variables: &[(&str, &str)]) -> Config {
        Config::from_lookup(|name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| value.to_string())
        })
    }

    /// Asserts that the configuration has one warning, with these texts.
    fn assert_warns(config: &Config, texts: &[&str]) {
        let warnings = config.all_warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        for text in texts {
            assert!(warnings[0].contains(text), "{text}: {warnings:?}");
        }
        assert!(!warnings[0].contains("hidden"));
    }

    #[test]
    fn headers_for_another_endpoint_are_a_warning() {
        let elsewhere = |variables: &[_]| Config {
            endpoint: "http://elsewhere:1".to_string(),
            ..from(variables)
        };
        let config = elsewhere(&[ENDPOINT, HEADERS]);
        assert_warns(&config, &["http://elsewhere:1", ENDPOINT.0, HEADERS.0]);
        assert!(!format!("{config:?}").contains("hidden"));
        assert_warns(&elsewhere(&[TRACES]), &["the path of", TRACES.0]);
        let with_options = Config {
            endpoint_options: EndpointOptions::default(),
            ..config
        };
        for silent in [
            with_options,
            elsewhere(&[HEADERS]),
            elsewhere(&[ENDPOINT]),
            from(&[ENDPOINT, HEADERS]),
            from(&[TRACES, HEADERS]),
        ] {
            assert_eq!(silent.all_warnings(), [""; 0]);
        }
    }

    #[test]
    fn tls_of_the_environment_for_an_http_endpoint_is_a_warning_and_in_code_an_error() {
        let config = from(&[ENDPOINT, CA]);
        assert_warns(&config, &[CA.0, "http://h:1/v1/traces", "write https"]);
        assert!(Settings::new(&config).is_ok());
        let in_code = |redirects| Config {
            endpoint_options: EndpointOptions {
                tls: TlsOptions {
                    server_name: Some("h".to_string()),
                    ..TlsOptions::default()
                },
                redirects,
                ..EndpointOptions::default()
            },
            ..Config::default()
        };
        let error = Settings::new(&in_code(Redirects::SameOrigin)).err();
        assert_eq!(
            error.unwrap().to_string(),
            "tls options are set, but endpoint \"http://localhost:4318\" is not https: write \
             https://… or remove them"
        );
        assert!(Settings::new(&in_code(Redirects::Follow)).is_ok());
    }

    #[test]
    fn the_port_of_grpc_is_a_warning_wherever_it_is_from() {
        let in_code = Config {
            endpoint: "http://h:4317".to_string(),
            ..Config::default()
        };
        assert_warns(&in_code, &["endpoint \"http://h:4317\"", "gRPC", "4318"]);
        assert_warns(
            &from(&[(ENDPOINT.0, "http://h:4317")]),
            &[ENDPOINT.0, "4318"],
        );
        let disabled = Config {
            disabled: true,
            ..in_code
        };
        assert_eq!(disabled.all_warnings(), [""; 0]);
    }

    #[test]
    fn an_endpoint_in_two_destinations_is_a_warning() {
        let endpoint = Endpoint::new("http://h:1");
        let tenant = Endpoint {
            options: EndpointOptions {
                headers: vec![("tenant".to_string(), "b".to_string())],
                ..EndpointOptions::default()
            },
            ..endpoint.clone()
        };
        let config = |endpoints: [Endpoint; 2]| Config {
            destinations: endpoints.map(Into::into).to_vec(),
            ..Config::default()
        };
        let with_path = Endpoint::new("http://h:1/v1/traces");
        let twice = config([endpoint.clone(), with_path]);
        assert_warns(&twice, &["http://h:1", "more than one destination"]);
        assert_eq!(config([endpoint, tenant]).all_warnings(), [""; 0]);
    }

    #[test]
    fn an_error_names_the_variable_that_the_endpoint_is_from() {
        let config = from(&[(ENDPOINT.0, "localhost:4318")]);
        assert_eq!(
            Settings::new(&config).err().unwrap().to_string(),
            "endpoint \"localhost:4318\" has no scheme; write http://localhost:4318 (endpoint is \
             from OTEL_EXPORTER_OTLP_ENDPOINT)"
        );
    }
}
