//! What stands around the spans of a request.

use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::otlp::proto::{InstrumentationScope, Resource};
use crate::span::KeyValue;

/// `ExportTraceServiceRequest.resource_spans`
const RESOURCE_SPANS: u8 = 1 << 3 | 2;
/// `ResourceSpans.resource`
const RESOURCE: u8 = 1 << 3 | 2;
/// `ResourceSpans.scope_spans`
const SCOPE_SPANS: u8 = 2 << 3 | 2;
/// `ScopeSpans.scope`
const SCOPE: u8 = 1 << 3 | 2;

/// Everything of a request body but the spans, which follow it to the body's end.
///
/// ```text
/// resource_spans = { resource = {…}  scope_spans = { scope = {…}  spans … } }
/// ```
pub(crate) struct Envelope {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Envelope {
    pub(crate) fn new(resource: Vec<KeyValue>, scope: InstrumentationScope) -> Self {
        let resource = Resource {
            attributes: resource.into_iter().map(Into::into).collect(),
            dropped_attributes_count: 0,
        };
        Self {
            resource: field(RESOURCE, &resource.encode_to_vec()),
            scope: field(SCOPE, &scope.encode_to_vec()),
        }
    }

    /// The bytes that go before `spans` bytes of `ScopeSpans.spans` elements.
    pub(crate) fn prefix(&self, spans: usize) -> Vec<u8> {
        let scope_spans = self.scope.len() + spans;
        let scope_spans_header = header(SCOPE_SPANS, scope_spans);
        let resource_spans = self.resource.len() + scope_spans_header.len() + scope_spans;
        let mut prefix = header(RESOURCE_SPANS, resource_spans);
        prefix.extend_from_slice(&self.resource);
        prefix.extend_from_slice(&scope_spans_header);
        prefix.extend_from_slice(&self.scope);
        prefix
    }

    /// The longest that [`prefix`](Self::prefix) can be.
    pub(crate) fn prefix_max(&self) -> usize {
        let header_max = 1 + encoded_len_varint(u64::MAX);
        2 * header_max + self.resource.len() + self.scope.len()
    }
}

fn header(tag: u8, len: usize) -> Vec<u8> {
    let mut header = vec![tag];
    encode_varint(len as u64, &mut header);
    header
}

fn field(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut field = header(tag, content.len());
    field.extend_from_slice(content);
    field
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::otlp::proto::{ExportTraceServiceRequest, ScopeSpans, Span};

    #[test]
    fn prefix_and_spans_are_one_request() {
        let attribute = KeyValue::new("service.name", "test");
        let scope = InstrumentationScope {
            name: "scope".into(),
            ..Default::default()
        };
        let envelope = Envelope::new(vec![attribute.clone()], scope.clone());
        for spans in [0_usize, 1, 3, 500] {
            let spans = vec![
                Span {
                    name: "span".into(),
                    ..Default::default()
                };
                spans
            ];
            let elements = ScopeSpans {
                spans: spans.clone(),
                ..Default::default()
            }
            .encode_to_vec();
            let mut body = envelope.prefix(elements.len());
            assert!(body.len() <= envelope.prefix_max());
            body.extend_from_slice(&elements);

            let request = ExportTraceServiceRequest::decode(&*body).unwrap();
            assert_eq!(request.encode_to_vec(), body);
            let resource_spans = &request.resource_spans[0];
            let resource = resource_spans.resource.as_ref().unwrap();
            assert_eq!(resource.attributes, [attribute.clone().into()]);
            let scope_spans = &resource_spans.scope_spans[0];
            assert_eq!(scope_spans.scope.as_ref(), Some(&scope));
            assert_eq!(scope_spans.spans, spans);
        }
    }
}
