//! A span that has not ended. Its data is encoded as it is added, so that ending it is a copy.

#[cfg_attr(
    not(feature = "tracing"),
    allow(
        dead_code,
        reason = "call sites have constants in doors, which are features"
    )
)]
mod constants;
mod draft_fields;
mod draft_head;
mod ended;
#[cfg_attr(
    not(feature = "tracing"),
    allow(
        dead_code,
        reason = "only doors, which are features, encode events part by part"
    )
)]
mod event_draft;

use std::fmt;

use crate::otlp::encode;
use crate::otlp::output::{Output, SPILL};
use crate::otlp::tag;
use crate::span::attribute::{Key, KeyValueRef, Name};
use crate::span::context::{SpanContext, TraceState};
use crate::span::limits::SpanLimits;
use crate::span::{AsEvent, AsLink, EventRef, LinkRef, SpanKind, StatusRef};

use self::draft_fields::{DraftFields, floor_char_boundary, leading_members, name, trace_state};

use self::draft_head::StatusCode;

#[cfg(feature = "tracing")]
pub(crate) use self::constants::ConstantAttributes;
pub(crate) use self::draft_head::{DraftHead, SpanIds};
pub(crate) use self::ended::Ended;
#[cfg(feature = "tracing")]
pub(crate) use self::event_draft::EventDraft;

/// Bytes of a name that fit into the smallest room.
pub(crate) const SHORT_NAME_MAX: usize = 31;
/// The smallest room: a short name, with its tag and length.
pub(crate) const ROOM_MIN: usize = 2 + SHORT_NAME_MAX + SPILL;

/// Bytes of the attribute `exception.type` in addition to its value.
const TYPE_KEY_AND_HEADERS: usize = 32;

/// Memory of one open span: a head, and room for its length-delimited fields.
pub(crate) trait DraftMemory {
    fn head(&self) -> &DraftHead;

    fn head_mut(&mut self) -> &mut DraftHead;

    /// Returns the room, of which the last [`SPILL`](crate::otlp::SPILL) bytes never contain data.
    fn room(&self) -> &[u8];

    fn parts(&mut self) -> (&mut DraftHead, &mut [u8]);

    /// Enlarges the room and keeps its content. Returns false if it has its largest size.
    fn grow(&mut self) -> bool;

    /// Returns whether the limits allow one more event.
    #[inline(always)]
    fn may_add_event(&self, limits: &SpanLimits) -> bool {
        let events = self.head().events;
        u32::from(events) < limits.event_count && events < u16::MAX
    }

    /// Returns the encoded fields.
    #[inline(always)]
    fn written(&self) -> &[u8] {
        &self.room()[..self.head().len as usize]
    }

    #[inline(always)]
    fn trace_state(&self) -> &str {
        trace_state(self.written())
    }

    /// Returns the name, as far as it had room.
    fn name(&self) -> &str {
        name(self.written())
    }

    #[inline(always)]
    fn context(&self) -> SpanContext<'_> {
        let SpanIds {
            trace_id,
            span_id,
            trace_flags,
            ..
        } = self.head().ids();
        SpanContext {
            trace_id,
            span_id,
            trace_flags,
            is_remote: false,
            trace_state: TraceState::checked(self.trace_state()),
        }
    }

    /// Returns the span with its end time, to be encoded.
    #[inline(always)]
    fn ended(&self, end_time: u64) -> Ended<'_> {
        Ended {
            head: self.head(),
            fields: self.written(),
            end_time,
        }
    }
}

/// An open span in its memory, to be changed.
pub(crate) struct Draft<'m, M>(&'m mut M);

impl<'m, M: DraftMemory> Draft<'m, M> {
    /// Begins a span in memory that no other span uses.
    ///
    /// Of a trace state that takes more than half of the room, the last members are dropped, as W3C
    /// Trace Context recommends. Of a name without room, as much is kept as fits into half of it.
    #[inline(always)]
    pub(crate) fn begin(
        memory: &'m mut M,
        ids: SpanIds,
        kind: SpanKind,
        trace_state: &str,
        name: Name<'_>,
    ) -> Self {
        *memory.head_mut() = DraftHead::new(ids, kind);
        let mut draft = Self(memory);
        if !trace_state.is_empty() {
            draft.put_trace_state(trace_state);
        }
        draft.append_name(name);
        draft
    }

    #[inline]
    pub(crate) fn of(memory: &'m mut M) -> Self {
        Self(memory)
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut DraftHead {
        self.0.head_mut()
    }

    // ---- Fields ----

    #[inline(always)]
    fn fields(&mut self) -> DraftFields<'_> {
        let (head, room) = self.0.parts();
        DraftFields::new(room, &mut head.len)
    }

    /// Changes the fields, if need be in larger memory. `change` returns false without room.
    #[inline(always)]
    fn with_room(&mut self, mut change: impl FnMut(&mut DraftFields<'_>) -> bool) -> bool {
        change(&mut self.fields()) || self.with_more_room(change)
    }

    #[cold]
    #[inline(never)]
    fn with_more_room(&mut self, mut change: impl FnMut(&mut DraftFields<'_>) -> bool) -> bool {
        while self.0.grow() {
            if change(&mut self.fields()) {
                return true;
            }
        }
        false
    }

    /// Adds the trace state as the first field, instead of the one that is there.
    #[cold]
    fn put_trace_state(&mut self, trace_state: &str) {
        let mut fields = self.fields();
        if let Some(old) = fields.find(tag::TRACE_STATE) {
            fields.remove(old);
        }
        let longest = |draft: &mut Self| draft.fields().capacity() / 2;
        while trace_state.len() > longest(self) && self.0.grow() {}
        let state = leading_members(trace_state, longest(self)).as_bytes();
        self.with_room(|fields| fields.insert_first(|out| out.non_empty(tag::TRACE_STATE, state)));
    }

    #[inline(always)]
    fn append_name(&mut self, name: Name<'_>) {
        if !self.fields().append_name(name) {
            self.append_name_elsewhere(name);
        }
    }

    #[cold]
    #[inline(never)]
    fn append_name_elsewhere(&mut self, name: Name<'_>) {
        if !self.with_more_room(|fields| fields.append_name(name)) {
            // At most half, to leave room for attributes.
            let free = self.fields().free();
            let bytes_max = (free / 2).max(SHORT_NAME_MAX.min(free.saturating_sub(2)));
            self.append_part_of_name(name.text(), bytes_max);
        }
    }

    #[cold]
    fn append_part_of_name(&mut self, name: &str, bytes_max: usize) {
        let cut = Name::from(&name[..floor_char_boundary(name, bytes_max)]);
        self.fields().append_name(cut);
    }

    /// Replaces the name. One without room is cut.
    #[cold]
    pub(crate) fn set_name(&mut self, name: Name<'_>) {
        let mut fields = self.fields();
        if let Some(old) = fields.find(tag::NAME) {
            fields.remove(old);
        }
        if !self.with_room(|fields| fields.append_name(name)) {
            let free = self.fields().free();
            let headers = if free <= 0x7f { 2 } else { 6 };
            self.append_part_of_name(name.text(), free.saturating_sub(headers));
        }
    }

    /// Sets an attribute; the last one with a key wins.
    #[inline(always)]
    pub(crate) fn set_attribute(&mut self, attribute: &KeyValueRef<'_>, limits: &SpanLimits) {
        // Copies for the rare ways, so that the original is not borrowed and stays in registers.
        if self.head_mut().keys.may_contain(&attribute.key)
            && self.replace_attribute(&{ *attribute }, limits)
        {
            return;
        }
        let attributes = u32::from(self.head_mut().attributes);
        let is_added = attributes < limits.attribute_count
            && !attribute.key.text().is_empty()
            && (self.fields().append_attribute(attribute, limits)
                || self.append_attribute_elsewhere(*attribute, limits));
        let head = self.head_mut();
        if is_added {
            head.keys.insert(&attribute.key);
            head.attributes += 1;
        } else {
            count_dropped(&mut head.dropped.attributes);
        }
    }

    #[cold]
    #[inline(never)]
    fn append_attribute_elsewhere(
        &mut self,
        attribute: KeyValueRef<'_>,
        limits: &SpanLimits,
    ) -> bool {
        self.with_more_room(|fields| fields.append_attribute(&attribute, limits))
    }

    /// Replaces the attribute with the same key; false if there is none. Without room for the new
    /// value the attribute is removed and counted as dropped.
    #[cold]
    #[inline(never)]
    fn replace_attribute(&mut self, attribute: &KeyValueRef<'_>, limits: &SpanLimits) -> bool {
        let Some(old) = self.fields().find_attribute(attribute.key) else {
            return false;
        };
        let place = old.clone();
        let is_replaced = self
            .with_room(|fields| fields.replace_attribute(place.clone(), attribute, limits))
            || {
                // The room of the old value may be all that is missing.
                let mut fields = self.fields();
                fields.remove(old);
                fields.append_attribute(attribute, limits)
            };
        if !is_replaced {
            self.note_removed_attribute();
        }
        true
    }

    fn note_removed_attribute(&mut self) {
        let head = self.head_mut();
        head.attributes -= 1;
        count_dropped(&mut head.dropped.attributes);
    }

    /// Sets attributes that were encoded in advance.
    #[cfg(feature = "tracing")]
    #[inline(always)]
    pub(crate) fn set_constants(&mut self, constants: &ConstantAttributes, limits: &SpanLimits) {
        let (head, count) = (self.head_mut(), constants.len());
        let is_new = !head.keys.may_contain_any(&constants.keys);
        let attributes = u32::from(head.attributes) + u32::from(count);
        if is_new
            && attributes <= limits.attribute_count
            && constants.are_within(limits)
            && self.with_room(|fields| fields.append(|out| out.bytes(&constants.in_span)))
        {
            let head = self.head_mut();
            head.keys.insert_all(&constants.keys);
            head.attributes += count;
        } else {
            self.set_each(constants, limits);
        }
    }

    #[cfg(feature = "tracing")]
    #[cold]
    fn set_each(&mut self, constants: &ConstantAttributes, limits: &SpanLimits) {
        for attribute in &constants.attributes {
            self.set_attribute(attribute, limits);
        }
    }

    /// Counts attributes that could not be set.
    pub(crate) fn count_dropped_attributes(&mut self, count: u32) {
        let dropped = &mut self.head_mut().dropped.attributes;
        *dropped = dropped.saturating_add(count);
    }

    /// Sets an attribute as [`set_attribute`](Self::set_attribute) does, with a value that is formatted in
    /// place.
    #[cold]
    pub(crate) fn set_attribute_display(
        &mut self,
        key: Key<'_>,
        text: &dyn fmt::Display,
        limits: &SpanLimits,
    ) {
        let old = self.fields().find_attribute(key);
        let head = self.head_mut();
        let is_allowed = old.is_some() || u32::from(head.attributes) < limits.attribute_count;
        if !is_allowed || key.text().is_empty() {
            count_dropped(&mut head.dropped.attributes);
            return;
        }
        let headers = 24;
        let place = old.clone();
        let is_set = self.format(text, headers + key.text().len(), |fields, text| {
            let attribute = &KeyValueRef::new(key, text);
            match &place {
                Some(old) => fields.replace_attribute(old.clone(), attribute, limits),
                None => fields.append_attribute(attribute, limits),
            }
        });
        let head = self.head_mut();
        match (is_set, old) {
            (true, old) => {
                head.keys.insert(&key);
                head.attributes += u16::from(old.is_none());
            }
            // The old value is outdated.
            (false, Some(old)) => {
                self.fields().remove(old);
                self.note_removed_attribute();
            }
            (false, None) => count_dropped(&mut head.dropped.attributes),
        }
    }

    /// Formats a text and passes it to `then`, together with the fields and room for the text and
    /// `with_it` more bytes. This is repeated in larger memory if the text was cut or had no room.
    /// Returns false if not even a part of the text has room.
    fn format(
        &mut self,
        text: &dyn fmt::Display,
        with_it: usize,
        mut then: impl FnMut(&mut DraftFields<'_>, &str) -> bool,
    ) -> bool {
        loop {
            let mut fields = self.fields();
            let formatted = fields.format(text, with_it);
            if !formatted.is_cut && fields.with_text(&formatted, &mut then) {
                return true;
            }
            if self.0.grow() {
                continue;
            }
            return formatted.is_cut
                && formatted.len > 0
                && self.fields().with_text(&formatted, &mut then);
        }
    }

    #[inline(never)]
    pub(crate) fn add_event(&mut self, event: &EventRef<'_>, limits: &SpanLimits) {
        let event = event.as_event();
        let is_added = self.0.may_add_event(limits)
            && self
                .with_room(|fields| fields.append(|out| encode::encode_event(&event, limits, out)));
        self.note_event(is_added);
    }

    /// Adds an event that is encoded already.
    #[cfg(feature = "tracing")]
    #[inline(always)]
    pub(crate) fn add_encoded_event(&mut self, event: &[u8], limits: &SpanLimits) {
        let is_added = self.0.may_add_event(limits)
            && self.with_room(|fields| fields.append(|out| out.long_delimited(tag::EVENTS, event)));
        self.note_event(is_added);
    }

    /// Counts an event that was not added.
    #[cfg(feature = "tracing")]
    pub(crate) fn count_dropped_event(&mut self) {
        self.note_event(false);
    }

    fn note_event(&mut self, is_added: bool) {
        let head = self.head_mut();
        if is_added {
            head.events += 1;
        } else {
            count_dropped(&mut head.dropped.events);
        }
    }

    /// Adds an event `exception` with the error's message, cut to the free room, and its type, if
    /// that takes less than a quarter of the room.
    #[cold]
    pub(crate) fn add_exception(
        &mut self,
        error: &dyn fmt::Display,
        type_name: &str,
        time: u64,
        limits: &SpanLimits,
    ) {
        let type_bytes = type_name.len() + TYPE_KEY_AND_HEADERS;
        let time_and_names_and_headers = 64;
        let with_it = time_and_names_and_headers + type_bytes;
        while type_bytes >= self.fields().free() / 4 && self.0.grow() {}
        let has_type = type_bytes < self.fields().free() / 4;
        let with_it = if has_type {
            with_it
        } else {
            time_and_names_and_headers
        };
        let is_added = self.0.may_add_event(limits)
            && self.format(error, with_it, |fields, message| {
                let attributes = [
                    KeyValueRef::new(crate::key!("exception.message"), message),
                    KeyValueRef::new(crate::key!("exception.type"), type_name),
                ];
                let event = EventRef {
                    attributes: &attributes[..1 + usize::from(has_type)],
                    ..EventRef::new("exception", time)
                };
                fields.append(|out| encode::encode_event(&event.as_event(), limits, out))
            });
        self.note_event(is_added);
    }

    #[inline(never)]
    pub(crate) fn add_link(&mut self, link: &LinkRef<'_>, limits: &SpanLimits) {
        let link = link.as_link();
        let links = self.head_mut().links;
        let is_added = u32::from(links) < limits.link_count
            && links < u16::MAX
            && self
                .with_room(|fields| fields.append(|out| encode::encode_link(&link, limits, out)));
        let head = self.head_mut();
        if is_added {
            head.links += 1;
        } else {
            count_dropped(&mut head.dropped.links);
        }
    }

    /// Sets the status. Ok is final, Error overrides Unset, a later Error overrides an earlier one.
    #[inline(never)]
    pub(crate) fn set_status(&mut self, status: StatusRef<'_>) {
        let code = match status {
            StatusRef::Unset => StatusCode::Unset,
            StatusRef::Error(_) => StatusCode::Error,
            StatusRef::Ok => StatusCode::Ok,
        };
        let head = self.head_mut();
        if code == StatusCode::Unset || code < head.status || head.status == StatusCode::Ok {
            return;
        }
        head.status = code;
        let was_described = head.is_described;
        let mut fields = self.fields();
        if was_described && let Some(old) = fields.find(tag::STATUS) {
            fields.remove(old);
        }
        let has_description =
            matches!(status, StatusRef::Error(description) if !description.is_empty());
        let is_described = has_description
            && self.with_room(|fields| fields.append(|out| encode::encode_status(status, out)));
        self.head_mut().is_described = is_described;
    }

    // ---- Before the context is shown ----

    #[inline]
    pub(crate) fn set_start_time(&mut self, unix_nanos: u64) {
        self.head_mut().start_time = unix_nanos;
    }

    pub(crate) fn set_kind(&mut self, kind: SpanKind) {
        self.head_mut().kind = kind as u8;
    }

    /// Moves the span to another place in a trace.
    #[cold]
    pub(crate) fn set_place(&mut self, ids: SpanIds, trace_state: &str) {
        let head = self.head_mut();
        let (kind, start_time) = (head.kind, head.start_time);
        *head = DraftHead {
            kind,
            start_time,
            status: head.status,
            is_described: head.is_described,
            keys: head.keys,
            len: head.len,
            attributes: head.attributes,
            events: head.events,
            links: head.links,
            dropped: head.dropped,
            ..DraftHead::new(ids, SpanKind::Internal)
        };
        self.put_trace_state(trace_state);
    }
}

fn count_dropped(count: &mut u32) {
    *count = count.saturating_add(1);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::borrow::Cow;
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::key;
    use crate::otlp::encode::EncodeSpan;
    use crate::otlp::oracle::{
        any_event, any_key, any_kind, any_limits, any_link, any_status, any_text, any_trace_state,
        any_value, event_message, key_value, link_message, status,
    };
    use crate::otlp::{SPILL, proto};
    use crate::span::attribute::{AnyValueRef, AsKeyValue, KeyValue};
    use crate::span::context::TraceFlags;
    use crate::span::id::{SpanId, TraceId};
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

    fn apply(memory: &mut TestMemory, change: &Change, limits: &SpanLimits) {
        let mut draft = Draft::of(memory);
        fn references(attributes: &[KeyValue]) -> Vec<KeyValueRef<'_>> {
            attributes.iter().map(AsKeyValue::as_key_value).collect()
        }
        match change {
            Change::Attribute(attribute) => draft.set_attribute(&attribute.as_key_value(), limits),
            Change::Display(attribute) => {
                let AnyValueRef::String(text) = attribute.as_key_value().value else {
                    panic!("expected a string");
                };
                draft.set_attribute_display(Key::from(&*attribute.key), &text, limits);
            }
            Change::Event(event) => draft.add_event(
                &EventRef {
                    attributes: &references(&event.attributes),
                    dropped_attributes_count: event.dropped_attributes_count,
                    ..EventRef::new(&event.name, event.time)
                },
                limits,
            ),
            Change::Link(link) => draft.add_link(
                &LinkRef {
                    attributes: &references(&link.attributes),
                    dropped_attributes_count: link.dropped_attributes_count,
                    ..LinkRef::new(&link.context)
                },
                limits,
            ),
            Change::Status(status) => draft.set_status(status.as_ref()),
            Change::Name(name) => draft.set_name(Name::from(&**name)),
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

    /// Memory that grows from one size to the next.
    struct TestMemory {
        head: DraftHead,
        bytes: Vec<u8>,
        larger: VecDeque<usize>,
    }

    impl DraftMemory for TestMemory {
        fn head(&self) -> &DraftHead {
            &self.head
        }

        fn head_mut(&mut self) -> &mut DraftHead {
            &mut self.head
        }

        fn room(&self) -> &[u8] {
            &self.bytes
        }

        fn parts(&mut self) -> (&mut DraftHead, &mut [u8]) {
            (&mut self.head, &mut self.bytes)
        }

        fn grow(&mut self) -> bool {
            let larger = self.larger.pop_front();
            larger
                .inspect(|bytes| self.bytes.resize(bytes + SPILL, 1))
                .is_some()
        }
    }

    fn begin(sizes: &[usize], kind: SpanKind, trace_state: &str, name: &str) -> TestMemory {
        let ids = SpanIds {
            trace_id: TraceId::from_bytes([1; 16]).unwrap(),
            span_id: SpanId::from_bytes([2; 8]).unwrap(),
            parent_span_id: None,
            parent_is_remote: false,
            trace_flags: TraceFlags::SAMPLED,
        };
        let mut memory = TestMemory {
            head: DraftHead::default(),
            bytes: vec![1; sizes[0] + SPILL],
            larger: sizes[1..].iter().copied().collect(),
        };
        Draft::begin(&mut memory, ids, kind, trace_state, Name::from(name)).set_start_time(3);
        memory
    }

    /// A span in memory that does not grow.
    fn draft(bytes: usize, trace_state: &str, name: &str) -> TestMemory {
        begin(&[bytes], SpanKind::Internal, trace_state, name)
    }

    /// Sizes that end with more than any test needs.
    fn any_sizes() -> impl Strategy<Value = Vec<usize>> {
        prop_oneof![
            Just(vec![1 << 21]),
            Just(vec![ROOM_MIN - SPILL, 320, 4096, 1 << 21]),
            (33..2000_usize).prop_map(|first| vec![first, 1 << 21]),
        ]
    }

    fn decode(draft: &TestMemory) -> proto::Span {
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
            sizes in any_sizes(),
            trace_state in any_trace_state(),
            name in any_text(),
            kind in any_kind(),
            limits in any_limits(),
            changes in prop::collection::vec(any_change(), 0..30),
        ) {
            let mut draft = begin(&sizes, kind, trace_state, &name);
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
            prop_assert_eq!(draft.trace_state(), trace_state);
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
    fn the_smallest_memory_holds_a_short_name_and_counts() {
        let mut draft = draft(ROOM_MIN - SPILL, "", &"é".repeat(40));
        let limits = SpanLimits::default();
        Draft::of(&mut draft).set_attribute(&KeyValueRef::new("key", 1), &limits);
        Draft::of(&mut draft).set_attribute_display(key!("key"), &"text", &limits);
        Draft::of(&mut draft).add_event(&EventRef::new("event", 1), &limits);
        let context = SpanContext::new(TraceId::MIN, SpanId::MIN);
        Draft::of(&mut draft).add_link(&LinkRef::new(&context), &limits);
        Draft::of(&mut draft).set_status(StatusRef::Error("description"));
        let span = decode(&draft);
        assert_eq!(span.name, "é".repeat(15));
        assert_eq!(span.status.unwrap().code, 2);
        let dropped = (
            span.dropped_attributes_count,
            span.dropped_events_count,
            span.dropped_links_count,
        );
        assert_eq!((dropped, draft.trace_state()), ((2, 1, 1), ""));
    }

    #[test]
    fn an_attribute_without_room_for_its_new_value_is_dropped_alone() {
        let mut draft = draft(64, "", "name");
        let limits = SpanLimits::default();
        let large = "x".repeat(50);
        Draft::of(&mut draft).set_attribute(&KeyValueRef::new("a", 1), &limits);
        Draft::of(&mut draft).set_attribute(&KeyValueRef::new("b", 2), &limits);
        Draft::of(&mut draft).set_attribute(&KeyValueRef::new("a", &large), &limits);
        let span = decode(&draft);
        assert_eq!((&*span.attributes[0].key, span.attributes.len()), ("b", 1));
        assert_eq!(span.dropped_attributes_count, 1);
        Draft::of(&mut draft).set_attribute(&KeyValueRef::new("a", 3), &limits);
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
            assert_eq!(draft(64, state, "name").trace_state(), kept);
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
        Draft::of(&mut draft).set_attribute_display(key!("cut"), &IgnoresErrors, &limits);
        let span = decode(&draft);
        let value = format!("{:?}", span.attributes[0].value);
        assert!(value.contains("éé") && !value.contains("éa"), "{value}");

        let mut draft = self::draft(64, "", "name");
        let long = "x".repeat(40);
        Draft::of(&mut draft).set_attribute(&KeyValueRef::new("u", "v"), &limits);
        Draft::of(&mut draft).set_attribute(&KeyValueRef::new("l", &long[..25]), &limits);
        Draft::of(&mut draft).set_attribute_display(Key::from("u"), &"w", &limits);
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
        Draft::of(&mut full).set_attribute(&KeyValueRef::new("u", AnyValueRef::Empty), &one);
        Draft::of(&mut full).set_status(StatusRef::Error(&"x".repeat(45)));
        Draft::of(&mut full).set_attribute_display(Key::from("u"), &"", &one);
        assert_eq!(decode(&full).dropped_attributes_count, 1);
        Draft::of(&mut full).set_attribute(&KeyValueRef::new("w", AnyValueRef::Empty), &one);
        assert_eq!(decode(&full).attributes[0].key, "w");

        // A new name that does not fit is not cut shorter than the old one.
        Draft::of(&mut draft).set_name(Name::from("name and more"));
        assert!(decode(&draft).name.starts_with("name"));
    }

    #[test]
    fn long_names_and_messages_are_cut_between_characters() {
        let mut draft = draft(64, "", &"ü".repeat(200));
        assert_eq!(decode(&draft).name, "ü".repeat(16));
        Draft::of(&mut draft).add_exception(
            &"ß".repeat(500),
            "error::Type",
            7,
            &SpanLimits::default(),
        );
        let span = decode(&draft);
        assert_eq!((span.events.len(), span.dropped_events_count), (0, 1));
        let mut draft = self::draft(400, "", "name");
        Draft::of(&mut draft).add_exception(
            &"ß".repeat(500),
            "error::Type",
            7,
            &SpanLimits::default(),
        );
        let span = decode(&draft);
        assert_eq!(
            (&*span.events[0].name, span.dropped_events_count),
            ("exception", 0)
        );
    }

    #[test]
    fn an_exception_keeps_its_message_if_there_is_no_room_for_its_type() {
        let keys = |draft: &TestMemory| -> Vec<String> {
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
            Draft::of(&mut draft).add_exception(&error, "a::type::Name", 7, &limits);
            assert_eq!(keys(&draft), expected, "{bytes}");
        }
    }

    #[test]
    fn a_span_grows_only_when_it_needs_to_and_keeps_its_data() {
        let limits = SpanLimits::default();
        let mut span = begin(&[100, 1000], SpanKind::Server, "a=1", "name");
        for number in 0..20 {
            let key = format!("key.{number:02}");
            Draft::of(&mut span).set_attribute(&KeyValueRef::new(&key, number), &limits);
            let is_small = span.bytes.len() == 100 + SPILL;
            assert_eq!(is_small, span.written().len() <= 100, "{number}");
        }
        let message = decode(&span);
        assert_eq!((message.attributes.len(), &*message.name), (20, "name"));
        assert_eq!(
            (span.trace_state(), message.dropped_attributes_count),
            ("a=1", 0)
        );
        // A text that would be cut is formatted again in larger memory.
        let mut span = begin(&[100, 1000], SpanKind::Server, "", "name");
        let text = "x".repeat(300);
        Draft::of(&mut span).set_attribute_display(key!("text"), &text, &limits);
        let value = format!("{:?}", decode(&span).attributes[0].value);
        assert!(value.contains(&text), "{value}");
    }

    #[test]
    fn a_span_that_is_moved_keeps_its_data() {
        let limits = SpanLimits::default();
        for (before, after) in [("", "a=1"), ("a=1", "b=2,c=3"), ("a=1", ""), ("", "")] {
            let mut span = begin(&[60, 1000], SpanKind::Client, before, "name");
            let attribute = KeyValueRef::new("a key", "a value that needs some room");
            Draft::of(&mut span).set_attribute(&attribute, &limits);
            Draft::of(&mut span).set_status(StatusRef::Error("failed"));
            let ids = SpanIds {
                trace_id: TraceId::from_bytes([7; 16]).unwrap(),
                parent_span_id: SpanId::from_bytes([8; 8]),
                parent_is_remote: true,
                ..span.head().ids()
            };
            Draft::of(&mut span).set_place(ids, after);
            assert_eq!((span.trace_state(), span.name()), (after, "name"));
            let message = decode(&span);
            assert_eq!((message.trace_id[0], message.parent_span_id[0]), (7, 8));
            assert_eq!((message.kind, message.flags), (3, 0x301));
            assert_eq!(message.trace_state, after);
            assert_eq!(message.attributes.len(), 1);
            assert_eq!(message.status.unwrap().message, "failed");
        }
    }
}
