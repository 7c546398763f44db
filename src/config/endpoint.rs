//! One endpoint, and how requests are made to it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::declare::options;
use crate::config::headers::header_lines;
use crate::config::proxy::Proxy;
use crate::config::range::{DAY_MS, in_range};
use crate::config::redaction::{debug_struct, without_secrets};
use crate::config::target::Target;
use crate::config::tls::TlsOptions;
#[cfg(feature = "tls")]
use crate::config::tls::TlsSettings;
use crate::error::Error;

/// How bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all: they are sent as the recorders have written them.
    #[default]
    None,
    /// gzip, at its fastest level. Needs the feature `gzip`.
    Gzip,
    /// Zstandard, at its fastest level. Needs the feature `zstd`; not all receivers take it.
    Zstd,
}

impl Compression {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// As a content coding (RFC 9110, 8.4.1), and as a feature.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    fn is_there(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }
}

/// Which redirects (307 and 308) are followed, five in a row at most.
///
/// Wherever a redirect leads, no other origin (scheme, host and port) receives the configured headers
/// or the client certificate, and https never leads to http. A redirect that is not followed is final:
/// its spans are rejected. A permanent one (308) is remembered for ten minutes once its target has
/// accepted a request, or until that returns an error or cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Redirects {
    /// None.
    Refuse,
    /// Those to another path of the endpoint's own origin: a receiver cannot make this process send
    /// requests to other servers.
    #[default]
    SameOrigin,
    /// All except from https to http. From http to https only if [`EndpointOptions::tls`] is set.
    Follow,
}

impl Redirects {
    /// Why the redirect of `own` to `target` is not followed, if it is not.
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

/// A receiver and how requests are made to it. `Debug` does not show what may be a secret.
#[derive(Clone, PartialEq)]
pub struct Endpoint {
    /// Its base URL, as [`Config::endpoint`](crate::Config::endpoint).
    pub url: String,
    /// How requests are made.
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
    /// A receiver with the default options.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            options: EndpointOptions::default(),
        }
    }
}

options! {
    /// How requests are made to an endpoint. Start from [`EndpointOptions::default`]:
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
    /// `Debug` shows the names of headers and not their values, which may be secrets.
    #[derive(Clone, PartialEq)]
    pub struct EndpointOptions {
        /// Path that is appended to that of the URL, unless the URL ends with it. Default `/v1/traces`;
        /// empty to use the URL as it is. Characters beyond ASCII are percent-encoded; a fragment is an
        /// error.
        pub path: String = "/v1/traces".to_string(),
        /// More headers of every request. Default none. Those that HTTP or OTLP need are set by this
        /// library and refused here; a `User-Agent` is put before this library's own. They are not
        /// sent to another host, port or scheme that a redirect may name.
        pub headers: Vec<(String, String)> = Vec::new(),
        /// Which redirects are followed. Default [`Redirects::SameOrigin`].
        pub redirects: Redirects = Redirects::SameOrigin,
        /// How bodies are compressed. Default not at all. It is done once for all endpoints that ask for
        /// the same and keep up with each other, on a thread of its own that runs on
        /// [`network_core`](crate::Config::network_core), if that is set.
        ///
        /// A request refused for its compression is sent once more without it: after a 415, a 400 whose
        /// message names the encoding, or any other 400 except one about size while no compressed request
        /// was accepted before. If the plain one is accepted, compression stays off for ten minutes.
        ///
        /// Memory: bodies that are compressed and not yet delivered, besides the buffer; at most 4 MiB are
        /// kept for other endpoints that are behind.
        pub compression: Compression = Compression::None,
        /// TLS settings: trusted CAs and this client's certificate. Default: the system's CAs, no client
        /// certificate.
        pub tls: TlsOptions = TlsOptions::default(),
        /// The HTTP proxy that all connections are made through, as in
        /// `http://user:password@proxy.internal:3128`. Default none, whatever the environment says.
        /// `https` endpoints are reached by `CONNECT`; they and TLS are the same as without it. It
        /// resolves the endpoint's name. The proxy's own responses to requests for `http` endpoints are
        /// treated as the endpoint's, except 407, which is retried.
        pub proxy: Option<String> = None,
        /// Connections at a time. Default 4, at most 64. A further one is opened only when a request's
        /// worth of spans waits while the others have been busy for 10 ms or more. Requests on several
        /// connections may overtake each other.
        pub connections_max: usize = 4,
        /// Largest body of a request in bytes, before compression. Default 1 MiB, at most 64 MiB
        /// (OTLP's limit). Receivers refuse what they find too large: the OpenTelemetry Collector above
        /// 20 MiB. Requests answered with 413, with a 400 whose message means the same, or too late are
        /// split, and so are those answered with 429 several times in a row. The limit learned from a 413
        /// or 400 is forgotten after ten minutes.
        ///
        /// In a small buffer it is less: a request takes at most a quarter of what can be on the way at a
        /// time, which is seven eighths of the buffer, or half of it for several destinations together.
        pub request_bytes_max: usize = 1024 * 1024,
        /// Largest body of a response in bytes. Default 4 MiB (OTLP's limit), at most 64 MiB. Of a longer
        /// one the rest is not read and the connection is closed. Its status counts as usual, but the
        /// message and the number of rejected spans in it stay unknown, so that all spans of a success
        /// count as delivered.
        pub response_bytes_max: usize = RESPONSE_BYTES_DEFAULT,
        /// Milliseconds to establish a connection: to resolve the name, connect to one of its
        /// addresses, get through the proxy, and agree on TLS. Default 5,000.
        pub connect_timeout_ms: u64 = 5000,
        /// Milliseconds from a request's first byte to the end of its response. Default 10,000.
        pub request_timeout_ms: u64 = 10_000,
        /// Milliseconds after which an unused connection is closed. Default 45,000: receivers close
        /// theirs after a minute.
        pub idle_timeout_ms: u64 = 45_000,
        /// Milliseconds of the first backoff after a failure. Default 100. Each next one is up to twice
        /// as long; the wait is random between nothing and that.
        pub retry_initial_ms: u64 = 100,
        /// Milliseconds of the longest backoff. Default 2,000: trying costs little, and the buffer
        /// fills in seconds.
        pub retry_max_ms: u64 = 2000,
        /// Milliseconds from a request's first failure on in which it is sent again. Default 300,000; 0
        /// gives up after the first failure. Spans given up are counted as dropped by
        /// [`retries`](crate::DroppedSpans::retries). Spans that were never sent wait as long as there is
        /// room, however long that is.
        pub retry_budget_ms: u64 = 300_000,
    }
}

impl fmt::Debug for EndpointOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |(name, _): &(String, String)| (name.clone(), "(not shown)".to_string());
        let redacted = Self {
            path: without_secrets(&self.path),
            headers: self.headers.iter().map(hidden).collect(),
            proxy: self.proxy.as_deref().map(without_secrets),
            ..self.clone()
        };
        debug_struct(f, "EndpointOptions", redacted.fields())
    }
}

const REQUEST_BYTES_LIMIT: usize = 64 << 20;
pub(crate) const RESPONSE_BYTES_DEFAULT: usize = 4 << 20;
const RESPONSE_BYTES_LIMIT: usize = 64 << 20;
const CONNECTIONS_LIMIT: usize = 64;

/// A checked [`Endpoint`].
pub(crate) struct EndpointSettings {
    pub(crate) target: Arc<Target>,
    /// Complete lines of the request's head.
    pub(crate) header_lines: String,
    /// Text before this library's own `User-Agent`, with a space behind it.
    pub(crate) user_agent: String,
    /// Texts that a response may contain and that must not be shown.
    secrets: Vec<String>,
    pub(crate) redirects: Redirects,
    pub(crate) compression: Compression,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) connections_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) response_bytes_max: usize,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) retry_initial: Duration,
    pub(crate) retry_max: Duration,
    pub(crate) retry_budget: Duration,
}

impl EndpointSettings {
    /// The beginning of a text that comes from outside, without the secrets of this endpoint.
    pub(crate) fn without_secrets(&self, text: &str) -> String {
        let looked_at = &text[..char_boundary(text, LOOKED_AT_BYTES_MAX)];
        let mut clean = (self.secrets.iter()).fold(looked_at.to_string(), |text, secret| {
            text.replace(secret, "(not shown)")
        });
        if looked_at.len() < text.len() {
            // It may end within a secret, of which a part is not recognised.
            let longest = self.secrets.first().map_or(0, String::len);
            let whole = char_boundary(&clean, clean.len().saturating_sub(longest));
            clean.truncate(whole);
        }
        clean
    }

    /// Whether it can be asked over TLS.
    pub(crate) fn can_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}

/// Bytes of a text from outside in which secrets are looked for; the rest is left out.
const LOOKED_AT_BYTES_MAX: usize = 16 * 1024;

/// The last place up to `at` where a character begins, or the end of the text.
fn char_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The values of headers, and their words: a server may quote either, and a proxy its own.
fn secrets(headers: &[(String, String)], proxy: Option<&Proxy>) -> Vec<String> {
    const WORD_MIN: usize = 6;
    let values = headers.iter().map(|(_, value)| value.trim());
    let values = values.chain(proxy.and_then(|proxy| proxy.authorization.as_deref()));
    let texts = values.flat_map(|value| std::iter::once(value).chain(value.split_whitespace()));
    let mut secrets: Vec<_> = (texts.filter(|text| text.len() >= WORD_MIN))
        .map(str::to_string)
        .collect();
    // The longest first, so that none is cut up by another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

/// The sizes that a request has to be between.
pub(super) struct RequestBytes {
    /// One slab with the resource's attributes.
    pub(super) min: usize,
    /// The whole buffer.
    pub(super) buffer: usize,
    pub(super) slab: usize,
}

pub(super) fn check(
    endpoint: &Endpoint,
    sharing: usize,
    bytes: &RequestBytes,
) -> Result<EndpointSettings, Error> {
    let options = &endpoint.options;
    let target = Target::parse(&endpoint.url, &options.path)?;
    let is_https = target.is_https;
    if is_https && cfg!(not(feature = "tls")) {
        return Err(Error::config(format!(
            "endpoint {:?} needs TLS: switch on the feature `tls` of {}",
            target.url,
            env!("CARGO_PKG_NAME")
        )));
    }
    if !options.compression.is_there() {
        let name = options.compression.name();
        return Err(Error::config(format!(
            "compression is {name}, which needs the feature `{name}` of {}: switch it on",
            env!("CARGO_PKG_NAME")
        )));
    }
    check_times(options)?;
    in_range(
        "connections_max",
        options.connections_max,
        1,
        CONNECTIONS_LIMIT,
    )?;
    in_range(
        "response_bytes_max",
        options.response_bytes_max,
        1,
        RESPONSE_BYTES_LIMIT,
    )?;
    let headers = header_lines(&options.headers)?;
    let proxy = options.proxy.as_deref().map(Proxy::parse).transpose()?;
    Ok(EndpointSettings {
        target: Arc::new(target),
        header_lines: headers.lines,
        user_agent: headers.user_agent,
        secrets: secrets(&options.headers, proxy.as_ref()),
        redirects: options.redirects,
        compression: options.compression,
        #[cfg(feature = "tls")]
        tls: (is_https || options.tls != TlsOptions::default())
            .then(|| TlsSettings::new(&options.tls))
            .transpose()?,
        proxy,
        connections_max: options.connections_max,
        request_bytes_max: request_bytes_max(options, sharing, bytes)?,
        response_bytes_max: options.response_bytes_max,
        connect_timeout: Duration::from_millis(options.connect_timeout_ms),
        request_timeout: Duration::from_millis(options.request_timeout_ms),
        idle_timeout: Duration::from_millis(options.idle_timeout_ms),
        retry_initial: Duration::from_millis(options.retry_initial_ms),
        retry_max: Duration::from_millis(options.retry_max_ms),
        retry_budget: Duration::from_millis(options.retry_budget_ms),
    })
}

/// Requests on the way must leave room in the buffer, for this endpoint and those it shares it with.
fn request_bytes_max(
    options: &EndpointOptions,
    sharing: usize,
    bytes: &RequestBytes,
) -> Result<usize, Error> {
    let max = options.request_bytes_max;
    in_range("request_bytes_max", max, 1, REQUEST_BYTES_LIMIT)?;
    if max < bytes.min {
        return Err(Error::config(format!(
            "request_bytes_max is {max}, but one slab with the resource's attributes takes {}: \
             raise it or lower slab_bytes ({})",
            bytes.min, bytes.slab
        )));
    }
    let share = bytes.buffer / 2 / sharing;
    Ok(max.min(share).max(bytes.min))
}

fn check_times(options: &EndpointOptions) -> Result<(), Error> {
    for (name, value) in [
        ("connect_timeout_ms", options.connect_timeout_ms),
        ("request_timeout_ms", options.request_timeout_ms),
        ("idle_timeout_ms", options.idle_timeout_ms),
        ("retry_initial_ms", options.retry_initial_ms),
        ("retry_max_ms", options.retry_max_ms),
    ] {
        in_range(name, value, 1, DAY_MS)?;
    }
    in_range("retry_budget_ms", options.retry_budget_ms, 0, DAY_MS)?;
    if options.retry_initial_ms > options.retry_max_ms {
        return Err(Error::config(format!(
            "retry_initial_ms is {}, more than retry_max_ms ({}): lower it or raise retry_max_ms",
            options.retry_initial_ms, options.retry_max_ms
        )));
    }
    Ok(())
}
