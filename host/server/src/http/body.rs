//! Bodies, in and out, and the memory that they hold.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};

use super::options::HttpOptions;
use crate::error::ApiError;

/// Counts the bytes of all bodies in memory.
#[derive(Debug)]
pub(super) struct ByteBudget {
    limit: usize,
    used: AtomicUsize,
}

impl ByteBudget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let used = AtomicUsize::new(0);
        Arc::new(Self { limit, used })
    }
}

/// One body's share of the budget, given back on drop.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl Charge {
    pub(super) fn new(budget: &Arc<ByteBudget>) -> Self {
        Self {
            budget: budget.clone(),
            bytes: 0,
        }
    }

    /// Adds bytes that are in memory whatever the budget says; tells whether they fit.
    pub(super) fn add(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        let before = self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= self.budget.limit
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads a whole request body within the limits.
pub(super) async fn read<B>(
    body: &mut B,
    options: &HttpOptions,
    charge: &mut Charge,
) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let limit = options.max_body_bytes;
    let told = body.size_hint().lower();
    if told > limit as u64 {
        return Err(too_large(limit));
    }
    let reading = read_within(body, limit, charge);
    let timeout = options.body_read_timeout;
    match tokio::time::timeout(timeout, reading).await {
        Ok(read) => read,
        Err(_) => Err(ApiError {
            status: 408,
            kind: "timeout_error".into(),
            ..ApiError::invalid(
                format!("The request body did not arrive within {timeout:?}."),
                None,
            )
        }),
    }
}

async fn read_within<B>(body: &mut B, limit: usize, charge: &mut Charge) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            let message = "The request body ended before it was complete.";
            return Err(ApiError::invalid(message, None));
        };
        let Ok(data) = frame.into_data() else {
            continue; // trailers say nothing here
        };
        if data.len() > limit - first.len() - whole.len() {
            return Err(too_large(limit));
        }
        if !charge.add(data.len()) {
            let message = "The server holds too many request bodies in memory for now.";
            return Err(ApiError::overloaded(503, message, 1));
        }
        // A body that came in one piece, as most do, is never copied.
        if first.is_empty() && whole.is_empty() {
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
        }
    }
    Ok(if whole.is_empty() {
        first
    } else {
        whole.freeze()
    })
}

fn too_large(limit: usize) -> ApiError {
    ApiError {
        status: 413,
        ..ApiError::invalid(
            format!("The request body is larger than the limit of {limit} bytes."),
            None,
        )
    }
}

/// Reads the rest of a refused request's body and throws it away, up to `max_bytes`.
pub(super) async fn discard<B>(body: &mut B, max_bytes: usize, timeout: Duration)
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > max_bytes as u64 {
        return;
    }
    let mut left = max_bytes;
    let discarding = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            if bytes > left {
                break;
            }
            left -= bytes;
        }
    };
    // Running out of time is the same as running out of bytes.
    let _ = tokio::time::timeout(timeout, discarding).await;
}

/// A response body: pieces that are ready, and what is held until they are sent.
#[derive(Debug)]
pub(super) struct Chunks {
    chunks: std::vec::IntoIter<Bytes>,
    left: u64,
    _charge: Option<Charge>,
}

impl Chunks {
    /// A body of no bytes.
    pub(super) fn empty() -> Self {
        Self::new(Vec::new(), None)
    }

    /// A body in one piece.
    pub(super) fn one(bytes: impl Into<Bytes>) -> Self {
        Self::new(vec![bytes.into()], None)
    }

    /// A body in pieces.
    pub(super) fn new(chunks: Vec<Bytes>, charge: Option<Charge>) -> Self {
        Self {
            left: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
            chunks: chunks.into_iter(),
            _charge: charge,
        }
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.chunks.find(|chunk| !chunk.is_empty());
        if let Some(chunk) = &next {
            self.left -= chunk.len() as u64;
        }
        Poll::Ready(next.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    /// Known from the start, so that every answer has a `content-length`.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(pieces: &[&'static str]) -> Chunks {
        let bytes = |piece: &&'static str| Bytes::from_static(piece.as_bytes());
        Chunks::new(pieces.iter().map(bytes).collect(), None)
    }

    #[tokio::test]
    async fn reads_up_to_the_limit() {
        let options = HttpOptions {
            max_body_bytes: 4,
            ..HttpOptions::default()
        };
        let budget = ByteBudget::new(100);
        for (pieces, expected) in [
            (&["abcd"][..], Ok("abcd")),
            (&["ab", "", "c", "d"], Ok("abcd")),
            (&[], Ok("")),
            (&["abcde"], Err(413)),
            (&["ab", "cde"], Err(413)),
        ] {
            let mut charge = Charge::new(&budget);
            let read = read(&mut chunks(pieces), &options, &mut charge).await;
            let read = read.map_err(|error| error.status);
            assert_eq!(
                read,
                expected.map(|text| Bytes::from_static(text.as_bytes()))
            );
        }
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn refuses_a_body_over_what_all_bodies_may_hold() {
        let options = HttpOptions::default();
        let budget = ByteBudget::new(5);
        let mut first = Charge::new(&budget);
        assert!(
            read(&mut chunks(&["abc"]), &options, &mut first)
                .await
                .is_ok()
        );
        let mut second = Charge::new(&budget);
        let refused = read(&mut chunks(&["abc"]), &options, &mut second).await;
        assert_eq!(refused.map_err(|error| error.status), Err(503));
        drop((first, second));
        let mut third = Charge::new(&budget);
        assert!(
            read(&mut chunks(&["abc"]), &options, &mut third)
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn discards_no_more_than_it_may() {
        let mut body = chunks(&["abc", "def", "ghi"]);
        discard(&mut body, 9, Duration::from_secs(1)).await;
        assert!(body.is_end_stream());
        let mut body = chunks(&["abc", "def"]);
        discard(&mut body, 5, Duration::from_secs(1)).await;
        assert_eq!(body.left, 6);
    }
}
