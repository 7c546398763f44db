//! emit with its own OTLP emitter.

use std::time::Duration;

use emit::runtime::shared;
use emit::span::{SpanCtxt, SpanId, SpanKind, TraceId};
use emit::{Emitter, Template, Timer};

use super::{Finished, Peer};
use crate::workload::{
    NAME, PARENT_ID, POSTGRESQL, SERVICE, TRACE_ID, Workload, address, cached, rows,
};

pub const NOTES: &str = "emit: default makes spans with its macro; tuned makes the same events by \
    hand, past its ambient context. Its queue of 10,000 and its requests of 1 MiB cannot be \
    changed. Compression is off, which is on by default, since the receiver does not read it. It \
    counts how often it threw away its queue, not what was in it.";

pub fn default(endpoint: &str) -> Box<dyn Peer> {
    start(endpoint);
    Box::new(Macros)
}

pub fn tuned(endpoint: &str) -> Box<dyn Peer> {
    start(endpoint);
    Box::new(ByHand)
}

fn start(endpoint: &str) {
    let transport = emit_otlp::http(format!("{endpoint}/v1/traces")).allow_compression(false);
    let emitter = emit_otlp::new()
        .resource(emit::props! {
            #[emit::key("service.name")]
            service_name: SERVICE,
        })
        .traces(emit_otlp::traces_proto(transport))
        .spawn();
    // The initialised runtime belongs to the process and lives as long.
    let _ = emit::setup().emit_to(emitter).init();
}

fn finish() -> Finished {
    let flushed = shared().blocking_flush(Duration::from_secs(30));
    let complaint = "the flush timed out".to_string();
    Finished::of(flushed.then_some(()).ok_or(complaint))
}

fn parent() -> SpanCtxt {
    SpanCtxt::new(
        TraceId::from_bytes(TRACE_ID),
        None,
        SpanId::from_bytes(PARENT_ID),
    )
}

struct Macros;

impl Peer for Macros {
    fn produce(&self, workload: &mut Workload) {
        let address = address();
        let frame = parent().push(shared().ctxt());
        frame.call(|| workload.run(|number| select(&address, rows(number), cached(number))));
    }

    fn finish(self: Box<Self>) -> Finished {
        finish()
    }
}

#[emit::span(
    kind: "client",
    "SELECT shop.articles",
    #[emit::key("db.system.name")] system: POSTGRESQL,
    #[emit::key("server.address")] address,
    #[emit::key("db.response.returned_rows")] rows,
    #[emit::key("db.cached")] cached,
)]
fn select(address: &str, rows: i64, cached: bool) {}

struct ByHand;

impl Peer for ByHand {
    #[expect(
        clippy::too_many_arguments,
        reason = "emit's macro makes a function of its own"
    )]
    fn produce(&self, workload: &mut Workload) {
        let (address, parent) = (address(), parent());
        let runtime = shared();
        workload.run(|number| {
            let timer = Timer::start(runtime.clock());
            let span = emit::Span::new(
                emit::mdl!(),
                timer,
                emit::props! {
                    #[emit::key("db.system.name")] system: POSTGRESQL,
                    #[emit::key("server.address")] address: address.as_str(),
                    #[emit::key("db.response.returned_rows")] rows: rows(number),
                    #[emit::key("db.cached")] cached: cached(number),
                },
            );
            let context = parent.new_child(runtime.rng());
            let span = span
                .with_tpl(Template::literal(NAME))
                .with_kind(SpanKind::Client)
                .map_props(|props| emit::Props::and_props(props, context));
            runtime.emitter().emit(span);
        });
    }

    fn finish(self: Box<Self>) -> Finished {
        finish()
    }
}
