//! Attributes in a tuple, so that the compiler sees the type of each.

use crate::span::attribute::key_value_ref::{AnyValueRef, KeyValueRef};
use crate::span::attribute::prepared::Key;

/// Attributes whose number and types are known at compile time, for
/// [`Recorder::record_with`](crate::Recorder::record_with): a tuple of up to twelve pairs of a key and
/// a value. A single pair needs a trailing comma: `((key, value),)`. No attributes are `()`.
///
/// Keys and values are `Copy`: pass `&str` or `&String`, not `String`. Further attributes can go into
/// [`SpanRef::attributes`](crate::SpanRef::attributes).
///
/// ```
/// use otlp_collector::span::Attributes;
/// use otlp_collector::key;
///
/// fn some() -> impl Attributes {
///     ((key!("db.system.name"), "postgresql"), ("db.response.returned_rows", 7))
/// }
/// # some();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tuple of attributes",
    note = "write up to twelve pairs of a key and a value, each of a `Copy` type such as `&str`",
    note = "a single pair needs a trailing comma: `((key, value),)`",
    note = "further attributes can go into `SpanRef::attributes`"
)]
pub trait Attributes: Copy {
    /// Number of attributes.
    #[doc(hidden)]
    const COUNT: usize;

    /// Passes each attribute to the visitor until that returns `None`.
    #[doc(hidden)]
    fn visit<V: VisitAttributes>(&self, visitor: V) -> Option<V>;

    /// Converts each key and value once and passes the tuple of results to `user`. Visiting those runs
    /// no user code.
    #[doc(hidden)]
    fn convert<U: UseAttributes>(self, user: U) -> U::Output;
}

/// A function of a tuple with any number of attributes.
#[doc(hidden)]
pub trait UseAttributes {
    type Output;

    fn call(self, attributes: impl Attributes) -> Self::Output;
}

/// A visitor of attributes, one after the other.
#[doc(hidden)]
pub trait VisitAttributes: Sized {
    fn attribute(self, attribute: &KeyValueRef<'_>) -> Option<Self>;
}

impl Attributes for () {
    const COUNT: usize = 0;

    #[inline(always)]
    fn visit<V: VisitAttributes>(&self, visitor: V) -> Option<V> {
        Some(visitor)
    }

    #[inline(always)]
    fn convert<U: UseAttributes>(self, user: U) -> U::Output {
        user.call(self)
    }
}

macro_rules! attributes {
    ($($key:ident $value:ident $at:tt),+) => {
        impl<'a, $($key, $value),+> Attributes for ($(($key, $value),)+)
        where
            $($key: Into<Key<'a>> + Copy, $value: Into<AnyValueRef<'a>> + Copy),+
        {
            const COUNT: usize = [$($at),+].len();

            #[inline(always)]
            fn visit<V: VisitAttributes>(&self, visitor: V) -> Option<V> {
                $(let visitor = visitor.attribute(&KeyValueRef::new(self.$at.0, self.$at.1))?;)+
                Some(visitor)
            }

            #[inline(always)]
            fn convert<U: UseAttributes>(self, user: U) -> U::Output {
                user.call(($((Into::<Key<'a>>::into(self.$at.0), Into::<AnyValueRef<'a>>::into(self.$at.1)),)+))
            }
        }
    };
}

attributes!(K0 V0 0);
attributes!(K0 V0 0, K1 V1 1);
attributes!(K0 V0 0, K1 V1 1, K2 V2 2);
attributes!(K0 V0 0, K1 V1 1, K2 V2 2, K3 V3 3);
attributes!(K0 V0 0, K1 V1 1, K2 V2 2, K3 V3 3, K4 V4 4);
attributes!(K0 V0 0, K1 V1 1, K2 V2 2, K3 V3 3, K4 V4 4, K5 V5 5);
attributes!(K0 V0 0, K1 V1 1, K2 V2 2, K3 V3 3, K4 V4 4, K5 V5 5, K6 V6 6);
attributes!(K0 V0 0, K1 V1 1, K2 V2 2, K3 V3 3, K4 V4 4, K5 V5 5, K6 V6 6, K7 V7 7);
attributes!(K0 V0 0, K1 V1 1, K2 V2 2, K3 V3 3, K4 V4 4, K5 V5 5, K6 V6 6, K7 V7 7, K8 V8 8);
attributes!(
    K0 V0 0, K1 V1 1, K2 V2 2, K3 V3 3, K4 V4 4, K5 V5 5, K6 V6 6, K7 V7 7, K8 V8 8, K9 V9 9
);
attributes!(
    K0 V0 0, K1 V1 1, K2 V2 2, K3 V3 3, K4 V4 4, K5 V5 5, K6 V6 6, K7 V7 7, K8 V8 8, K9 V9 9,
    K10 V10 10
);
attributes!(
    K0 V0 0, K1 V1 1, K2 V2 2, K3 V3 3, K4 V4 4, K5 V5 5, K6 V6 6, K7 V7 7, K8 V8 8, K9 V9 9,
    K10 V10 10, K11 V11 11
);
