//! Renders text as it is, with sentence-transformers prompts.

mod instruction;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use tenon_sdk::errors::{invalid_request, server_error};
use tenon_sdk::role_settings;
use tenon_sdk::template::{Guest, ImageSize, RenderOptions, Rendered, Segment};
use tenon_sdk::types::{ApiError, EmbedInput, InputType, Part};

/// The prompts of queries and of documents: the first of these names that the model has, as
/// sentence-transformers' `encode_query` and `encode_document` choose.
const QUERY_PROMPTS: &[&str] = &["query"];
const DOCUMENT_PROMPTS: &[&str] = &["document", "passage", "corpus"];

/// Bytes of an error that list the known prompts.
const MAX_LISTED_BYTES: usize = 1024;

/// The component.
pub struct Plain;

impl Guest for Plain {
    fn render(
        inputs: Vec<EmbedInput>,
        _images: Vec<ImageSize>,
        options: RenderOptions,
    ) -> Result<Vec<Rendered>, ApiError> {
        let settings: Settings = role_settings().map_err(server_error)?;
        settings.render(inputs, &options)
    }
}

/// What the host derives from `config_sentence_transformers.json` and its neighbours.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Texts put before inputs, by name.
    #[serde(default)]
    prompts: BTreeMap<String, String>,
    /// The prompt of a request that names none.
    #[serde(default)]
    default_prompt_name: Option<String>,
    /// Whether pooling takes the prompt's tokens in.
    #[serde(default = "include_prompt")]
    include_prompt: bool,
}

fn include_prompt() -> bool {
    true
}

impl Settings {
    fn render(
        &self,
        inputs: Vec<EmbedInput>,
        options: &RenderOptions,
    ) -> Result<Vec<Rendered>, ApiError> {
        let prompt = self.prompt(options)?;
        let render_input = |(index, input)| self.render_input(index, input, &prompt, options);
        inputs.into_iter().enumerate().map(render_input).collect()
    }

    fn render_input(
        &self,
        index: usize,
        input: EmbedInput,
        prompt: &str,
        options: &RenderOptions,
    ) -> Result<Rendered, ApiError> {
        let add_special_tokens = options.add_special_tokens;
        let parts = match input {
            EmbedInput::Parts(parts) => parts,
            EmbedInput::Messages(_) => return Err(no_chat_template()),
            EmbedInput::Tokens(_) if options.prompt_name.is_some() => {
                return Err(before_tokens("prompt_name"));
            }
            EmbedInput::Tokens(_) if options.instruction.is_some() => {
                return Err(before_tokens("instruction"));
            }
            EmbedInput::Tokens(ids) => {
                return Ok(Rendered {
                    segments: vec![Segment::Tokens(ids)],
                    add_special_tokens,
                    excluded_prompt: None,
                });
            }
        };
        let mut text = prompt.to_owned();
        for part in parts {
            match part {
                // The common case, without a copy.
                Part::Text(part) if text.is_empty() => text = part,
                Part::Text(part) => text.push_str(&part),
                Part::Image(_) | Part::Video(_) => return Err(text_only(index)),
            }
        }
        let excluded = !self.include_prompt && !prompt.is_empty();
        Ok(Rendered {
            segments: vec![Segment::Text(text)],
            add_special_tokens,
            excluded_prompt: excluded.then(|| prompt.to_owned()),
        })
    }

    /// The prompt that a request asks for: by its name, by what its inputs are, or in an
    /// instruction of its own; else the default one. Empty for none.
    fn prompt(&self, options: &RenderOptions) -> Result<Cow<'_, str>, ApiError> {
        let by_type = |kind| {
            let names = match kind {
                InputType::Query => QUERY_PROMPTS,
                InputType::Document => DOCUMENT_PROMPTS,
            };
            names.iter().find(|name| self.prompts.contains_key(**name))
        };
        let kind = match options.instruction {
            // Queries are what models are instructed for.
            Some(_) => options.input_type.or(Some(InputType::Query)),
            None => options.input_type,
        };
        let name = match &options.prompt_name {
            Some(name) => Some(name.as_str()),
            None => kind
                .and_then(by_type)
                .copied()
                .or(self.default_prompt_name.as_deref()),
        };
        let prompt = match name {
            None => "",
            Some(name) => match self.prompts.get(name) {
                Some(prompt) => prompt,
                None => return Err(invalid_request("prompt_name", self.unknown_prompt(name))),
            },
        };
        match &options.instruction {
            None => Ok(Cow::Borrowed(prompt)),
            Some(instruction) => match instruction::replaced(prompt, instruction) {
                Some(prompt) => Ok(Cow::Owned(prompt)),
                None => {
                    let message = "this model has no prompt \"Instruct: ...\\nQuery:\" here, \
                        whose instruction could be replaced";
                    Err(invalid_request("instruction", message))
                }
            },
        }
    }

    fn unknown_prompt(&self, name: &str) -> String {
        if self.prompts.is_empty() {
            return format!("no prompt {name:?}: this model has none");
        }
        let known: Vec<_> = self
            .prompts
            .keys()
            .map(|name| format!("{name:?}"))
            .collect();
        let mut known = known.join(", ");
        if known.len() > MAX_LISTED_BYTES {
            known.truncate(known.floor_char_boundary(MAX_LISTED_BYTES));
            known.push_str("...");
        }
        format!("no prompt {name:?}: this model has {known}")
    }
}

fn before_tokens(param: &str) -> ApiError {
    invalid_request(param, "no prompt can be put before token ids")
}

fn no_chat_template() -> ApiError {
    let message = "this model is served without a chat template; `input` takes text";
    invalid_request("messages", message)
}

fn text_only(index: usize) -> ApiError {
    invalid_request(&format!("input[{index}]"), "this model takes text only")
}

tenon_sdk::export_template!(Plain);

#[cfg(test)]
mod tests;
