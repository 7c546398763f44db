//! The header `traceparent`: version, trace id, parent id and flags, in lower-case hex.

use std::fmt;
use std::ops::Deref;

use crate::span::context::invalid_header::InvalidHeader;
use crate::span::context::span_context::SpanContext;
use crate::span::context::trace_flags::TraceFlags;
use crate::span::context::tracestate::TraceState;
use crate::span::id::{SpanId, TraceId};

/// Length of version 00, and of the part of later versions that is read.
const LEN: usize = 55;

/// The value of a header `traceparent`, version 00.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Traceparent([u8; LEN]);

impl Traceparent {
    /// Returns the value of the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits and dashes")
    }
}

impl Deref for Traceparent {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl SpanContext<'_> {
    /// Returns the value of the `traceparent` header for this context. Does not allocate.
    #[must_use]
    pub fn traceparent(&self) -> Traceparent {
        let mut out = [b'-'; LEN];
        write_hex(&[0], &mut out[0..2]);
        write_hex(&self.trace_id.to_bytes(), &mut out[3..35]);
        write_hex(&self.span_id.to_bytes(), &mut out[36..52]);
        write_hex(&[self.trace_flags.bits()], &mut out[53..55]);
        Traceparent(out)
    }

    /// Reads the value of a `traceparent` header: a remote context without trace state.
    ///
    /// White space around it is ignored. Of versions above 00 the part that version 00 defines is read.
    ///
    /// # Errors
    /// The header is invalid. Start a new trace then (W3C Trace Context, section 4.3).
    pub fn from_traceparent(value: impl AsRef<[u8]>) -> Result<Self, InvalidHeader> {
        let value = value.as_ref().trim_ascii();
        let (known, rest) = value
            .split_first_chunk::<LEN>()
            .ok_or_else(|| invalid("shorter than 55 characters"))?;
        if [2, 35, 52].iter().any(|&at| known[at] != b'-') {
            return Err(invalid(
                "expected dashes after version, trace id and parent id",
            ));
        }
        let [version] = hex(&known[0..2])?;
        match (version, rest) {
            (0xff, _) => return Err(invalid("version ff is not allowed")),
            (0, [_, ..]) => return Err(invalid("version 00 has exactly 55 characters")),
            (_, [] | [b'-', ..]) => {}
            _ => return Err(invalid("expected a dash after the flags")),
        }
        let [flags] = hex(&known[53..55])?;
        let (trace_id, span_id) = (hex(&known[3..35])?, hex(&known[36..52])?);
        let is_zero = || invalid("an id is all zeros");
        Ok(Self {
            trace_id: TraceId::from_bytes(trace_id).ok_or_else(is_zero)?,
            span_id: SpanId::from_bytes(span_id).ok_or_else(is_zero)?,
            trace_flags: TraceFlags::new(flags),
            is_remote: true,
            trace_state: TraceState::EMPTY,
        })
    }
}

fn invalid(why: &'static str) -> InvalidHeader {
    InvalidHeader::new("traceparent", why)
}

fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

fn hex<const N: usize>(digits: &[u8]) -> Result<[u8; N], InvalidHeader> {
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(out)
}

/// Parses a hexadecimal digit. Upper-case digits are invalid.
fn digit(byte: u8) -> Result<u8, InvalidHeader> {
    match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(invalid("expected lower-case hexadecimal digits")),
    }
}
