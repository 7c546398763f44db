//! Checks some spans of each configuration for the expected contents.

use std::collections::HashSet;
use std::error::Error;
use std::time::Duration;

use otlp_collector::testing::Receiver;
use otlp_collector::testing::proto::any_value::Value;
use otlp_collector::testing::proto::{AnyValue, KeyValue, Span, span::SpanKind};

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
    fn at_spans(&self, spans: &[Span]) -> Result<(), String> {
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

    fn at_span(&self, span: &Span) -> Result<(), String> {
        self.expect(span.name == workload::NAME, "name", &span.name)?;
        self.expect(span.kind == SpanKind::Client as i32, "kind", &span.kind)?;
        let trace_id = &span.trace_id;
        self.expect(*trace_id == workload::TRACE_ID, "trace", trace_id)?;
        let parent = &span.parent_span_id;
        self.expect(parent.iter().any(|byte| *byte != 0), "parent", parent)?;
        self.at_times(span)?;
        self.at_attributes(span)
    }

    fn at_times(&self, span: &Span) -> Result<(), String> {
        const MINUTE_NS: u64 = 60_000_000_000;
        let (start, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
        let now = otlp_collector::unix_nanos();
        let is_recent = start > now - MINUTE_NS && end < now + MINUTE_NS;
        self.expect(start <= end && is_recent, "times", &(start, end))
    }

    fn at_attributes(&self, span: &Span) -> Result<(), String> {
        let address = workload::address();
        let are_there = has(span, workload::SYSTEM, workload::POSTGRESQL)
            && has(span, workload::ADDRESS, &address)
            && find(span, workload::ROWS).is_some_and(|rows| rows.parse::<i64>().is_ok())
            && find(span, workload::CACHED).is_some();
        let texts = span
            .attributes
            .iter()
            .filter(|attribute| is_text(attribute));
        let has_types = texts.count() < span.attributes.len();
        let is_right = are_there && has_types == self.configuration.has_types;
        self.expect(is_right, "attributes", &span.attributes)
    }

    fn at_resources(&self, receiver: &Receiver) -> Result<(), String> {
        for request in receiver.requests() {
            for resource in &request.body.resource_spans {
                let attributes = resource.resource.iter().flat_map(|it| &it.attributes);
                let mut names = attributes.filter(|it| it.key == "service.name");
                let is_right = names.any(|name| text(name) == workload::SERVICE);
                self.expect(is_right, "resource", &resource.resource)?;
            }
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

fn has(span: &Span, key: &str, value: &str) -> bool {
    find(span, key).is_some_and(|found| found == value)
}

fn find(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|found| found.key == key);
    found.map(text)
}

fn is_text(attribute: &KeyValue) -> bool {
    matches!(value(attribute), Some(Value::StringValue(_)))
}

/// The value as text, of any type.
fn text(attribute: &KeyValue) -> String {
    match value(attribute) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(bool)) => bool.to_string(),
        other => format!("{other:?}"),
    }
}

fn value(attribute: &KeyValue) -> Option<&Value> {
    let value: Option<&AnyValue> = attribute.value.as_ref();
    value.and_then(|value| value.value.as_ref())
}
