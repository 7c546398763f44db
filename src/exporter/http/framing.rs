//! Decodes the body of a response, whichever way its end is found (RFC 9112, 6.3).

use crate::exporter::http::response::ResponseError;
use crate::exporter::http::work::count_work;

/// The most digits of a chunk's size.
const SIZE_DIGITS_MAX: usize = 16;
/// The longest line between chunks.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The way in which the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length { left: usize },
    Chunked(Chunk),
    UntilClose,
}

/// The part of a chunked body that comes next. Each line is searched for its end once, however slowly
/// it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size { searched: usize },
    Data { left: usize },
    DataEnd,
    Trailer { searched: usize },
}

impl Chunk {
    pub(super) const SIZE: Self = Self::Size { searched: 0 };
    const TRAILER: Self = Self::Trailer { searched: 0 };
}

impl Framing {
    /// Moves the body's bytes from the front of `rest` to `body`, which has at most `bytes_max`.
    /// Returns whether the body is complete.
    pub(super) fn decode(
        &mut self,
        rest: &mut &[u8],
        body: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<bool, ResponseError> {
        let is_complete = match self {
            Self::Length { left } if body.len().saturating_add(*left) > bytes_max => {
                return Err(ResponseError::BodyTooLong);
            }
            Self::Length { left } => {
                move_bytes(rest, left, body);
                *left == 0
            }
            Self::UntilClose => {
                body.extend_from_slice(rest);
                *rest = &[];
                false
            }
            Self::Chunked(chunk) => decode_chunks(rest, chunk, body, bytes_max)?,
        };
        if body.len() > bytes_max {
            return Err(ResponseError::BodyTooLong);
        }
        Ok(is_complete)
    }
}

/// Decodes chunks from `rest` into `body`. Returns whether the last one and its trailer are complete.
fn decode_chunks(
    rest: &mut &[u8],
    chunk: &mut Chunk,
    body: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<bool, ResponseError> {
    loop {
        match chunk {
            Chunk::Size { searched } => {
                // A malformed size is an error before its line ends.
                let begin = &rest[..rest.len().min(SIZE_DIGITS_MAX)];
                if httparse::parse_chunk_size(begin).is_err() {
                    return Err(ResponseError::MalformedBody);
                }
                let Some(end) = line_end(rest, searched)? else {
                    return Ok(false);
                };
                let Ok(httparse::Status::Complete((line, size))) =
                    httparse::parse_chunk_size(&rest[..=end])
                else {
                    return Err(ResponseError::MalformedBody);
                };
                let left = usize::try_from(size).unwrap_or(usize::MAX);
                if body.len().saturating_add(left) > bytes_max {
                    return Err(ResponseError::BodyTooLong);
                }
                *rest = &rest[line..];
                *chunk = if left == 0 {
                    Chunk::TRAILER
                } else {
                    Chunk::Data { left }
                };
            }
            Chunk::Data { left } => {
                move_bytes(rest, left, body);
                if *left > 0 {
                    return Ok(false);
                }
                *chunk = Chunk::DataEnd;
            }
            Chunk::DataEnd => match rest.split_at_checked(2) {
                None => return Ok(false),
                Some((b"\r\n", after)) => {
                    *rest = after;
                    *chunk = Chunk::SIZE;
                }
                Some(_) => return Err(ResponseError::MalformedBody),
            },
            Chunk::Trailer { searched } => {
                let Some(end) = line_end(rest, searched)? else {
                    return Ok(false);
                };
                let is_last = matches!(&rest[..end], b"" | b"\r");
                *rest = &rest[end + 1..];
                *chunk = Chunk::TRAILER;
                if is_last {
                    return Ok(true);
                }
            }
        }
    }
}

/// Returns the position of the first line's end in `rest`, or `None` if the line is incomplete. The
/// first `searched` bytes have no end.
fn line_end(rest: &[u8], searched: &mut usize) -> Result<Option<usize>, ResponseError> {
    let new = &rest[*searched..];
    let end = new.iter().position(|byte| *byte == b'\n');
    count_work(end.unwrap_or(new.len()));
    let length = end.map_or(rest.len(), |end| *searched + end);
    if length > LINE_BYTES_MAX {
        return Err(ResponseError::MalformedBody);
    }
    *searched = length;
    Ok(end.map(|_| length))
}

/// Moves up to `left` bytes from the front of `rest` to `body`.
fn move_bytes(rest: &mut &[u8], left: &mut usize, body: &mut Vec<u8>) {
    let (moved, after) = rest.split_at(rest.len().min(*left));
    body.extend_from_slice(moved);
    *left -= moved.len();
    *rest = after;
}
