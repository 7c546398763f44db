//! Macros that start spans of the installed collector.

/// Calls the body of a function. A closure that is passed here may move what it captures.
#[doc(hidden)]
#[inline(always)]
pub fn __call_once<R>(body: impl FnOnce() -> R) -> R {
    body()
}

/// Starts a span of the installed collector: a child of the current span unless `parent:` is given.
///
/// The name is followed by options, then by attributes. Options are the methods of
/// [`SpanBuilder`](crate::recorder::SpanBuilder): `kind: Server` (or any [`SpanKind`](crate::SpanKind)), `parent: &context`
/// or `parent: None`, `links: &links`, `start_time: nanos`, `scope: &scope`, `keep_if: rule`. Attributes are `"a key" = value`,
/// `a.key = value`, or a variable by its name. Values are those of
/// [`OpenSpan::set_attribute`](crate::OpenSpan::set_attribute); `%value` is formatted by `Display` and
/// `?value` by `Debug`, in place.
///
/// Names and keys are constants, whose wire form is made at compile time. Values are evaluated only if the
/// span is recorded, after it started; a custom sampler does not see them.
///
/// Without an installed collector it costs a few nanoseconds and returns
/// [`OpenSpan::none`](crate::OpenSpan::none).
///
/// ```
/// # use otlp_collector::{Collector, Config, SpanContext, span};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let receiver = otlp_collector::testing::Receiver::start()?;
/// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
/// let _installed = collector.install_for_thread();
/// let headers = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")];
/// let caller = SpanContext::extract(headers);
/// let path = "/orders";
/// let peer = std::net::Ipv4Addr::LOCALHOST;
/// let request = span!(
///     "GET /orders",
///     kind: Server,
///     parent: caller.as_ref(),
///     "url.path" = path,
///     client.address = %peer,
/// )
/// .entered();
/// let query = span!("SELECT orders", db.system.name = "postgresql"); // its child
/// # drop((query, request));
/// # collector.shutdown()?;
/// # let (request, query) = (receiver.span("GET /orders"), receiver.span("SELECT orders"));
/// # assert_eq!(query.parent_span_id, Some(request.span_id));
/// # assert_eq!(request.attribute("url.path"), Some("/orders".into()));
/// # assert_eq!(request.attribute("client.address"), Some("127.0.0.1".into()));
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! span {
    ($name:expr $(,)?) => {
        $crate::span_builder($crate::name!($name)).start()
    };
    ($name:expr, $($rest:tt)+) => {
        $crate::__span!([$crate::span_builder($crate::name!($name))] $($rest)+)
    };
}

/// Takes options one after the other, then attributes.
#[doc(hidden)]
#[macro_export]
macro_rules! __span {
    ([$builder:expr] kind: $kind:ident $(, $($rest:tt)*)?) => {
        $crate::__span!([$builder.kind($crate::__span_kind!($kind))] $($($rest)*)?)
    };
    ([$builder:expr] kind: $kind:expr $(, $($rest:tt)*)?) => {
        $crate::__span!([$builder.kind($kind)] $($($rest)*)?)
    };
    ([$builder:expr] parent: $parent:expr $(, $($rest:tt)*)?) => {
        $crate::__span!([$builder.parent($parent)] $($($rest)*)?)
    };
    ([$builder:expr] links: $links:expr $(, $($rest:tt)*)?) => {
        $crate::__span!([$builder.links($links)] $($($rest)*)?)
    };
    ([$builder:expr] start_time: $start_time:expr $(, $($rest:tt)*)?) => {
        $crate::__span!([$builder.start_time($start_time)] $($($rest)*)?)
    };
    ([$builder:expr] scope: $scope:expr $(, $($rest:tt)*)?) => {
        $crate::__span!([$builder.scope($scope)] $($($rest)*)?)
    };
    ([$builder:expr] keep_if: $rule:expr $(, $($rest:tt)*)?) => {
        $crate::__span!([$builder.keep_if($rule)] $($($rest)*)?)
    };
    ([$builder:expr]) => {
        $builder.start()
    };
    ([$builder:expr] $($attributes:tt)+) => {{
        let mut span = $builder.start();
        if span.is_recording() {
            $crate::__span_attributes!(span, $($attributes)+);
        }
        span
    }};
}

/// Returns a kind by its name, or the value of a variable.
#[doc(hidden)]
#[macro_export]
macro_rules! __span_kind {
    (Internal) => {
        $crate::SpanKind::Internal
    };
    (Server) => {
        $crate::SpanKind::Server
    };
    (Client) => {
        $crate::SpanKind::Client
    };
    (Producer) => {
        $crate::SpanKind::Producer
    };
    (Consumer) => {
        $crate::SpanKind::Consumer
    };
    ($kind:ident) => {
        $kind
    };
}

/// Sets attributes, one after the other.
#[doc(hidden)]
#[macro_export]
macro_rules! __span_attributes {
    ($span:ident $(,)?) => {};
    ($span:ident, $key:literal = % $value:expr $(, $($rest:tt)*)?) => {
        $span.set_attribute_display($crate::key!($key), &$value);
        $crate::__span_attributes!($span, $($($rest)*)?);
    };
    ($span:ident, $key:literal = ? $value:expr $(, $($rest:tt)*)?) => {
        $span.set_attribute_display($crate::key!($key), &::core::format_args!("{:?}", $value));
        $crate::__span_attributes!($span, $($($rest)*)?);
    };
    ($span:ident, $key:literal = $value:expr $(, $($rest:tt)*)?) => {
        $span.set_attribute($crate::key!($key), $value);
        $crate::__span_attributes!($span, $($($rest)*)?);
    };
    ($span:ident, $first:ident $(. $part:ident)* = % $value:expr $(, $($rest:tt)*)?) => {
        $span.set_attribute_display($crate::__span_key!($first $($part)*), &$value);
        $crate::__span_attributes!($span, $($($rest)*)?);
    };
    ($span:ident, $first:ident $(. $part:ident)* = ? $value:expr $(, $($rest:tt)*)?) => {
        $span.set_attribute_display(
            $crate::__span_key!($first $($part)*),
            &::core::format_args!("{:?}", $value),
        );
        $crate::__span_attributes!($span, $($($rest)*)?);
    };
    ($span:ident, $first:ident $(. $part:ident)* = $value:expr $(, $($rest:tt)*)?) => {
        $span.set_attribute($crate::__span_key!($first $($part)*), $value);
        $crate::__span_attributes!($span, $($($rest)*)?);
    };
    ($span:ident, % $name:ident $(, $($rest:tt)*)?) => {
        $span.set_attribute_display($crate::__span_key!($name), &$name);
        $crate::__span_attributes!($span, $($($rest)*)?);
    };
    ($span:ident, ? $name:ident $(, $($rest:tt)*)?) => {
        $span.set_attribute_display($crate::__span_key!($name), &::core::format_args!("{:?}", $name));
        $crate::__span_attributes!($span, $($($rest)*)?);
    };
    ($span:ident, $name:ident $(, $($rest:tt)*)?) => {
        $span.set_attribute($crate::__span_key!($name), $name);
        $crate::__span_attributes!($span, $($($rest)*)?);
    };
    ($span:ident, $option:ident: $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "no option `", ::core::stringify!($option), ":` is possible here: the options kind, parent, links, \
             start_time, scope and keep_if come before the attributes, which are written `key = value`"
        ))
    };
    ($span:ident, $key:literal $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "the attribute ", ::core::stringify!($key), " has no value: write ", ::core::stringify!($key), " = value"
        ))
    };
    ($span:ident, $first:ident $(. $part:ident)+ $(, $($rest:tt)*)?) => {
        ::core::compile_error!(::core::concat!(
            "the attribute `", ::core::stringify!($first) $(, ".", ::core::stringify!($part))+,
            "` has no value: write `key = value`; only a variable can stand alone"
        ))
    };
}

/// Makes a key of the parts of its name.
#[doc(hidden)]
#[macro_export]
macro_rules! __span_key {
    ($first:ident $($part:ident)*) => {
        $crate::key!(::core::concat!(::core::stringify!($first) $(, ".", ::core::stringify!($part))*))
    };
}
