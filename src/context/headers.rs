//! Contexts out of and into the headers of any protocol.

use crate::context::{SpanContext, TraceState};

/// The name of the header with trace id, span id and flags.
pub const TRACEPARENT: &str = "traceparent";
/// The name of the header with the trace state.
pub const TRACESTATE: &str = "tracestate";

impl<'a> SpanContext<'a> {
    /// The context of the caller's span, if the headers have a valid one; otherwise a new trace
    /// is to be started.
    ///
    /// Takes names and values from any map: `http::HeaderMap`, `httparse`'s headers, pairs of
    /// texts. Names are compared without regard to case. A second `traceparent` makes both
    /// invalid; several `tracestate` are one; an invalid `tracestate` is ignored.
    ///
    /// ```
    /// use otlp_collector::SpanContext;
    ///
    /// let mut headers = http::HeaderMap::new();
    /// let value = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// headers.insert("traceparent", value.parse()?);
    /// let parent = SpanContext::extract(&headers).expect("it is valid");
    /// assert!(parent.is_remote);
    /// # Ok::<(), http::header::InvalidHeaderValue>(())
    /// ```
    #[must_use]
    pub fn extract<N, V>(
        headers: impl IntoIterator<Item = (N, &'a V), IntoIter: Clone>,
    ) -> Option<Self>
    where
        N: AsRef<str>,
        V: AsRef<[u8]> + ?Sized + 'a,
    {
        let headers = headers.into_iter();
        let values = |name: &'static str| {
            headers
                .clone()
                .filter(move |(other, _)| other.as_ref().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_ref())
        };
        let mut parents = values(TRACEPARENT);
        let mut context = Self::from_traceparent(parents.next()?).ok()?;
        if parents.next().is_some() {
            return None;
        }
        let states = values(TRACESTATE);
        if states.clone().all(|state| state.is_ascii()) {
            let states = states.filter_map(|state| std::str::from_utf8(state).ok());
            context.trace_state = TraceState::parse_all(states).unwrap_or_default();
        }
        Some(context)
    }

    /// Hands the headers that tell of this span to `set`, names in lower case.
    ///
    /// Allocates nothing. Does nothing for an invalid context.
    ///
    /// ```
    /// use otlp_collector::SpanContext;
    ///
    /// let mut request = String::from("GET / HTTP/1.1\r\n");
    /// SpanContext::new([1; 16], [2; 8]).inject(|name, value| {
    ///     request.push_str(&format!("{name}: {value}\r\n"));
    /// });
    /// assert!(request.contains("traceparent: 00-0101"));
    /// ```
    pub fn inject(&self, mut set: impl FnMut(&'static str, &str)) {
        if !self.is_valid() {
            return;
        }
        set(TRACEPARENT, &self.traceparent());
        if !self.trace_state.is_empty() {
            set(TRACESTATE, self.trace_state.as_str());
        }
    }
}
