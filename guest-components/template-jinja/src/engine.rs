//! The Jinja environment, as transformers sets it up.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, Template, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use tenon_sdk::chat::TextMessage;

use crate::Settings;
use crate::content::ContentFormat;
use crate::tojson::tojson;

/// Calls within calls that a template may make; the stack of a component is small.
const MAX_RECURSION: usize = 64;

/// An environment for chat templates.
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .expect("delimiters are the default ones"),
    );
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", tojson);
    environment
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// A compiled chat template and its variables.
pub struct ChatTemplate<'a> {
    template: Template<'a, 'a>,
    settings: &'a Settings,
}

impl<'a> ChatTemplate<'a> {
    /// Compiles the template of the settings.
    pub fn compile(
        environment: &'a Environment<'a>,
        settings: &'a Settings,
    ) -> Result<Self, String> {
        let template = environment
            .template_from_named_str("chat_template", &settings.chat_template)
            .map_err(|error| format!("role settings: {}", explain(&error)))?;
        Ok(Self { template, settings })
    }

    /// The text of a conversation.
    pub fn write(&self, messages: &[TextMessage], format: ContentFormat) -> Result<String, String> {
        let message = |message: &TextMessage| {
            context! { role => &message.role, content => format.value(&message.content) }
        };
        let messages: Vec<_> = messages.iter().map(message).collect();
        let token = |token: &Option<String>| match token {
            Some(token) => Value::from(token.as_str()),
            None => Value::UNDEFINED,
        };
        let context = context! {
            messages,
            tools => (),
            documents => (),
            add_generation_prompt => self.settings.add_generation_prompt,
            bos_token => token(&self.settings.bos_token),
            eos_token => token(&self.settings.eos_token),
        };
        self.template
            .render(context)
            .map_err(|error| explain(&error))
    }
}

/// What is wrong, and in which line of the template.
fn explain(error: &Error) -> String {
    let line = match error.line() {
        Some(line) => format!(" line {line}"),
        None => String::new(),
    };
    match error.detail() {
        Some(detail) => format!("chat_template{line}: {}: {detail}", error.kind()),
        None => format!("chat_template{line}: {}", error.kind()),
    }
}
