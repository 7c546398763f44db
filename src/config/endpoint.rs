//! An endpoint and the options of requests to it.

use std::fmt;

use crate::config::declare::options;
use crate::config::redaction::{debug_struct, without_secrets};
use crate::config::target::Target;
use crate::config::tls::TlsOptions;

pub(crate) const RESPONSE_BYTES_DEFAULT: usize = 4 << 20;

/// Compression of request bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// No compression: bodies are sent as recorders have encoded them.
    #[default]
    None,
    /// gzip at its fastest level. Needs the feature `gzip`.
    Gzip,
    /// Zstandard at its fastest level. Needs the feature `zstd`. Some receivers do not support it.
    Zstd,
}

impl Compression {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// Returns the name of the content coding (RFC 9110, 8.4.1), which is also the feature's.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    pub(super) fn is_compiled_in(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }
}

/// Redirects (307 and 308) that are followed, five in a row at most.
///
/// Configured headers and the client certificate are never sent to another origin (scheme, host and
/// port), and https is never left for http. A redirect that is not followed is final: the spans are
/// rejected. A permanent one (308) is remembered for ten minutes after its target has accepted a
/// request, or until the target returns an error or cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Redirects {
    /// None.
    Refuse,
    /// Redirects within the endpoint's own origin: a receiver cannot direct requests of this process to
    /// other servers.
    #[default]
    SameOrigin,
    /// All except from https to http. From http to https only if [`EndpointOptions::tls`] is set.
    Follow,
}

impl Redirects {
    /// Returns whether a request to the target can use TLS, perhaps after a redirect.
    pub(super) fn can_secure(self, target: &Target) -> bool {
        target.is_https || self == Self::Follow
    }

    /// Returns the reason why the redirect of `own` to `target` is not followed; `None` if it is.
    pub(crate) fn objection(self, own: &Target, target: &Target) -> Option<String> {
        match self {
            Self::Refuse => Some("is not followed: redirects is Refuse".to_string()),
            Self::SameOrigin if !target.has_origin_of(own) => Some(format!(
                "leads to another origin, {:?}: use that as the endpoint, or set redirects to Follow",
                target.url
            )),
            Self::SameOrigin | Self::Follow => None,
        }
    }
}

/// A receiver and the options of requests to it. `Debug` hides secrets.
///
/// Write it with struct update syntax, `..Endpoint::new(url)`: a minor release may add fields.
#[derive(Clone, PartialEq)]
pub struct Endpoint {
    /// Base URL, as [`Config::endpoint`](crate::Config::endpoint).
    pub url: String,
    /// Options of requests.
    pub options: EndpointOptions,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, options } = self;
        f.debug_struct("Endpoint")
            .field("url", &without_secrets(url))
            .field("options", options)
            .finish()
    }
}

impl Endpoint {
    /// Creates an endpoint with the default options.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            options: EndpointOptions::default(),
        }
    }
}

options! {
    /// Options of requests to an endpoint.
    ///
    /// Write them with struct update syntax; a minor release may add fields:
    ///
    /// ```
    /// use otlp_collector::{Config, EndpointOptions};
    ///
    /// let config = Config {
    ///     endpoint: "http://localhost:4318".to_string(),
    ///     endpoint_options: EndpointOptions {
    ///         headers: vec![("X-Tenant".to_string(), "shop".to_string())],
    ///         request_timeout_ms: 3000,
    ///         ..EndpointOptions::default()
    ///     },
    ///     ..Config::default()
    /// };
    /// # drop(config);
    /// ```
    ///
    /// `Debug` shows the names of headers; it hides their values and other secrets.
    #[derive(Clone, PartialEq)]
    pub struct EndpointOptions {
        /// Path that is appended to the URL's, unless the URL ends with it. Default `/v1/traces`; empty
        /// uses the URL as it is. Characters beyond ASCII are percent-encoded. A fragment is an error.
        pub path: String = "/v1/traces".to_string(),
        /// More headers of each request. Default none. They are sent to the endpoint's own origin only,
        /// not to that of a redirect. A `User-Agent` is placed before this library's own. Headers that
        /// HTTP or OTLP define for the request are set by this library, and are an error here.
        pub headers: Vec<(String, String)> = Vec::new(),
        /// Redirects that are followed. Default [`Redirects::SameOrigin`].
        pub redirects: Redirects = Redirects::SameOrigin,
        /// Compression of request bodies. Default none. Bodies are compressed once for all endpoints
        /// with the same compression of which none lags, on a thread of its own, which runs
        /// on [`network_core`](crate::Config::network_core) if that is set.
        ///
        /// Memory: compressed bodies until they are delivered, besides the buffer; at most 4 MiB are kept
        /// for endpoints that lag.
        ///
        /// A request that is refused because of its compression is sent once more without it: after a
        /// 415; after a 400 whose message names the encoding; and, as long as no compressed request was
        /// accepted, after any 400 that is not about size. If the uncompressed request is accepted,
        /// compression stays off for ten minutes.
        pub compression: Compression = Compression::None,
        /// TLS settings: trusted CAs and this client's certificate. Default: the system's CAs, no client
        /// certificate. Others are an error for an `http` endpoint, unless `redirects` is
        /// [`Follow`](Redirects::Follow); if they are from the environment, they are ignored with a
        /// warning.
        pub tls: TlsOptions = TlsOptions::default(),
        /// HTTP proxy of all connections, such as `http://user:password@proxy.internal:3128`. Default
        /// none; variables such as `HTTP_PROXY` are ignored. The proxy resolves the endpoint's name.
        ///
        /// `https` endpoints are reached through a tunnel (`CONNECT`), in which TLS is as without a
        /// proxy. `http` requests are sent to the proxy; its own responses are treated as the endpoint's,
        /// except 407, which is retried.
        pub proxy: Option<String> = None,
        /// Connections at a time. Default 4, at least 1, at most 64. Another one is opened when enough spans for a
        /// request wait while all connections have been busy for at least 10 ms. Requests on different
        /// connections may overtake each other.
        pub connections_max: usize = 4,
        /// Bytes of the largest request body before compression. Default 1 MiB, at most 64 MiB (OTLP's
        /// limit), at least a slab and the resource. In a small buffer it is lowered, so that a request
        /// takes at most a quarter of the bytes that can be in flight: those are seven eighths of the
        /// buffer, or half of it for several destinations together.
        ///
        /// Receivers have limits of their own; the OpenTelemetry Collector's is 20 MiB. A request is split
        /// after a 413, after a 400 whose message is about size, if it takes too long, and after several
        /// 429 in a row. A limit learned from a 413 or 400 expires after ten minutes.
        pub request_bytes_max: usize = 1024 * 1024,
        /// Bytes of the largest response body. Default 4 MiB (OTLP's limit), at least 1, at most 64 MiB. The rest of a
        /// larger body is not read, and the connection is closed. The status counts as usual; message and
        /// number of rejected spans stay unknown, so all spans of a success count as delivered.
        pub response_bytes_max: usize = RESPONSE_BYTES_DEFAULT,
        /// Milliseconds to establish a connection: name resolution, TCP, proxy and TLS. Default 5,000, at
        /// least 1, at most a day.
        pub connect_timeout_ms: u64 = 5000,
        /// Milliseconds from a request's first byte to the end of its response. Default 10,000, at least
        /// 1, at most a day.
        pub request_timeout_ms: u64 = 10_000,
        /// Milliseconds until an idle connection is closed. Default 45,000, because receivers close theirs
        /// after a minute. At least 1, at most a day.
        pub idle_timeout_ms: u64 = 45_000,
        /// Milliseconds of the first backoff after a failure. Default 100, at least 1, at most
        /// `retry_max_ms`. It doubles with each further failure; the actual wait is random, from 0 to the
        /// backoff.
        pub retry_initial_ms: u64 = 100,
        /// Milliseconds of the longest backoff. Default 2,000, because an attempt is cheap and the buffer
        /// fills in seconds. At least 1, at most a day.
        pub retry_max_ms: u64 = 2000,
        /// Milliseconds from a request's first failure in which it is retried. Default 300,000; 0 drops it
        /// after the first failure. At most a day. Dropped spans are counted in
        /// [`DroppedSpans::retries`](crate::stats::DroppedSpans::retries). Spans that were not sent yet wait as
        /// long as there is room.
        pub retry_budget_ms: u64 = 300_000,
    }
}

impl EndpointOptions {
    /// Returns the options without secrets.
    pub(super) fn redacted(&self) -> Self {
        let hidden = |(name, _): &(String, String)| (name.clone(), "(not shown)".to_string());
        Self {
            path: without_secrets(&self.path),
            headers: self.headers.iter().map(hidden).collect(),
            proxy: self.proxy.as_deref().map(without_secrets),
            ..self.clone()
        }
    }
}

impl fmt::Debug for EndpointOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_struct(f, "EndpointOptions", self.redacted().fields())
    }
}
