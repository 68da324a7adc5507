//! The two forms in which templates expect a message's content.

use minijinja::context;
use minijinja::value::Value;
use tenon_sdk::chat::TextMessage;

use crate::engine::ChatTemplate;

/// A text that no template writes of itself.
const PROBE: &str = "tenon-content-probe";

/// How a message's content is given to the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentFormat {
    /// As a string.
    Text,
    /// As a list of parts, `{"type": "text", "text": ...}`.
    Parts,
}

impl ContentFormat {
    /// The form that the template understands, found by rendering a message in each: one
    /// that takes lists alone would silently leave a string out.
    ///
    /// # Errors
    /// What the template says of either form, if it writes the content of neither.
    pub fn of(template: &ChatTemplate<'_>) -> Result<Self, String> {
        let message = TextMessage {
            role: "user".to_owned(),
            content: PROBE.to_owned(),
        };
        let mut failure = None;
        for format in [Self::Text, Self::Parts] {
            match template.write(std::slice::from_ref(&message), format) {
                Ok(text) if text.contains(PROBE) => return Ok(format),
                Ok(_) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| {
            "role settings: chat_template does not write the content of a user's message".to_owned()
        }))
    }

    /// A text in this form.
    pub fn value(self, text: &str) -> Value {
        match self {
            Self::Text => Value::from(text),
            Self::Parts => Value::from(vec![context! { type => "text", text }]),
        }
    }
}
