//! The OpenAI and SGLang embedding dialects: request-parser and response-encoder.
