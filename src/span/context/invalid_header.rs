//! The error of a header with a span context.

use std::fmt;

/// The error of an invalid `traceparent` or `tracestate` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidHeader {
    header: &'static str,
    why: &'static str,
}

impl InvalidHeader {
    pub(super) const fn new(header: &'static str, why: &'static str) -> Self {
        Self { header, why }
    }
}

impl fmt::Display for InvalidHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}: {}", self.header, self.why)
    }
}

impl std::error::Error for InvalidHeader {}
