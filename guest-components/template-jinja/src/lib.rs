//! Renders conversations with a checkpoint's own chat template, written in Jinja.
//!
//! Templates find what transformers gives them: the variables `messages`, `tools` and
//! `documents` (both none), `add_generation_prompt`, `bos_token` and `eos_token`, the function
//! `raise_exception`, the filter `tojson`, Python's methods of strings, lists and dictionaries,
//! and blocks that take their line with them (`trim_blocks`, `lstrip_blocks`). There is no
//! `strftime_now`: a component has no clock, and a text must not get another vector
//! tomorrow. Templates that ask `strftime_now is defined` use the date written in them.

mod content;
mod engine;
mod tojson;

use serde::Deserialize;
use tenon_sdk::chat::render_conversations;
use tenon_sdk::errors::server_error;
use tenon_sdk::role_settings;
use tenon_sdk::template::{Guest, ImageSize, RenderOptions, Rendered, Segment};
use tenon_sdk::types::{ApiError, EmbedInput};

use content::ContentFormat;
use engine::{ChatTemplate, environment};

/// The component.
pub struct Jinja;

impl Guest for Jinja {
    fn render(
        inputs: Vec<EmbedInput>,
        _images: Vec<ImageSize>,
        options: RenderOptions,
    ) -> Result<Vec<Rendered>, ApiError> {
        let settings: Settings = role_settings().map_err(server_error)?;
        settings.render(inputs, &options)
    }
}

/// What the host derives from the checkpoint's tokenizer files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The template's text.
    chat_template: String,
    /// The token that begins a sequence, if the checkpoint names one.
    #[serde(default)]
    bos_token: Option<String>,
    /// The token that ends a sequence, if the checkpoint names one.
    #[serde(default)]
    eos_token: Option<String>,
    /// Whether the text ends with the beginning of an assistant's message.
    #[serde(default)]
    add_generation_prompt: bool,
}

impl Settings {
    fn render(
        &self,
        inputs: Vec<EmbedInput>,
        options: &RenderOptions,
    ) -> Result<Vec<Rendered>, ApiError> {
        let environment = environment();
        let template = ChatTemplate::compile(&environment, self).map_err(server_error)?;
        let format = ContentFormat::of(&template).map_err(server_error)?;
        render_conversations(inputs, options, |conversation| {
            let text = template.write(&conversation.text_messages()?, format);
            text.map(|text| vec![Segment::Text(text)])
                .map_err(|message| conversation.invalid(message))
        })
    }
}

tenon_sdk::export_template!(Jinja);

#[cfg(test)]
mod tests;
