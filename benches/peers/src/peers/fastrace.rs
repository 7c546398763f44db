//! fastrace with its OpenTelemetry reporter, over the same exporter as the SDK's.

use std::borrow::Cow;
use std::time::Duration;

use fastrace::collector::{Config, SpanContext, SpanId, TraceId};
use fastrace::local::{LocalParentGuard, LocalSpan};
use fastrace::{Span, set_reporter};
use fastrace_opentelemetry::OpenTelemetryReporter;
use opentelemetry::InstrumentationScope;

use super::{Finished, Peer, sdk};
use crate::workload::{
    ADDRESS, CACHED, NAME, PARENT_ID, POSTGRESQL, ROWS, SERVICE, SYSTEM, TRACE_ID, Workload,
    address, cached, rows,
};

pub const NOTES: &str = "fastrace: default makes a root span of each; tuned makes traces of a root \
    and nine local spans, reports every 100 ms, and has the text that is known only at run time \
    made static. The size of its queue cannot be set, and it has no count of what it lost: what \
    the queue cannot hold stays with the producing thread, where no flush reaches it, and ends \
    with it. Numbers and bools are texts.";

pub fn default(endpoint: &str) -> Box<dyn Peer> {
    set_reporter(reporter(endpoint), Config::default());
    Box::new(Roots)
}

pub fn tuned(endpoint: &str) -> Box<dyn Peer> {
    let config = Config::default().report_interval(Duration::from_millis(100));
    set_reporter(reporter(endpoint), config);
    Box::new(Traces)
}

fn reporter(endpoint: &str) -> OpenTelemetryReporter {
    OpenTelemetryReporter::new(
        sdk::exporter(endpoint),
        Cow::Owned(sdk::resource()),
        InstrumentationScope::builder(SERVICE).build(),
    )
}

fn finish() -> Finished {
    fastrace::flush();
    Finished::default()
}

fn parent() -> SpanContext {
    SpanContext::new(
        TraceId(u128::from_be_bytes(TRACE_ID)),
        SpanId(u64::from_be_bytes(PARENT_ID)),
    )
}

type Property = (&'static str, Cow<'static, str>);

/// The kind of a span is an attribute, too.
fn properties(number: u64, address: Cow<'static, str>) -> [Property; 5] {
    [
        ("span.kind", "client".into()),
        (SYSTEM, POSTGRESQL.into()),
        (ADDRESS, address),
        (ROWS, rows(number).to_string().into()),
        (CACHED, if cached(number) { "true" } else { "false" }.into()),
    ]
}

/// Each span is a root in this process.
struct Roots;

impl Peer for Roots {
    fn produce(&self, workload: &mut Workload) {
        let (address, parent) = (address(), parent());
        workload.run(|number| {
            let span = Span::root(NAME, parent);
            drop(span.with_properties(|| properties(number, address.clone().into())));
        });
    }

    fn finish(self: Box<Self>) -> Finished {
        finish()
    }
}

/// Each tenth span is a root in this process, and the parent of those that follow. These are recorded
/// locally, and all ten are handed over together.
struct Traces;

impl Peer for Traces {
    fn produce(&self, workload: &mut Workload) {
        // Static texts are not copied.
        let address: &'static str = address().leak();
        let parent = parent();
        let mut root: Option<Root> = None;
        workload.run(|number| {
            let properties = || properties(number, address.into());
            if number.is_multiple_of(10) {
                drop(root.take());
                let span = Span::root(NAME, parent).with_properties(properties);
                root = Some(Root {
                    _guard: span.set_local_parent(),
                    _span: span,
                });
            } else {
                drop(LocalSpan::enter_with_local_parent(NAME).with_properties(properties));
            }
        });
    }

    fn finish(self: Box<Self>) -> Finished {
        finish()
    }
}

/// Dropped in this order: the local spans are handed over before their root ends.
struct Root {
    _guard: LocalParentGuard,
    _span: Span,
}
