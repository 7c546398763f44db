//! Span contexts in the headers of any protocol.

use crate::span::context::span_context::SpanContext;
use crate::span::context::tracestate::{MEMBERS_MAX, TraceState};

/// The name of the header with trace id, span id and flags.
pub const TRACEPARENT: &str = "traceparent";
/// The name of the header with the trace state.
pub const TRACESTATE: &str = "tracestate";

impl<'a> SpanContext<'a> {
    /// Reads the context of the caller's span from headers. Returns `None` without a valid `traceparent`;
    /// then a new trace starts.
    ///
    /// Accepts `&http::HeaderMap`, `&HashMap` of texts, and arrays or vectors of `(&str, &str)`. Other
    /// collections need a `map`: `pairs.iter().map(|(name, value)| (name, value))` for a
    /// `Vec<(String, String)>`, `headers.iter().map(|header| (header.name, header.value))` for `httparse`.
    ///
    /// Names are compared without regard to case. Two `traceparent` headers are both invalid. Several
    /// `tracestate` headers are joined. An invalid `tracestate` is ignored.
    ///
    /// ```
    /// use otlp_collector::SpanContext;
    ///
    /// let mut headers = http::HeaderMap::new();
    /// let value = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// headers.insert("traceparent", value.parse()?);
    /// let parent = SpanContext::extract(&headers).expect("a valid traceparent");
    /// assert!(parent.is_remote);
    /// # Ok::<(), http::header::InvalidHeaderValue>(())
    /// ```
    #[must_use]
    pub fn extract<N, V>(headers: impl IntoIterator<Item = (N, &'a V)>) -> Option<Self>
    where
        N: AsRef<str>,
        V: AsRef<[u8]> + ?Sized + 'a,
    {
        let mut parent = None;
        let mut states = States::default();
        for (name, value) in headers {
            if name.as_ref().eq_ignore_ascii_case(TRACEPARENT) {
                if parent.replace(value.as_ref()).is_some() {
                    return None;
                }
            } else if name.as_ref().eq_ignore_ascii_case(TRACESTATE) {
                states.push(value.as_ref());
            }
        }
        let mut context = Self::from_traceparent(parent?).ok()?;
        context.trace_state = states.join();
        Some(context)
    }

    /// Calls `set` with the name, in lower case, and the value of each header that carries this context:
    /// `traceparent` and, if there is a trace state, `tracestate`.
    ///
    /// Does not allocate.
    ///
    /// ```
    /// use otlp_collector::{SpanContext, SpanId, TraceId};
    ///
    /// let trace_id: TraceId = "0af7651916cd43dd8448eb211c80319c".parse()?;
    /// let span_id: SpanId = "b7ad6b7169203331".parse()?;
    /// let mut request = String::from("GET / HTTP/1.1\r\n");
    /// SpanContext::new(trace_id, span_id).inject(|name, value| {
    ///     request.push_str(&format!("{name}: {value}\r\n"));
    /// });
    /// assert!(request.contains("traceparent: 00-0af7651916cd43dd"));
    /// # Ok::<(), otlp_collector::span::InvalidId>(())
    /// ```
    pub fn inject(&self, mut set: impl FnMut(&'static str, &str)) {
        set(TRACEPARENT, &self.traceparent());
        if !self.trace_state.is_empty() {
            set(TRACESTATE, self.trace_state.as_str());
        }
    }
}

/// The `tracestate` headers of a request, as many as can be valid together.
#[derive(Default)]
struct States<'a> {
    headers: [&'a str; MEMBERS_MAX],
    len: usize,
    is_invalid: bool,
}

impl<'a> States<'a> {
    fn push(&mut self, header: &'a [u8]) {
        match (std::str::from_utf8(header), self.headers.get_mut(self.len)) {
            (Ok(header), _) if header.trim_ascii().is_empty() => {}
            (Ok(header), Some(place)) => {
                *place = header;
                self.len += 1;
            }
            _ => self.is_invalid = true,
        }
    }

    fn join(&self) -> TraceState<'a> {
        if self.is_invalid {
            return TraceState::EMPTY;
        }
        let headers = self.headers[..self.len].iter().copied();
        TraceState::parse_all(headers).unwrap_or_default()
    }
}
