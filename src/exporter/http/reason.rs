//! Text from outside for people and logs: bounded, on one line, without secrets.
//!
//! It passes [`readable`] before it is shown: bodies and headers of responses, names in certificates,
//! errors of resolvers and proxies.

use crate::config::EndpointSettings;

/// Characters shown of a text from outside.
const TEXT_CHARS_MAX: usize = 300;
/// Characters of a whole message, which consists of own words and texts from outside.
const WHOLE_CHARS_MAX: usize = 1000;

/// Returns the beginning of a text from outside: at most 300 characters on one line, without the secrets
/// of the endpoint.
pub(crate) fn readable(text: &str, settings: &EndpointSettings) -> String {
    beginning(text, TEXT_CHARS_MAX, settings)
}

/// Returns a whole message about an endpoint, like [`readable`], but of up to 1,000 characters. Its parts
/// should be readable already; this is a second line of defence.
pub(crate) fn whole(text: &str, settings: &EndpointSettings) -> String {
    beginning(text, WHOLE_CHARS_MAX, settings)
}

/// Removes secrets before it shortens the text: a part of one would not be recognised.
fn beginning(text: &str, chars_max: usize, settings: &EndpointSettings) -> String {
    let text = settings.without_secrets(text.trim());
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut shown: String = visible.take(chars_max).collect();
    if shown.len() < text.len() {
        shown.pop();
        shown.push('…');
    }
    shown
}
