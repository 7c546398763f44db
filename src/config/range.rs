//! The range check of numbers.

use std::fmt::Display;

use crate::error::Error;

/// The longest time that an option can have.
pub(super) const DAY_MS: u64 = 86_400_000;

pub(super) fn in_range<T: PartialOrd + Display>(
    name: &str,
    value: T,
    min: T,
    max: T,
) -> Result<(), Error> {
    if value < min || value > max {
        return Err(Error::config(format!(
            "{name} is {value}: it must be from {min} to {max}"
        )));
    }
    Ok(())
}
