//! A third-party receiver, the rotel agent, prints the spans that it receives, and all are as they
//! were sent. Run by `.ci/rotel`.

use common::{PATIENCE, span_id, trace_id};
use otlp_collector::span::{Event, EventRef, KeyValueRef, Link, LinkRef, StatusRef, TraceState};
use otlp_collector::{
    AnyValue, Collector, Config, EndpointOptions, KeyValue, Recorder, Span, SpanContext, SpanKind,
    SpanRef, Status,
};

use common::agent::Agent;

#[test]
#[ignore = "needs the rotel agent: run .ci/rotel"]
fn the_rotel_agent_decodes_every_span() {
    let agent = Agent::start();
    let collector = Collector::new(Config {
        endpoint: agent.endpoint(),
        service_name: "заказы".to_string(),
        resource_attributes: vec![KeyValue::new("host.cpus", 2)],
        ..Config::default()
    })
    .unwrap();

    let mut sent = Vec::new();
    for span in family("collected") {
        collector.collect(span.clone()).unwrap();
        sent.push(span);
    }
    let recorder = collector.recorder().unwrap();
    for round in 0..20 {
        for span in family("recorded") {
            record(&recorder, &span);
            sent.push(span);
        }
        for span in family("opened") {
            sent.push(open_and_end(&recorder, span));
        }
        // Several requests, some with one family and some with more.
        if round % 5 == 0 {
            collector.flush(PATIENCE).unwrap();
        }
    }
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), sent.len() as u64);
    collector.shutdown().unwrap();

    let printed = agent.end();
    compare_resources(&printed);
    compare_spans(&printed, &sent);
    println!("the agent printed {} spans, all as sent", sent.len());
}

/// The agent answers 413 before it has read a large request, and closes. The reset may overtake the
/// response.
#[test]
#[ignore = "needs the rotel agent: run .ci/rotel"]
fn a_request_too_large_for_the_rotel_agent_arrives_in_parts() {
    const SPANS: usize = 1000;
    let agent = Agent::start();
    let collector = Collector::new(Config {
        endpoint: agent.endpoint(),
        endpoint_options: EndpointOptions {
            request_bytes_max: 64 << 20,
            // So that all spans are in one request.
            connections_max: 1,
            retry_initial_ms: 1,
            ..EndpointOptions::default()
        },
        batch_size: SPANS,
        batch_timeout_ms: 3_600_000,
        buffer_capacity: 1_000_000,
        ..Config::default()
    })
    .unwrap();
    for index in 0..SPANS {
        let mut span = Span::new(format!("span-{index}"));
        let text = KeyValue::new("text", "x".repeat(40_000));
        span.attributes.push(text);
        collector.collect(span).unwrap();
    }
    let ledger = collector.flush(PATIENCE).unwrap();
    assert_eq!(ledger.delivered(), SPANS as u64, "{ledger}");
    let stats = collector.stats().network;
    let responses = &stats.destinations[0].endpoints[0].responses;
    assert!(responses.contains_key(&413), "{:?}", stats.last_error);
    let printed = agent.end();
    assert_eq!(printed.matches(": span-").count(), SPANS);
    println!(
        "a request of 40 MB was too large: {}",
        stats.last_error.unwrap()
    );
}

// ---- Sending ----

/// Returns a parent, and a child of each kind with each status. All times are set.
fn family(name: &'static str) -> Vec<Span> {
    let kinds = [
        SpanKind::Internal,
        SpanKind::Server,
        SpanKind::Client,
        SpanKind::Producer,
        SpanKind::Consumer,
    ];
    let statuses = [
        Status::Unset,
        Status::Ok,
        Status::Error("".into()),
        Status::Error("Zeitüberschreitung \"db\" ⏱".into()),
    ];
    let mut parent = Span::new(name);
    parent.end_time = parent.start_time + 1_000_000;
    let mut family = vec![parent.clone()];
    for (i, kind) in kinds.into_iter().enumerate() {
        for (j, status) in statuses.iter().enumerate() {
            let mut child = Span::child_of(&parent, format!("{name} {kind:?} {j} 子供 \\"));
            child.kind = kind;
            child.status = status.clone();
            child.start_time = parent.start_time + i as u64;
            child.end_time = parent.end_time - j as u64;
            child.attributes = attributes();
            family.push(child);
        }
    }
    family.push(rich(&parent));
    // A span with no optional field, and the extreme times.
    family.push(Span {
        start_time: 1,
        end_time: u64::MAX,
        ..Span::child_of(&parent, "")
    });
    family
}

/// Returns a span with all fields.
fn rich(parent: &Span) -> Span {
    let event = Event {
        attributes: attributes(),
        dropped_attributes_count: 6,
        ..Event::new("cache miss")
    };
    let link = Link {
        attributes: vec![KeyValue::new("why", "cause")],
        dropped_attributes_count: 8,
        ..Link::new(SpanContext {
            trace_state: TraceState::parse("rojo=3").unwrap(),
            ..SpanContext::new(trace_id(0xab), span_id(0xcd))
        })
    };
    Span {
        end_time: parent.end_time,
        trace_state: "rojo=1,congo=2".into(),
        parent_is_remote: Some(true),
        dropped_attributes_count: 3,
        events: vec![event],
        dropped_events_count: 4,
        links: vec![link],
        dropped_links_count: 5,
        ..Span::child_of(parent, "rich")
    }
}

/// Returns attributes of every type, with the edge cases of each.
fn attributes() -> Vec<KeyValue> {
    vec![
        KeyValue::new("text", "GET /orders"),
        KeyValue::new("text.unicode", "Grüße, 世界 🎉"),
        KeyValue::new("text.empty", ""),
        KeyValue::new("text.long", "long ".repeat(60) + "text"),
        KeyValue::new("ключ", "значение"),
        KeyValue::new("true", true),
        KeyValue::new("false", false),
        KeyValue::new("int", 200),
        KeyValue::new("int.zero", 0),
        KeyValue::new("int.min", i64::MIN),
        KeyValue::new("int.max", i64::MAX),
        KeyValue::new("double", 0.1),
        KeyValue::new("double.zero", 0.0),
        KeyValue::new("double.negative", -2.5e-9),
        KeyValue::new("double.infinite", f64::INFINITY),
        KeyValue::new("double.nan", f64::NAN),
        KeyValue::new("bytes", vec![0_u8, 1, 0xff]),
        KeyValue::new(
            "array",
            vec![
                AnyValue::from(1),
                AnyValue::from("two"),
                AnyValue::from(vec![3.5]),
            ],
        ),
        KeyValue::new(
            "list",
            vec![KeyValue::new(
                "inner",
                vec![KeyValue::new("innermost", true)],
            )],
        ),
        KeyValue::new("empty", AnyValue::Empty),
    ]
}

/// Records an owned span as a borrowed one.
fn record(recorder: &Recorder, span: &Span) {
    let attributes = borrowed(&span.attributes);
    let of_events: Vec<_> = (span.events.iter())
        .map(|event| borrowed(&event.attributes))
        .collect();
    let events: Vec<_> = (span.events.iter().zip(&of_events))
        .map(|(event, attributes)| EventRef {
            attributes,
            dropped_attributes_count: event.dropped_attributes_count,
            ..EventRef::new(&event.name, event.time)
        })
        .collect();
    let of_links: Vec<_> = (span.links.iter())
        .map(|link| borrowed(&link.attributes))
        .collect();
    let links: Vec<_> = (span.links.iter().zip(&of_links))
        .map(|(link, attributes)| LinkRef {
            attributes,
            dropped_attributes_count: link.dropped_attributes_count,
            ..LinkRef::new(&link.context)
        })
        .collect();
    let span = SpanRef {
        parent_span_id: span.parent_span_id,
        trace_state: &span.trace_state,
        kind: span.kind,
        start_time: span.start_time,
        end_time: span.end_time,
        attributes: &attributes,
        dropped_attributes_count: span.dropped_attributes_count,
        events: &events,
        dropped_events_count: span.dropped_events_count,
        links: &links,
        dropped_links_count: span.dropped_links_count,
        status: status_ref(&span.status),
        ..SpanRef::new(span.trace_id, span.span_id, &span.name)
    };
    recorder.record(&span).unwrap();
}

/// Records the same data as an open span. Returns the span as it is sent.
fn open_and_end(recorder: &Recorder, mut span: Span) -> Span {
    let parent = span.parent_span_id.map(|parent_id| SpanContext {
        trace_state: TraceState::parse(&span.trace_state).unwrap().into_owned(),
        ..SpanContext::new(span.trace_id, parent_id)
    });
    let builder = recorder.span_builder(&span.name).kind(span.kind);
    let builder = builder.parent(parent.as_ref()).start_time(span.start_time);
    let mut open = builder.start();
    for attribute in &span.attributes {
        open.set_attribute(&attribute.key, "overwritten")
            .set_attribute(&attribute.key, &attribute.value);
    }
    for event in &span.events {
        open.add_event_at(&EventRef {
            attributes: &borrowed(&event.attributes),
            dropped_attributes_count: event.dropped_attributes_count,
            ..EventRef::new(&event.name, event.time)
        });
    }
    for link in &span.links {
        open.add_link(&LinkRef {
            attributes: &borrowed(&link.attributes),
            dropped_attributes_count: link.dropped_attributes_count,
            ..LinkRef::new(&link.context)
        });
    }
    open.set_status(status_ref(&span.status));
    (span.trace_id, span.span_id) = (
        open.context().unwrap().trace_id,
        open.context().unwrap().span_id,
    );
    open.try_end_at(span.end_time).unwrap();
    span
}

fn status_ref(status: &Status) -> StatusRef<'_> {
    match status {
        Status::Unset => StatusRef::Unset,
        Status::Ok => StatusRef::Ok,
        Status::Error(message) => StatusRef::Error(message),
    }
}

fn borrowed(attributes: &[KeyValue]) -> Vec<KeyValueRef<'_>> {
    (attributes.iter())
        .map(|attribute| KeyValueRef::new(&attribute.key, &attribute.value))
        .collect()
}

// ---- Printing ----

/// Each request starts with its resource and scope, which are always the same.
fn compare_resources(printed: &str) {
    let version = env!("CARGO_PKG_VERSION");
    let expected = [
        "0",
        "Resource SchemaURL: ",
        "Resource attributes:",
        "     -> service.name: Str(заказы)",
        "     -> telemetry.sdk.language: Str(rust)",
        "     -> telemetry.sdk.name: Str(otlp-collector)",
        &format!("     -> telemetry.sdk.version: Str({version})"),
        "     -> host.cpus: Int(2)",
        "ScopeSpans #0",
        "ScopeSpans SchemaURL: ",
        &format!("InstrumentationScope otlp-collector {version}"),
    ];
    let requests: Vec<_> = printed.split("ResourceSpans #").skip(1).collect();
    assert!(requests.len() > 1, "not several requests: {printed}");
    let known_elsewhere = ["process.", "host.name", "host.arch", "os."];
    for request in requests {
        let is_ours = |line: &&str| {
            let key = line.strip_prefix("     -> ").unwrap_or("");
            !known_elsewhere.iter().any(|start| key.starts_with(start))
        };
        let head: Vec<_> = request
            .lines()
            .filter(is_ours)
            .take(expected.len())
            .collect();
        assert_eq!(head, expected);
    }
}

/// Compares the complete text of all spans, sorted since recorders have no common order.
fn compare_spans(printed: &str, sent: &[Span]) {
    let mut printed: Vec<_> = (printed.split("ResourceSpans #"))
        .flat_map(|request| request.split("\nSpan #").skip(1))
        .map(without_number)
        .collect();
    let mut expected: Vec<_> = sent.iter().map(as_printed).collect();
    printed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(printed.len(), expected.len());
    for (printed, expected) in printed.iter().zip(&expected) {
        assert!(
            printed == expected,
            "{printed}
is not
{expected}"
        );
    }
}

fn without_number(span: &str) -> String {
    let (_, rest) = span.split_once('\n').expect("lines");
    rest.strip_suffix('\n').unwrap_or(rest).to_string()
}

/// Returns the span in the agent's format.
fn as_printed(span: &Span) -> String {
    let mut lines = vec![
        format!("    Trace ID       : {}", span.trace_id),
        format!("    Parent ID      : {}", parent(span)),
        format!("    ID             : {}", span.span_id),
        format!("    Name           : {}", span.name),
        format!("    Kind           : {}", kind(span.kind)),
    ];
    if !span.trace_state.is_empty() {
        lines.push(format!("    TraceState     : {}", span.trace_state));
    }
    lines.push(format!("Start time: {}", span.start_time));
    lines.push(format!("End time: {}", span.end_time));
    lines.extend(status(&span.status));
    if !span.attributes.is_empty() {
        lines.push("Attributes:".to_string());
    }
    lines.extend(span.attributes.iter().map(attribute));
    if !span.events.is_empty() {
        lines.push("Events:".to_string());
    }
    for (number, event) in span.events.iter().enumerate() {
        lines.push(format!("SpanEvent #{number}"));
        lines.push(format!("     -> Name: {}", event.name));
        lines.push(format!("     -> Timestamp: {}", event.time));
        lines.extend(further(event.dropped_attributes_count, &event.attributes));
    }
    if !span.links.is_empty() {
        lines.push("Links:".to_string());
    }
    for (number, link) in span.links.iter().enumerate() {
        lines.push(format!("SpanLink #{number}"));
        lines.push(format!("     -> Trace ID: {}", link.context.trace_id));
        lines.push(format!("     -> ID: {}", link.context.span_id));
        let state = link.context.trace_state.as_str();
        lines.push(format!("     -> TraceState: {state}"));
        lines.extend(further(link.dropped_attributes_count, &link.attributes));
    }
    lines.join("\n")
}

/// Returns the last lines of an event or a link.
fn further(dropped: u32, attributes: &[KeyValue]) -> Vec<String> {
    let mut lines = vec![
        format!("     -> DroppedAttributesCount: {dropped}"),
        "     -> Attributes::".to_string(),
    ];
    lines.extend((attributes.iter()).map(|it| format!("     {}", attribute(it))));
    lines
}

fn parent(span: &Span) -> String {
    span.parent_span_id
        .map_or(String::new(), |id| id.to_string())
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Internal => "SPAN_KIND_INTERNAL",
        SpanKind::Server => "SPAN_KIND_SERVER",
        SpanKind::Client => "SPAN_KIND_CLIENT",
        SpanKind::Producer => "SPAN_KIND_PRODUCER",
        SpanKind::Consumer => "SPAN_KIND_CONSUMER",
    }
}

/// Returns no lines for an unset status, which is not sent.
fn status(status: &Status) -> Vec<String> {
    let (code, message) = match status {
        Status::Unset => return Vec::new(),
        Status::Ok => ("STATUS_CODE_OK", ""),
        Status::Error(message) => ("STATUS_CODE_ERROR", &**message),
    };
    vec![
        format!("    Status code    : {code}"),
        format!("    Status message : {message}"),
    ]
}

fn attribute(attribute: &KeyValue) -> String {
    format!("     -> {}: {}", attribute.key, value(&attribute.value))
}

fn value(of: &AnyValue) -> String {
    match of {
        AnyValue::Empty => "Empty".to_string(),
        AnyValue::String(text) => format!("Str({text})"),
        AnyValue::Bool(truth) => format!("Bool({truth})"),
        AnyValue::Int(number) => format!("Int({number})"),
        AnyValue::Double(number) => format!("Double({number})"),
        AnyValue::Bytes(bytes) => format!("Bytes({bytes:?})"),
        AnyValue::Array(values) => {
            let values: Vec<_> = values.iter().map(value).collect();
            format!("Slice({})", values.join(", "))
        }
        AnyValue::KeyValueList(values) => {
            let inner = |inner: &KeyValue| format!("{}:{}", inner.key, value(&inner.value));
            let values: Vec<_> = values.iter().map(inner).collect();
            format!("Map({})", values.join(", "))
        }
        other => panic!("unexpected value {other:?}"),
    }
}
