//! The caller's end of a submitted request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::queue::RequestId;
use super::shared::Shared;
use crate::batch::RowError;

/// A vector, or why there is none.
pub(super) type Row = Result<Vec<f32>, RowError>;
/// What a ticket resolves to.
pub(super) type Reply = Result<Vec<Row>, SubmitError>;

/// Why an admitted request has no rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// A component failed on this request's own sequences.
    #[error("{0}")]
    Component(String),
    /// The executor stayed unavailable through all retries.
    #[error("{reason}")]
    Unavailable {
        /// What the executor said last.
        reason: String,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// The deadline passed before all rows were computed.
    #[error("the deadline passed before all inputs were computed")]
    DeadlineExceeded,
    /// The worker died.
    #[error("the deployment's worker has stopped")]
    Stopped,
}

/// Resolves to one row a sequence, in the order of submission. Dropping it cancels the
/// request: sequences that still wait never run.
#[must_use = "dropping a ticket cancels its request"]
pub struct Ticket {
    reply: oneshot::Receiver<Reply>,
    /// What to tell when dropped before the reply.
    cancel: Option<(Arc<Shared>, RequestId)>,
}

impl Ticket {
    pub(super) fn new(reply: oneshot::Receiver<Reply>, shared: Arc<Shared>, id: RequestId) -> Self {
        Self {
            reply,
            cancel: Some((shared, id)),
        }
    }
}

impl Future for Ticket {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Reply> {
        let Poll::Ready(reply) = Pin::new(&mut self.reply).poll(cx) else {
            return Poll::Pending;
        };
        self.cancel = None;
        Poll::Ready(reply.unwrap_or(Err(SubmitError::Stopped)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((shared, id)) = self.cancel.take() {
            shared.cancel(id);
        }
    }
}
