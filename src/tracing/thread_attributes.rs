//! Number and name of a thread as attributes of the spans that it starts.

use std::cell::OnceCell;
use std::thread;

use crate::recorder::OpenSpan;

/// A thread, as OpenTelemetry describes it.
struct ThreadAttributes {
    id: Option<i64>,
    name: Option<Box<str>>,
}

thread_local! {
    static THREAD: OnceCell<ThreadAttributes> = const { OnceCell::new() };
}

impl ThreadAttributes {
    #[cold]
    fn of_thread() -> Self {
        let thread = thread::current();
        // The number is only in this text.
        let id = format!("{:?}", thread.id());
        let digits = id.trim_matches(|char: char| !char.is_ascii_digit());
        Self {
            id: digits.parse().ok(),
            name: thread.name().map(Box::from),
        }
    }
}

/// Sets the attributes `thread.id` and `thread.name`.
pub(super) fn set_thread(span: &mut OpenSpan) {
    let _ = THREAD.try_with(|thread| {
        let thread = thread.get_or_init(ThreadAttributes::of_thread);
        if let Some(id) = thread.id {
            span.set_attribute(crate::key!("thread.id"), id);
        }
        if let Some(name) = &thread.name {
            span.set_attribute(crate::key!("thread.name"), &**name);
        }
    });
}
