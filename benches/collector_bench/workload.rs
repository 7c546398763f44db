//! The span that is measured: 22 bytes of name, ids, parent, both times, two texts, a number and a boolean;
//! 209 bytes when encoded.

use otlp_collector::span::KeyValueRef;
use otlp_collector::{Key, Name, Recorder, Refused, SpanId, SpanKind, SpanRef, TraceId, key, name};

pub const TRACE: TraceId = TraceId::from_bytes([1; 16]).unwrap();
pub const SPAN: SpanId = SpanId::from_bytes([2; 8]).unwrap();
pub const PARENT: SpanId = SpanId::from_bytes([3; 8]).unwrap();
pub const SELECT: Name<'static> = name!("SELECT shop.order_line");
pub const SYSTEM: Key<'static> = key!("db.system.name");
pub const ADDRESS: Key<'static> = key!("server.address");
pub const ROWS: Key<'static> = key!("db.response.returned_rows");
pub const CACHED: Key<'static> = key!("db.cached");

/// Records it with random ids.
#[inline(always)]
pub fn record(recorder: &Recorder, start_time: u64, end_time: u64) -> Result<(), Refused> {
    let span = SpanRef {
        parent_span_id: Some(PARENT),
        kind: SpanKind::Client,
        start_time,
        end_time,
        ..SpanRef::new(recorder.new_trace_id(), recorder.new_span_id(), SELECT)
    };
    recorder.record_with(
        &span,
        (
            (SYSTEM, "postgresql"),
            (ADDRESS, "orders-db-3.internal"),
            (ROWS, 17),
            (CACHED, true),
        ),
    )
}

/// Records a span of about `bytes` encoded bytes, at least 60.
pub fn record_sized(recorder: &Recorder, bytes: usize, end_time: u64) -> Result<(), Refused> {
    const TEXT: &str = match str::from_utf8(&[b'x'; 16 * 1024]) {
        Ok(text) => text,
        Err(_) => "",
    };
    /// All except the text and the bytes around it.
    const FIXED: usize = 60;
    /// The key, and tags and lengths of it and the text.
    const AROUND: usize = 18;
    let text = [KeyValueRef::new(key!("payload"), {
        &TEXT[..bytes.saturating_sub(FIXED + AROUND)]
    })];
    let span = SpanRef {
        start_time: end_time,
        end_time,
        attributes: if bytes > FIXED + AROUND { &text } else { &[] },
        ..SpanRef::new(
            recorder.new_trace_id(),
            recorder.new_span_id(),
            name!("GET /a"),
        )
    };
    recorder.record(&span)
}

/// Records the root span of OpenTelemetry's performance specification: ten attributes, whose keys and values
/// have 20 characters each.
pub fn record_specified(recorder: &Recorder) -> Result<(), Refused> {
    const KEYS: [Key<'static>; 10] = [
        key!("attribute.key.....00"),
        key!("attribute.key.....01"),
        key!("attribute.key.....02"),
        key!("attribute.key.....03"),
        key!("attribute.key.....04"),
        key!("attribute.key.....05"),
        key!("attribute.key.....06"),
        key!("attribute.key.....07"),
        key!("attribute.key.....08"),
        key!("attribute.key.....09"),
    ];
    let mut span = recorder.span_builder(name!("specified")).start();
    for key in KEYS {
        span.set_attribute(key, "the value's 20 bytes");
    }
    span.try_end()
}
