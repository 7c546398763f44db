//! Rare events as notices: limited in number, with causes, counts and the end of an incident.

pub(crate) mod callback;
pub(crate) mod incident;
pub(crate) mod losses;
pub(crate) mod reporter;
