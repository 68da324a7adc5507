//! What the routes call; `crate::service` implements it.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;

use crate::error::ApiError;

/// One embedding call as it came over the wire.
#[derive(Debug)]
pub struct Call {
    /// The path of the route, e.g. `/v1/embeddings`.
    pub endpoint: &'static str,
    /// The whole body, within the body limit.
    pub body: Bytes,
    /// The id of the request: the client's `x-request-id` if it is well formed, else made here.
    pub request_id: String,
    /// When the head of the request arrived.
    pub arrived: Instant,
}

/// A body with what the headers say of it.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status: 200, or the error's.
    pub status: u16,
    /// The `content-type` header.
    pub content_type: String,
    /// The body, in pieces.
    pub chunks: Vec<Bytes>,
    /// The `retry-after` header in seconds.
    pub retry_after_s: Option<u64>,
    /// The `x-request-id` header: the id in the body of the request wins over the header's.
    pub request_id: String,
}

/// One served model, for `/v1/models` and `/model_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelCard {
    /// The name under which it is served.
    pub name: String,
    /// Further names that reach it.
    pub aliases: Vec<String>,
    /// Seconds since 1970-01-01T00:00:00Z at which it was loaded.
    pub created_s: u64,
    /// The longest input in tokens.
    pub max_tokens: usize,
    /// The length of its vectors.
    pub dimensions: usize,
    /// Where its weights came from, as the operator wrote it.
    pub source: String,
    /// The dtype its weights are served in.
    pub dtype: String,
    /// Whether callers may ask for shorter vectors.
    pub matryoshka: bool,
}

/// A future that the service returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the routes need: embeddings, and what is served.
pub trait EmbedService: Send + Sync + 'static {
    /// Answers one call. Dropping the future cancels the work. Every failure is an
    /// [`Answer`] in the dialect's shape; an `Err` is one that happened before a dialect
    /// could be asked.
    fn embed(&self, call: Call) -> BoxFuture<'_, Result<Answer, ApiError>>;

    /// All models served, in the order in which they were named.
    fn models(&self) -> Vec<ModelCard>;
}
