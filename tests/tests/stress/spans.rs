//! Every kind of span that a thread with a recorder can record.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::time::Duration;

use common::{span_id, trace_id};
use otlp_collector::recorder::SpanBuilder;
use otlp_collector::span::{
    Event, EventRef, KeepIf, KeyValueRef, Link, LinkRef, Scope, StatusRef, TraceFlags,
};
use otlp_collector::{
    Collector, KeyValue, OpenSpan, Recorder, Span, SpanContext, SpanKind, SpanRef, Status, key,
    name, unix_nanos,
};

use crate::dice::Dice;
use crate::tally::Tally;

/// More bytes than fit into a slab.
pub const LARGE_BYTES: usize = 20_000;
/// Maximum spans open at the same time; more than a recorder has memory for.
pub const OPEN_MAX: u64 = 12;
/// Open spans that may wait for another thread to end them.
const MOVING_MAX: usize = 16;

/// State that the threads of a round share.
pub struct Common {
    pub collector: Collector,
    pub tally: Tally,
    pub scopes: Vec<Scope>,
    /// A scope of another collector.
    pub foreign: Scope,
    /// Open spans that another thread will end.
    pub moving: Mutex<Vec<OpenSpan>>,
    /// Whether moving spans may be forgotten.
    pub may_leak: bool,
}

/// Records spans on one thread.
pub struct Source<'a> {
    pub common: &'a Common,
    pub recorder: &'a Recorder,
    pub dice: Dice,
}

impl<'a> Source<'a> {
    /// Records one or a few spans of a random kind.
    pub fn make(&mut self) {
        match self.dice.below(16) {
            0 => self.record(),
            1 => self.record_with(),
            2 => self.record_rich(),
            3 => self.record_in_scope(),
            4 => self.collect(),
            5 => self.open(),
            6 => self.open_rich(),
            7 => self.open_family(),
            8 => self.open_in_scope(),
            9 => self.open_below_remote(),
            10 => self.move_away(),
            11 => self.take_over(),
            12 => self.forget(),
            13 => self.panic(),
            14 => self.exceed(),
            _ => self.foreign(),
        }
    }

    fn tally(&self) -> &'a Tally {
        &self.common.tally
    }

    // ---- Finished spans ----

    fn finished<'n>(&self, name: &'n str) -> SpanRef<'n> {
        let now = unix_nanos();
        SpanRef {
            start_time: now - 1,
            end_time: now,
            ..SpanRef::new(
                self.recorder.new_trace_id(),
                self.recorder.new_span_id(),
                name,
            )
        }
    }

    fn record(&mut self) {
        let span = self.finished("record");
        self.tally().record(|| self.recorder.record(&span));
    }

    fn record_with(&mut self) {
        let span = SpanRef {
            name: name!("record_with"),
            ..self.finished("")
        };
        let rows = self.dice.below(1000);
        let attributes = ((key!("db.system.name"), "postgresql"), ("rows", rows));
        self.tally()
            .record(|| self.recorder.record_with(&span, attributes));
    }

    fn record_rich(&mut self) {
        let text = "x".repeat(self.dice.below(300) as usize);
        let attributes = [
            KeyValueRef::new("text", &*text),
            KeyValueRef::new("text", "twice"),
            KeyValueRef::new("number", 1.5),
        ];
        let context = SpanContext::new(trace_id(7), span_id(7));
        let events = [EventRef {
            attributes: &attributes,
            ..EventRef::new("event", 1)
        }];
        let links = [LinkRef::new(&context)];
        let span = SpanRef {
            kind: SpanKind::Producer,
            attributes: &attributes,
            events: &events,
            links: &links,
            status: StatusRef::Error(&text),
            ..self.finished("record_rich")
        };
        self.tally().record(|| self.recorder.record(&span));
    }

    fn record_in_scope(&mut self) {
        let scope = self.pick_scope();
        // An error means a lack of slabs. No span was attempted then.
        if let Ok(recorder) = self.recorder.with_scope(scope) {
            let span = self.finished("record_in_scope");
            self.tally().record(|| recorder.record(&span));
            self.tally()
                .record(|| recorder.record_with(&span, ((key!("key"), 1),)));
        }
    }

    /// Records owned spans by `collect`.
    pub fn collect(&mut self) {
        let mut span = Span::new("collect");
        span.attributes.push(KeyValue::new("key", "value"));
        span.events.push(Event::new("event"));
        let context = SpanContext::new(trace_id(8), span_id(8));
        span.links.push(Link::new(context));
        span.status = Status::Ok;
        span.scope = (self.dice.one_in(2)).then(|| self.pick_scope().clone());
        let child = Span::child_of(&span, "collected child");
        let collector = &self.common.collector;
        self.tally().record(|| collector.collect(span));
        self.tally().record(|| collector.collect(child));
    }

    // ---- Open spans ----

    /// Starts a span and counts it.
    fn start(&mut self, builder: SpanBuilder<'_, '_>) -> OpenSpan {
        self.tally().begin(1);
        let builder = match self.dice.below(8) {
            0 => builder.keep_if(KeepIf {
                one_in: Some(1),
                ..KeepIf::default()
            }),
            1 => builder.keep_if(KeepIf {
                slower_than: Some(Duration::from_micros(10)),
                ..KeepIf::default()
            }),
            _ => builder,
        };
        let mut span = builder.start();
        if self.dice.one_in(10) {
            span.keep_trace(self.dice.one_in(2));
        }
        span
    }

    fn root(&mut self) -> OpenSpan {
        let builder = self.recorder.span_builder(name!("root"));
        self.start(builder.kind(SpanKind::Server))
    }

    fn child(&mut self, parent: &OpenSpan) -> OpenSpan {
        self.start(self.recorder.span_builder("child").child_of(parent))
    }

    /// Ends a span in a random way.
    fn end(&mut self, span: OpenSpan) {
        match self.dice.below(3) {
            0 => {
                drop(span);
                self.tally().end(1);
            }
            1 => self.tally().end_with(span.try_end_at(unix_nanos())),
            _ => self.tally().end_with(span.try_end()),
        }
    }

    fn open(&mut self) {
        let span = self.root();
        self.end(span);
    }

    fn open_rich(&mut self) {
        let mut span = self.root();
        let child = self.child(&span);
        let context = child.context().unwrap().into_owned();
        span.set_attribute(key!("http.route"), "/orders")
            .set_attribute("http.route", "replaced")
            .set_attribute_display("display", &format_args!("{:?}", context.span_id))
            .add_event("event", &[KeyValueRef::new("key", true)])
            .add_link(&LinkRef::new(&context))
            .set_name("another name")
            .record_error(&io::Error::other("an error"));
        if self.dice.one_in(2) {
            span.set_status(StatusRef::Error("failed"));
        }
        self.end(span);
        self.end(child);
    }

    /// Several open spans of a few traces, which end in any order.
    fn open_family(&mut self) {
        let mut open = vec![self.root()];
        for _ in 0..self.dice.below(OPEN_MAX) {
            let next = if self.dice.one_in(4) {
                self.root()
            } else {
                let parent = self.dice.below(open.len() as u64) as usize;
                self.child(&open[parent])
            };
            open.push(next);
        }
        while !open.is_empty() {
            let next = self.dice.below(open.len() as u64) as usize;
            let mut span = open.swap_remove(next);
            span.set_attribute("last", open.len() as u64);
            self.end(span);
        }
    }

    fn open_in_scope(&mut self) {
        let scope = self.pick_scope();
        let Ok(recorder) = self.recorder.with_scope(scope) else {
            return;
        };
        let root = self.root();
        let child = self.start(recorder.span_builder("in scope").child_of(&root));
        self.end(root);
        self.end(child);
    }

    /// Spans with a remote parent, sampled or not.
    fn open_below_remote(&mut self) {
        let remote = SpanContext {
            is_remote: true,
            trace_flags: self.dice.pick(&[TraceFlags::NONE, TraceFlags::SAMPLED]),
            ..SpanContext::new(self.recorder.new_trace_id(), self.recorder.new_span_id())
        };
        let builder = self.recorder.span_builder("below remote");
        let span = self.start(builder.parent(Some(&remote)));
        let child = self.child(&span);
        self.end(child);
        self.end(span);
    }

    // ---- Spans that end elsewhere ----

    fn move_away(&mut self) {
        let root = self.root();
        let child = self.child(&root);
        if self.dice.one_in(2) {
            self.end(root);
            self.put(child);
        } else {
            self.put(root);
            self.end(child);
        }
    }

    fn put(&mut self, span: OpenSpan) {
        let mut moving = self.common.moving.lock().unwrap();
        if moving.len() < MOVING_MAX {
            moving.push(span);
        } else {
            drop(moving);
            self.tally().end_with(span.try_end());
        }
    }

    fn take_over(&mut self) {
        let mut moving = self.common.moving.lock().unwrap();
        if moving.is_empty() {
            return;
        }
        let next = self.dice.below(moving.len() as u64) as usize;
        let mut span = moving.swap_remove(next);
        drop(moving);
        span.set_attribute("ended", "elsewhere");
        match self.dice.below(6) {
            0 => {
                drop(span);
                self.tally().end(1);
            }
            1 => self.tally().end_with(span.try_end()),
            2 if self.common.may_leak => {
                self.tally().count_forgotten(span.is_recording());
                std::mem::forget(span);
            }
            3 => self.put(span),
            _ => {
                let child = self.child(&span);
                self.end(span);
                self.end(child);
            }
        }
    }

    // ---- Misuse ----

    fn forget(&mut self) {
        if !self.dice.one_in(8) {
            return;
        }
        let root = self.root();
        let child = self.child(&root);
        if self.dice.one_in(2) {
            self.tally().forget(root);
            self.end(child);
        } else {
            self.tally().forget(child);
            self.end(root);
        }
    }

    fn panic(&mut self) {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let root = self.root();
            let _child = self.child(&root);
            let _second = self.child(&root);
            // Does not run the panic hook.
            resume_unwind(Box::new("expected"));
        }));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"expected"));
        self.tally().end(3);
    }

    /// Spans with more data than there is room for.
    fn exceed(&mut self) {
        let text = "x".repeat(LARGE_BYTES);
        let attributes = [KeyValueRef::new("text", &*text)];
        let span = SpanRef {
            attributes: &attributes,
            ..self.finished("exceed")
        };
        self.tally().record(|| self.recorder.record(&span));

        let mut open = self.root();
        for _ in 0..self.dice.below(200) {
            open.set_attribute("text", &*text)
                .add_event("event", &attributes)
                .set_attribute_display("display", &text);
        }
        open.set_status(StatusRef::Error(&text));
        self.end(open);
    }

    fn foreign(&mut self) {
        let mut span = Span::new("foreign");
        span.scope = Some(self.common.foreign.clone());
        self.tally().record(|| self.common.collector.collect(span));
        assert!(self.recorder.with_scope(&self.common.foreign).is_err());
    }

    fn pick_scope(&mut self) -> &'a Scope {
        let scopes = &self.common.scopes;
        &scopes[self.dice.below(scopes.len() as u64) as usize]
    }
}
