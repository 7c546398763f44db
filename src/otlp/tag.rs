//! Tags of the encoded fields: field number and wire type, in one byte each except [`FLAGS`].

const fn len(field: u8) -> u8 {
    field << 3 | 2
}

const fn varint(field: u8) -> u8 {
    field << 3
}

const fn fixed64(field: u8) -> u8 {
    field << 3 | 1
}

const fn fixed32(field: u8) -> u8 {
    field << 3 | 5
}

/// `ScopeSpans.spans`
pub(super) const SPANS: u8 = len(2);

pub(super) const TRACE_ID: u8 = len(1);
pub(super) const SPAN_ID: u8 = len(2);
pub(super) const TRACE_STATE: u8 = len(3);
pub(super) const PARENT_SPAN_ID: u8 = len(4);
pub(super) const NAME: u8 = len(5);
pub(super) const KIND: u8 = varint(6);
pub(super) const START_TIME: u8 = fixed64(7);
pub(super) const END_TIME: u8 = fixed64(8);
pub(super) const ATTRIBUTES: u8 = len(9);
pub(super) const DROPPED_ATTRIBUTES: u8 = varint(10);
pub(super) const EVENTS: u8 = len(11);
pub(super) const DROPPED_EVENTS: u8 = varint(12);
pub(super) const LINKS: u8 = len(13);
pub(super) const DROPPED_LINKS: u8 = varint(14);
pub(super) const STATUS: u8 = len(15);
/// `fixed32(16)`: field numbers above 15 take two bytes.
pub(super) const FLAGS: [u8; 2] = [0x85, 1];

pub(super) const EVENT_TIME: u8 = fixed64(1);
pub(super) const EVENT_NAME: u8 = len(2);
pub(super) const EVENT_ATTRIBUTES: u8 = len(3);
pub(super) const EVENT_DROPPED_ATTRIBUTES: u8 = varint(4);

pub(super) const LINK_TRACE_ID: u8 = len(1);
pub(super) const LINK_SPAN_ID: u8 = len(2);
pub(super) const LINK_TRACE_STATE: u8 = len(3);
pub(super) const LINK_ATTRIBUTES: u8 = len(4);
pub(super) const LINK_DROPPED_ATTRIBUTES: u8 = varint(5);
pub(super) const LINK_FLAGS: u8 = fixed32(6);

pub(super) const STATUS_MESSAGE: u8 = len(2);
pub(super) const STATUS_CODE: u8 = varint(3);

pub(super) const KEY: u8 = len(1);
pub(super) const VALUE: u8 = len(2);

pub(super) const STRING_VALUE: u8 = len(1);
pub(super) const BOOL_VALUE: u8 = varint(2);
pub(super) const INT_VALUE: u8 = varint(3);
pub(super) const DOUBLE_VALUE: u8 = fixed64(4);
pub(super) const ARRAY_VALUE: u8 = len(5);
pub(super) const KVLIST_VALUE: u8 = len(6);
pub(super) const BYTES_VALUE: u8 = len(7);

/// `ArrayValue.values` and `KeyValueList.values`
pub(super) const VALUES: u8 = len(1);
