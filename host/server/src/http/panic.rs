//! Turns a panic of a handler into an answer.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// The inner future panicked, and must not be polled again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Panicked;

/// Resolves to an error when `inner` panics, so that the client is answered and the other
/// requests of its connection live on.
pub(super) struct CatchPanic<F> {
    inner: Pin<Box<F>>,
}

impl<F: Future> CatchPanic<F> {
    pub(super) fn new(inner: F) -> Self {
        let inner = Box::pin(inner);
        Self { inner }
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // What the future owns is dropped with it, and what it shares (the service, the
        // metrics) is behind locks and atomics that survive a panic.
        match catch_unwind(AssertUnwindSafe(|| self.inner.as_mut().poll(cx))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => Poll::Ready(Err(Panicked)),
        }
    }
}
