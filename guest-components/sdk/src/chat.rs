//! What chat templates have in common: every input is a conversation, and the template
//! writes it as one text with its own special tokens.

use crate::errors::invalid_request;
use crate::template::{RenderOptions, Rendered, Segment};
use crate::types::{ApiError, EmbedInput, Message, Part};

/// A message that holds text only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextMessage {
    /// The speaker, e.g. `system` or `user`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// Renders every input with `write`, a chat template.
///
/// A conversation is rendered as it is, its text parts joined. Text that is no conversation
/// becomes one message of the role `user`; token ids pass through. An `instruction` becomes
/// a message of the role `system` before the others. The tokenizer adds no special tokens
/// to rendered text, for chat templates write their own.
///
/// # Errors
/// What `write` says of the messages, media, a `prompt_name` (a chat template has no
/// prompts), and an `instruction` beside a system message or for token ids.
pub fn render_conversations(
    inputs: Vec<EmbedInput>,
    options: &RenderOptions,
    write: impl Fn(&[TextMessage]) -> Result<String, String>,
) -> Result<Vec<Rendered>, ApiError> {
    if let Some(name) = &options.prompt_name {
        let message = format!("no prompt {name:?}: a model with a chat template has no prompts");
        return Err(invalid_request("prompt_name", message));
    }
    let text = |messages: &[TextMessage], param: &str| match write(messages) {
        Ok(text) => Ok(Segment::Text(text)),
        Err(message) => Err(invalid_request(param, message)),
    };
    let render = |(index, input)| {
        let (segment, add_special_tokens) = match input {
            EmbedInput::Tokens(_) if options.instruction.is_some() => {
                let message = "no instruction can be put before token ids";
                return Err(invalid_request("instruction", message));
            }
            EmbedInput::Tokens(ids) => (Segment::Tokens(ids), options.add_special_tokens),
            EmbedInput::Parts(parts) => {
                let param = format!("input[{index}]");
                let message = text_message("user".to_owned(), parts, |_| param.clone())?;
                let messages = instructed(vec![message], options)?;
                (text(&messages, &param)?, false)
            }
            EmbedInput::Messages(messages) => {
                let messages = instructed(text_messages(messages)?, options)?;
                (text(&messages, "messages")?, false)
            }
        };
        Ok(Rendered {
            segments: vec![segment],
            add_special_tokens,
            excluded_prompt: None,
        })
    };
    inputs.into_iter().enumerate().map(render).collect()
}

fn text_messages(messages: Vec<Message>) -> Result<Vec<TextMessage>, ApiError> {
    let message = |(index, message): (usize, Message)| {
        let place = |part| format!("messages[{index}].content[{part}]");
        text_message(message.role, message.parts, place)
    };
    messages.into_iter().enumerate().map(message).collect()
}

fn text_message(
    role: String,
    parts: Vec<Part>,
    place: impl Fn(usize) -> String,
) -> Result<TextMessage, ApiError> {
    let mut content = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        match part {
            // The common case, without a copy.
            Part::Text(text) if content.is_empty() => content = text,
            Part::Text(text) => content.push_str(&text),
            Part::Image(_) | Part::Video(_) => {
                return Err(invalid_request(&place(index), "this model takes text only"));
            }
        }
    }
    Ok(TextMessage { role, content })
}

/// The messages with the caller's instruction before them.
fn instructed(
    mut messages: Vec<TextMessage>,
    options: &RenderOptions,
) -> Result<Vec<TextMessage>, ApiError> {
    let Some(instruction) = &options.instruction else {
        return Ok(messages);
    };
    if messages.iter().any(|message| message.role == "system") {
        let message = "the messages have a system message already: give one of the two";
        return Err(invalid_request("instruction", message));
    }
    let system = TextMessage {
        role: "system".to_owned(),
        content: instruction.clone(),
    };
    messages.insert(0, system);
    Ok(messages)
}
