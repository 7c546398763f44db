//! The sources of an error.

use std::error::Error;
use std::iter;

use crate::span::attribute::Key;
use crate::tracing::scratch::BoundedText;

/// Errors of a chain that are recorded. A longer one is cut.
const SOURCES_MAX: usize = 16;

/// Passes the sources of an error, if there are any, to `with`, and the key of their attribute: that of
/// the field, with `.chain`. They are formatted behind the text that is there.
pub(super) fn with_chain(
    text: &mut BoundedText,
    field: &str,
    error: &(dyn Error + 'static),
    with: impl FnOnce(Key<'_>, &[&str]),
) {
    let sources = iter::successors(error.source(), |&source| source.source());
    let start = text.as_str().len();
    let key_end = text.append(format_args!("{field}.chain"));
    let mut ends = [0; SOURCES_MAX];
    let mut count = 0;
    for (end, source) in ends.iter_mut().zip(sources) {
        *end = text.append(format_args!("{source}"));
        count += 1;
    }
    if count == 0 {
        return;
    }
    let (text, mut from) = (text.as_str(), key_end);
    let chain = ends.map(|end| {
        let source = text.get(from..end).unwrap_or_default();
        from = end;
        source
    });
    with(Key::from(&text[start..key_end]), &chain[..count]);
}
