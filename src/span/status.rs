//! The status of a span.

use std::borrow::Cow;

/// The outcome of a span (OTLP's `Status`).
///
/// OTLP closes the list, so the enum is exhaustive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// No status was set.
    #[default]
    Unset,
    /// The application declared the operation a success.
    Ok,
    /// The operation failed. The description may be empty.
    Error(Cow<'static, str>),
}

impl Status {
    pub(crate) fn as_ref(&self) -> StatusRef<'_> {
        match self {
            Self::Unset => StatusRef::Unset,
            Self::Ok => StatusRef::Ok,
            Self::Error(description) => StatusRef::Error(description),
        }
    }

    pub(crate) fn is_unset(&self) -> bool {
        matches!(self, Self::Unset)
    }
}

/// A borrowed [`Status`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatusRef<'a> {
    /// No status was set.
    #[default]
    Unset,
    /// The application declared the operation a success.
    Ok,
    /// The operation failed. The description may be empty.
    Error(&'a str),
}

impl StatusRef<'_> {
    #[inline(always)]
    pub(crate) fn is_unset(&self) -> bool {
        matches!(self, Self::Unset)
    }
}
