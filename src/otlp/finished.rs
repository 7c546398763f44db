//! Encodes a finished span as an element of `ScopeSpans.spans`, byte for byte as prost would.

use crate::otlp::attributes::{AttributeFields, dropped_count, encode_attributes};
use crate::otlp::encode::{
    EncodeSpan, encode_at, encode_event, encode_flags, encode_ids, encode_kind_and_times,
    encode_link, encode_name, encode_out_of_line, encode_parent, encode_span, encode_status,
    span_flags,
};
use crate::otlp::output::Output;
use crate::otlp::tag;
use crate::span::attribute::{Attributes, Name};
use crate::span::limits::SpanLimits;
use crate::span::{AsEvent, AsLink, Span, SpanRef};

/// A finished span, owned or borrowed, with additional attributes and the limits to encode it
/// within.
#[derive(Clone, Copy)]
pub(crate) struct Finished<'a, S, T> {
    pub(crate) span: S,
    pub(crate) tuple: T,
    pub(crate) limits: &'a SpanLimits,
}

/// A macro, because owned and borrowed spans share no type of field.
macro_rules! finished {
    ($type:ty, |$span:ident| $name:expr, $status:expr) => {
        impl<T> Finished<'_, $type, T> {
            /// Returns whether the span has none of the rarer fields.
            #[inline(always)]
            fn is_plain(&self) -> bool {
                let span = &self.span;
                span.trace_state.is_empty()
                    && span.events.is_empty()
                    && span.links.is_empty()
                    && span.dropped_attributes_count == 0
                    && span.dropped_events_count == 0
                    && span.dropped_links_count == 0
                    && span.status.is_unset()
            }
        }

        impl<T: Attributes> EncodeSpan for Finished<'_, $type, T> {
            #[inline(always)]
            fn end_time(&self) -> u64 {
                self.span.end_time
            }

            /// Encodes the span. Compiled twice: for plain spans, where the compiler removes the
            /// fields that are empty, and for all others.
            #[inline(always)]
            fn encode(&self, room: &mut [u8]) -> Option<usize> {
                if self.is_plain() {
                    encode_at(self, room)
                } else {
                    // A copy, so that the original is not borrowed by the call and stays in
                    // registers.
                    encode_out_of_line(&{ *self }, room)
                }
            }

            #[inline(always)]
            fn encode_to<O: Output>(&self, out: O) -> Option<O> {
                let ($span, limits) = (&self.span, self.limits);
                encode_span(
                    out,
                    #[inline(always)]
                    |out| {
                        let out = encode_ids($span.trace_id, $span.span_id, out)?;
                        let out = out.non_empty(tag::TRACE_STATE, $span.trace_state.as_bytes())?;
                        let out = encode_parent($span.parent_span_id, out)?;
                        let out = encode_name($name, out)?;
                        let out = encode_kind_and_times(
                            $span.kind as u8,
                            $span.start_time,
                            $span.end_time,
                            out,
                        )?;
                        let fields = AttributeFields {
                            count_max: limits.attribute_count,
                            tag: tag::ATTRIBUTES,
                            dropped_tag: tag::DROPPED_ATTRIBUTES,
                        };
                        let dropped = $span.dropped_attributes_count;
                        let out = encode_attributes(
                            &self.tuple,
                            &$span.attributes,
                            dropped,
                            fields,
                            limits,
                            out,
                        )?;
                        let out = encode_up_to(
                            &$span.events,
                            limits.event_count,
                            $span.dropped_events_count,
                            tag::DROPPED_EVENTS,
                            out,
                            |event, out| encode_event(&event.as_event(), limits, out),
                        )?;
                        let out = encode_up_to(
                            &$span.links,
                            limits.link_count,
                            $span.dropped_links_count,
                            tag::DROPPED_LINKS,
                            out,
                            |link, out| encode_link(&link.as_link(), limits, out),
                        )?;
                        let out = encode_status($status, out)?;
                        encode_flags(span_flags($span.trace_flags, $span.parent_is_remote), out)
                    },
                )
            }
        }
    };
}

finished!(SpanRef<'_>, |span| span.name, span.status);
finished!(&SpanRef<'_>, |span| span.name, span.status);
finished!(&Span, |span| Name::from(&*span.name), span.status.as_ref());

/// Encodes events or links up to their limit, and the dropped count.
#[inline(always)]
fn encode_up_to<T, O: Output>(
    all: &[T],
    count_max: u32,
    dropped: u32,
    dropped_tag: u8,
    out: O,
    encode: impl Fn(&T, O) -> Option<O>,
) -> Option<O> {
    if all.is_empty() {
        return out.count(dropped_tag, dropped);
    }
    let kept = &all[..all.len().min(count_max as usize)];
    let out = kept.iter().try_fold(out, |out, item| encode(item, out))?;
    out.count(dropped_tag, dropped_count(dropped, all.len(), kept.len()))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::otlp::oracle::{any_limits, any_span, message};
    use crate::otlp::{Fields, SPILL, proto, span_end_time};
    use crate::span::attribute::{AnyValue, AnyValueRef, AsKeyValue, KeyValue, KeyValueRef};
    use crate::span::id::{SpanId, TraceId};
    use crate::span::{EventRef, LinkRef};

    /// Encodes a span into exactly the room it needs, and checks that less is not enough.
    fn encoded(span: &impl EncodeSpan) -> Vec<u8> {
        let len = span.encoded_len();
        // A short span needs one byte more while its length is reserved as two bytes.
        let room = if len < 130 { len + 1 } else { len };
        let mut out = vec![0xee; room + SPILL];
        assert_eq!(span.encode(&mut out[..len + SPILL - 1]), None);
        assert_eq!(span.encode(&mut out), Some(len));
        out.truncate(len);
        out
    }

    fn encode(span: &Span, limits: &SpanLimits) -> Vec<u8> {
        encoded(&Finished {
            span,
            tuple: (),
            limits,
        })
    }

    fn references(attributes: &[KeyValue]) -> Vec<KeyValueRef<'_>> {
        attributes.iter().map(AsKeyValue::as_key_value).collect()
    }

    fn encode_borrowed(span: &Span, limits: &SpanLimits) -> Vec<u8> {
        let attributes = references(&span.attributes);
        let of_events: Vec<_> = span
            .events
            .iter()
            .map(|e| references(&e.attributes))
            .collect();
        let events: Vec<_> = (span.events.iter().zip(&of_events))
            .map(|(event, attributes)| EventRef {
                attributes,
                dropped_attributes_count: event.dropped_attributes_count,
                ..EventRef::new(&event.name, event.time)
            })
            .collect();
        let of_links: Vec<_> = span
            .links
            .iter()
            .map(|l| references(&l.attributes))
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
            parent_is_remote: span.parent_is_remote,
            trace_flags: span.trace_flags,
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
            status: span.status.as_ref(),
            ..SpanRef::new(span.trace_id, span.span_id, &*span.name)
        };
        encoded(&Finished {
            span: &span,
            tuple: (),
            limits,
        })
    }

    fn element(span: proto::Span) -> Vec<u8> {
        let message = proto::ScopeSpans {
            spans: vec![span],
            ..Default::default()
        };
        message.encode_to_vec()
    }

    proptest! {
        #[test]
        fn a_span_is_encoded_as_by_prost(span in any_span(), limits in any_limits()) {
            let expected = element(message(&span, &limits));
            prop_assert_eq!(&encode(&span, &limits), &expected);
            prop_assert_eq!(&encode_borrowed(&span, &limits), &expected);
        }

        #[test]
        fn the_official_types_decode_the_same_span(span in any_span()) {
            use opentelemetry_proto::tonic::trace::v1 as official;
            // Encoding the decoded span again gives the same bytes, so no field was lost.
            let ours = encode(&span, &SpanLimits::default());
            let theirs = official::ScopeSpans::decode(&*ours).unwrap();
            prop_assert_eq!(theirs.encode_to_vec(), ours);
            let read = &theirs.spans[0];
            prop_assert_eq!(&read.trace_id[..], &span.trace_id.to_bytes()[..]);
            prop_assert_eq!(&read.span_id[..], &span.span_id.to_bytes()[..]);
            prop_assert_eq!(&*read.name, &*span.name);
            prop_assert_eq!(read.kind, span.kind as i32);
            prop_assert_eq!(read.start_time_unix_nano, span.start_time);
            prop_assert_eq!(read.end_time_unix_nano, span.end_time);
            prop_assert_eq!(&*read.trace_state, &*span.trace_state);
            prop_assert_eq!(read.flags & 0xff, u32::from(span.trace_flags.bits()));
            let known = official::SpanFlags::ContextHasIsRemoteMask as u32;
            prop_assert_eq!(read.flags & known != 0, span.parent_is_remote.is_some());
            let remote = official::SpanFlags::ContextIsRemoteMask as u32;
            prop_assert_eq!(read.flags & remote != 0, span.parent_is_remote == Some(true));
            prop_assert_eq!(read.events.len(), span.events.len());
            for (read, written) in read.events.iter().zip(&span.events) {
                prop_assert_eq!((&*read.name, read.time_unix_nano), (&*written.name, written.time));
            }
            prop_assert_eq!(read.links.len(), span.links.len());
            for (read, written) in read.links.iter().zip(&span.links) {
                prop_assert_eq!(&read.trace_id[..], &written.context.trace_id.to_bytes()[..]);
                prop_assert_eq!(&*read.trace_state, written.context.trace_state.as_str());
            }
            prop_assert_eq!(read.status.as_ref().map_or(0, |status| status.code), match span.status {
                crate::span::Status::Unset => 0,
                crate::span::Status::Ok => 1,
                crate::span::Status::Error(_) => 2,
            });
        }

        #[test]
        fn the_end_time_is_found_without_decoding(span in any_span()) {
            let bytes = encode(&span, &SpanLimits::default());
            let element = Fields::new(&bytes).next().unwrap().unwrap();
            prop_assert_eq!(span_end_time(element.bytes().unwrap()), span.end_time);
        }
    }

    /// Each homogeneous slice type that callers can pass, and the array it stands for.
    #[test]
    fn homogeneous_slices_are_arrays() {
        let texts = [String::from("a"), String::from("b")];
        let values = [
            (
                AnyValueRef::from(&["a", "b"][..]),
                AnyValue::from(vec!["a", "b"]),
            ),
            (
                AnyValueRef::from(&texts[..]),
                AnyValue::from(texts.to_vec()),
            ),
            (
                AnyValueRef::from(&[1_i64, -2][..]),
                AnyValue::from(vec![1_i64, -2]),
            ),
            (
                AnyValueRef::from(&[0.5, 1e300][..]),
                AnyValue::from(vec![0.5, 1e300]),
            ),
            (
                AnyValueRef::from(&[true, false][..]),
                AnyValue::from(vec![true, false]),
            ),
            (
                AnyValueRef::from(&b"\x00\xff"[..]),
                AnyValue::from(vec![0_u8, 0xff]),
            ),
            (
                AnyValueRef::from(&[AnyValueRef::Empty, AnyValueRef::Int(1)][..]),
                AnyValue::from(vec![AnyValue::Empty, AnyValue::Int(1)]),
            ),
        ];
        for (borrowed, owned) in values {
            assert_eq!(borrowed, AnyValueRef::from(&owned));
        }
    }

    #[test]
    fn attributes_of_a_tuple_come_before_the_spans_own() {
        let tuple = (
            ("b", "text"),
            (crate::key!("prepared"), 7),
            ("c", &[1_i64, -2][..]),
            ("a", 0.5),
            ("long", LONG),
            (
                crate::key!("a.prepared.key.that.takes.more.than.a.block"),
                true,
            ),
        );
        let own = |key| KeyValueRef::new(key, "own");
        for (items, attribute_count) in [
            (&[][..], 128),
            (&[own("d"), own("e")], 128),
            (&[own("d"), own("a"), own("d"), own("")], 128),
            (&[own("prepared")], 4),
            (&[own("d")], 0),
        ] {
            let limits = SpanLimits {
                attribute_count,
                ..SpanLimits::default()
            };
            let of_tuple = [
                KeyValueRef::new(tuple.0.0, tuple.0.1),
                KeyValueRef::new(tuple.1.0, tuple.1.1),
                KeyValueRef::new(tuple.2.0, tuple.2.1),
                KeyValueRef::new(tuple.3.0, tuple.3.1),
                KeyValueRef::new(tuple.4.0, tuple.4.1),
                KeyValueRef::new(tuple.5.0, tuple.5.1),
            ];
            let all = [&of_tuple, items].concat();
            let span = |attributes| SpanRef {
                start_time: 3,
                attributes,
                ..SpanRef::new(TraceId::MIN, SpanId::MIN, "span")
            };
            let with_tuple = Finished {
                span: span(items),
                tuple,
                limits: &limits,
            };
            let without = Finished {
                span: span(&all),
                tuple: (),
                limits: &limits,
            };
            assert_eq!(encoded(&with_tuple), encoded(&without));
        }
    }

    const LONG: &str = "a text that is longer than those copied by two moves of 16 bytes";

    #[test]
    fn integers_above_the_largest_i64_are_encoded_as_text() {
        for number in [0, 7, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
            let limits = SpanLimits::default();
            let mut span = Span::new("span");
            span.attributes.push(KeyValue::new("number", number));
            let expected = element(message(&span, &limits));
            let attributes = [KeyValueRef::new("number", AnyValueRef::Uint(number))];
            let span = SpanRef {
                start_time: span.start_time,
                trace_flags: span.trace_flags,
                attributes: &attributes,
                ..SpanRef::new(span.trace_id, span.span_id, "span")
            };
            let span = Finished {
                span: &span,
                tuple: (),
                limits: &limits,
            };
            assert_eq!(encoded(&span), expected, "{number}");
        }
    }

    #[test]
    fn values_nested_too_deep_are_empty_and_receivers_decode_the_rest() {
        let array = |inner| AnyValue::Array(vec![inner]);
        let list = |inner| AnyValue::KeyValueList(vec![KeyValue::new("inner", inner)]);
        let limits = SpanLimits::default();
        for levels in [29, 30, 31, 45, 46, 200] {
            for nested in [
                (0..levels).fold(AnyValue::Int(7), |inner, _| array(inner)),
                (0..levels).fold(AnyValue::Int(7), |inner, _| list(inner)),
                (0..levels).fold(AnyValue::Int(7), |inner, _| list(array(inner))),
            ] {
                let mut event = crate::span::Event::new("deep");
                event.attributes.push(KeyValue::new("nested", nested));
                let mut span = Span::new("deep");
                span.attributes.push(KeyValue::new("flat", true));
                span.attributes.push(event.attributes[0].clone());
                span.events.push(event);
                let spans = encode(&span, &limits);
                assert_eq!(spans, element(message(&span, &limits)), "{levels} levels");
                // A request wraps the spans in `ScopeSpans` and `ResourceSpans`.
                let mut request = spans;
                for tag in [0x12, 0x0a] {
                    let mut message = vec![tag];
                    prost::encoding::encode_varint(request.len() as u64, &mut message);
                    message.extend(request);
                    request = message;
                }
                assert!(proto::ExportTraceServiceRequest::decode(&*request).is_ok());
            }
        }
    }

    /// Calls `then` with an array in which each level contains the one below twice. Its encoding
    /// grows as 2^levels.
    fn with_doubled(levels: u32, value: AnyValueRef<'_>, then: &mut dyn FnMut(AnyValueRef<'_>)) {
        if levels == 0 {
            return then(value);
        }
        with_doubled(levels - 1, AnyValueRef::from(&[value, value]), then);
    }

    #[test]
    fn measuring_a_value_of_exponential_length_stops_early() {
        with_doubled(44, AnyValueRef::Int(1), &mut |value| {
            let attributes = [KeyValueRef::new("shared", value)];
            let span = SpanRef {
                attributes: &attributes,
                ..SpanRef::new(TraceId::MIN, SpanId::MIN, "span")
            };
            let limits = SpanLimits::default();
            let span = Finished {
                span: &span,
                tuple: (),
                limits: &limits,
            };
            assert!(span.encoded_len() > 1 << 24);
            assert_eq!(span.encode(&mut [0; 1 << 16]), None);
        });
    }

    #[test]
    fn all_of_very_many_attributes_are_kept_or_counted_as_dropped() {
        let mut span = Span::new("many");
        let numbered = |number: usize| KeyValue::new(format!("key.{number}"), number);
        span.attributes = (0..5000).map(numbered).collect();
        let limits = SpanLimits::default();
        let read = proto::ScopeSpans::decode(&*encode(&span, &limits)).unwrap();
        assert_eq!(read.spans[0].attributes.len(), 128);
        assert_eq!(read.spans[0].dropped_attributes_count, 5000 - 128);
    }
}
