//! The same program, instrumented with `tracing`, sends the same spans through tracing-opentelemetry and
//! through this crate, except for the differences that `docs/tracing.md` lists.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex};

use common::start;
use opentelemetry::trace::{SpanKind as SdkKind, Status as SdkStatus, TracerProvider};
use opentelemetry::{Array, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use otlp_collector::testing::ReceivedSpan;
use otlp_collector::{AnyValue, KeyValue, SpanKind, Status};
use tracing::field::Empty;
use tracing::{Level, Span, debug, error, event, info, info_span, warn};
use tracing_subscriber::prelude::*;

/// A span in a form that both sides can be converted to.
#[derive(Debug, Default, PartialEq)]
struct Plain {
    name: String,
    kind: String,
    status: String,
    parent: Option<String>,
    attributes: BTreeMap<String, String>,
    events: Vec<(String, BTreeMap<String, String>)>,
    links: Vec<String>,
}

fn sorted(spans: impl Iterator<Item = Plain>) -> Vec<Plain> {
    let mut spans: Vec<_> = spans.collect();
    // Those with the same name by the rest.
    spans.sort_by_key(|span| format!("{} {:?}", span.name, span.attributes.get("number")));
    spans
}

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

#[derive(Debug)]
struct Failure(&'static str, Option<Box<Failure>>);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.1.as_deref().map(|source| source as _)
    }
}

fn failure() -> Failure {
    Failure("outer", Some(Box::new(Failure("inner", None))))
}

#[tracing::instrument(skip(text), fields(len = text.len() as i64, later), err)]
fn instrumented(number: i32, text: &str) -> Result<String, Failure> {
    Span::current().record("later", "now");
    match number {
        0 => Err(failure()),
        _ => Ok(text.repeat(2)),
    }
}

/// The program.
fn program() {
    let root = info_span!(
        "root",
        otel.kind = "server",
        text = "value",
        int = -7_i64,
        truth = true,
        float = 0.5,
        debug = ?Some(1),
        display = %failure(),
        empty = Empty,
        later = Empty,
    );
    let entered = root.enter();
    root.record("later", 3_i64);
    info!("plain");
    warn!(rows = 17_i64, detail = ?(1, 2), "with {} fields", 2);
    debug!(name: "named", shown = %1);
    let _ = instrumented(1, "text");
    info_span!("of an error").in_scope(|| instrumented(0, "text").is_err());
    info_span!("failed").in_scope(|| error!("failed"));
    info_span!("status", otel.status_code = "ERROR", otel.name = "renamed");
    info_span!("described", otel.status_description = "why");
    info_span!("fine", otel.status_code = "ok").in_scope(|| info!("ok"));
    let failure = failure();
    let cause = &failure as &(dyn Error + 'static);
    info_span!("errors").in_scope(|| info!(cause, "happened"));
    info_span!("error field", cause = cause);
    let other = info_span!(parent: None, "other root");
    other.follows_from(&root);
    event!(parent: &other, Level::INFO, "elsewhere");
    let child = info_span!(parent: &other, "child of other");
    drop(entered);
    child.in_scope(|| drop(info_span!("grandchild")));
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Bool(truth) => format!("{truth:?}"),
        Value::I64(number) => format!("{number:?}"),
        Value::F64(number) => format!("{number:?}"),
        Value::String(text) => format!("{:?}", text.as_str()),
        Value::Array(Array::String(texts)) => {
            let texts: Vec<_> = texts.iter().map(|text| text.as_str()).collect();
            format!("{texts:?}")
        }
        other => panic!("{other:?}"),
    }
}

fn text_of_ours(value: &AnyValue) -> String {
    match value {
        AnyValue::Bool(truth) => format!("{truth:?}"),
        AnyValue::Int(number) => format!("{number:?}"),
        AnyValue::Double(number) => format!("{number:?}"),
        AnyValue::String(text) => format!("{text:?}"),
        AnyValue::Array(values) => {
            let texts: Vec<_> = values.iter().map(text_of_ours).collect();
            format!("[{}]", texts.join(", "))
        }
        other => panic!("{other:?}"),
    }
}

fn theirs() -> Vec<Plain> {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(kept.clone())
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("test"))
        .with_tracked_inactivity(false)
        .with_threads(false);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), program);
    provider.shutdown().unwrap();
    let spans = kept.0.lock().unwrap().clone();
    let names: HashMap<_, _> = spans
        .iter()
        .map(|span| (span.span_context.span_id(), span.name.to_string()))
        .collect();
    let attributes = |attributes: &[opentelemetry::KeyValue]| -> BTreeMap<_, _> {
        let pairs = attributes.iter();
        pairs
            .map(|one| (one.key.to_string(), text_of(&one.value)))
            .collect()
    };
    let plain = spans.iter().map(|span| Plain {
        name: span.name.to_string(),
        kind: match span.span_kind {
            SdkKind::Server => "server".to_owned(),
            SdkKind::Internal => "internal".to_owned(),
            ref other => format!("{other:?}"),
        },
        status: match &span.status {
            SdkStatus::Unset => "unset".to_owned(),
            SdkStatus::Ok => "ok".to_owned(),
            SdkStatus::Error { description } => format!("error {description}"),
        },
        parent: names.get(&span.parent_span_id).cloned(),
        attributes: attributes(&span.attributes),
        events: (span.events.iter())
            .map(|event| (event.name.to_string(), attributes(&event.attributes)))
            .collect(),
        links: (span.links.iter())
            .map(|link| names[&link.span_context.span_id()].clone())
            .collect(),
    });
    sorted(plain)
}

fn ours() -> Vec<Plain> {
    let (receiver, collector) = start(|_| {});
    let layer = otlp_collector::tracing::layer(&collector)
        .with_location(true)
        .with_target(true)
        .with_error_records_to_exceptions(true);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), program);
    collector.shutdown().unwrap();
    let spans = receiver.spans();
    let names: HashMap<_, _> = spans
        .iter()
        .map(|span| (span.span_id, span.name.clone()))
        .collect();
    let attributes = |attributes: &[KeyValue]| -> BTreeMap<_, _> {
        let pairs = attributes.iter();
        pairs
            .map(|one| (one.key.to_string(), text_of_ours(&one.value)))
            .collect()
    };
    let plain = |span: &ReceivedSpan| Plain {
        name: span.name.clone(),
        kind: match span.kind {
            SpanKind::Server => "server".to_owned(),
            SpanKind::Internal => "internal".to_owned(),
            other => format!("{other:?}"),
        },
        status: match &span.status {
            Status::Unset => "unset".to_owned(),
            Status::Ok => "ok".to_owned(),
            Status::Error(description) => format!("error {description}"),
        },
        parent: span.parent_span_id.map(|id| names[&id].clone()),
        attributes: attributes(&span.attributes),
        events: (span.events.iter())
            .map(|event| (event.name.to_string(), attributes(&event.attributes)))
            .collect(),
        links: span
            .links
            .iter()
            .map(|link| names[&link.span_id].clone())
            .collect(),
    };
    let plain = spans.iter().map(plain);
    sorted(plain)
}

#[test]
fn the_same_program_sends_the_same_spans_except_for_the_listed_differences() {
    let (mut theirs, ours) = (theirs(), ours());
    for span in &mut theirs {
        // Sources of an error, which are not a stack trace.
        span.attributes.remove("exception.stacktrace");
        for (_, attributes) in &mut span.events {
            attributes.remove("exception.stacktrace");
        }
    }
    assert_eq!((theirs.len(), ours.len()), (13, 13));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        assert_eq!(theirs, ours);
    }
}
