//! What chat templates have in common: every input is a conversation, and the template
//! writes it with its own special tokens.

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

/// A conversation as a chat template is given it.
#[derive(Debug)]
pub struct Conversation {
    /// What was said. An input that is no conversation is one message of the role `user`.
    pub messages: Vec<Message>,
    /// What stands in place of a system message, of which there is none then.
    pub instruction: Option<String>,
    /// The input that it comes from, where it was not written as `messages`.
    input: Option<usize>,
}

impl Conversation {
    /// A mistake in the whole of it.
    pub fn invalid(&self, message: impl Into<String>) -> ApiError {
        match self.input {
            Some(index) => invalid_request(&format!("input[{index}]"), message),
            None => invalid_request("messages", message),
        }
    }

    /// A mistake in one part of a message.
    pub fn invalid_part(&self, message: usize, part: usize, what: &str) -> ApiError {
        match self.input {
            Some(_) => self.invalid(what),
            None => invalid_request(&format!("messages[{message}].content[{part}]"), what),
        }
    }

    /// Its messages, the parts of each joined; the instruction is a message of the role
    /// `system` before them.
    ///
    /// # Errors
    /// Media.
    pub fn text_messages(&self) -> Result<Vec<TextMessage>, ApiError> {
        let instruction = self.instruction.clone().map(|content| TextMessage {
            role: "system".to_owned(),
            content,
        });
        let mut messages: Vec<_> = instruction.into_iter().collect();
        for (at, message) in self.messages.iter().enumerate() {
            let mut content = String::new();
            for (index, part) in message.parts.iter().enumerate() {
                match part {
                    Part::Text(text) => content.push_str(text),
                    Part::Image(_) | Part::Video(_) => {
                        let what = "this model's chat template takes text only";
                        return Err(self.invalid_part(at, index, what));
                    }
                }
            }
            messages.push(TextMessage {
                role: message.role.clone(),
                content,
            });
        }
        Ok(messages)
    }
}

/// Renders every input with `write`, a chat template; token ids pass through. The tokenizer
/// adds no special tokens to what is written, for chat templates write their own.
///
/// # Errors
/// What `write` says, a `prompt_name` (a chat template has no prompts), and an `instruction`
/// beside a system message or for token ids.
pub fn render_conversations(
    inputs: Vec<EmbedInput>,
    options: &RenderOptions,
    write: impl Fn(Conversation) -> Result<Vec<Segment>, ApiError>,
) -> Result<Vec<Rendered>, ApiError> {
    if let Some(name) = &options.prompt_name {
        let message = format!("no prompt {name:?}: a model with a chat template has no prompts");
        return Err(invalid_request("prompt_name", message));
    }
    let render = |(index, input)| {
        let (messages, input) = match input {
            EmbedInput::Tokens(_) if options.instruction.is_some() => {
                let message = "no instruction can be put before token ids";
                return Err(invalid_request("instruction", message));
            }
            EmbedInput::Tokens(ids) => {
                return Ok(Rendered {
                    segments: vec![Segment::Tokens(ids)],
                    add_special_tokens: options.add_special_tokens,
                    excluded_prompt: None,
                });
            }
            EmbedInput::Parts(parts) => {
                let role = "user".to_owned();
                (vec![Message { role, parts }], Some(index))
            }
            EmbedInput::Messages(messages) => (messages, None),
        };
        let instruction = options.instruction.clone();
        if instruction.is_some() && messages.iter().any(|message| message.role == "system") {
            let message = "the messages have a system message already: give one of the two";
            return Err(invalid_request("instruction", message));
        }
        let conversation = Conversation {
            messages,
            instruction,
            input,
        };
        Ok(Rendered {
            segments: write(conversation)?,
            add_special_tokens: false,
            excluded_prompt: None,
        })
    };
    inputs.into_iter().enumerate().map(render).collect()
}
