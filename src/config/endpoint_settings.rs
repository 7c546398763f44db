//! A checked endpoint.

use std::sync::Arc;
use std::time::Duration;

use crate::config::endpoint::{Endpoint, EndpointOptions};
use crate::config::headers::header_lines;
use crate::config::proxy::Proxy;
use crate::config::range::{DAY_MS, in_range};
use crate::config::redaction::without_secrets;
use crate::config::target::Target;
use crate::config::tls::TlsOptions;
#[cfg(feature = "tls")]
use crate::config::tls::TlsSettings;
use crate::error::Error;

const REQUEST_BYTES_LIMIT: usize = 64 << 20;
const RESPONSE_BYTES_LIMIT: usize = 64 << 20;
const CONNECTIONS_LIMIT: usize = 64;

/// A checked [`Endpoint`].
pub(crate) struct EndpointSettings {
    /// The options, checked. An option that needs no conversion is read here. `request_bytes_max` is the
    /// effective value.
    pub(crate) options: EndpointOptions,
    pub(crate) target: Arc<Target>,
    /// Configured headers as complete lines.
    pub(crate) header_lines: String,
    /// Text before this library's own `User-Agent`, with a space at its end.
    pub(crate) user_agent: String,
    /// Texts that a response may quote and that must not be shown, the longest first.
    secrets: Vec<String>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) retry_initial: Duration,
    pub(crate) retry_max: Duration,
    pub(crate) retry_budget: Duration,
}

impl EndpointSettings {
    /// Returns the beginning of a text from outside without the secrets of this endpoint.
    pub(crate) fn without_secrets(&self, text: &str) -> String {
        let searched = &text[..char_boundary(text, SEARCHED_BYTES_MAX)];
        let mut clean = (self.secrets.iter()).fold(searched.to_string(), |text, secret| {
            text.replace(secret, "(not shown)")
        });
        if searched.len() < text.len() {
            // It may end within a secret, whose beginning alone is not recognised.
            let longest = self.secrets.first().map_or(0, String::len);
            let whole = char_boundary(&clean, clean.len().saturating_sub(longest));
            clean.truncate(whole);
        }
        clean
    }

    /// Returns whether TLS is configured.
    pub(crate) fn can_secure(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}

/// Bytes of a text from outside that are searched for secrets; the rest is cut off.
const SEARCHED_BYTES_MAX: usize = 16 * 1024;

/// Returns the last position up to `at` where a character begins or the text ends.
fn char_boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// Returns the values of headers and their words: a server may quote either. Includes the proxy's
/// credentials.
fn secrets(headers: &[(String, String)], proxy: Option<&Proxy>) -> Vec<String> {
    const WORD_MIN: usize = 6;
    let values = headers.iter().map(|(_, value)| value.trim());
    let values = values.chain(proxy.and_then(|proxy| proxy.authorization.as_deref()));
    let texts = values.flat_map(|value| std::iter::once(value).chain(value.split_whitespace()));
    let mut secrets: Vec<_> = (texts.filter(|text| text.len() >= WORD_MIN))
        .map(str::to_string)
        .collect();
    // The longest first: replacing a shorter one could cut it up.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

/// Sizes that limit a request.
pub(super) struct RequestBytes {
    /// One slab with the resource and a scope.
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
            "endpoint {:?} needs TLS; enable the feature `tls` of {}",
            without_secrets(&endpoint.url),
            env!("CARGO_PKG_NAME")
        )));
    }
    if options.tls != TlsOptions::default() && !options.redirects.can_secure(&target) {
        return Err(Error::config(format!(
            "tls options are set, but endpoint {:?} is not https: write https://… or remove them",
            without_secrets(&endpoint.url)
        )));
    }
    if !options.compression.is_compiled_in() {
        let name = options.compression.name();
        return Err(Error::config(format!(
            "compression {name} needs the feature `{name}` of {}; enable it",
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
        options: EndpointOptions {
            request_bytes_max: request_bytes_max(options, sharing, bytes)?,
            ..options.clone()
        },
        target: Arc::new(target),
        header_lines: headers.lines,
        user_agent: headers.user_agent,
        secrets: secrets(&options.headers, proxy.as_ref()),
        #[cfg(feature = "tls")]
        tls: (is_https || options.tls != TlsOptions::default())
            .then(|| TlsSettings::new(&options.tls))
            .transpose()?,
        proxy,
        connect_timeout: Duration::from_millis(options.connect_timeout_ms),
        request_timeout: Duration::from_millis(options.request_timeout_ms),
        idle_timeout: Duration::from_millis(options.idle_timeout_ms),
        retry_initial: Duration::from_millis(options.retry_initial_ms),
        retry_max: Duration::from_millis(options.retry_max_ms),
        retry_budget: Duration::from_millis(options.retry_budget_ms),
    })
}

/// Returns the limit that leaves room in the buffer while requests are in flight, for this endpoint and
/// those that share the buffer.
fn request_bytes_max(
    options: &EndpointOptions,
    sharing: usize,
    bytes: &RequestBytes,
) -> Result<usize, Error> {
    let max = options.request_bytes_max;
    in_range("request_bytes_max", max, 1, REQUEST_BYTES_LIMIT)?;
    if max < bytes.min {
        return Err(Error::config(format!(
            "request_bytes_max is {max}, but one slab with the resource's attributes takes {}; \
             raise request_bytes_max or lower slab_bytes ({})",
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
            "retry_initial_ms is {}, more than retry_max_ms ({}); lower retry_initial_ms \
             or raise retry_max_ms",
            options.retry_initial_ms, options.retry_max_ms
        )));
    }
    Ok(())
}
