//! Functions with the attribute `#[instrument]`.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::num::ParseIntError;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use otlp_collector::testing::{ReceivedSpan, Receiver};
use otlp_collector::{
    AnyValue, Collector, SpanContext, SpanId, SpanKind, Status, TraceId, current, instrument, span,
};

use common::start;

fn finish(receiver: &Receiver, collector: &Collector) -> HashMap<String, ReceivedSpan> {
    assert_eq!(collector.shutdown().unwrap().refused.total(), 0);
    let spans = receiver.spans();
    let count = spans.len();
    let by_name: HashMap<_, _> = spans
        .into_iter()
        .map(|span| (span.name.clone(), span))
        .collect();
    assert_eq!(by_name.len(), count, "names are unique");
    by_name
}

/// The keys and values of a span, in their order.
fn attributes(span: &ReceivedSpan) -> Vec<(&str, String)> {
    let attributes = span.attributes.iter();
    attributes
        .map(|attribute| {
            let text = match &attribute.value {
                AnyValue::String(text) => format!("{text:?}"),
                AnyValue::Int(number) => number.to_string(),
                AnyValue::Bool(value) => value.to_string(),
                AnyValue::Double(number) => number.to_string(),
                other => panic!("{other:?}"),
            };
            (&*attribute.key, text)
        })
        .collect()
}

fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

fn poll_once(future: impl Future) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(future).poll(&mut context).is_ready()
}

async fn wait() {
    let mut is_ready = false;
    std::future::poll_fn(|_| match std::mem::replace(&mut is_ready, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

#[derive(Debug, Clone, Copy)]
struct Point {
    x: i32,
    y: i32,
}

#[instrument]
fn plain(number: u64, text: &str, owned: String, flag: &bool, ratio: f64, _unused: ()) -> usize {
    span!("nested").end();
    owned.len() + text.len() + usize::from(*flag) + number as usize + ratio as usize
}

#[instrument]
fn patterns((a, b): (u8, u8), Point { x, y: other }: Point, &c: &i64, list: &[u8]) -> i64 {
    i64::from(a) + i64::from(b) + i64::from(x) + i64::from(other) + c + list.len() as i64
}

#[instrument(name = "renamed", kind = "server", skip(secret, number), fields(number = number + 1, a.b = %"c", "d" = ?Some(1)))]
fn with_options(number: i64, secret: impl Sized) {
    drop(secret);
    current().set_attribute("inside", number);
}

#[instrument(skip_all, parent = caller)]
fn with_parent(caller: &SpanContext<'_>, _n: u8) {}

#[instrument(err, ret)]
fn parse(text: &str) -> Result<i32, ParseIntError> {
    if text.is_empty() {
        return Ok(0);
    }
    let number: i32 = text.parse()?;
    Ok(number)
}

#[instrument("fails", err(Debug), skip_all)]
fn fail<E: Debug>(error: E) -> Result<(), E> {
    Err(error)
}

#[instrument(ret(Display), skip_all)]
fn opaque(n: i32) -> impl std::fmt::Display {
    n
}

#[instrument]
async fn asynchronous(number: u32) -> Result<u32, Box<dyn std::error::Error>> {
    wait().await;
    span!("in asynchronous").end();
    let further: u32 = "4".parse()?;
    Ok(number + further)
}

#[instrument(err, ret, name = "async result")]
async fn async_result(text: &str) -> Result<i32, ParseIntError> {
    wait().await;
    let number = parse_quietly(text)?;
    Ok(number)
}

fn parse_quietly(text: &str) -> Result<i32, ParseIntError> {
    text.parse()
}

#[instrument]
async fn unit() {
    wait().await;
}

struct Store {
    name: String,
}

impl Store {
    #[instrument(skip(self), fields(store = &self.name))]
    fn name<'s>(&'s self, prefix: &str) -> &'s str {
        let _ = prefix;
        &self.name
    }

    #[instrument]
    fn take(self) -> String {
        self.name
    }

    #[instrument(ret)]
    fn r#final(&mut self) -> &str {
        self.name.push('!');
        &self.name
    }

    #[instrument]
    async fn load<T>(&self, key: T) -> T
    where
        T: Debug + Clone,
    {
        wait().await;
        key.clone()
    }
}

trait Service {
    fn serve(&self, times: usize) -> usize;
}

impl Service for Store {
    #[instrument(kind = Server)]
    fn serve(&self, times: usize) -> usize {
        times * 2
    }
}

#[instrument(err, ret(Display), name = "opaque result")]
fn opaque_result(text: &str) -> Result<impl std::fmt::Display, ParseIntError> {
    let number: i32 = text.parse()?;
    Ok(number)
}

#[instrument(err)]
async fn opaque_async(text: &str) -> Result<impl std::fmt::Display, Box<dyn std::error::Error>> {
    wait().await;
    let number: i32 = text.parse()?;
    Ok([number].len())
}

#[instrument]
async fn never_completes() -> ! {
    loop {
        current().add_event("turn", &[]);
        wait().await;
    }
}

/// A method as `#[async_trait]` writes it.
trait Cache {
    fn get<'a, 'f>(
        &'a self,
        key: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<usize, ParseIntError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f;
}

impl Cache for Store {
    #[instrument(name = concat!("cache", ".get"), skip(self), fields(store = &self.name), err, ret)]
    fn get<'a, 'f>(
        &'a self,
        key: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<usize, ParseIntError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let __self = self;
            let key = key;
            wait().await;
            span!("in the cache").end();
            Ok(__self.name.len() + key.parse::<usize>()?)
        })
    }
}

#[instrument]
fn future_at_the_end(number: u32) -> impl Future<Output = u32> {
    let twice = number * 2;
    async move {
        wait().await;
        current().set_attribute("twice", twice);
        twice
    }
}

#[instrument]
fn future_elsewhere(number: u32) -> impl Future<Output = u32> {
    let futures = [async move { number }];
    futures.into_iter().next().unwrap()
}

mod short {
    //! Bodies on one line, of which `unused_braces` warns in a block of their own.
    #![deny(unused, clippy::pedantic)]

    use otlp_collector::instrument;

    #[rustfmt::skip]
    #[instrument]
    pub fn plain(number: u32) -> u32 { number + 1 }

    #[rustfmt::skip]
    #[instrument(ret)]
    pub fn with_result(number: u32) -> u32 { #![allow(unused_variables, reason = "")] let unused = 1; number }

    #[rustfmt::skip]
    #[instrument]
    pub async fn asynchronous(number: u32) -> u32 { number + 1 }

    macro_rules! define {
        ($name:ident, $number:ty, $body:block) => {
            #[instrument]
            pub fn $name(number: $number) -> $number $body
        };
    }
    define!(by_macro, u32, { 1 });
}

#[test]
fn parameters_are_attributes() {
    let (receiver, collector) = start(|_| {});
    let installed = collector.install_for_thread();
    assert_eq!(plain(1, "text", "owned".to_string(), &true, 1.5, ()), 12);
    assert_eq!(patterns((1, 2), Point { x: 3, y: 4 }, &5, &[6]), 16);
    with_options(1, Vec::<u8>::new());
    let caller = SpanContext::new(TraceId::from_u128(7).unwrap(), SpanId::from_u64(8).unwrap());
    with_parent(&caller, 1);
    drop(installed);
    assert_eq!(plain(0, "", String::new(), &false, 0.0, ()), 0);
    let spans = finish(&receiver, &collector);
    assert_eq!(
        attributes(&spans["plain"]),
        [
            ("number", "1".to_string()),
            ("text", "\"text\"".to_string()),
            ("owned", "\"owned\"".to_string()),
            ("flag", "true".to_string()),
            ("ratio", "1.5".to_string()),
        ]
    );
    assert_eq!(spans["nested"].parent_span_id, Some(spans["plain"].span_id));
    let keys: Vec<_> = attributes(&spans["patterns"]);
    let text = |text: &str| format!("{text:?}");
    assert_eq!(
        keys,
        [
            ("a", text("1")),
            ("b", text("2")),
            ("x", text("3")),
            ("other", text("4")),
            ("c", text("5")),
            ("list", text("[6]")),
        ]
    );
    let renamed = &spans["renamed"];
    assert_eq!(renamed.kind, SpanKind::Server);
    assert_eq!(
        attributes(renamed),
        [
            ("number", "2".to_string()),
            ("a.b", text("c")),
            ("d", text("Some(1)")),
            ("inside", "1".to_string()),
        ]
    );
    assert_eq!(spans["with_parent"].parent_span_id, Some(caller.span_id));
}

#[test]
fn results_are_recorded() {
    let (receiver, collector) = start(|_| {});
    let installed = collector.install_for_thread();
    assert_eq!(parse("12"), Ok(12));
    drop(installed);
    let spans = finish(&receiver, &collector);
    assert_eq!(
        attributes(&spans["parse"]),
        [
            ("text", "\"12\"".to_string()),
            ("return", "\"12\"".to_string())
        ]
    );
    assert!(spans["parse"].events.is_empty());

    let (receiver, collector) = start(|_| {});
    let installed = collector.install_for_thread();
    assert!(parse("x").is_err() && fail(Some("thing")).is_err());
    assert!(run(async_result("y")).is_err());
    assert_eq!(opaque(3).to_string(), "3");
    drop(installed);
    let spans = finish(&receiver, &collector);
    for (name, message) in [
        ("parse", "invalid digit found in string"),
        ("fails", "Some(\"thing\")"),
        ("async result", "invalid digit found in string"),
    ] {
        let span = &spans[name];
        assert!(matches!(span.status, Status::Error(_)), "{name}");
        let texts = format!("{:?}", span.events);
        assert!(texts.contains(&message.replace('"', "\\\"")), "{texts}");
    }
    assert_eq!(
        attributes(&spans["opaque"]),
        [("return", "\"3\"".to_string())]
    );
}

#[test]
fn async_functions_and_methods_are_instrumented() {
    let (receiver, collector) = start(|_| {});
    let installed = collector.install_for_thread();
    assert_eq!(run(asynchronous(3)).unwrap(), 7);
    assert_eq!(run(async_result("8")), Ok(8));
    run(unit());
    let mut store = Store {
        name: "store".to_string(),
    };
    assert_eq!(store.name("x"), "store");
    assert_eq!(run(store.load([1, 2])), [1, 2]);
    assert_eq!((store.serve(2), store.r#final()), (4, "store!"));
    assert_eq!(store.take(), "store!");
    drop(installed);
    let spans = finish(&receiver, &collector);
    let nested = &spans["in asynchronous"];
    assert_eq!(nested.parent_span_id, Some(spans["asynchronous"].span_id));
    assert_eq!(
        attributes(&spans["name"]),
        [
            ("prefix", "\"x\"".to_string()),
            ("store", "\"store\"".to_string())
        ]
    );
    assert_eq!(
        attributes(&spans["load"]),
        [("key", "\"[1, 2]\"".to_string())]
    );
    assert_eq!(spans["serve"].kind, SpanKind::Server);
    assert_eq!(
        attributes(&spans["final"]),
        [("return", "\"\\\"store!\\\"\"".to_string())]
    );
    for name in ["asynchronous", "unit", "take", "async result"] {
        assert_eq!(spans[name].parent_span_id, None, "{name}");
    }
}

#[test]
fn a_future_at_the_end_of_a_function_is_instrumented() {
    let (receiver, collector) = start(|_| {});
    let installed = collector.install_for_thread();
    let store = Store {
        name: "store".to_string(),
    };
    let cache: Box<dyn Cache> = Box::new(store);
    assert_eq!(run(cache.get("1")), Ok(6));
    assert_eq!(run(future_at_the_end(2)), 4);
    assert_eq!(run(future_elsewhere(5)), 5);
    assert!(!poll_once(never_completes()));
    drop(installed);
    let spans = finish(&receiver, &collector);
    let get = &spans["cache.get"];
    assert_eq!(spans["in the cache"].parent_span_id, Some(get.span_id));
    let text = |text: &str| format!("{text:?}");
    assert_eq!(
        attributes(get),
        [
            ("key", text("1")),
            ("store", text("store")),
            ("return", text("6"))
        ]
    );
    let expected = [("number", "2".to_string()), ("twice", "4".to_string())];
    assert_eq!(attributes(&spans["future_at_the_end"]), expected);
    let expected = [("number", "5".to_string())];
    assert_eq!(attributes(&spans["future_elsewhere"]), expected);
    assert_eq!(spans["never_completes"].events.len(), 1);

    let (receiver, collector) = start(|_| {});
    let installed = collector.install_for_thread();
    assert!(run(cache.get("x")).is_err());
    drop(installed);
    let spans = finish(&receiver, &collector);
    assert!(matches!(spans["cache.get"].status, Status::Error(_)));
}

#[test]
fn opaque_types_within_results_are_inferred() {
    let (receiver, collector) = start(|_| {});
    let installed = collector.install_for_thread();
    assert_eq!(opaque_result("3").unwrap().to_string(), "3");
    assert!(run(opaque_async("x")).is_err());
    drop(installed);
    let spans = finish(&receiver, &collector);
    let expected = [
        ("text", "\"3\"".to_string()),
        ("return", "\"3\"".to_string()),
    ];
    assert_eq!(attributes(&spans["opaque result"]), expected);
    assert!(matches!(spans["opaque_async"].status, Status::Error(_)));
}

#[test]
fn bodies_keep_their_form() {
    let (receiver, collector) = start(|_| {});
    let installed = collector.install_for_thread();
    assert_eq!(short::plain(1) + short::with_result(1), 3);
    assert_eq!(run(short::asynchronous(1)) + short::by_macro(5), 3);
    drop(installed);
    let spans = finish(&receiver, &collector);
    // A type that a macro was given is the same type.
    assert_eq!(
        attributes(&spans["by_macro"]),
        [("number", "5".to_string())]
    );
}

#[test]
fn futures_of_async_functions_are_send() {
    fn is_send(_: impl Send) {}
    is_send(asynchronous(1));
    is_send(async_result("1"));
}
