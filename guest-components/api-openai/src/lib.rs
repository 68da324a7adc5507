//! The OpenAI and SGLang embedding dialects: request-parser and response-encoder.
//!
//! `/encode` is SGLang's native shape; every other endpoint gets OpenAI's, with the
//! fields that SGLang and vLLM add to it.

mod content;
mod embeddings;
mod encode;
mod fields;
mod inputs;
mod lists;
mod media;
mod messages;
mod place;
mod response;
mod state;

use tenon_sdk::request_parser::{self, EmbedRequest};
use tenon_sdk::response_encoder;
use tenon_sdk::types::ApiError;

/// SGLang's native route.
const ENCODE: &str = "/encode";

/// The component.
pub struct OpenAi;

impl request_parser::Guest for OpenAi {
    fn parse(endpoint: String, body: Vec<u8>) -> Result<EmbedRequest, ApiError> {
        if endpoint == ENCODE {
            encode::parse(&body)
        } else {
            embeddings::parse(&body)
        }
    }
}

impl response_encoder::Guest for OpenAi {
    type Encoding = response::Encoding;

    fn encode_error(_endpoint: String, error: ApiError) -> Vec<u8> {
        response::encode_error(&error)
    }
}

tenon_sdk::export_request_parser!(OpenAi);
tenon_sdk::export_response_encoder!(OpenAi);

#[cfg(test)]
mod tests;
