//! The versions that are measured.

/// The lock file of this package.
const LOCK: &str = include_str!("../Cargo.lock");

/// Returns the version of a crate.
pub fn of(name: &str) -> Option<&'static str> {
    let name = format!("name = \"{name}\"");
    let mut lines = LOCK.lines().skip_while(|line| *line != name);
    let version = lines.nth(1)?.strip_prefix("version = \"")?;
    version.strip_suffix('"')
}
