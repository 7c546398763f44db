//! HTTP/1.1 without a socket or a clock: one exchange, its response, and their texts.

pub(crate) mod complaint;
pub(crate) mod exchange;
pub(crate) mod reason;
pub(crate) mod response;
#[cfg(all(test, not(loom)))]
mod response_fuzz;
pub(crate) mod retry;
