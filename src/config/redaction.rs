//! Options as text without secrets.

use std::fmt;

/// Formats a struct as a derived `Debug`.
pub(super) fn debug_struct(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    fields: Vec<(&'static str, &dyn fmt::Debug)>,
) -> fmt::Result {
    let mut shown = f.debug_struct(name);
    for (name, value) in fields {
        shown.field(name, value);
    }
    shown.finish()
}

/// Returns the URL without user, password and query.
pub(super) fn without_secrets(url: &str) -> String {
    let (url, query) = match url.split_once('?') {
        Some((url, _)) => (url, "?(not shown)"),
        None => (url, ""),
    };
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://(not shown){}{query}", &url[..scheme], &url[at..])
        }
        (_, Some(at)) => format!("(not shown){}{query}", &url[at..]),
        (_, None) => format!("{url}{query}"),
    }
}
