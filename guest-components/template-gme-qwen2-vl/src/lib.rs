//! The chat template of the GME models on Qwen2-VL, for text.
//!
//! The models pool the last token, which the template writes itself. Text is rendered as
//! the message of a user; an instruction or a system message replaces the system sentence.

use serde::Deserialize;
use tenon_sdk::chat::{TextMessage, render_conversations};
use tenon_sdk::errors::server_error;
use tenon_sdk::role_settings;
use tenon_sdk::template::{Guest, RenderOptions, Rendered};
use tenon_sdk::types::{ApiError, EmbedInput};

/// What the models are trained with where nothing else is said.
const SYSTEM: &str = "You are a helpful assistant.";

/// The component.
pub struct GmeQwen2Vl;

impl Guest for GmeQwen2Vl {
    fn render(inputs: Vec<EmbedInput>, options: RenderOptions) -> Result<Vec<Rendered>, ApiError> {
        let Settings {} = role_settings().map_err(server_error)?;
        render_conversations(inputs, &options, write)
    }
}

/// There is nothing to set.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {}

fn write(messages: &[TextMessage]) -> Result<String, String> {
    let role = |message: &TextMessage, role: &str| message.role == role;
    let (system, user) = match messages {
        [user] if role(user, "user") => (SYSTEM, user),
        [system, user] if role(system, "system") && role(user, "user") => {
            (system.content.as_str(), user)
        }
        _ => {
            let message = "this model takes one message of the role \"user\", after at most \
                one of the role \"system\"";
            return Err(message.to_owned());
        }
    };
    Ok(format!(
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n\
         <|im_start|>assistant\n<|endoftext|>",
        user.content
    ))
}

tenon_sdk::export_template!(GmeQwen2Vl);

#[cfg(test)]
mod tests;
