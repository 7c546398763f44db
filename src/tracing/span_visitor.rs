//! Fields of a span become its attributes, name, kind and status.

use std::error::Error;
use std::fmt;

use tracing_core::field::{Field, Visit};

use crate::recorder::{OpenSpan, SharedRef};
use crate::span::attribute::{AnyValueRef, Key};
use crate::span::{SpanKind, StatusRef};
use crate::tracing::call_site::{CallSite, FieldRole, SiteField};
use crate::tracing::error_chain::with_chain;
use crate::tracing::options::Options;
use crate::tracing::scratch::with_scratch;

/// Visitor of the fields of a span.
pub(super) struct SpanVisitor<'v> {
    pub(super) site: Option<&'static CallSite>,
    pub(super) span: VisitedSpan<'v>,
    pub(super) options: &'v Options,
    pub(super) scratch_bytes: usize,
}

/// A span whose fields are visited.
pub(super) enum VisitedSpan<'v> {
    /// One that no one else can reach yet.
    New(&'v mut OpenSpan),
    /// One that code of the user's can reach, so values are formatted before it is taken.
    Shared(SharedRef),
}

impl SpanVisitor<'_> {
    #[inline(always)]
    fn field(&self, field: &Field) -> SiteField {
        SiteField::of(self.site, field, false)
    }

    #[inline(always)]
    fn change(&mut self, change: impl FnOnce(&mut OpenSpan)) {
        match &mut self.span {
            VisitedSpan::New(span) => change(span),
            VisitedSpan::Shared(span) => {
                span.change(change);
            }
        }
    }

    /// Sets a value other than a text.
    #[inline(always)]
    fn set<'a>(&mut self, field: &Field, value: impl Into<AnyValueRef<'a>>) {
        let field = self.field(field);
        if field.role != FieldRole::Skipped {
            self.change(
                #[inline(always)]
                |span| {
                    span.set_attribute(field.key, value);
                },
            );
        }
    }

    /// Sets a text.
    #[inline(always)]
    fn set_text(&mut self, field: SiteField, text: &str) {
        if field.role == FieldRole::Attribute {
            self.change(
                #[inline(always)]
                |span| {
                    span.set_attribute(field.key, text);
                },
            );
        } else {
            self.set_special(field, text);
        }
    }

    #[cold]
    #[inline(never)]
    fn set_special(&mut self, SiteField { key, role }: SiteField, text: &str) {
        self.change(|span| match (role, kind(text), text) {
            (FieldRole::SpanName, ..) => {
                span.set_name(text);
            }
            (FieldRole::SpanKind, Some(kind), _) => {
                span.set_kind(kind);
            }
            (FieldRole::StatusDescription, ..) => {
                span.set_status(StatusRef::Error(text));
            }
            (FieldRole::StatusCode, ..) if text.eq_ignore_ascii_case("error") => span.set_failed(),
            (FieldRole::StatusCode, ..) if text.eq_ignore_ascii_case("ok") => {
                span.set_status(StatusRef::Ok);
            }
            (FieldRole::StatusCode, ..) if text.eq_ignore_ascii_case("unset") => {}
            (FieldRole::Skipped, ..) => {}
            // Unknown values remain visible.
            _ => {
                span.set_attribute(key, text);
            }
        });
    }

    /// Formats a text and sets it.
    fn set_display(&mut self, field: SiteField, text: fmt::Arguments<'_>) {
        match &mut self.span {
            VisitedSpan::New(span) if field.role == FieldRole::Attribute => {
                span.set_attribute_display(field.key, &text);
            }
            _ => with_scratch(self.scratch_bytes, |scratch| {
                self.set_text(field, scratch.text.format(text));
            }),
        }
    }

    #[cold]
    fn set_error(&mut self, name: &str, key: Key<'_>, error: &(dyn Error + 'static)) {
        let is_exception = self.options.error_records_to_exceptions;
        with_scratch(self.scratch_bytes, |scratch| {
            let message = scratch.text.format(format_args!("{error}"));
            self.change(|span| {
                span.set_attribute(key, message);
                if is_exception {
                    span.set_attribute(crate::key!("exception.message"), message);
                }
            });
            scratch.text.clear();
            with_chain(&mut scratch.text, name, error, |key, chain| {
                self.change(|span| {
                    span.set_attribute(key, chain);
                });
            });
        });
    }
}

/// Returns the kind with this name.
fn kind(name: &str) -> Option<SpanKind> {
    let kinds = [
        ("internal", SpanKind::Internal),
        ("server", SpanKind::Server),
        ("client", SpanKind::Client),
        ("producer", SpanKind::Producer),
        ("consumer", SpanKind::Consumer),
    ];
    let mut kinds = kinds.into_iter();
    let found = kinds.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, kind)| kind)
}

impl Visit for SpanVisitor<'_> {
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
            Err(_) => self.set_display(self.field(field), format_args!("{value}")),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match i64::try_from(value) {
            Ok(value) => self.set(field, value),
            Err(_) => self.set_display(self.field(field), format_args!("{value}")),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set_text(self.field(field), value);
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.set(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let SiteField { key, role } = self.field(field);
        if role == FieldRole::Attribute {
            self.set_error(field.name(), key, value);
        } else {
            self.set_display(SiteField { key, role }, format_args!("{value}"));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set_display(self.field(field), format_args!("{value:?}"));
    }
}
