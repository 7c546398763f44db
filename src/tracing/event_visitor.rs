//! Fields of an event become its name and attributes.

use std::error::Error;
use std::fmt;

use tracing_core::Metadata;
use tracing_core::field::{Field, Visit};

use crate::otlp::draft::EventDraft;
use crate::span::attribute::{AnyValueRef, Key, KeyValueRef};
use crate::span::limits::SpanLimits;
use crate::tracing::call_site::{CallSite, FieldRole, SiteField};
use crate::tracing::error_chain::with_chain;
use crate::tracing::options::Options;
use crate::tracing::scratch::{BoundedText, Scratch};

const EXCEPTION_MESSAGE: Key<'static> = crate::key!("exception.message");

/// Visitor of the fields of an event.
pub(super) struct EventVisitor<'v> {
    site: Option<&'static CallSite>,
    event: &'v mut EventDraft,
    text: &'v mut BoundedText,
    limits: &'v SpanLimits,
    options: &'v Options,
    has_message: bool,
    /// Whether `text` begins with the message of an error.
    has_error: bool,
    /// Whether that was the value of a field with the type of an error.
    has_error_value: bool,
}

/// The changes of a span by an event.
pub(super) struct EventEffect<'v> {
    pub(super) event: &'v [u8],
    /// The message of the field `error` of an event without a message.
    pub(super) description: &'v str,
    /// The message of a field with the type of an error.
    pub(super) exception: Option<&'v str>,
}

impl<'v> EventVisitor<'v> {
    /// Begins an event with the constants of its call site.
    #[inline(always)]
    pub(super) fn begin(
        scratch: &'v mut Scratch,
        site: Option<&'static CallSite>,
        limits: &'v SpanLimits,
        options: &'v Options,
        time: u64,
    ) -> Self {
        let Scratch { event, text } = scratch;
        event.begin(time);
        if let Some(site) = site {
            if options.event_level {
                event.constants(&site.level, limits);
            }
            if options.target {
                event.constants(&site.target, limits);
            }
            if options.location {
                event.constants(&site.location, limits);
            }
        }
        Self {
            has_message: site.is_some_and(|site| site.has_message),
            site,
            event,
            text,
            limits,
            options,
            has_error: false,
            has_error_value: false,
        }
    }

    /// Completes the event.
    #[inline(always)]
    pub(super) fn finish(self, metadata: &Metadata<'_>) -> EventEffect<'v> {
        if !self.event.has_name() {
            self.event.name(metadata.name());
        }
        let message = if self.has_error {
            self.text.as_str()
        } else {
            ""
        };
        EventEffect {
            event: self.event.finish(),
            description: if self.has_message { "" } else { message },
            exception: self.has_error_value.then_some(message),
        }
    }

    #[inline(always)]
    fn field(&self, field: &Field) -> SiteField {
        SiteField::of(self.site, field, true)
    }

    /// Returns whether a field becomes an attribute with its key.
    #[inline(always)]
    fn is_attribute(&self, role: FieldRole) -> bool {
        match role {
            FieldRole::Skipped => false,
            FieldRole::Target => self.options.target,
            FieldRole::Location => self.options.location,
            _ => true,
        }
    }

    /// Adds a value other than a text.
    #[inline(always)]
    fn set<'a>(&mut self, field: &Field, value: impl Into<AnyValueRef<'a>>) {
        let SiteField { key, role } = self.field(field);
        if self.is_attribute(role) {
            (self.event).attribute(&KeyValueRef::new(key, value), self.limits);
        }
    }

    /// Adds a value as a text.
    #[inline(always)]
    fn set_display(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        let SiteField { key, role } = self.field(field);
        match role {
            FieldRole::Message => self.event.name_display(&text),
            FieldRole::Error if !self.has_message => self.set_error(key, text),
            _ if self.is_attribute(role) => self.event.attribute_display(key, &text, self.limits),
            _ => {}
        }
    }

    /// Adds the field `error` of an event without a message.
    #[cold]
    fn set_error(&mut self, key: Key<'_>, error: fmt::Arguments<'_>) {
        let message = self.text.format(error);
        self.has_error = true;
        let is_exception = self.options.error_events_to_exceptions;
        let key = if is_exception { EXCEPTION_MESSAGE } else { key };
        (self.event).attribute(&KeyValueRef::new(key, message), self.limits);
        if is_exception && !self.event.has_name() {
            self.event.name("exception");
        }
    }

    /// Adds a field with the type of an error.
    #[cold]
    fn set_error_value(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let SiteField { key, role } = self.field(field);
        if !self.is_attribute(role) {
            return;
        }
        if role == FieldRole::Error && !self.has_message {
            self.set_error(key, format_args!("{error}"));
        } else {
            let message = self.text.format(format_args!("{error}"));
            self.has_error = true;
            (self.event).attribute(&KeyValueRef::new(key, message), self.limits);
            if self.options.error_fields_to_exceptions && !self.has_error_value {
                let attribute = KeyValueRef::new(EXCEPTION_MESSAGE, message);
                self.event.attribute(&attribute, self.limits);
            }
        }
        self.has_error_value = true;
        let message_len = self.text.as_str().len();
        with_chain(self.text, field.name(), error, |key, chain| {
            (self.event).attribute(&KeyValueRef::new(key, chain), self.limits);
        });
        self.text.truncate(message_len);
    }
}

impl Visit for EventVisitor<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        match i64::try_from(value) {
            Ok(value) => self.set(field, value),
            Err(_) => self.set_display(field, format_args!("{value}")),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match i64::try_from(value) {
            Ok(value) => self.set(field, value),
            Err(_) => self.set_display(field, format_args!("{value}")),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match self.field(field).role {
            FieldRole::Message => self.event.name(value),
            FieldRole::Error => self.set_display(field, format_args!("{value}")),
            _ => self.set(field, value),
        }
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.set(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set_error_value(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set_display(field, format_args!("{value:?}"));
    }
}
