//! The envelope of a request: resource and scopes around the spans.

use std::sync::Arc;

use prost::Message;
use prost::encoding::encode_varint;

use crate::otlp::proto;
use crate::span::attribute::{KeyValue, last_of_each_key};
use crate::span::scope::{self, InstrumentationScope, Scope};

/// `ExportTraceServiceRequest.resource_spans`
const RESOURCE_SPANS: u8 = 1 << 3 | 2;
/// `ResourceSpans.resource`
const RESOURCE: u8 = 1 << 3 | 2;
/// `ResourceSpans.scope_spans`
const SCOPE_SPANS: u8 = 2 << 3 | 2;
/// `ResourceSpans.schema_url`
const RESOURCE_SCHEMA_URL: u8 = 3 << 3 | 2;
/// `ScopeSpans.scope`
const SCOPE: u8 = 1 << 3 | 2;
/// `ScopeSpans.schema_url`
const SCOPE_SCHEMA_URL: u8 = 3 << 3 | 2;

/// Maximum bytes of a message's tag and length.
const HEADER_MAX: usize = 1 + 10;
/// Maximum number of scopes of a collector besides its own.
pub(crate) const SCOPES_MAX: usize = 256;

/// A collector's scopes with the encoded fields that precede their spans.
pub(crate) type EncodedScopes = scope::Scopes<Vec<u8>>;

/// All of a request body except the spans.
///
/// ```text
/// resource_spans = {
///     resource = {…}  schema_url = …
///     scope_spans = { scope = {…}  schema_url = …  spans … }    for each run of spans
/// }
/// ```
pub(crate) struct Envelope {
    /// `ResourceSpans.resource` and `schema_url`, encoded.
    resource: Vec<u8>,
    own_scope: Vec<u8>,
    scopes: Arc<EncodedScopes>,
}

/// Consecutive spans of one scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Scope id; 0 is the collector's own scope.
    pub(crate) scope: u32,
    /// Length in bytes of the spans as `ScopeSpans.spans` elements.
    pub(crate) bytes: usize,
}

impl Envelope {
    /// Creates an envelope. The keys of `resource` are distinct.
    pub(crate) fn new(
        resource: Vec<KeyValue>,
        schema_url: &str,
        own_scope: &InstrumentationScope,
    ) -> Self {
        let resource = proto::Resource {
            attributes: resource.into_iter().map(Into::into).collect(),
            dropped_attributes_count: 0,
        };
        let mut fields = field(RESOURCE, &resource.encode_to_vec());
        fields.extend(text(RESOURCE_SCHEMA_URL, schema_url));
        Self {
            resource: fields,
            own_scope: scope_fields(own_scope),
            scopes: Arc::new(EncodedScopes::new(SCOPES_MAX)),
        }
    }

    pub(crate) fn scopes(&self) -> &Arc<EncodedScopes> {
        &self.scopes
    }

    /// Registers a scope, or returns the registered one that is equal; `None` beyond
    /// [`SCOPES_MAX`].
    pub(crate) fn scope(&self, scope: InstrumentationScope) -> Option<Scope> {
        self.scopes.register(scope, scope_fields)
    }

    /// Returns the bytes to send before each run. The first also contains the resource.
    pub(crate) fn heads(&self, runs: &[Run]) -> Vec<Vec<u8>> {
        let mut heads: Vec<_> = runs.iter().map(|run| self.scope_head(*run)).collect();
        let scope_spans: usize = heads.iter().map(Vec::len).sum();
        let spans: usize = runs.iter().map(|run| run.bytes).sum();
        if let Some(first) = heads.first_mut() {
            let mut head = header(RESOURCE_SPANS, self.resource.len() + scope_spans + spans);
            head.extend_from_slice(&self.resource);
            head.append(first);
            *first = head;
        }
        heads
    }

    fn scope_head(&self, run: Run) -> Vec<u8> {
        let scope = self.scope_fields(run.scope);
        let mut head = header(SCOPE_SPANS, scope.len() + run.bytes);
        head.extend_from_slice(scope);
        head
    }

    fn scope_fields(&self, scope: u32) -> &[u8] {
        self.scopes.get(scope).unwrap_or(&self.own_scope)
    }

    /// Returns the maximum bytes before the first run of a request, if it is of this scope.
    pub(crate) fn bytes_with(&self, scope: &InstrumentationScope) -> usize {
        self.resource_bytes_max() + HEADER_MAX + scope_fields(scope).len()
    }

    /// Returns the maximum bytes before all runs.
    pub(crate) fn resource_bytes_max(&self) -> usize {
        HEADER_MAX + self.resource.len()
    }

    /// Returns the maximum bytes before one run of this scope.
    pub(crate) fn scope_bytes_max(&self, scope: u32) -> usize {
        HEADER_MAX + self.scope_fields(scope).len()
    }
}

/// Encodes `ScopeSpans.scope` and `schema_url`.
fn scope_fields(scope: &InstrumentationScope) -> Vec<u8> {
    let message = proto::InstrumentationScope {
        name: scope.name.clone(),
        version: scope.version.clone(),
        attributes: (last_of_each_key(scope.attributes.clone()).into_iter())
            .map(Into::into)
            .collect(),
        dropped_attributes_count: 0,
    };
    let mut fields = field(SCOPE, &message.encode_to_vec());
    fields.extend(text(SCOPE_SCHEMA_URL, &scope.schema_url));
    fields
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

/// Encodes a string field, omitted when empty.
fn text(tag: u8, text: &str) -> Vec<u8> {
    if text.is_empty() {
        return Vec::new();
    }
    field(tag, text.as_bytes())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::otlp::proto::{ExportTraceServiceRequest, ScopeSpans, Span};

    fn spans(count: usize) -> (Vec<Span>, Vec<u8>) {
        let span = Span {
            name: "span".into(),
            ..Default::default()
        };
        let spans = vec![span; count];
        let elements = ScopeSpans {
            spans: spans.clone(),
            ..Default::default()
        };
        (spans, elements.encode_to_vec())
    }

    #[test]
    fn heads_and_spans_are_one_request() {
        let attribute = KeyValue::new("service.name", "test");
        let own = InstrumentationScope::new("own");
        let envelope = Envelope::new(vec![attribute.clone()], "https://schema/1", &own);
        let other = InstrumentationScope {
            version: "2".into(),
            attributes: vec![KeyValue::new("part", 7)],
            schema_url: "https://schema/2".into(),
            ..InstrumentationScope::new("other")
        };
        let registered = envelope.scope(other.clone()).unwrap();
        assert_eq!(envelope.scope(other), Some(registered.clone()));

        let counts = [(0, 1_usize), (registered.id(), 500), (0, 3)];
        let (messages, elements): (Vec<_>, Vec<_>) =
            counts.iter().map(|(_, count)| spans(*count)).unzip();
        let runs: Vec<_> = (counts.iter().zip(&elements))
            .map(|((scope, _), elements)| Run {
                scope: *scope,
                bytes: elements.len(),
            })
            .collect();
        let heads = envelope.heads(&runs);
        let bytes_max: usize = runs
            .iter()
            .map(|run| envelope.scope_bytes_max(run.scope))
            .sum();
        assert!(heads.concat().len() <= envelope.resource_bytes_max() + bytes_max);
        let pieces: Vec<_> = heads.into_iter().zip(elements).collect();
        let body: Vec<u8> = pieces
            .into_iter()
            .flat_map(|(head, run)| [head, run].concat())
            .collect();

        let request = ExportTraceServiceRequest::decode(&*body).unwrap();
        let [resource] = &request.resource_spans[..] else {
            panic!("one resource expected");
        };
        assert_eq!(resource.schema_url, "https://schema/1");
        assert_eq!(
            resource.resource.as_ref().unwrap().attributes,
            [attribute.into()]
        );
        let read: Vec<_> = (resource.scope_spans.iter())
            .map(|spans| {
                let scope = spans.scope.as_ref().unwrap();
                (
                    &*scope.name,
                    scope.attributes.len(),
                    &*spans.schema_url,
                    &spans.spans,
                )
            })
            .collect();
        assert_eq!(
            read,
            [
                ("own", 0, "", &messages[0]),
                ("other", 1, "https://schema/2", &messages[1]),
                ("own", 0, "", &messages[2]),
            ]
        );
    }

    #[test]
    fn no_more_scopes_than_the_maximum_are_registered() {
        let envelope = Envelope::new(Vec::new(), "", &InstrumentationScope::default());
        for number in 0..SCOPES_MAX {
            let scope = InstrumentationScope::new(number.to_string());
            assert!(envelope.scope(scope).is_some());
        }
        assert!(
            envelope
                .scope(InstrumentationScope::new("one more"))
                .is_none()
        );
        assert!(envelope.scope(InstrumentationScope::new("7")).is_some());
    }
}
