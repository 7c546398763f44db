//! Questions that tests ask about received spans.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::otlp::proto;
use crate::span::attribute::{AnyValue, KeyValue};

/// The only span with this name; panics with the names there are.
#[track_caller]
pub(super) fn only<'s>(
    spans: impl Iterator<Item = &'s proto::Span>,
    name: &str,
) -> &'s proto::Span {
    let mut found = Vec::new();
    let mut names = BTreeMap::<_, usize>::new();
    for span in spans {
        *names.entry(&*span.name).or_default() += 1;
        found.extend((span.name == name).then_some(span));
    }
    match found[..] {
        [span] => span,
        [] => panic!("no span {name:?} was received, but {}", list(&names)),
        _ => panic!("{} spans {name:?} were received: use spans()", found.len()),
    }
}

fn list(names: &BTreeMap<&str, usize>) -> String {
    if names.is_empty() {
        return "none at all: flush or shut down before, and start the receiver with start()"
            .into();
    }
    let names = names.iter().map(|(name, count)| match count {
        1 => format!("{name:?}"),
        _ => format!("{name:?} ({count} times)"),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// Helpers for tests (feature `testing`).
impl proto::Span {
    /// Returns the value of the attribute with this key, if there is one.
    ///
    /// ```
    /// # use otlp_collector::{AnyValue, testing::proto};
    /// # fn example(span: &proto::Span) {
    /// assert_eq!(span.attribute("http.response.status_code"), Some(200.into()));
    /// assert_eq!(span.attribute("error.type"), None);
    /// # }
    /// ```
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<AnyValue> {
        value(&self.attributes, key)
    }

    /// Checks that `parent` is the parent of this span.
    ///
    /// # Panics
    /// It is not, or is of another trace.
    #[track_caller]
    pub fn assert_child_of(&self, parent: &Self) {
        assert!(
            self.trace_id == parent.trace_id && self.parent_span_id == parent.span_id,
            "span {:?} is no child of {:?}: its parent is {} in trace {}, and that is {} in trace {}",
            self.name,
            parent.name,
            hex(&self.parent_span_id),
            hex(&self.trace_id),
            hex(&parent.span_id),
            hex(&parent.trace_id),
        );
    }

    /// Checks that this span has no parent.
    ///
    /// # Panics
    /// It has one.
    #[track_caller]
    pub fn assert_root(&self) {
        assert!(
            self.parent_span_id.is_empty(),
            "span {:?} is no root: its parent is {} in trace {}",
            self.name,
            hex(&self.parent_span_id),
            hex(&self.trace_id),
        );
    }
}

/// Helpers for tests (feature `testing`).
impl proto::span::Event {
    /// Returns the value of the attribute with this key, if there is one.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<AnyValue> {
        value(&self.attributes, key)
    }
}

/// Helpers for tests (feature `testing`).
impl proto::span::Link {
    /// Returns the value of the attribute with this key, if there is one.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<AnyValue> {
        value(&self.attributes, key)
    }
}

/// Helpers for tests (feature `testing`).
impl proto::Resource {
    /// Returns the value of the attribute with this key, if there is one.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<AnyValue> {
        value(&self.attributes, key)
    }
}

/// Helpers for tests (feature `testing`).
impl proto::InstrumentationScope {
    /// Returns the value of the attribute with this key, if there is one.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<AnyValue> {
        value(&self.attributes, key)
    }
}

fn value(attributes: &[proto::KeyValue], key: &str) -> Option<AnyValue> {
    let attribute = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(decoded(attribute.value.as_ref()))
}

/// A received value as the type that is used to record it.
fn decoded(value: Option<&proto::AnyValue>) -> AnyValue {
    use proto::any_value::Value;
    match value.and_then(|value| value.value.as_ref()) {
        None => AnyValue::Empty,
        Some(Value::StringValue(text)) => AnyValue::String(text.clone().into()),
        Some(Value::BoolValue(value)) => AnyValue::Bool(*value),
        Some(Value::IntValue(number)) => AnyValue::Int(*number),
        Some(Value::DoubleValue(number)) => AnyValue::Double(*number),
        Some(Value::BytesValue(bytes)) => AnyValue::Bytes(bytes.clone()),
        Some(Value::ArrayValue(array)) => AnyValue::Array(
            array
                .values
                .iter()
                .map(|value| decoded(Some(value)))
                .collect(),
        ),
        Some(Value::KvlistValue(list)) => {
            let values = list.values.iter();
            let decode = |item: &proto::KeyValue| {
                KeyValue::new(item.key.clone(), decoded(item.value.as_ref()))
            };
            AnyValue::KeyValueList(values.map(decode).collect())
        }
    }
}

fn hex(id: &[u8]) -> String {
    let mut text = String::new();
    for byte in id {
        let _ = write!(text, "{byte:02x}");
    }
    match text.is_empty() {
        true => "none".to_string(),
        false => text,
    }
}
