//! `/v1/embeddings`: OpenAI's request, with what SGLang and vLLM add to it.

use serde::de::MapAccess;
use serde_json::value::RawValue;
use tenon_sdk::request_parser::EmbedRequest;
use tenon_sdk::types::{ApiError, EmbedInput, InputType, Message, Truncation, TruncationSide};

use crate::fields::{self, FieldValue, Fields, Known};
use crate::inputs::{Accepts, Inputs};
use crate::place::invalid;
use crate::state::{State, VectorEncoding};

const ENCODING_FORMATS: [&str; 2] = ["float", "base64"];
const TRUNCATION_SIDES: [&str; 2] = ["left", "right"];
const INPUT_TYPES: [&str; 2] = ["query", "document"];
/// vLLM's names of what this server writes anyway.
const EMBED_DTYPES: [&str; 1] = ["float32"];
const ENDIANNESS: [&str; 2] = ["native", "little"];
/// What SGLang and vLLM take besides.
const UNSUPPORTED: &[&str] = &[
    "cache_salt",
    "chat_template",
    "chat_template_kwargs",
    "lora_path",
    "mm_processor_kwargs",
    "normalize",
    "use_activation",
];

/// Reads the body.
pub fn parse(body: &[u8]) -> Result<EmbedRequest, ApiError> {
    let (fields, media) = fields::read::<EmbeddingsFields>(body)?;
    let inputs = match (fields.input, fields.messages) {
        (Some(Inputs { inputs, .. }), None) => inputs,
        (None, Some(messages)) => vec![EmbedInput::Messages(messages)],
        (Some(_), Some(_)) => {
            return Err(invalid(
                Some("messages"),
                "give input or messages, not both",
            ));
        }
        (None, None) => {
            let message = "required, but missing: give input or messages";
            return Err(invalid(Some("input"), message));
        }
    };
    let state = State {
        encoding: match fields.encoding_format {
            Some(1) => VectorEncoding::Base64,
            _ => VectorEncoding::Float,
        },
        additional_data: fields.additional_data,
        ..State::default()
    };
    let side = match fields.truncation_side {
        Some(0) => TruncationSide::Left,
        _ => TruncationSide::Right,
    };
    let truncate = match fields.truncate_prompt_tokens {
        None => None,
        Some(0) => {
            let message = "0 would keep nothing: give -1 for the model's limit, or at least 1";
            return Err(invalid(Some("truncate_prompt_tokens"), message));
        }
        // -1 is the only number below 0 that is read.
        Some(tokens) => Some(Truncation {
            max_tokens: u32::try_from(tokens).ok(),
            side,
        }),
    };
    if fields.model.is_none() {
        return Err(invalid(Some("model"), "required, but missing"));
    }
    Ok(EmbedRequest {
        model: fields.model,
        inputs,
        images: media.images,
        videos: media.videos,
        dimensions: fields.dimensions,
        truncate,
        add_special_tokens: fields.add_special_tokens.unwrap_or(true),
        prompt_name: fields.prompt_name,
        input_type: match fields.input_type {
            None => None,
            Some(0) => Some(InputType::Query),
            Some(_) => Some(InputType::Document),
        },
        instruction: fields.instruction,
        priority: fields.priority.unwrap_or(0),
        request_id: fields.request_id,
        state: state.to_bytes(),
    })
}

#[derive(Default)]
struct EmbeddingsFields {
    model: Option<String>,
    input: Option<Inputs>,
    messages: Option<Vec<Message>>,
    /// An index of [`ENCODING_FORMATS`].
    encoding_format: Option<usize>,
    dimensions: Option<u32>,
    truncate_prompt_tokens: Option<i64>,
    /// An index of [`TRUNCATION_SIDES`].
    truncation_side: Option<usize>,
    add_special_tokens: Option<bool>,
    additional_data: Option<Box<RawValue>>,
    priority: Option<i32>,
    request_id: Option<String>,
    prompt_name: Option<String>,
    /// An index of [`INPUT_TYPES`].
    input_type: Option<usize>,
    instruction: Option<String>,
}

impl Fields for EmbeddingsFields {
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: FieldValue<'_, A>,
    ) -> Result<Known, A::Error> {
        match name {
            "model" => value.plain(&mut self.model),
            "input" => value.inputs(Accepts::Anything, &mut self.input),
            "messages" => value.messages(&mut self.messages),
            "encoding_format" => value.choice(&ENCODING_FORMATS, &mut self.encoding_format),
            "dimensions" => value.integer(1, u32::MAX.into(), &mut self.dimensions),
            "user" => value.plain::<String>(&mut None),
            "truncate_prompt_tokens" => {
                value.integer(-1, u32::MAX.into(), &mut self.truncate_prompt_tokens)
            }
            "truncation_side" => value.choice(&TRUNCATION_SIDES, &mut self.truncation_side),
            "add_special_tokens" => value.plain(&mut self.add_special_tokens),
            "additional_data" => value.raw(&mut self.additional_data),
            "priority" => value.integer(i32::MIN.into(), i32::MAX.into(), &mut self.priority),
            "rid" | "request_id" => value.request_id(&mut self.request_id),
            "prompt_name" => value.plain(&mut self.prompt_name),
            "input_type" => value.choice(&INPUT_TYPES, &mut self.input_type),
            "instruction" => value.plain(&mut self.instruction),
            "embed_dtype" => value.choice(&EMBED_DTYPES, &mut None),
            "endianness" => value.choice(&ENDIANNESS, &mut None),
            _ if UNSUPPORTED.contains(&name) => value.unsupported(),
            _ => Ok(Known::No),
        }
    }
}
