//! The common part of the layer and the subscriber: spans by id, and the calls that change them.

use std::thread::panicking;

use tracing_core::span::{Attributes, Record};
use tracing_core::{Event, Level};

use crate::collector::Collector;
use crate::platform::clock::unix_nanos;
use crate::recorder::{
    DoorParent, DoorStarter, Innermost, OpenSpan, SharedRef, drop_ended, enter_shared, exit_shared,
    innermost, with_owned,
};
use crate::span::attribute::Name;
use crate::span::{LinkRef, StatusRef};
use crate::tracing::call_site::CallSite;
use crate::tracing::event_visitor::{EventEffect, EventVisitor};
use crate::tracing::options::Options;
use crate::tracing::scratch::with_scratch;
use crate::tracing::span_table::{ClaimedPlace, NOWHERE, SpanPlace, SpanTable, TableParts};
use crate::tracing::span_visitor::{SpanVisitor, VisitedSpan};
use crate::tracing::thread_attributes::set_thread;
use crate::tracing::timings::Times;

/// Spans of `tracing` that go to one collector.
///
/// No span is taken while code of the user's formats a value, so such code may do anything to any
/// span.
///
/// `OWN_IDS`: whether the table makes the ids, and not a `Registry`.
pub(super) struct Door<const OWN_IDS: bool> {
    starter: DoorStarter,
    table: &'static SpanTable,
    options: Options,
    scratch_bytes: usize,
}

impl<const OWN_IDS: bool> Door<OWN_IDS> {
    /// Returns `None` for a disabled collector.
    pub(super) fn new(collector: &Collector) -> Option<Self> {
        let starter = DoorStarter::new(collector.recorders())?;
        let options = Options::DEFAULT;
        Some(Self {
            table: Self::table_for(&starter, &options),
            // A text can take half of the memory that is free.
            scratch_bytes: (2 * starter.span_bytes()).clamp(SCRATCH_MIN, SCRATCH_MAX),
            starter,
            options,
        })
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn options_mut(&mut self) -> &mut Options {
        &mut self.options
    }

    pub(super) fn track_inactivity(&mut self, is_on: bool) {
        self.options.tracked_inactivity = is_on;
        self.replace_table();
    }

    pub(super) fn end_at_last_exit(&mut self, is_on: bool) {
        self.options.end_at_last_exit = is_on;
        self.replace_table();
    }

    fn replace_table(&mut self) {
        self.table.give_back();
        self.table = Self::table_for(&self.starter, &self.options);
    }

    /// Returns a table with places for all spans that have memory, and spare ones for spans that have
    /// none and for those that are not sampled.
    fn table_for(starter: &DoorStarter, options: &Options) -> &'static SpanTable {
        let spans_max = starter.spans_max() + starter.spans_max() / 2;
        let parts = TableParts {
            has_timings: options.needs_timings(),
            has_handles: OWN_IDS,
        };
        SpanTable::take(spans_max, parts)
    }

    pub(super) fn table(&self) -> &'static SpanTable {
        self.table
    }

    #[inline(always)]
    pub(super) fn find(&self, id: u64) -> Option<SpanPlace> {
        if OWN_IDS {
            self.table.find_own(id)
        } else {
            self.table.find(id)
        }
    }

    /// Returns the span with this id.
    #[inline]
    pub(super) fn span(&self, id: u64) -> Option<SharedRef> {
        self.find(id).map(|place| self.table.span(place))
    }

    // ---- Spans ----

    /// Starts a span with an id of a registry's.
    #[inline(always)]
    pub(super) fn start(&self, attributes: &Attributes<'_>, id: u64) {
        match self.table.claim(id) {
            Some(place) => self.start_in(place, attributes),
            None => self.starter.count_without_place(),
        }
    }

    /// Starts a span and returns its id.
    #[inline(always)]
    pub(super) fn start_new(&self, attributes: &Attributes<'_>) -> u64 {
        let Some((place, id)) = self.table.claim_new() else {
            self.starter.count_without_place();
            return NOWHERE;
        };
        if let Some(site) = CallSite::of(attributes.metadata()) {
            self.table.set_site(place.place(), site);
        }
        self.start_in(place, attributes);
        id
    }

    /// Starts a span in a place that is given back if code of the user's panics.
    #[inline(always)]
    fn start_in(&self, place: ClaimedPlace, attributes: &Attributes<'_>) {
        let metadata = attributes.metadata();
        let site = CallSite::of(metadata);
        let name = site.map_or_else(|| Name::from(metadata.name()), |site| site.name);
        let parent = match attributes.parent() {
            None if attributes.is_contextual() => DoorParent::Current,
            None => DoorParent::None,
            // A parent that a filter left out is none.
            Some(id) => (self.span(id.into_u64())).map_or(DoorParent::None, DoorParent::Shared),
        };
        let mut span = self.starter.start(self.table.owner(), name, parent);
        span.with_early_data(
            #[inline(always)]
            |span| self.add_first_data(span, site, attributes),
        );
        if let Some(timings) = self.table.timings(place.place()) {
            timings.start(unix_nanos());
        }
        place.put(span);
    }

    #[inline(always)]
    fn add_first_data(
        &self,
        span: &mut OpenSpan,
        site: Option<&'static CallSite>,
        attributes: &Attributes<'_>,
    ) {
        if let Some(site) = site {
            if self.options.location {
                span.set_constants(&site.location);
            }
            if self.options.target {
                span.set_constants(&site.target);
            }
            if self.options.level {
                span.set_constants(&site.level);
            }
        }
        if self.options.threads {
            set_thread(span);
        }
        attributes.record(&mut SpanVisitor {
            site,
            span: VisitedSpan::New(span),
            options: &self.options,
            scratch_bytes: self.scratch_bytes,
        });
    }

    /// Sets values of a span's fields.
    pub(super) fn record(&self, id: u64, values: &Record<'_>) {
        let span = self.span(id);
        if let Some(span) = span.filter(SharedRef::is_recording) {
            values.record(&mut SpanVisitor {
                site: None,
                span: VisitedSpan::Shared(span),
                options: &self.options,
                scratch_bytes: self.scratch_bytes,
            });
        }
    }

    /// Links a span to the one that it follows.
    pub(super) fn follow(&self, id: u64, follows: u64) {
        let (Some(span), Some(follows)) = (self.span(id), self.span(follows)) else {
            return;
        };
        let context = follows.read(|span| Some(span.context()?.into_owned()));
        if let Some(context) = context.flatten() {
            span.change(|span| {
                span.add_link(&LinkRef::new(&context));
            });
        }
    }

    #[inline(always)]
    pub(super) fn enter(&self, id: u64) {
        if let Some(place) = self.find(id) {
            enter_shared(self.table.span(place));
            if let Some(timings) = self.table.timings(place) {
                timings.enter(unix_nanos());
            }
        }
    }

    #[inline(always)]
    pub(super) fn exit(&self, id: u64) {
        let Some(place) = self.find(id) else {
            drop_ended();
            return;
        };
        if let Some(timings) = self.table.timings(place) {
            timings.exit(unix_nanos());
        }
        exit_shared(self.table.span(place));
    }

    /// Ends a span.
    #[inline(always)]
    pub(super) fn close(&self, id: u64) {
        if let Some(place) = self.find(id) {
            self.close_place(place);
        }
    }

    #[inline(always)]
    pub(super) fn close_place(&self, place: SpanPlace) {
        let timings = self.table.timings(place);
        let times = timings.map(|timings| timings.end(unix_nanos()));
        let span = self.table.remove(place);
        match times {
            Some(times) => self.end_with(span, &times),
            // Not ended: a panic gives it the status error.
            None => drop(span),
        }
    }

    #[cold]
    fn end_with(&self, mut span: OpenSpan, times: &Times) {
        if self.options.tracked_inactivity {
            span.set_attribute(crate::key!("busy_ns"), times.busy);
            span.set_attribute(crate::key!("idle_ns"), times.idle);
        }
        if self.options.end_at_last_exit && times.last_exit != 0 && !panicking() {
            span.end_at(times.last_exit);
        }
    }

    // ---- Events ----

    /// Adds an event to its span.
    #[inline(always)]
    pub(super) fn event(&self, event: &Event<'_>) {
        let span = match event.parent() {
            Some(id) => self.span(id.into_u64()).map(Innermost::Shared),
            None if event.is_contextual() => innermost(self.table.owner()),
            None => None,
        };
        let Some(span) = span.map(EventSpan).filter(EventSpan::is_recording) else {
            return;
        };
        if span.is_full() {
            self.count_event(span, event);
            return;
        }
        let metadata = event.metadata();
        let site = CallSite::of(metadata);
        let now = unix_nanos();
        with_scratch(self.scratch_bytes, |scratch| {
            let (limits, options) = (self.starter.limits(), &self.options);
            let mut visitor = EventVisitor::begin(scratch, site, limits, options, now);
            event.record(&mut visitor);
            let effect = visitor.finish(metadata);
            span.change(
                #[inline(always)]
                |span| self.add_event(span, event, &effect),
            );
        });
    }

    #[inline(always)]
    fn add_event(&self, span: &mut OpenSpan, event: &Event<'_>, effect: &EventEffect<'_>) {
        span.add_encoded_event(effect.event);
        if *event.metadata().level() == Level::ERROR && self.options.error_events_to_status {
            match effect.description {
                "" => span.set_failed(),
                description => {
                    span.set_status(StatusRef::Error(description));
                }
            }
        }
        if let Some(message) = effect.exception
            && self.options.error_records_to_exceptions
        {
            span.set_attribute(crate::key!("exception.message"), message);
        }
    }

    /// Counts an event for which the span has no room, before its values are formatted.
    #[cold]
    fn count_event(&self, span: EventSpan, event: &Event<'_>) {
        span.change(|span| {
            span.count_dropped_event();
            if *event.metadata().level() == Level::ERROR && self.options.error_events_to_status {
                span.set_failed();
            }
        });
    }
}

impl<const OWN_IDS: bool> Drop for Door<OWN_IDS> {
    fn drop(&mut self) {
        self.table.give_back();
    }
}

/// Bytes of a thread's scratch.
const SCRATCH_MIN: usize = 1 << 12;
const SCRATCH_MAX: usize = 1 << 16;

/// The span that an event belongs to.
#[derive(Clone, Copy)]
struct EventSpan(Innermost);

impl EventSpan {
    #[inline(always)]
    fn is_recording(&self) -> bool {
        match self.0 {
            Innermost::Shared(span) => span.is_recording(),
            Innermost::Owned(span) => with_owned(span, |span| span.is_recording()) == Some(true),
        }
    }

    #[inline(always)]
    fn is_full(&self) -> bool {
        match self.0 {
            Innermost::Shared(span) => span.is_full(),
            Innermost::Owned(span) => with_owned(span, |span| span.may_add_event()) == Some(false),
        }
    }

    #[inline(always)]
    fn change(&self, change: impl FnOnce(&mut OpenSpan)) {
        match self.0 {
            Innermost::Shared(span) => {
                span.change(change);
            }
            Innermost::Owned(span) => {
                with_owned(span, change);
            }
        }
    }
}
