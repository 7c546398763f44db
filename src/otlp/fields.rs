//! Iterates over the fields of an encoded protobuf message without decoding it into a struct.

/// One field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field<'a> {
    pub(crate) number: u32,
    pub(crate) value: FieldValue<'a>,
}

impl<'a> Field<'a> {
    /// Returns the content of a length-delimited field; `None` for other wire types.
    pub(crate) fn bytes(&self) -> Option<&'a [u8]> {
        match self.value {
            FieldValue::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// A field's value by its wire type. Groups are not supported: proto3 has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldValue<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// Iterator over the fields of a message in wire order; ends after the first error.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// The bytes are not a protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Returns the number of bytes not read yet.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    fn field(&mut self) -> Option<Field<'a>> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => FieldValue::Varint(self.varint()?),
            1 => FieldValue::Fixed64(u64::from_le_bytes(*self.take(8)?.first_chunk()?)),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                FieldValue::Bytes(self.take(len)?)
            }
            5 => FieldValue::Fixed32(u32::from_le_bytes(*self.take(4)?.first_chunk()?)),
            _ => return None,
        };
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        Some(Field { number, value })
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        // Nearly all varints take one byte.
        if let [byte @ ..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Some(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (position, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte < 0x80 {
                self.rest = &self.rest[position + 1..];
                return Some(value);
            }
        }
        None
    }

    #[inline]
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field.ok_or(Malformed))
    }
}

/// Returns `Span.end_time_unix_nano` of an encoded span; 0 if the field is absent.
pub(crate) fn span_end_time(span: &[u8]) -> u64 {
    const END_TIME: u32 = 8;
    Fields::new(span)
        .map_while(Result::ok)
        .find_map(|field| match (field.number, field.value) {
            (END_TIME, FieldValue::Fixed64(time)) => Some(time),
            _ => None,
        })
        .unwrap_or(0)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn fields_of_all_wire_types_are_read() {
        let message = [
            0x08, 0x96, 0x01, // 1: varint 150
            0x11, 1, 0, 0, 0, 0, 0, 0, 0, // 2: fixed64 1
            0x1a, 2, b'h', b'i', // 3: "hi"
            0x25, 2, 0, 0, 0, // 4: fixed32 2
        ];
        let fields: Vec<_> = Fields::new(&message)
            .map(|field| field.unwrap().value)
            .collect();
        assert_eq!(
            fields,
            [
                FieldValue::Varint(150),
                FieldValue::Fixed64(1),
                FieldValue::Bytes(b"hi"),
                FieldValue::Fixed32(2)
            ]
        );
    }

    #[test]
    fn a_malformed_field_ends_the_iteration() {
        for message in [
            &[0x1a, 5, b'x'][..],
            &[0x08],
            &[0x80; 11],
            &[0x0b],
            &[0x02, 0],
            &[0x09, 0],
        ] {
            let mut fields = Fields::new(message);
            assert_eq!(fields.next(), Some(Err(Malformed)), "{message:?}");
            assert_eq!(fields.next(), None);
        }
    }
}
