//! HTTP/1.1 without a socket or a clock: one exchange, its response, and their texts.

pub(crate) mod exchange;
mod framing;
pub(crate) mod reason;
pub(crate) mod response;
#[cfg(all(test, not(loom)))]
mod response_fuzz;
mod response_head;
pub(crate) mod response_parser;
pub(crate) mod retry_after;
mod work;
