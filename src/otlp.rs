//! The wire format: OTLP's messages as protobuf.

mod attributes;
pub(crate) mod draft;
pub(crate) mod encode;
mod envelope;
mod fields;
pub(crate) mod finished;
mod nested;
#[cfg(all(test, not(loom)))]
mod oracle;
mod output;
mod repeats;
mod scalar;
#[rustfmt::skip]
#[allow(
    missing_docs,
    clippy::enum_variant_names,
    reason = "generated; the files in proto/ document the messages"
)]
#[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "only a receiver needs all"))]
pub(crate) mod proto;
mod tag;
mod value;

pub(crate) use envelope::{EncodedScopes, Envelope, Run, SCOPES_MAX};
#[cfg(feature = "testing")]
pub(crate) use fields::FieldValue;
pub(crate) use fields::{Fields, span_end_time};
pub(crate) use output::SPILL;
pub(crate) use repeats::seed as seed_hash;

use prost::Message;

use crate::span::attribute::{AnyValue, KeyValue, last_of_each_key};

/// `ExportTracePartialSuccess`: the body of a 2xx response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PartialSuccess {
    /// Number of spans of the request that the endpoint rejected.
    pub(crate) rejected: u64,
    /// The endpoint's reason. A warning if no span was rejected.
    pub(crate) message: String,
}

impl PartialSuccess {
    /// Decodes the body of a 2xx response; `None` if it is not an `ExportTraceServiceResponse`.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let response = proto::ExportTraceServiceResponse::decode(body).ok()?;
        let partial = response.partial_success.unwrap_or_default();
        Some(Self {
            rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
            message: partial.error_message,
        })
    }
}

impl From<KeyValue> for proto::KeyValue {
    fn from(attribute: KeyValue) -> Self {
        Self {
            key: attribute.key.into_owned(),
            value: Some(attribute.value.into()),
        }
    }
}

impl From<AnyValue> for proto::AnyValue {
    fn from(value: AnyValue) -> Self {
        use proto::any_value::Value;
        let value = match value {
            AnyValue::Empty => None,
            AnyValue::String(text) => Some(Value::StringValue(text.into_owned())),
            AnyValue::Bool(truth) => Some(Value::BoolValue(truth)),
            AnyValue::Int(number) => Some(Value::IntValue(number)),
            AnyValue::Double(number) => Some(Value::DoubleValue(number)),
            AnyValue::Bytes(bytes) => Some(Value::BytesValue(bytes)),
            AnyValue::Array(values) => Some(Value::ArrayValue(proto::ArrayValue {
                values: values.into_iter().map(Into::into).collect(),
            })),
            AnyValue::KeyValueList(values) => Some(Value::KvlistValue(proto::KeyValueList {
                values: (last_of_each_key(values).into_iter())
                    .map(Into::into)
                    .collect(),
            })),
        };
        Self { value }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn partial_success_is_decoded_and_other_bodies_are_not() {
        let response = proto::ExportTraceServiceResponse {
            partial_success: Some(proto::ExportTracePartialSuccess {
                rejected_spans: 3,
                error_message: "too old".into(),
            }),
        };
        let partial = PartialSuccess::decode(&response.encode_to_vec()).unwrap();
        assert_eq!((partial.rejected, &*partial.message), (3, "too old"));
        let nothing = Some(PartialSuccess::default());
        assert_eq!(PartialSuccess::decode(b""), nothing);
        assert_eq!(PartialSuccess::decode(b"<html>"), None);
    }
}
