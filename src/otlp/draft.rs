//! A span that has not ended. Its data is encoded as it is added, so that ending it is a copy.

use std::fmt;

use crate::otlp::encode::{self, EncodeSpan};
use crate::otlp::output::Output;
use crate::otlp::page::{Scratch, floor_char_boundary};
use crate::otlp::tag;
use crate::span::attribute::{Key, KeyValueRef, Name};
use crate::span::context::{SpanContext, TraceFlags, TraceState};
use crate::span::id::{SpanId, TraceId};
use crate::span::limits::SpanLimits;
use crate::span::{EventRef, LinkRef, SpanKind, StatusRef};

/// The beginning of a span's name, for a span without scratch memory.
#[derive(Clone, Copy)]
struct ShortName {
    len: u8,
    bytes: [u8; SHORT_NAME_MAX],
}

const SHORT_NAME_MAX: usize = 31;

impl ShortName {
    const EMPTY: Self = Self {
        len: 0,
        bytes: [0; SHORT_NAME_MAX],
    };

    fn new(name: &str) -> Self {
        let len = floor_char_boundary(name, SHORT_NAME_MAX);
        let mut bytes = [0; SHORT_NAME_MAX];
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        Self {
            len: len as u8,
            bytes,
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Status code of an open span, in the order in which it may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum StatusCode {
    Unset,
    Error,
    Ok,
}

/// Ids and trace flags of an open span.
#[derive(Clone, Copy)]
pub(crate) struct SpanIds {
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    pub(crate) parent_span_id: Option<SpanId>,
    pub(crate) parent_is_remote: bool,
    pub(crate) trace_flags: TraceFlags,
}

/// An open span's fields.
pub(crate) struct Draft {
    pub(crate) ids: SpanIds,
    pub(crate) kind: SpanKind,
    pub(crate) start_time: u64,
    pub(crate) content: Content,
}

/// Counts of the items that did not fit into a span or exceeded its limits.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Dropped {
    attributes: u32,
    events: u32,
    links: u32,
}

impl Dropped {
    const NONE: Self = Self {
        attributes: 0,
        events: 0,
        links: 0,
    };

    #[cold]
    fn encode_to<O: Output>(&self, out: O) -> Option<O> {
        out.count(tag::DROPPED_ATTRIBUTES, self.attributes)?
            .count(tag::DROPPED_EVENTS, self.events)?
            .count(tag::DROPPED_LINKS, self.links)
    }
}

/// The data of an open span that can change until its end: name, attributes, events, links and
/// status.
pub(crate) struct Content {
    status: StatusCode,
    dropped: Dropped,
    scratch: Option<Scratch>,
    /// The name, if there is no scratch memory.
    short_name: ShortName,
}

impl Content {
    /// No data and no scratch memory.
    pub(crate) const EMPTY: Self = Self {
        status: StatusCode::Unset,
        dropped: Dropped::NONE,
        scratch: None,
        short_name: ShortName::EMPTY,
    };

    /// Starts a span's data with its name, and the trace state to propagate.
    #[inline(always)]
    pub(crate) fn begin(scratch: Option<Scratch>, trace_state: &str, name: Name<'_>) -> Self {
        let Some(mut scratch) = scratch else {
            return Self {
                short_name: ShortName::new(name.text()),
                ..Self::EMPTY
            };
        };
        scratch.begin(trace_state, name);
        Self {
            scratch: Some(scratch),
            ..Self::EMPTY
        }
    }

    #[inline]
    pub(crate) fn has_scratch(&self) -> bool {
        self.scratch.is_some()
    }

    /// Takes the scratch memory for reuse. The data is gone with it.
    #[inline]
    pub(crate) fn take_scratch(&mut self) -> Option<Scratch> {
        self.scratch.take()
    }

    #[inline]
    pub(crate) fn trace_state(&self) -> &str {
        (self.scratch.as_ref()).map_or("", |scratch| scratch.trace_state())
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.status == StatusCode::Error
    }

    #[cold]
    pub(crate) fn set_name(&mut self, name: Name<'_>) {
        match &mut self.scratch {
            Some(scratch) => scratch.set_name(name),
            None => self.short_name = ShortName::new(name.text()),
        }
    }

    /// Sets an attribute; the last one with a key wins.
    #[inline(always)]
    pub(crate) fn attribute(&mut self, attribute: &KeyValueRef<'_>, limits: &SpanLimits) {
        let scratch = self.scratch.as_deref_mut();
        let added = scratch.is_some_and(|page| page.attribute(attribute, limits));
        count_dropped(!added, &mut self.dropped.attributes);
    }

    /// Adds an attribute as [`attribute`](Self::attribute) does, with a value that is formatted in
    /// place.
    #[cold]
    pub(crate) fn attribute_display(
        &mut self,
        key: Key<'_>,
        text: &dyn fmt::Display,
        limits: &SpanLimits,
    ) {
        let scratch = self.scratch.as_deref_mut();
        let added = scratch.is_some_and(|page| page.add_display(key, text, limits));
        count_dropped(!added, &mut self.dropped.attributes);
    }

    #[inline(always)]
    pub(crate) fn event(&mut self, event: &EventRef<'_>, limits: &SpanLimits) {
        let scratch = self.scratch.as_deref_mut();
        let added = scratch.is_some_and(|page| page.add_event(event, limits));
        count_dropped(!added, &mut self.dropped.events);
    }

    /// Adds an event `exception` with the error's message, cut to the free room, and its type.
    #[cold]
    pub(crate) fn exception(
        &mut self,
        error: &dyn fmt::Display,
        type_name: &str,
        time: u64,
        limits: &SpanLimits,
    ) {
        let scratch = self.scratch.as_deref_mut();
        let added = scratch.is_some_and(|page| page.add_exception(error, type_name, time, limits));
        count_dropped(!added, &mut self.dropped.events);
    }

    #[inline(always)]
    pub(crate) fn link(&mut self, link: &LinkRef<'_>, limits: &SpanLimits) {
        let scratch = self.scratch.as_deref_mut();
        let added = scratch.is_some_and(|page| page.add_link(link, limits));
        count_dropped(!added, &mut self.dropped.links);
    }

    /// Sets the status. Ok is final, Error overrides Unset, a later Error overrides an earlier
    /// one.
    pub(crate) fn set_status(&mut self, status: StatusRef<'_>) {
        let code = match status {
            StatusRef::Unset => StatusCode::Unset,
            StatusRef::Error(_) => StatusCode::Error,
            StatusRef::Ok => StatusCode::Ok,
        };
        if code == StatusCode::Unset || code < self.status || self.status == StatusCode::Ok {
            return;
        }
        self.status = code;
        if let Some(scratch) = &mut self.scratch {
            scratch.describe(status);
        }
    }

    // ---- Encoding ----

    #[inline(always)]
    fn encode_to<O: Output>(&self, out: O) -> Option<O> {
        let mut out = match &self.scratch {
            Some(scratch) => out.bytes(scratch.written())?,
            None => out.non_empty(tag::NAME, self.short_name.as_bytes())?,
        };
        if self.dropped != Dropped::NONE {
            out = self.dropped.encode_to(out)?;
        }
        encode::encode_status(self.bare_status(), out)
    }

    /// Returns the status, unless it is encoded in the scratch memory already.
    #[inline]
    fn bare_status(&self) -> StatusRef<'static> {
        match self.status {
            StatusCode::Ok => StatusRef::Ok,
            StatusCode::Error if !self.is_described() => StatusRef::Error(""),
            StatusCode::Error | StatusCode::Unset => StatusRef::Unset,
        }
    }

    #[inline]
    fn is_described(&self) -> bool {
        (self.scratch.as_ref()).is_some_and(|scratch| scratch.is_described())
    }
}

#[inline(always)]
fn count_dropped(is_dropped: bool, count: &mut u32) {
    *count = count.saturating_add(u32::from(is_dropped));
}

impl Draft {
    /// Takes the span out and leaves one with the same ids, kind and start but no data.
    pub(crate) fn take(&mut self) -> Self {
        Self {
            content: std::mem::replace(&mut self.content, Content::EMPTY),
            ..*self
        }
    }

    #[inline]
    pub(crate) fn context(&self) -> SpanContext<'_> {
        SpanContext {
            trace_id: self.ids.trace_id,
            span_id: self.ids.span_id,
            trace_flags: self.ids.trace_flags,
            is_remote: false,
            trace_state: TraceState::checked(self.content.trace_state()),
        }
    }

    /// Returns the span with its end time, to be encoded.
    #[inline]
    pub(crate) fn ended(&self, end_time: u64) -> Ended<'_> {
        Ended {
            draft: self,
            end_time,
        }
    }

    #[inline]
    fn flags(&self) -> u32 {
        encode::span_flags(self.ids.trace_flags, Some(self.ids.parent_is_remote))
    }
}

/// An open span with its end time.
#[derive(Clone, Copy)]
pub(crate) struct Ended<'d> {
    draft: &'d Draft,
    end_time: u64,
}

impl EncodeSpan for Ended<'_> {
    #[inline(always)]
    fn end_time(&self) -> u64 {
        self.end_time
    }

    #[inline(always)]
    fn encode_to<O: Output>(&self, out: O) -> Option<O> {
        let draft = self.draft;
        let ids = &draft.ids;
        encode::encode_span(
            out,
            #[inline(always)]
            |out| {
                let out = encode::encode_ids(ids.trace_id, ids.span_id, out)?;
                let out = encode::encode_parent(ids.parent_span_id, out)?;
                let (start_time, end_time) = (draft.start_time, self.end_time);
                let out = encode::encode_kind_and_times(draft.kind, start_time, end_time, out)?;
                let out = draft.content.encode_to(out)?;
                encode::encode_flags(draft.flags(), out)
            },
        )
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::key;
    use crate::otlp::oracle::{
        any_event, any_key, any_kind, any_limits, any_link, any_status, any_text, any_trace_state,
        any_value, event_message, key_value, link_message, status,
    };
    use crate::otlp::{SPILL, proto};
    use crate::span::attribute::{AnyValueRef, AsKeyValue, KeyValue};
    use crate::span::{Event, Link, Status};

    /// One change of an open span.
    #[derive(Clone, Debug)]
    enum Change {
        Attribute(KeyValue),
        Display(KeyValue),
        Event(Event),
        Link(Link),
        Status(Status),
        Name(Cow<'static, str>),
    }

    fn any_change() -> impl Strategy<Value = Change> {
        prop_oneof![
            6 => (any_key(), any_value())
                .prop_map(|(key, value)| Change::Attribute(KeyValue { key, value })),
            1 => (any_key(), any_text())
                .prop_map(|(key, text)| Change::Display(KeyValue::new(key, text))),
            2 => any_event().prop_map(Change::Event),
            2 => any_link().prop_map(Change::Link),
            1 => any_status().prop_map(Change::Status),
            1 => any_text().prop_map(Change::Name),
        ]
    }

    fn apply(draft: &mut Draft, change: &Change, limits: &SpanLimits) {
        fn references(attributes: &[KeyValue]) -> Vec<KeyValueRef<'_>> {
            attributes.iter().map(AsKeyValue::as_key_value).collect()
        }
        match change {
            Change::Attribute(attribute) => {
                draft.content.attribute(&attribute.as_key_value(), limits)
            }
            Change::Display(attribute) => {
                let AnyValueRef::String(text) = attribute.as_key_value().value else {
                    panic!("expected a string");
                };
                draft
                    .content
                    .attribute_display(Key::from(&*attribute.key), &text, limits);
            }
            Change::Event(event) => draft.content.event(
                &EventRef {
                    attributes: &references(&event.attributes),
                    dropped_attributes_count: event.dropped_attributes_count,
                    ..EventRef::new(&event.name, event.time)
                },
                limits,
            ),
            Change::Link(link) => draft.content.link(
                &LinkRef {
                    attributes: &references(&link.attributes),
                    dropped_attributes_count: link.dropped_attributes_count,
                    ..LinkRef::new(&link.context)
                },
                limits,
            ),
            Change::Status(status) => draft.content.set_status(status.as_ref()),
            Change::Name(name) => draft.content.set_name(Name::from(&**name)),
        }
    }

    /// The reference: makes the change in prost's message.
    fn apply_to_message(span: &mut proto::Span, change: &Change, limits: &SpanLimits) {
        match change {
            Change::Attribute(attribute) | Change::Display(attribute) => {
                let message = key_value(attribute, limits, 90);
                let mut known = span.attributes.iter();
                match known.position(|known| known.key == message.key) {
                    Some(at) => span.attributes[at] = message,
                    None if message.key.is_empty() => span.dropped_attributes_count += 1,
                    None if span.attributes.len() < limits.attribute_count as usize => {
                        span.attributes.push(message);
                    }
                    None => span.dropped_attributes_count += 1,
                }
            }
            Change::Event(_) if span.events.len() == limits.event_count as usize => {
                span.dropped_events_count += 1;
            }
            Change::Event(event) => span.events.push(event_message(event, limits)),
            Change::Link(_) if span.links.len() == limits.link_count as usize => {
                span.dropped_links_count += 1;
            }
            Change::Link(link) => span.links.push(link_message(link, limits)),
            Change::Status(new) => {
                let code = |status: &Option<proto::Status>| status.as_ref().map_or(0, |s| s.code);
                let new = status(new);
                // Error is 2 and Ok is 1, but Ok is final.
                if new.is_some() && code(&span.status) != 1 {
                    span.status = new;
                }
            }
            Change::Name(name) => span.name = name.to_string(),
        }
    }

    fn draft(scratch_bytes: usize, trace_state: &str, name: &str) -> Draft {
        let scratch = Some(Scratch::new(scratch_bytes));
        with(Content::begin(scratch, trace_state, Name::from(name)))
    }

    fn with(content: Content) -> Draft {
        Draft {
            ids: SpanIds {
                trace_id: TraceId::from_bytes([1; 16]).unwrap(),
                span_id: SpanId::from_bytes([2; 8]).unwrap(),
                parent_span_id: None,
                parent_is_remote: false,
                trace_flags: TraceFlags::SAMPLED,
            },
            kind: SpanKind::Internal,
            start_time: 3,
            content,
        }
    }

    fn decode(draft: &Draft) -> proto::Span {
        let span = draft.ended(9);
        let mut out = vec![0; span.encoded_len() + SPILL];
        let len = span.encode(&mut out).unwrap();
        let spans = proto::ScopeSpans::decode(&out[..len]).unwrap().spans;
        let [span] = <[_; 1]>::try_from(spans).unwrap();
        span
    }

    proptest! {
        #[test]
        fn all_changes_of_an_open_span_are_encoded(
            trace_state in any_trace_state(),
            name in any_text(),
            kind in any_kind(),
            limits in any_limits(),
            changes in prop::collection::vec(any_change(), 0..30),
        ) {
            let mut draft = draft(1 << 21, trace_state, &name);
            draft.kind = kind;
            let mut expected = proto::Span {
                trace_id: vec![1; 16],
                span_id: vec![2; 8],
                trace_state: trace_state.to_string(),
                name: name.to_string(),
                kind: kind as i32,
                start_time_unix_nano: 3,
                end_time_unix_nano: 9,
                flags: 0x101,
                ..Default::default()
            };
            for change in &changes {
                apply(&mut draft, change, &limits);
                apply_to_message(&mut expected, change, &limits);
            }
            prop_assert_eq!(draft.content.trace_state(), trace_state);
            prop_assert_eq!(decode(&draft), expected);
        }

        #[test]
        fn data_that_does_not_fit_is_counted(
            scratch_bytes in 64..600_usize,
            changes in prop::collection::vec(any_change(), 0..40),
        ) {
            let limits = SpanLimits::default();
            let mut draft = draft(scratch_bytes, "", "name");
            let mut status_code = 0;
            for change in &changes {
                apply(&mut draft, change, &limits);
                match change {
                    Change::Status(Status::Ok) => status_code = 1,
                    Change::Status(Status::Error(_)) if status_code != 1 => status_code = 2,
                    _ => {}
                }
            }
            let span = decode(&draft);
            prop_assert_eq!(span.trace_id, vec![1; 16]);
            prop_assert_eq!(span.status.map_or(0, |status| status.code), status_code);
            let count = |wanted: fn(&Change) -> bool| {
                changes.iter().filter(|change| wanted(change)).count() as u32
            };
            let events = count(|change| matches!(change, Change::Event(_)));
            prop_assert_eq!(span.events.len() as u32 + span.dropped_events_count, events);
            let links = count(|change| matches!(change, Change::Link(_)));
            prop_assert_eq!(span.links.len() as u32 + span.dropped_links_count, links);
            let mut keys: Vec<_> = span.attributes.iter().map(|attribute| &attribute.key).collect();
            keys.sort();
            keys.dedup();
            prop_assert_eq!(keys.len(), span.attributes.len());
        }
    }

    #[test]
    fn a_span_without_scratch_memory_has_a_short_name_and_counts() {
        let mut draft = with(Content::begin(None, "a=b", Name::from(&"é".repeat(40))));
        let limits = SpanLimits::default();
        draft
            .content
            .attribute(&KeyValueRef::new("key", 1), &limits);
        draft
            .content
            .attribute_display(key!("key"), &"text", &limits);
        draft.content.event(&EventRef::new("event", 1), &limits);
        let context = SpanContext::new(TraceId::MIN, SpanId::MIN);
        draft.content.link(&LinkRef::new(&context), &limits);
        draft.content.set_status(StatusRef::Error("description"));
        let span = decode(&draft);
        assert_eq!(span.name, "é".repeat(15));
        assert_eq!(span.status.unwrap().code, 2);
        let dropped = (
            span.dropped_attributes_count,
            span.dropped_events_count,
            span.dropped_links_count,
        );
        assert_eq!((dropped, draft.content.trace_state()), ((2, 1, 1), ""));
    }

    #[test]
    fn an_attribute_without_room_for_its_new_value_is_dropped_alone() {
        let mut draft = draft(64, "", "name");
        let limits = SpanLimits::default();
        let large = "x".repeat(50);
        draft.content.attribute(&KeyValueRef::new("a", 1), &limits);
        draft.content.attribute(&KeyValueRef::new("b", 2), &limits);
        draft
            .content
            .attribute(&KeyValueRef::new("a", &large), &limits);
        let span = decode(&draft);
        assert_eq!((&*span.attributes[0].key, span.attributes.len()), ("b", 1));
        assert_eq!(span.dropped_attributes_count, 1);
        draft.content.attribute(&KeyValueRef::new("a", 3), &limits);
        assert_eq!(decode(&draft).attributes.len(), 2);
    }

    #[test]
    fn a_long_trace_state_loses_its_last_members() {
        for (state, kept) in [
            ("a=1,b=2", "a=1,b=2"),
            (
                "aaaaaaaaaa=1,bbbbbbbbbb=2,cccccccccc=3",
                "aaaaaaaaaa=1,bbbbbbbbbb=2",
            ),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=1,b=2", ""),
        ] {
            assert_eq!(draft(64, state, "name").content.trace_state(), kept);
        }
    }

    #[test]
    fn formatted_text_is_cut_once_or_dropped() {
        struct IgnoresErrors;

        impl fmt::Display for IgnoresErrors {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let _ = f.write_str(&"é".repeat(100));
                f.write_str("a")
            }
        }

        let limits = SpanLimits::default();
        let mut draft = draft(128, "", "name");
        draft
            .content
            .attribute_display(key!("cut"), &IgnoresErrors, &limits);
        let span = decode(&draft);
        let value = format!("{:?}", span.attributes[0].value);
        assert!(value.contains("éé") && !value.contains("éa"), "{value}");

        let mut draft = self::draft(64, "", "name");
        let long = "x".repeat(40);
        draft
            .content
            .attribute(&KeyValueRef::new("u", "v"), &limits);
        draft
            .content
            .attribute(&KeyValueRef::new("l", &long[..25]), &limits);
        draft
            .content
            .attribute_display(Key::from("u"), &"w", &limits);
        let span = decode(&draft);
        assert_eq!(
            (span.attributes.len(), span.dropped_attributes_count),
            (1, 1)
        );

        // An attribute removed because its new value has no room does not use up the limit.
        let one = SpanLimits {
            attribute_count: 1,
            ..limits
        };
        let mut full = self::draft(64, "", "name");
        full.content
            .attribute(&KeyValueRef::new("u", AnyValueRef::Empty), &one);
        full.content.set_status(StatusRef::Error(&"x".repeat(45)));
        full.content.attribute_display(Key::from("u"), &"", &one);
        assert_eq!(decode(&full).dropped_attributes_count, 1);
        full.content
            .attribute(&KeyValueRef::new("w", AnyValueRef::Empty), &one);
        assert_eq!(decode(&full).attributes[0].key, "w");

        // A new name that does not fit is not cut shorter than the old one.
        draft.content.set_name(Name::from("name and more"));
        assert!(decode(&draft).name.starts_with("name"));
    }

    #[test]
    fn long_names_and_messages_are_cut_between_characters() {
        let mut draft = draft(64, "", &"ü".repeat(200));
        assert_eq!(decode(&draft).name, "ü".repeat(16));
        draft
            .content
            .exception(&"ß".repeat(500), "error::Type", 7, &SpanLimits::default());
        let span = decode(&draft);
        assert_eq!((span.events.len(), span.dropped_events_count), (0, 1));
        let mut draft = self::draft(400, "", "name");
        draft
            .content
            .exception(&"ß".repeat(500), "error::Type", 7, &SpanLimits::default());
        let span = decode(&draft);
        assert_eq!(
            (&*span.events[0].name, span.dropped_events_count),
            ("exception", 0)
        );
    }

    #[test]
    fn an_exception_keeps_its_message_if_there_is_no_room_for_its_type() {
        let keys = |draft: &Draft| -> Vec<String> {
            let event = decode(draft).events.remove(0);
            let attributes = event.attributes.into_iter();
            attributes.map(|attribute| attribute.key).collect()
        };
        let limits = SpanLimits::default();
        for (bytes, expected) in [
            (400, &["exception.message", "exception.type"][..]),
            (160, &["exception.message"]),
        ] {
            let mut draft = draft(bytes, "", "name");
            let error = "x".repeat(1000);
            draft.content.exception(&error, "a::type::Name", 7, &limits);
            assert_eq!(keys(&draft), expected, "{bytes}");
        }
    }
}
