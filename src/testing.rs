//! A small OTLP/HTTP receiver for tests and examples, on a loopback port of its own.
//!
//! It checks, counts and keeps the spans that it receives, and responds as the test chooses. Needs the
//! feature `testing`.
//!
//! ```
//! use otlp_collector::testing::{Answer, Receiver};
//! use otlp_collector::{Collector, Config};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let receiver = Receiver::start()?;
//! receiver.answer_next([Answer::status(503)]);
//!
//! let collector = Collector::new(Config {
//!     endpoint: receiver.endpoint(),
//!     ..Config::default()
//! })?;
//! let recorder = collector.recorder()?;
//! let mut request = recorder.start("GET /orders");
//! request.set_attribute("http.response.status_code", 200);
//! recorder.start_child(&request, "SELECT orders").end();
//! request.end();
//! collector.shutdown()?;
//!
//! assert_eq!(receiver.counts().requests, 2);
//! let request = receiver.span("GET /orders");
//! request.assert_root();
//! assert_eq!(request.attribute("http.response.status_code"), Some(200.into()));
//! receiver.span("SELECT orders").assert_child_of(&request);
//! # Ok(())
//! # }
//! ```

mod answer;
mod census;
mod decode;
mod received;
mod receiver;
mod served_connection;
mod state;

pub use self::answer::Answer;
pub use self::received::{
    ReceivedEvent, ReceivedLink, ReceivedRequest, ReceivedResource, ReceivedSpan,
};
pub use self::receiver::Receiver;
pub use self::state::ReceiverCounts;
