//! The same program, written with OpenTelemetry's SDK for Rust and with this crate, sends equal spans
//! and samples the same traces.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use common::span_id;
use opentelemetry::trace::{self as sdk, Span as _, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue as SdkKeyValue};
use opentelemetry_proto::tonic::trace::v1 as official;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler as SdkSampler, SamplingDecision, SdkTracerProvider, ShouldSample, SpanData,
    SpanExporter,
};
use otlp_collector::span::{
    EventRef, GenerateIds, IdGenerator, InstrumentationScope, KeyValueRef, LinkRef, ParentBased,
    Sampler, SpanLimits, StatusRef,
};
use otlp_collector::testing::Receiver;
use otlp_collector::{Collector, Config, KeyValue, SpanContext, SpanId, SpanKind, TraceId};
use proptest::prelude::*;
use prost::Message;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACESTATE: &str = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
const ATTRIBUTES_MAX: u32 = 12;
const EVENTS_MAX: u32 = 3;
const LINKS_MAX: u32 = 2;

// ---- With the SDK ----

#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

/// Generates consecutive ids, so that both sides have the same.
#[derive(Debug, Default)]
struct Counting {
    traces: AtomicU8,
    spans: AtomicU8,
}

impl Counting {
    fn next_trace(&self) -> [u8; 16] {
        [self.traces.fetch_add(1, Ordering::Relaxed) + 1; 16]
    }

    fn next_span(&self) -> [u8; 8] {
        [self.spans.fetch_add(1, Ordering::Relaxed) + 1; 8]
    }
}

impl opentelemetry_sdk::trace::IdGenerator for Counting {
    fn new_trace_id(&self) -> sdk::TraceId {
        sdk::TraceId::from_bytes(self.next_trace())
    }

    fn new_span_id(&self) -> sdk::SpanId {
        sdk::SpanId::from_bytes(self.next_span())
    }
}

impl GenerateIds for Counting {
    fn new_trace_id(&mut self) -> TraceId {
        TraceId::from_bytes(self.next_trace()).unwrap()
    }

    fn new_span_id(&mut self) -> SpanId {
        SpanId::from_bytes(self.next_span()).unwrap()
    }
}

fn at(nanos: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos)
}

fn sdk_caller() -> Context {
    let caller = SpanContext::from_traceparent(TRACEPARENT).unwrap();
    Context::new().with_remote_span_context(sdk::SpanContext::new(
        sdk::TraceId::from_bytes(caller.trace_id.to_bytes()),
        sdk::SpanId::from_bytes(caller.span_id.to_bytes()),
        sdk::TraceFlags::SAMPLED,
        true,
        TRACESTATE.parse().unwrap(),
    ))
}

fn with_sdk() -> Vec<official::ResourceSpans> {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(kept.clone())
        .with_id_generator(Counting::default())
        .with_max_attributes_per_span(ATTRIBUTES_MAX)
        .with_max_events_per_span(EVENTS_MAX)
        .with_max_links_per_span(LINKS_MAX)
        .build();
    let http = provider.tracer_with_scope(
        opentelemetry::InstrumentationScope::builder("http")
            .with_version("1.2")
            .with_schema_url("https://opentelemetry.io/schemas/1.37.0")
            .with_attributes([SdkKeyValue::new("part", "front")])
            .build(),
    );
    let storage = provider.tracer("storage");

    let mut server = http
        .span_builder("GET")
        .with_kind(sdk::SpanKind::Server)
        .with_start_time(at(1_000))
        .with_attributes([SdkKeyValue::new("url.path", "/orders")])
        .start_with_context(&http, &sdk_caller());
    server.set_attribute(SdkKeyValue::new("http.response.status_code", 500));
    server.set_attribute(SdkKeyValue::new("ratio", 0.25));
    server.set_attribute(SdkKeyValue::new("retried", true));
    server.update_name("GET /orders");
    let server_context = server.span_context().clone();
    let within = Context::new().with_remote_span_context(sdk::SpanContext::new(
        server_context.trace_id(),
        server_context.span_id(),
        server_context.trace_flags(),
        false,
        server_context.trace_state().clone(),
    ));

    let mut query = storage
        .span_builder("SELECT orders")
        .with_kind(sdk::SpanKind::Client)
        .with_start_time(at(1_100))
        .start_with_context(&storage, &within);
    let strings: Vec<opentelemetry::StringValue> = vec!["a".into(), "ö".into()];
    query.set_attribute(SdkKeyValue::new(
        "strings",
        opentelemetry::Value::Array(opentelemetry::Array::String(strings)),
    ));
    query.set_attribute(SdkKeyValue::new(
        "ints",
        opentelemetry::Value::Array(opentelemetry::Array::I64(vec![1, -2])),
    ));
    query.set_attribute(SdkKeyValue::new(
        "doubles",
        opentelemetry::Value::Array(opentelemetry::Array::F64(vec![0.5])),
    ));
    query.set_attribute(SdkKeyValue::new(
        "bools",
        opentelemetry::Value::Array(opentelemetry::Array::Bool(vec![])),
    ));
    for number in 0..20 {
        query.set_attribute(SdkKeyValue::new(format!("key.{number}"), i64::from(number)));
    }
    for number in 0..5 {
        let attributes = vec![SdkKeyValue::new("row", number)];
        query.add_event_with_timestamp("row", at(1_200 + number as u64), attributes);
    }
    query.add_link(
        server_context.clone(),
        vec![SdkKeyValue::new("why", "parent")],
    );
    query.add_link(sdk_caller().span().span_context().clone(), Vec::new());
    query.add_link(server_context, Vec::new());
    query.set_status(sdk::Status::error("timed out"));
    query.set_status(sdk::Status::Unset);
    query.end_with_timestamp(at(1_300));

    let mut failed = storage
        .span_builder("DELETE")
        .with_start_time(at(1_400))
        .start_with_context(&storage, &within);
    failed.record_error(&std::fmt::Error);
    failed.set_status(sdk::Status::error("denied"));
    failed.set_status(sdk::Status::Ok);
    failed.set_status(sdk::Status::error("too late"));
    failed.end_with_timestamp(at(1_500));
    server.end_with_timestamp(at(1_600));

    let mut consumer = http
        .span_builder("receive")
        .with_kind(sdk::SpanKind::Consumer)
        .with_start_time(at(2_000))
        .with_links(vec![sdk::Link::new(
            sdk_caller().span().span_context().clone(),
            vec![SdkKeyValue::new("batch", 3)],
            0,
        )])
        .start_with_context(&http, &Context::new());
    consumer.end_with_timestamp(at(2_001));
    let producer = http
        .span_builder("send")
        .with_kind(sdk::SpanKind::Producer)
        .with_start_time(at(3_000))
        .start_with_context(&http, &Context::new());
    let mut producer = producer;
    producer.end_with_timestamp(at(3_001));

    let spans = kept.0.lock().unwrap().clone();
    group_spans_by_resource_and_scope(spans, &ResourceAttributesWithSchema::default())
}

// ---- With this crate ----

fn with_this() -> Vec<official::ResourceSpans> {
    let receiver = Receiver::start().unwrap();
    let collector = Collector::new(Config {
        endpoint: receiver.endpoint(),
        id_generator: IdGenerator::Custom(Arc::new(|| Box::new(Counting::default()))),
        span_limits: SpanLimits {
            attribute_count: ATTRIBUTES_MAX,
            event_count: EVENTS_MAX,
            link_count: LINKS_MAX,
            ..SpanLimits::default()
        },
        ..Config::default()
    })
    .unwrap();
    let http = InstrumentationScope {
        version: "1.2".to_string(),
        schema_url: "https://opentelemetry.io/schemas/1.37.0".to_string(),
        attributes: vec![KeyValue::new("part", "front")],
        ..InstrumentationScope::new("http")
    };
    let http = collector.register_scope(http).unwrap();
    let storage = collector
        .register_scope(InstrumentationScope::new("storage"))
        .unwrap();
    let recorder = collector.recorder().unwrap();
    let http = recorder.with_scope(&http).unwrap();
    let storage = recorder.with_scope(&storage).unwrap();
    let headers = [("traceparent", TRACEPARENT), ("tracestate", TRACESTATE)];
    let caller = SpanContext::extract(headers).unwrap();

    let mut server = http
        .span_builder("GET")
        .kind(SpanKind::Server)
        .parent(Some(&caller))
        .start_time(1_000)
        .attributes(&[KeyValueRef::new("url.path", "/orders")])
        .start();
    server
        .set_attribute("http.response.status_code", 500)
        .set_attribute("ratio", 0.25)
        .set_attribute("retried", true)
        .set_name("GET /orders");

    let mut query = storage
        .span_builder("SELECT orders")
        .kind(SpanKind::Client)
        .child_of(&server)
        .start_time(1_100)
        .start();
    query
        .set_attribute("strings", &["a", "ö"][..])
        .set_attribute("ints", &[1_i64, -2][..])
        .set_attribute("doubles", &[0.5][..])
        .set_attribute("bools", &[] as &[bool]);
    for number in 0..20 {
        query.set_attribute(&format!("key.{number}"), number);
    }
    for number in 0..5 {
        query.add_event_at(&EventRef {
            attributes: &[KeyValueRef::new("row", number)],
            ..EventRef::new("row", 1_200 + number)
        });
    }
    let server_context = server.context().unwrap();
    query
        .add_link(&LinkRef {
            attributes: &[KeyValueRef::new("why", "parent")],
            ..LinkRef::new(&server_context)
        })
        .add_link(&LinkRef::new(&caller))
        .add_link(&LinkRef::new(&server_context))
        .set_status(StatusRef::Error("timed out"))
        .set_status(StatusRef::Unset);
    query.try_end_at(1_300).unwrap();

    let mut failed = storage
        .span_builder("DELETE")
        .child_of(&server)
        .start_time(1_400)
        .start();
    failed
        .record_error(&std::fmt::Error)
        .set_status(StatusRef::Error("denied"))
        .set_status(StatusRef::Ok)
        .set_status(StatusRef::Error("too late"));
    failed.try_end_at(1_500).unwrap();
    server.try_end_at(1_600).unwrap();

    let links = [LinkRef {
        attributes: &[KeyValueRef::new("batch", 3)],
        ..LinkRef::new(&caller)
    }];
    let consumer = http
        .span_builder("receive")
        .kind(SpanKind::Consumer)
        .start_time(2_000)
        .links(&links)
        .start();
    consumer.try_end_at(2_001).unwrap();
    let producer = http
        .span_builder("send")
        .kind(SpanKind::Producer)
        .start_time(3_000)
        .start();
    producer.try_end_at(3_001).unwrap();

    collector.shutdown().unwrap();
    let requests = receiver.requests();
    let decoded = (requests.iter()).map(|request| official::TracesData::decode(&*request.body));
    decoded
        .flat_map(|data| data.unwrap().resource_spans)
        .collect()
}

// ---- Compared ----

/// Returns the spans by name, with their scope and its schema, without fields that cannot be equal.
fn by_name(
    resources: Vec<official::ResourceSpans>,
) -> BTreeMap<String, (String, String, official::Span)> {
    let mut spans = BTreeMap::new();
    for scope_spans in resources
        .into_iter()
        .flat_map(|resource| resource.scope_spans)
    {
        let scope = format!("{:?}", scope_spans.scope);
        for mut span in scope_spans.spans {
            // The program cannot set the time of an error.
            for event in span
                .events
                .iter_mut()
                .filter(|event| event.name == "exception")
            {
                event.time_unix_nano = 0;
                // The SDK omits the type, which the conventions recommend.
                event
                    .attributes
                    .retain(|attribute| attribute.key != "exception.type");
            }
            // Absent and empty have the same meaning.
            span.status.get_or_insert_default();
            let schema = scope_spans.schema_url.clone();
            spans.insert(span.name.clone(), (scope.clone(), schema, span));
        }
    }
    spans
}

#[test]
fn the_same_program_sends_the_same_spans() {
    let (theirs, ours) = (by_name(with_sdk()), by_name(with_this()));
    let names: Vec<_> = ours.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["DELETE", "GET /orders", "SELECT orders", "receive", "send"]
    );
    for (name, ours) in &ours {
        assert_eq!(ours, &theirs[name], "{name}");
    }
    assert_eq!(ours.len(), theirs.len());
    let query = &ours["SELECT orders"].2;
    assert_eq!(
        (query.dropped_attributes_count, query.dropped_events_count),
        (12, 2)
    );
}

/// Returns whether this crate samples a root with that trace id.
fn is_sampled(sampler: &Sampler, trace_id: TraceId) -> bool {
    struct One(TraceId);

    impl GenerateIds for One {
        fn new_trace_id(&mut self) -> TraceId {
            self.0
        }

        fn new_span_id(&mut self) -> SpanId {
            span_id(1)
        }
    }

    // The decision needs no endpoint.
    let collector = Collector::new(Config {
        sampler: sampler.clone(),
        id_generator: IdGenerator::Custom(Arc::new(move || Box::new(One(trace_id)))),
        buffer_capacity: 1,
        batch_size: 1,
        shutdown_timeout_ms: 0,
        endpoint: "http://127.0.0.1:9".to_string(),
        ..Config::default()
    })
    .unwrap();
    let recorder = collector.recorder().unwrap();
    recorder.start("root").is_recording()
}

fn sdk_is_sampled(ratio: f64, trace_id: TraceId) -> bool {
    let sampler = SdkSampler::TraceIdRatioBased(ratio);
    let trace_id = sdk::TraceId::from_bytes(trace_id.to_bytes());
    let kind = sdk::SpanKind::Internal;
    let result = sampler.should_sample(None, trace_id, "root", &kind, &[], &[]);
    result.decision == SamplingDecision::RecordAndSample
}

fn any_trace_id() -> impl Strategy<Value = TraceId> {
    any::<u128>().prop_filter_map("zero is not an id", TraceId::from_u128)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn ratios_choose_the_same_traces(
        trace_id in any_trace_id(),
        ratio in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0, Just(0.5), Just(1e-12)],
    ) {
        let sampler = Sampler::from(ParentBased::new(Sampler::TraceIdRatio(ratio)));
        prop_assert_eq!(is_sampled(&sampler, trace_id), sdk_is_sampled(ratio, trace_id));
    }

    /// Ratios next to the threshold of a trace, where rounding errors would show.
    #[test]
    fn ratios_agree_at_the_edge(trace_id in any_trace_id(), ulps in -3_i64..4) {
        let number = trace_id.to_u128() as u64 >> 1;
        let edge = number as f64 / (1_u64 << 63) as f64;
        let ratio = f64::from_bits(edge.to_bits().saturating_add_signed(ulps)).clamp(0.0, 1.0);
        let sampler = Sampler::TraceIdRatio(ratio);
        prop_assert_eq!(is_sampled(&sampler, trace_id), sdk_is_sampled(ratio, trace_id));
    }
}
