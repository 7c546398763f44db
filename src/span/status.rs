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

/// A status, as [`set_status`](crate::OpenSpan::set_status) takes it: a [`Status`], a [`StatusRef`], or a
/// type of the program that has one.
///
/// ```
/// use otlp_collector::Status;
/// # use otlp_collector::OpenSpan;
/// use otlp_collector::span::{AsStatus, StatusRef};
///
/// struct Response(u16);
///
/// impl AsStatus for Response {
///     fn as_status(&self) -> StatusRef<'_> {
///         match self.0 {
///             500.. => StatusRef::Error("server error"),
///             _ => StatusRef::Unset,
///         }
///     }
/// }
///
/// # fn example(span: &mut OpenSpan) {
/// span.set_status(Response(503)).set_status(Status::Ok);
/// # }
/// ```
pub trait AsStatus {
    /// Returns the status.
    fn as_status(&self) -> StatusRef<'_>;
}

impl AsStatus for Status {
    fn as_status(&self) -> StatusRef<'_> {
        self.as_ref()
    }
}

impl AsStatus for StatusRef<'_> {
    #[inline(always)]
    fn as_status(&self) -> StatusRef<'_> {
        *self
    }
}

impl<S: AsStatus + ?Sized> AsStatus for &S {
    #[inline(always)]
    fn as_status(&self) -> StatusRef<'_> {
        (**self).as_status()
    }
}

impl StatusRef<'_> {
    #[inline(always)]
    pub(crate) fn is_unset(&self) -> bool {
        matches!(self, Self::Unset)
    }
}
