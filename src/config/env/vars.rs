//! The values of environment variables, with warnings about those that cannot be used.

use std::fmt::Display;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use crate::config::endpoint::Compression;
use crate::config::headers::header_lines;
use crate::config::range::DAY_MS;

/// The variables, and warnings about unusable values.
pub(super) struct Vars<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    warnings: Vec<String>,
}

impl<'a> Vars<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            lookup,
            warnings: Vec::new(),
        }
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings
    }

    /// Returns the variable's value; `None` if it is empty.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let value = (self.lookup)(name)?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_string())
    }

    /// Returns the value of an enumeration, in lower case.
    pub(super) fn word(&self, name: &str) -> Option<String> {
        self.text(name).map(|word| word.to_ascii_lowercase())
    }

    /// Returns the variable for traces, or else the one for all signals, with its name.
    pub(super) fn first_of<'n>(
        &self,
        traces: &'n str,
        general: &'n str,
    ) -> Option<(&'n str, String)> {
        let value = |name| self.text(name).map(|value| (name, value));
        value(traces).or_else(|| value(general))
    }

    pub(super) fn boolean(&mut self, name: &str) -> bool {
        match self.word(name).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                self.warn(format!(
                    "{name} is {other:?}, which counts as false; use true or false"
                ));
                false
            }
        }
    }

    /// Sets the number if the variable has one within the range.
    pub(super) fn set_number<T>(&mut self, name: &str, min: T, max: T, number: &mut T)
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        let Some(text) = self.text(name) else { return };
        match text.parse() {
            Ok(value) if (min..=max).contains(&value) => *number = value,
            _ => self.warn(format!(
                "{name} is {text:?} and is ignored; it must be a number from {min} to {max}"
            )),
        }
    }

    /// Sets a number of milliseconds; 0 means no limit.
    pub(super) fn set_timeout(&mut self, name: &str, text: &str, ms: &mut u64) {
        match text.parse() {
            Ok(0) => *ms = DAY_MS,
            Ok(value) if value <= DAY_MS => *ms = value,
            _ => self.warn(format!(
                "{name} is {text:?} and is ignored; it must be milliseconds from 0 to {DAY_MS}"
            )),
        }
    }

    /// Returns a number from 0 to 1; 1 if there is none.
    pub(super) fn ratio(&mut self, name: &str) -> f64 {
        let Some(text) = self.text(name) else {
            return 1.0;
        };
        match text.parse() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => ratio,
            _ => {
                self.warn(format!(
                    "{name} is {text:?}, which counts as 1; it must be from 0 to 1"
                ));
                1.0
            }
        }
    }

    /// Parses headers. Warnings contain no values, which may be secrets.
    pub(super) fn headers(&mut self, name: &str, list: &str) -> Vec<(String, String)> {
        let mut headers = Vec::new();
        for (index, pair) in list.split(',').enumerate() {
            if pair.trim().is_empty() {
                continue;
            }
            let decoded = pair.split_once('=').and_then(|(key, value)| {
                let header = (key.trim().to_string(), decode(value.trim())?);
                header_lines(std::slice::from_ref(&header)).ok()?;
                Some(header)
            });
            match decoded {
                Some(header) => headers.push(header),
                None => self.warn(format!(
                    "{name}: pair {} is ignored; it must be name=value, percent-encoded, of a header \
                     that this library does not set itself",
                    index + 1
                )),
            }
        }
        headers
    }

    /// Returns the compression, or none if its feature is not enabled.
    pub(super) fn compiled_in(&mut self, name: &str, compression: Compression) -> Compression {
        if compression.is_compiled_in() {
            return compression;
        }
        let feature = compression.name();
        self.warn(format!(
            "{name} is {feature:?} and is ignored; enable the feature `{feature}` of {}; until then \
             requests are not compressed",
            env!("CARGO_PKG_NAME")
        ));
        Compression::None
    }

    pub(super) fn unknown(&mut self, name: &str, value: &str, known: &str) {
        self.warn(format!(
            "{name} is {value:?} and is ignored; supported: {known}"
        ));
    }

    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }
}

/// Decodes percent-encoding; `None` if malformed. A `+` is not a space.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut codes = text.split('%').skip(1);
    let is_code =
        |code: &str| code.len() >= 2 && code.bytes().take(2).all(|b| b.is_ascii_hexdigit());
    if !codes.all(is_code) {
        return None;
    }
    let text = percent_decode_str(text).decode_utf8().ok()?;
    Some(text.into_owned())
}
