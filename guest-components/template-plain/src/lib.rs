//! Renders text as it is, with sentence-transformers prompts.

use std::collections::BTreeMap;

use serde::Deserialize;
use tenon_sdk::role_settings;
use tenon_sdk::template::{Guest, RenderOptions, Rendered, Segment};
use tenon_sdk::types::{ApiError, EmbedInput, Part};

/// Bytes of an error that list the known prompts.
const MAX_LISTED_BYTES: usize = 1024;

/// The component.
pub struct Plain;

impl Guest for Plain {
    fn render(inputs: Vec<EmbedInput>, options: RenderOptions) -> Result<Vec<Rendered>, ApiError> {
        let settings: Settings = role_settings().map_err(|message| ApiError {
            status: 500,
            kind: "server_error".to_owned(),
            message,
            param: None,
            code: None,
        })?;
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
    /// Whether text is lowercased before it is tokenised.
    #[serde(default)]
    lowercase: bool,
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
        if options.instruction.is_some() {
            let message = "this model takes prompts by name, no instruction";
            return Err(invalid("instruction", message));
        }
        let prompt = self.prompt(options.prompt_name.as_deref())?;
        let render_input = |(index, input)| self.render_input(index, input, prompt, options);
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
            EmbedInput::Messages(_) => return Err(text_only(index)),
            EmbedInput::Tokens(_) if options.prompt_name.is_some() => {
                let message = "a prompt cannot be put before token ids";
                return Err(invalid("prompt_name", message));
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
            segments: vec![Segment::Text(self.cased(text))],
            add_special_tokens,
            excluded_prompt: excluded.then(|| self.cased(prompt.to_owned())),
        })
    }

    /// The prompt that a request asks for by name, or the default one; empty for none.
    fn prompt(&self, name: Option<&str>) -> Result<&str, ApiError> {
        let Some(name) = name.or(self.default_prompt_name.as_deref()) else {
            return Ok("");
        };
        match self.prompts.get(name) {
            Some(prompt) => Ok(prompt),
            None => Err(invalid("prompt_name", self.unknown_prompt(name))),
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

    fn cased(&self, text: String) -> String {
        if self.lowercase {
            text.to_lowercase()
        } else {
            text
        }
    }
}

fn text_only(index: usize) -> ApiError {
    invalid(&format!("input[{index}]"), "this model takes text only")
}

fn invalid(param: &str, message: impl Into<String>) -> ApiError {
    ApiError {
        status: 400,
        kind: "invalid_request_error".to_owned(),
        message: message.into(),
        param: Some(param.to_owned()),
        code: None,
    }
}

tenon_sdk::export_template!(Plain);

#[cfg(test)]
mod tests;
