//! The header `tracestate`: up to 32 `key=value` members, the most recently changed first.

use std::borrow::Cow;

use crate::span::context::invalid_header::InvalidHeader;

pub(super) const MEMBERS_MAX: usize = 32;
const KEY_LEN_MAX: usize = 256;
const VALUE_LEN_MAX: usize = 256;

/// Vendor-specific trace state (W3C Trace Context, `tracestate`).
///
/// Borrows the header if that has neither white space nor empty members to remove. Keys follow Level 2
/// of the specification: they may begin with a digit and have `@` anywhere after the first character.
///
/// ```
/// use otlp_collector::span::TraceState;
///
/// let state = TraceState::parse("congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")?;
/// let state = state.with("rojo", "1")?;
/// assert_eq!(state.as_str(), "rojo=1,congo=t61rcWkgMzE");
/// # Ok::<(), otlp_collector::span::InvalidHeader>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceState<'a>(Cow<'a, str>);

impl<'a> TraceState<'a> {
    /// The trace state without members.
    pub const EMPTY: Self = Self(Cow::Borrowed(""));

    /// Reads the value of a header.
    ///
    /// # Errors
    /// A member is malformed, a key occurs twice, or there are more than 32 members. Ignore the whole
    /// header then.
    pub fn parse(header: &'a str) -> Result<Self, InvalidHeader> {
        Self::parse_all([header])
    }

    /// Reads several headers as one, in order.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_all(
        headers: impl IntoIterator<Item = &'a str, IntoIter: Clone>,
    ) -> Result<Self, InvalidHeader> {
        let headers = headers.into_iter();
        let all = headers.clone().flat_map(members);
        check(all.clone())?;
        // White space and empty members are removed.
        let mut parts = headers.filter(|header| members(header).next().is_some());
        let Some(first) = parts.next() else {
            return Ok(Self::EMPTY);
        };
        let members_len: usize = members(first).map(|member| member.len() + 1).sum();
        if parts.next().is_none() && members_len == first.len() + 1 {
            return Ok(Self(Cow::Borrowed(first)));
        }
        Ok(Self::join(all))
    }

    fn join<'m>(members: impl Iterator<Item = &'m str>) -> Self {
        let mut joined = String::new();
        for member in members {
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(member);
        }
        Self(Cow::Owned(joined))
    }

    /// Creates a trace state from a text that was checked before.
    pub(crate) const fn checked(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// Returns the value of the header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether there are no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        members(&self.0).filter_map(|member| member.split_once('='))
    }

    /// Returns the value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter()
            .find(|(other, _)| *other == key)
            .map(|(_, value)| value)
    }

    /// Returns the trace state with `key` set to `value`, as the first member. A 33rd member is dropped.
    ///
    /// # Errors
    /// The key or the value is malformed.
    pub fn with(&self, key: &str, value: &str) -> Result<TraceState<'static>, InvalidHeader> {
        let member = format!("{key}={value}");
        check([&*member].into_iter())?;
        let others = self.without(key);
        let members = [&*member].into_iter().chain(members(others.as_str()));
        Ok(TraceState::join(members.take(MEMBERS_MAX)))
    }

    /// Returns the trace state without `key`.
    #[must_use]
    pub fn without(&self, key: &str) -> TraceState<'static> {
        let others = members(&self.0)
            .filter(|member| member.split_once('=').is_none_or(|(other, _)| other != key));
        TraceState::join(others)
    }

    /// Returns a trace state that owns its data.
    #[inline]
    #[must_use]
    pub fn into_owned(self) -> TraceState<'static> {
        if self.0.is_empty() {
            TraceState::EMPTY
        } else {
            self.copied()
        }
    }

    #[cold]
    fn copied(self) -> TraceState<'static> {
        TraceState(Cow::Owned(self.0.into_owned()))
    }
}

/// Returns the members of a header that are not empty, without the white space around them.
fn members(header: &str) -> impl Iterator<Item = &str> + Clone {
    header
        .split(',')
        .map(|member| member.trim_matches([' ', '\t']))
        .filter(|member| !member.is_empty())
}

fn check<'m>(members: impl Iterator<Item = &'m str>) -> Result<(), InvalidHeader> {
    let mut keys = [""; MEMBERS_MAX];
    for (position, member) in members.enumerate() {
        if position == MEMBERS_MAX {
            return Err(invalid("more than 32 members"));
        }
        let (key, value) = member
            .split_once('=')
            .ok_or_else(|| invalid("a member without ="))?;
        if !is_key(key) {
            return Err(invalid("a key is malformed"));
        }
        if !is_value(value) {
            return Err(invalid("a value is malformed"));
        }
        if keys[..position].contains(&key) {
            return Err(invalid("a key occurs twice"));
        }
        keys[position] = key;
    }
    Ok(())
}

fn is_key(key: &str) -> bool {
    let letter_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= KEY_LEN_MAX
        && key.bytes().next().is_some_and(letter_or_digit)
        && key
            .bytes()
            .all(|byte| letter_or_digit(byte) || b"_-*/@".contains(&byte))
}

fn is_value(value: &str) -> bool {
    (1..=VALUE_LEN_MAX).contains(&value.len())
        && value
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte) && byte != b',' && byte != b'=')
        && !value.ends_with(' ')
}

fn invalid(why: &'static str) -> InvalidHeader {
    InvalidHeader::new("tracestate", why)
}
