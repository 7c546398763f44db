//! Reads the head of a response: its status, the headers that matter, and the framing of its body.

use crate::exporter::http::framing::{Chunk, Framing};
use crate::exporter::http::response::{Response, ResponseError};

/// The longest header value that is kept: URIs of 8,000 bytes are to be supported (RFC 9110, 4.1).
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Returns the response without its body.
pub(super) fn read_head(
    head: &httparse::Response<'_, '_>,
) -> Result<(Response, Framing), ResponseError> {
    let status = head.code.ok_or(ResponseError::MalformedHead)?;
    let mut response = Response {
        status,
        retry_after: None,
        location: None,
        content_type: None,
        content_encoding: None,
        body: Vec::new(),
        broken: None,
        keep_alive: false,
    };
    let mut framing = Framing::UntilClose;
    let mut has_transfer_encoding = false;
    let (mut has_close, mut has_keep_alive) = (false, false);
    for header in head.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") && !has_transfer_encoding {
            framing = content_length(value, framing)?;
        } else if is("transfer-encoding") {
            if let Some((ends, coding)) = transfer_encoding(value) {
                has_transfer_encoding = true;
                framing = ends;
                response.content_encoding =
                    (response.content_encoding).or(coding.map(|coding| kept(&coding)));
            }
        } else if is("connection") {
            has_close |= has_token(value, "close");
            has_keep_alive |= has_token(value, "keep-alive");
        } else if is("retry-after") {
            response.retry_after = Some(kept(value));
        } else if is("location") {
            response.location = Some(kept(value));
        } else if is("content-type") {
            response.content_type = Some(kept(value));
        } else if is("content-encoding") {
            response.content_encoding = Some(kept(value));
        }
    }
    if status < 200 || matches!(status, 204 | 304) {
        framing = Framing::Length { left: 0 };
    }
    // `close` wins over `keep-alive`, in whichever order (RFC 9112, 9.3).
    let is_persistent = !has_close && (head.version == Some(1) || has_keep_alive);
    response.keep_alive = is_persistent && framing != Framing::UntilClose;
    Ok((response, framing))
}

/// Returns a header's value, or a placeholder if it is too long: a part of it would be another value.
fn kept(value: &str) -> String {
    if value.len() > VALUE_BYTES_MAX {
        return "(longer than 8 KiB)".to_string();
    }
    value.to_string()
}

/// Parses a `Content-Length`. Several must agree. One beyond the limit is an error of the body, so that
/// the head still counts.
fn content_length(value: &str, before: Framing) -> Result<Framing, ResponseError> {
    // `parse` would also take a sign, which HTTP does not allow.
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ResponseError::MalformedHead);
    }
    let left = value.parse().unwrap_or(usize::MAX);
    match before {
        Framing::Length { left: other } if other != left => Err(ResponseError::MalformedHead),
        _ => Ok(Framing::Length { left }),
    }
}

/// Parses a `Transfer-Encoding`. The body is chunked or lasts until the connection ends (RFC 9112, 6.3).
/// Other codings are returned, not decoded. `None` if there is no coding.
fn transfer_encoding(value: &str) -> Option<(Framing, Option<String>)> {
    let codings = value.split(',').map(str::trim);
    // Empty elements of a list are ignored (RFC 9110, 5.6.1.2).
    let is_one = |coding: &&str| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity");
    let mut codings: Vec<_> = codings.filter(is_one).collect();
    let is_chunked = codings.last()?.eq_ignore_ascii_case("chunked");
    let framing = if is_chunked {
        codings.pop();
        Framing::Chunked(Chunk::SIZE)
    } else {
        Framing::UntilClose
    };
    Some((framing, (!codings.is_empty()).then(|| codings.join(", "))))
}

fn has_token(value: &str, token: &str) -> bool {
    value
        .split(',')
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn read(text: &str) -> (Response, Framing) {
        let mut headers = [httparse::EMPTY_HEADER; 4];
        let mut head = httparse::Response::new(&mut headers);
        assert!(head.parse(text.as_bytes()).unwrap().is_complete());
        read_head(&head).unwrap()
    }

    #[test]
    fn statuses_without_a_body_ignore_a_content_length() {
        let left = |status| {
            let text = format!("HTTP/1.1 {status} Text\r\nContent-Length: 5\r\n\r\n");
            read(&text).1
        };
        for status in [100, 103, 199, 204, 304] {
            assert_eq!(left(status), Framing::Length { left: 0 }, "{status}");
        }
        for status in [200, 205, 303, 400] {
            assert_eq!(left(status), Framing::Length { left: 5 }, "{status}");
        }
    }

    #[test]
    fn values_of_up_to_8_kib_are_kept() {
        for (bytes, is_kept) in [(8000, true), (8192, true), (8193, false)] {
            let value = "x".repeat(bytes);
            let text = format!("HTTP/1.1 307 Text\r\nLocation: {value}\r\n\r\n");
            let location = read(&text).0.location.unwrap();
            let expected = if is_kept {
                &value
            } else {
                "(longer than 8 KiB)"
            };
            assert_eq!(location, expected, "{bytes}");
        }
    }
}
