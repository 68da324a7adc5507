//! The chat template of the GME models on Qwen2-VL, for text and images.
//!
//! The models pool the last token, which the template writes itself. An input is rendered as
//! the message of a user, its images before its text; an instruction or a system message
//! replaces the system sentence.

mod resize;

use serde::Deserialize;
use tenon_sdk::chat::{Conversation, render_conversations};
use tenon_sdk::errors::server_error;
use tenon_sdk::preprocessor::Preprocessor;
use tenon_sdk::template::{Crop, Guest, ImageRun, ImageSize, RenderOptions, Rendered, Segment};
use tenon_sdk::types::{ApiError, EmbedInput, Message, Part};
use tenon_sdk::{role_settings, tokenizer};

use resize::Resizer;

/// What the models are trained with where nothing else is said.
const SYSTEM: &str = "You are a helpful assistant.";
/// The token whose embedding an image's rows replace.
const IMAGE_PAD: &str = "<|image_pad|>";

/// The component.
pub struct GmeQwen2Vl;

impl Guest for GmeQwen2Vl {
    fn render(
        inputs: Vec<EmbedInput>,
        images: Vec<ImageSize>,
        options: RenderOptions,
    ) -> Result<Vec<Rendered>, ApiError> {
        let settings: Settings = role_settings().map_err(server_error)?;
        let writer = Writer {
            images,
            placeholder: tokenizer::token_id(IMAGE_PAD),
            resizer: settings.resizer().map_err(server_error)?,
        };
        render_conversations(inputs, &options, |conversation| writer.write(&conversation))
    }
}

/// What the host derives from the checkpoint.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// How images are made ready; none for a checkpoint that is used for text only.
    preprocessor: Option<Preprocessor>,
}

impl Settings {
    fn resizer(&self) -> Result<Option<Resizer>, String> {
        self.preprocessor.as_ref().map(Resizer::new).transpose()
    }
}

/// Writes conversations.
struct Writer {
    images: Vec<ImageSize>,
    placeholder: Option<u32>,
    resizer: Option<Resizer>,
}

impl Writer {
    fn write(&self, conversation: &Conversation) -> Result<Vec<Segment>, ApiError> {
        let (system, at, user) = split(conversation)?;
        let mut segments = Vec::new();
        let mut written = format!("<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n");
        for (index, part) in user.parts.iter().enumerate() {
            match part {
                Part::Text(_) => {}
                Part::Image(image) => {
                    let run = self
                        .image(*image)
                        .map_err(|what| conversation.invalid_part(at, index, &what))?;
                    written.push_str("<|vision_start|>");
                    segments.push(Segment::Text(std::mem::take(&mut written)));
                    segments.push(Segment::Image(run));
                    written.push_str("<|vision_end|>");
                }
                Part::Video(_) => {
                    return Err(conversation.invalid_part(at, index, "videos are not supported"));
                }
            }
        }
        for part in &user.parts {
            if let Part::Text(text) = part {
                written.push_str(text);
            }
        }
        written.push_str("<|im_end|>\n<|im_start|>assistant\n<|endoftext|>");
        segments.push(Segment::Text(written));
        Ok(segments)
    }

    fn image(&self, index: u32) -> Result<ImageRun, String> {
        let (Some(resizer), Some(token)) = (&self.resizer, self.placeholder) else {
            return Err("this model is served without its part for images".to_owned());
        };
        let Some(size) = self.images.get(index as usize) else {
            return Err(format!("there is no image {index}"));
        };
        let resize = resizer.resize(*size)?;
        let side = resizer.placeholder_side();
        Ok(ImageRun {
            image: index,
            resize,
            crop: Crop {
                left: 0,
                top: 0,
                size: resize,
            },
            token,
            rows: resize.height / side,
            columns: resize.width / side,
        })
    }
}

/// The system sentence; where the message of the user stands, and that message.
fn split(conversation: &Conversation) -> Result<(String, usize, &Message), ApiError> {
    let role = |message: &Message, role: &str| message.role == role;
    let instruction = conversation.instruction.clone();
    match &conversation.messages[..] {
        [user] if role(user, "user") => {
            let system = instruction.unwrap_or_else(|| SYSTEM.to_owned());
            Ok((system, 0, user))
        }
        [system, user] if role(system, "system") && role(user, "user") => {
            let mut sentence = String::new();
            for (index, part) in system.parts.iter().enumerate() {
                let Part::Text(text) = part else {
                    let what = "a system message takes text only";
                    return Err(conversation.invalid_part(0, index, what));
                };
                sentence.push_str(text);
            }
            Ok((sentence, 1, user))
        }
        _ => Err(conversation.invalid(
            "this model takes one message of the role \"user\", after at most one of the role \
             \"system\"",
        )),
    }
}

tenon_sdk::export_template!(GmeQwen2Vl);

#[cfg(test)]
mod tests;
