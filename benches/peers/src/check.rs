//! Checks some spans of each configuration for the expected contents.

use std::collections::HashSet;
use std::error::Error;
use std::time::Duration;

use otlp_collector::testing::{ReceivedSpan, Receiver};
use otlp_collector::{AnyValue, SpanKind};

use crate::child::{self, Task};
use crate::peers::Configuration;
use crate::workload::{self, Pace};

const SPANS: u64 = 1_000;

/// Sizes of a configuration's spans.
#[derive(Clone, Copy, Debug)]
pub struct Checked {
    /// Bytes of a span with its share of its request.
    pub bytes_per_span: u64,
    /// Attributes of a span, including those that the library adds.
    pub attributes: usize,
}

pub fn check(configuration: &Configuration) -> Result<Checked, Box<dyn Error>> {
    let receiver = Receiver::start()?;
    let task = Task {
        // Slow enough for the shortest queue.
        pace: Pace::Every(Duration::from_micros(20)),
        spans: SPANS,
    };
    child::measure(configuration, task, &receiver.endpoint())?;
    let look = Look { configuration };
    look.at_spans(&receiver.spans())?;
    look.at_resources(&receiver)?;
    Ok(Checked {
        bytes_per_span: receiver.counts().body_bytes / SPANS,
        attributes: receiver.spans()[0].attributes.len(),
    })
}

struct Look<'a> {
    configuration: &'a Configuration,
}

impl Look<'_> {
    fn at_spans(&self, spans: &[ReceivedSpan]) -> Result<(), String> {
        self.expect(spans.len() as u64 == SPANS, "number of spans", &spans.len())?;
        let ids: HashSet<_> = spans.iter().map(|span| &span.span_id).collect();
        self.expect(ids.len() == spans.len(), "number of ids", &ids.len())?;
        for span in spans {
            self.at_span(span)?;
        }
        let even = spans.iter().filter(|span| has(span, "db.cached", "true"));
        let even = even.count() as u64;
        self.expect(even == SPANS / 2, "number of cached", &even)
    }

    fn at_span(&self, span: &ReceivedSpan) -> Result<(), String> {
        self.expect(span.name == workload::NAME, "name", &span.name)?;
        self.expect(span.kind == SpanKind::Client, "kind", &span.kind)?;
        let trace_id = &span.trace_id;
        self.expect(trace_id.to_bytes() == workload::TRACE_ID, "trace", trace_id)?;
        let parent = &span.parent_span_id;
        self.expect(parent.is_some(), "parent", parent)?;
        self.at_times(span)?;
        self.at_attributes(span)
    }

    fn at_times(&self, span: &ReceivedSpan) -> Result<(), String> {
        const MINUTE_NS: u64 = 60_000_000_000;
        let (start, end) = (span.start_time, span.end_time);
        let now = otlp_collector::unix_nanos();
        let is_recent = start > now - MINUTE_NS && end < now + MINUTE_NS;
        self.expect(start <= end && is_recent, "times", &(start, end))
    }

    fn at_attributes(&self, span: &ReceivedSpan) -> Result<(), String> {
        let address = workload::address();
        let are_there = has(span, workload::SYSTEM, workload::POSTGRESQL)
            && has(span, workload::ADDRESS, &address)
            && find(span, workload::ROWS).is_some_and(|rows| rows.parse::<i64>().is_ok())
            && find(span, workload::CACHED).is_some();
        let texts = span
            .attributes
            .iter()
            .filter(|attribute| matches!(attribute.value, AnyValue::String(_)));
        let has_types = texts.count() < span.attributes.len();
        let is_right = are_there && has_types == self.configuration.has_types;
        self.expect(is_right, "attributes", &span.attributes)
    }

    fn at_resources(&self, receiver: &Receiver) -> Result<(), String> {
        for span in receiver.spans() {
            let name = span.resource.attribute("service.name");
            let is_right = name == Some(workload::SERVICE.into());
            self.expect(is_right, "resource", &span.resource)?;
        }
        Ok(())
    }

    fn expect(&self, is_so: bool, what: &str, found: &dyn std::fmt::Debug) -> Result<(), String> {
        if is_so {
            return Ok(());
        }
        let Configuration { library, way, .. } = self.configuration;
        Err(format!(
            "{library}, {way}: sends another {what} than the others: {found:?}"
        ))
    }
}

fn has(span: &ReceivedSpan, key: &str, value: &str) -> bool {
    find(span, key).is_some_and(|found| found == value)
}

/// Returns the attribute's value as a text.
fn find(span: &ReceivedSpan, key: &str) -> Option<String> {
    span.attribute(key).map(|value| match value {
        AnyValue::String(text) => text.into_owned(),
        AnyValue::Int(number) => number.to_string(),
        AnyValue::Bool(truth) => truth.to_string(),
        other => format!("{other:?}"),
    })
}
