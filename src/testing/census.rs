//! Checks and counts the spans of a request without building messages.

use crate::otlp::{FieldValue, Fields};

/// Returns the number of spans in the body of a request; `None` if it is not valid OTLP.
pub(super) fn spans(request: &[u8]) -> Option<u64> {
    sum(request, |field, content| match field {
        1 => resource_spans(content),
        _ => Some(0),
    })
}

fn resource_spans(message: &[u8]) -> Option<u64> {
    sum(message, |field, content| match field {
        1 => attributes(1, content),
        2 => scope_spans(content),
        _ => Some(0),
    })
}

fn scope_spans(message: &[u8]) -> Option<u64> {
    sum(message, |field, content| match field {
        2 => span(content),
        _ => Some(0),
    })
}

/// Returns 1 for a span with ids, a readable name and well-formed attributes, events and links.
fn span(message: &[u8]) -> Option<u64> {
    let mut ids = 0;
    sum(message, |field, content| {
        match field {
            1 => ids += u32::from(content.len() == 16 && content != [0; 16]),
            2 => ids += u32::from(content.len() == 8 && content != [0; 8]),
            3 | 5 => check_text(content)?,
            9 => check_key_value(content)?,
            11 => check_event(content)?,
            13 => check_link(content)?,
            15 => check_status(content)?,
            _ => {}
        }
        Some(0)
    })?;
    (ids == 2).then_some(1)
}

fn check_event(message: &[u8]) -> Option<()> {
    each(message, |field, content| match field {
        2 => check_text(content),
        3 => check_key_value(content),
        _ => None,
    })
}

fn check_link(message: &[u8]) -> Option<()> {
    each(message, |field, content| match field {
        1 => (content.len() == 16).then_some(()),
        2 => (content.len() == 8).then_some(()),
        3 => check_text(content),
        4 => check_key_value(content),
        _ => None,
    })
}

fn check_status(message: &[u8]) -> Option<()> {
    each(message, |field, content| match field {
        2 => check_text(content),
        _ => None,
    })
}

/// Checks the attributes of a message that has them in this field.
fn attributes(attributes: u32, message: &[u8]) -> Option<u64> {
    sum(message, |field, content| {
        if field == attributes {
            check_key_value(content)?;
        }
        Some(0)
    })
}

fn check_key_value(message: &[u8]) -> Option<()> {
    for field in Fields::new(message) {
        let field = field.ok()?;
        match (field.number, field.value) {
            (1, FieldValue::Bytes(key)) => check_text(key)?,
            (2, FieldValue::Bytes(value)) => check_value(value)?,
            _ => return None,
        }
    }
    Some(())
}

fn check_value(message: &[u8]) -> Option<()> {
    for field in Fields::new(message) {
        let field = field.ok()?;
        match (field.number, field.value) {
            (1, FieldValue::Bytes(text)) => check_text(text)?,
            (2 | 3, FieldValue::Varint(_))
            | (4, FieldValue::Fixed64(_))
            | (7, FieldValue::Bytes(_)) => {}
            (5, FieldValue::Bytes(values)) => each(values, |_, value| check_value(value))?,
            (6, FieldValue::Bytes(values)) => each(values, |_, value| check_key_value(value))?,
            _ => return None,
        }
    }
    Some(())
}

fn check_text(bytes: &[u8]) -> Option<()> {
    std::str::from_utf8(bytes).ok().map(drop)
}

/// Checks the length-delimited fields of a message.
fn each(message: &[u8], mut check: impl FnMut(u32, &[u8]) -> Option<()>) -> Option<()> {
    sum(message, |field, content| check(field, content).map(|()| 0)).map(drop)
}

/// Sums up the counts of all length-delimited fields.
fn sum(message: &[u8], mut count: impl FnMut(u32, &[u8]) -> Option<u64>) -> Option<u64> {
    let mut sum = 0;
    for field in Fields::new(message) {
        let field = field.ok()?;
        if let FieldValue::Bytes(content) = field.value {
            sum += count(field.number, content)?;
        }
    }
    Some(sum)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use prost::Message;

    use super::*;
    use crate::otlp::proto::{ExportTraceServiceRequest, ResourceSpans, ScopeSpans, Span};

    fn request(spans: &[Span]) -> Vec<u8> {
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                scope_spans: vec![ScopeSpans {
                    spans: spans.to_vec(),
                    ..Default::default()
                }],
                ..Default::default()
            }],
        }
        .encode_to_vec()
    }

    #[test]
    fn valid_spans_are_counted_and_invalid_ones_are_an_error() {
        let valid = Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            name: "span".into(),
            ..Default::default()
        };
        assert_eq!(spans(b""), Some(0));
        assert_eq!(spans(&request(&[])), Some(0));
        assert_eq!(spans(&request(&[valid.clone(), valid.clone()])), Some(2));

        let without_id = Span {
            span_id: Vec::new(),
            ..valid.clone()
        };
        assert_eq!(spans(&request(&[valid.clone(), without_id])), None);
        let mut nested = valid.clone();
        nested
            .events
            .push(crate::otlp::proto::span::Event::default());
        nested.links.push(crate::otlp::proto::span::Link {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            ..Default::default()
        });
        assert_eq!(spans(&request(&[nested.clone()])), Some(1));
        nested.links[0].span_id.pop();
        assert_eq!(spans(&request(&[nested])), None);
        let mut truncated = request(&[valid]);
        truncated.pop();
        assert_eq!(spans(&truncated), None);
        assert_eq!(spans(b"<html>"), None);
    }
}
