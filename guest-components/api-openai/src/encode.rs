//! `/encode`: SGLang's native request.

use serde::Deserialize;
use serde::de::MapAccess;
use tenon_sdk::request_parser::EmbedRequest;
use tenon_sdk::types::ApiError;

use crate::fields::{self, FieldValue, Fields, Known, unfit_for_id};
use crate::inputs::{Accepts, Inputs, Shape};
use crate::place::invalid;
use crate::state::State;

/// What SGLang takes besides.
const UNSUPPORTED: &[&str] = &[
    "audio_data",
    "extra_key",
    "image_data",
    "input_embeds",
    "lora_path",
    "modalities",
    "routing_key",
    "sampling_params",
    "video_data",
];

/// Reads the body.
pub fn parse(body: &[u8]) -> Result<EmbedRequest, ApiError> {
    let (fields, media) = fields::read::<EncodeFields>(body)?;
    let Inputs { inputs, shape } = match (fields.text, fields.input_ids) {
        (Some(inputs), None) | (None, Some(inputs)) => inputs,
        (None, None) => return Err(invalid(None, "text or input_ids is required")),
        (Some(_), Some(_)) => {
            return Err(invalid(
                Some("input_ids"),
                "give either text or input_ids, not both",
            ));
        }
    };
    let (request_id, ids) = match fields.rid {
        None => (None, Vec::new()),
        Some(Rid::One(id)) => (Some(id), Vec::new()),
        Some(Rid::Many(ids)) if shape == Shape::List && ids.len() == inputs.len() => (None, ids),
        Some(Rid::Many(ids)) => {
            let message = format!("a list of {} ids for {} inputs", ids.len(), inputs.len());
            return Err(invalid(Some("rid"), message));
        }
    };
    if let Some(reason) = request_id
        .iter()
        .chain(&ids)
        .find_map(|id| unfit_for_id(id))
    {
        return Err(invalid(Some("rid"), reason));
    }
    let state = State {
        single: shape == Shape::Single,
        ids,
        ..State::default()
    };
    Ok(EmbedRequest {
        model: fields.model,
        inputs,
        images: media.images,
        videos: media.videos,
        dimensions: fields.dimensions,
        truncate: None,
        add_special_tokens: true,
        prompt_name: None,
        input_type: None,
        instruction: None,
        priority: fields.priority.unwrap_or(0),
        request_id,
        state: state.to_bytes(),
    })
}

#[derive(Default)]
struct EncodeFields {
    model: Option<String>,
    text: Option<Inputs>,
    input_ids: Option<Inputs>,
    rid: Option<Rid>,
    dimensions: Option<u32>,
    priority: Option<i32>,
}

impl Fields for EncodeFields {
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: FieldValue<'_, A>,
    ) -> Result<Known, A::Error> {
        match name {
            "model" => value.plain(&mut self.model),
            "text" => value.inputs(Accepts::Text, &mut self.text),
            "input_ids" => value.inputs(Accepts::Ids, &mut self.input_ids),
            "rid" => value.plain(&mut self.rid),
            "dimensions" => value.integer(1, u32::MAX.into(), &mut self.dimensions),
            "priority" => value.integer(i32::MIN.into(), i32::MAX.into(), &mut self.priority),
            _ if UNSUPPORTED.contains(&name) => value.unsupported(),
            _ => Ok(Known::No),
        }
    }
}

/// One id for the request, or one for each of its inputs.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "invalid type, expected a string or a list of strings"
)]
enum Rid {
    One(String),
    Many(Vec<String>),
}
