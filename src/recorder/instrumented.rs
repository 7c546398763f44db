//! Futures with a span.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::panicking;

use pin_project_lite::pin_project;

use crate::recorder::entered::Entered;
use crate::recorder::open_span::OpenSpan;
use crate::span::StatusRef;

/// Futures with a span that is current while they are polled.
pub trait Instrument: Sized {
    /// Returns the future with a span: entered at each poll, on any thread, and ended when the
    /// future completes or is dropped.
    ///
    /// Memory: the future's, and 24 bytes. There is no `in_current_span`, as `tracing` has: an open span
    /// has one owner. Start a child for the future instead: `work.instrument(span!("work"))`.
    ///
    /// ```
    /// # use otlp_collector::{Collector, Config, Instrument, span};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let receiver = otlp_collector::testing::Receiver::start()?;
    /// # let collector = Collector::new(Config { endpoint: receiver.endpoint(), ..Config::default() })?;
    /// # let installed = collector.install_for_thread();
    /// async fn handle() {
    ///     load("orders").instrument(span!("load")).await; // a child of "GET /orders"
    /// }
    ///
    /// # async fn load(_: &str) {}
    /// let request = handle().instrument(span!("GET /orders"));
    /// # let mut request = std::pin::pin!(request);
    /// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// # assert!(request.as_mut().poll(&mut context).is_ready());
    /// # drop(installed);
    /// # collector.shutdown()?;
    /// # assert_eq!(receiver.span("load").parent_span_id, Some(receiver.span("GET /orders").span_id));
    /// # Ok(())
    /// # }
    /// # use std::future::Future;
    /// ```
    fn instrument(self, span: OpenSpan) -> Instrumented<Self> {
        Instrumented {
            future: Some(self),
            span,
        }
    }
}

impl<T> Instrument for T {}

pin_project! {
    /// A future with a span: see [`Instrument::instrument`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Instrumented<F> {
        // `None` after it completed.
        #[pin]
        future: Option<F>,
        span: OpenSpan,
    }

    impl<F> PinnedDrop for Instrumented<F> {
        fn drop(this: Pin<&mut Self>) {
            // Its values are dropped in the span, as they were made.
            let mut this = this.project();
            if this.future.is_some() {
                let _entered = this.span.enter();
                this.future.set(None);
            }
        }
    }
}

impl<F> Instrumented<F> {
    /// Returns the span, which is [`OpenSpan::none`] after the future completed.
    #[must_use]
    pub fn span(&self) -> &OpenSpan {
        &self.span
    }

    /// Returns the span of a pinned future, to be changed.
    pub fn span_mut(self: Pin<&mut Self>) -> &mut OpenSpan {
        self.project().span
    }
}

impl<F: Future> Future for Instrumented<F> {
    type Output = F::Output;

    /// Polls the future in its span.
    ///
    /// # Panics
    /// If the future has completed, or panics.
    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let poll = {
            let _polled = Polled {
                entered: this.span.enter(),
                in_panic: panicking(),
            };
            let Some(future) = this.future.as_mut().as_pin_mut() else {
                panic!("an instrumented future was polled after it completed");
            };
            let poll = future.poll(context);
            if poll.is_ready() {
                this.future.set(None);
            }
            poll
        };
        if poll.is_ready() {
            mem::take(this.span).end();
        }
        poll
    }
}

/// The span of a future that is being polled.
struct Polled<'s> {
    entered: Entered<'s>,
    in_panic: bool,
}

impl Drop for Polled<'_> {
    #[inline]
    fn drop(&mut self) {
        // An executor catches the panic, and drops the future later.
        if panicking() && !self.in_panic {
            self.entered.set_status(StatusRef::Error("panicked"));
        }
    }
}
