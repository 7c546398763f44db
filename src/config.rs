//! Options of a collector: destinations, endpoints, buffer, sampling, TLS, metrics.

mod checks;
mod declare;
mod destination;
mod disabled;
mod display;
mod endpoint;
mod endpoint_settings;
mod env;
mod headers;
mod metrics;
mod options;
mod proxy;
mod range;
mod redaction;
mod resource;
mod settings;
mod sources;
mod target;
mod tls;
mod variables;
mod warnings;

pub use self::destination::{Destination, Selection};
pub(crate) use self::endpoint::RESPONSE_BYTES_DEFAULT;
pub use self::endpoint::{Compression, Endpoint, EndpointOptions, Redirects};
pub(crate) use self::endpoint_settings::EndpointSettings;
pub use self::metrics::MetricsOptions;
pub(crate) use self::metrics::MetricsSettings;
pub use self::options::{Config, Overflow};
pub(crate) use self::proxy::Proxy;
pub(crate) use self::settings::Settings;
pub(crate) use self::target::Target;
pub use self::tls::TlsOptions;
pub use self::variables::Variables;
