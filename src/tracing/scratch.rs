//! A thread's memory for what is formatted while no span is taken.

use std::cell::Cell;
use std::fmt::{self, Write};

use crate::otlp::draft::EventDraft;

/// Memory for one event and one text.
pub(super) struct Scratch {
    pub(super) event: EventDraft,
    pub(super) text: BoundedText,
}

thread_local! {
    /// The scratch that is not in use.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    #[cold]
    fn new(bytes: usize) -> Box<Self> {
        Box::new(Self {
            event: EventDraft::new(bytes),
            text: BoundedText::new(bytes),
        })
    }
}

/// Runs `work` with this thread's scratch. It is allocated with the first use of a thread, and for
/// code of the user's that runs within another use.
#[inline(always)]
pub(super) fn with_scratch<R>(bytes: usize, work: impl FnOnce(&mut Scratch) -> R) -> R {
    let kept = SCRATCH.try_with(Cell::take).ok().flatten();
    let mut scratch = match kept {
        Some(scratch) if scratch.event.capacity() >= bytes => scratch,
        _ => Scratch::new(bytes),
    };
    let result = work(&mut scratch);
    // Without the thread's storage it is freed.
    let _ = SCRATCH.try_with(|place| place.set(Some(scratch)));
    result
}

/// A text of limited length. Formatting beyond it is cut between characters.
pub(super) struct BoundedText {
    text: String,
    bytes_max: usize,
    is_cut: bool,
}

impl BoundedText {
    fn new(bytes_max: usize) -> Self {
        Self {
            text: String::with_capacity(bytes_max),
            bytes_max,
            is_cut: false,
        }
    }

    /// Formats a text instead of the one before.
    pub(super) fn format(&mut self, text: fmt::Arguments<'_>) -> &str {
        self.clear();
        self.append(text);
        &self.text
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.is_cut = false;
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.text.truncate(len);
    }

    /// Formats one more text and returns the length of all.
    pub(super) fn append(&mut self, text: fmt::Arguments<'_>) -> usize {
        // An error means that the text was cut, or is the user's, and then a part is better than none.
        let _ = self.write_fmt(text);
        self.text.len()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

impl Write for BoundedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes_max - self.text.len();
        if text.len() <= room && !self.is_cut {
            self.text.push_str(text);
            return Ok(());
        }
        if !self.is_cut {
            let ends = text.char_indices().map(|(at, _)| at);
            let fits = ends.take_while(|at| *at <= room).last().unwrap_or(0);
            self.text.push_str(&text[..fits]);
            self.is_cut = true;
        }
        Err(fmt::Error)
    }
}
