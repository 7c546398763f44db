//! Options of the layer and the subscriber.

/// Data that is recorded in addition to names, fields and times.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) location: bool,
    pub(super) threads: bool,
    pub(super) target: bool,
    pub(super) level: bool,
    pub(super) event_level: bool,
    pub(super) tracked_inactivity: bool,
    pub(super) end_at_last_exit: bool,
    pub(super) error_events_to_status: bool,
    pub(super) error_events_to_exceptions: bool,
    pub(super) error_fields_to_exceptions: bool,
    pub(super) error_records_to_exceptions: bool,
}

impl Options {
    pub(super) const DEFAULT: Self = Self {
        location: false,
        threads: false,
        target: false,
        level: false,
        event_level: true,
        tracked_inactivity: false,
        end_at_last_exit: false,
        error_events_to_status: true,
        error_events_to_exceptions: true,
        error_fields_to_exceptions: true,
        error_records_to_exceptions: false,
    };

    /// Returns whether the times of enters and exits are needed.
    pub(super) fn needs_timings(&self) -> bool {
        self.tracked_inactivity || self.end_at_last_exit
    }
}

/// Builder methods of a type with an optional `door`.
macro_rules! option_methods {
    () => {
        /// Sets whether spans and events have the attributes `code.file.path`, `code.line.number` and
        /// `code.module.name`. Default: no. Cost: about 100 bytes a span or event, and a few
        /// nanoseconds, since they are encoded once a call site.
        #[must_use]
        pub fn with_location(mut self, is_on: bool) -> Self {
            if let Some(door) = &mut self.door {
                door.options_mut().location = is_on;
            }
            self
        }

        /// Sets whether spans have the attributes `thread.id` and `thread.name` of the thread that starts
        /// them. Default: no. Cost: about 45 bytes a span.
        #[must_use]
        pub fn with_threads(mut self, is_on: bool) -> Self {
            if let Some(door) = &mut self.door {
                door.options_mut().threads = is_on;
            }
            self
        }

        /// Sets whether spans and events have the attribute `target`. Default: no. Cost: about 30 bytes a
        /// span or event.
        #[must_use]
        pub fn with_target(mut self, is_on: bool) -> Self {
            if let Some(door) = &mut self.door {
                door.options_mut().target = is_on;
            }
            self
        }

        /// Sets whether spans have the attribute `level`. Default: no. Cost: 18 bytes a span.
        #[must_use]
        pub fn with_level(mut self, is_on: bool) -> Self {
            if let Some(door) = &mut self.door {
                door.options_mut().level = is_on;
            }
            self
        }

        /// Sets whether events have the attribute `level`. Default: yes. Cost: 18 bytes an event.
        #[must_use]
        pub fn with_event_level(mut self, is_on: bool) -> Self {
            if let Some(door) = &mut self.door {
                door.options_mut().event_level = is_on;
            }
            self
        }

        /// Sets whether spans have the attributes `busy_ns`, the time for which they were entered, and
        /// `idle_ns`, the rest. Default: no. Cost: about 40 bytes a span, as many of memory, and a clock read each
        /// time a span is entered or exited.
        #[must_use]
        pub fn with_tracked_inactivity(mut self, is_on: bool) -> Self {
            if let Some(door) = &mut self.door {
                door.track_inactivity(is_on);
            }
            self
        }

        /// Sets whether a span that was entered ends when it was last exited, as in
        /// tracing-opentelemetry, and not when it is closed. A `Registry` closes a span after its children,
        /// so otherwise a request takes as long as the tasks that it left behind. Default: no. Cost: 40 bytes of
        /// memory a span, and a clock read each time a span is entered or exited.
        #[must_use]
        pub fn with_end_at_last_exit(mut self, is_on: bool) -> Self {
            if let Some(door) = &mut self.door {
                door.end_at_last_exit(is_on);
            }
            self
        }

        /// Sets whether an event of the level ERROR gives its span the status error. Its description is the
        /// field `error` of an event without a message. Default: yes.
        #[must_use]
        pub fn with_error_events_to_status(mut self, is_on: bool) -> Self {
            if let Some(door) = &mut self.door {
                door.options_mut().error_events_to_status = is_on;
            }
            self
        }

        /// Sets whether an event without a message but with a field `error`, as `#[instrument(err)]` emits
        /// it, becomes OpenTelemetry's event `exception` with the attribute `exception.message`.
        /// Default: yes.
        #[must_use]
        pub fn with_error_events_to_exceptions(mut self, is_on: bool) -> Self {
            if let Some(door) = &mut self.door {
                door.options_mut().error_events_to_exceptions = is_on;
            }
            self
        }

        /// Sets whether a field of an event whose value is a `dyn Error` also sets the attribute
        /// `exception.message`. Default: yes. In spans: no, see
        /// [`with_error_records_to_exceptions`](Self::with_error_records_to_exceptions).
        #[must_use]
        pub fn with_error_fields_to_exceptions(mut self, is_on: bool) -> Self {
            if let Some(door) = &mut self.door {
                door.options_mut().error_fields_to_exceptions = is_on;
            }
            self
        }

        /// Sets whether a field whose value is a `dyn Error`, of a span or of an event in it, sets the
        /// span's attribute `exception.message`. Default: no.
        #[must_use]
        pub fn with_error_records_to_exceptions(mut self, is_on: bool) -> Self {
            if let Some(door) = &mut self.door {
                door.options_mut().error_records_to_exceptions = is_on;
            }
            self
        }
    };
}

pub(super) use option_methods;
