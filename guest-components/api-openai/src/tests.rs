//! What the dialects read and write.

mod messages;
mod parsing;
mod refusing;
mod writing;

use tenon_sdk::request_parser::{EmbedRequest, Guest};
use tenon_sdk::types::ApiError;

use crate::OpenAi;

const EMBEDDINGS: &str = "/v1/embeddings";
const ENCODE: &str = "/encode";

fn parse(endpoint: &str, body: impl AsRef<[u8]>) -> Result<EmbedRequest, ApiError> {
    OpenAi::parse(endpoint.to_owned(), body.as_ref().to_vec())
}
