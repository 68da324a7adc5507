//! The chat template: what the operator names, and what a checkpoint says of its own.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::derive::PLAIN;
use super::{Bundle, BundleError, ComponentSource, builtin, json as files, text};
use crate::role::Role;

/// The built-in component that runs templates written in Jinja.
const JINJA: &str = "jinja";

/// The file that newer checkpoints keep their template in.
const TEMPLATE_FILE: &str = "chat_template.jinja";
/// The template that is taken where a checkpoint has several.
const DEFAULT_TEMPLATE: &str = "default";

/// What an operator can name as the chat template of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChatTemplate {
    /// A component of the role template.
    Component(ComponentSource),
    /// A file in Jinja.
    Jinja(PathBuf),
}

impl ChatTemplate {
    /// Reads the name of a built-in template, the path of a component (`.wasm`), or the
    /// path of a template in Jinja.
    ///
    /// # Errors
    /// There is neither such a name nor such a file.
    pub fn named(name: &str) -> Result<Self, BundleError> {
        let missing = match builtin::for_role(Role::Template, name) {
            Ok(found) => {
                let source = ComponentSource::Builtin(found.name.to_owned());
                return Ok(Self::Component(source));
            }
            Err(what) => what,
        };
        let path = Path::new(name);
        if !path.is_file() {
            return Err(BundleError::new(
                path,
                format!("no such file, and {missing}"),
            ));
        }
        Ok(match path.extension() {
            Some(extension) if extension == "wasm" => {
                Self::Component(ComponentSource::File(path.to_owned()))
            }
            _ => Self::Jinja(path.to_owned()),
        })
    }
}

impl Bundle {
    /// Renders inputs with another chat template.
    ///
    /// # Errors
    /// The file of the template, or what the checkpoint says of its own, cannot be read.
    pub fn use_chat_template(&mut self, template: &ChatTemplate) -> Result<(), BundleError> {
        match template {
            ChatTemplate::Component(source) => self.replace(Role::Template, source.clone())?,
            ChatTemplate::Jinja(path) => {
                self.replace(Role::Template, ComponentSource::Builtin(JINJA.to_owned()))?;
                self.role_config.template["chat_template"] = json!(files::read_text(path)?);
            }
        }
        self.check_chat_template()
    }

    /// Puts another component into a role, with the settings that it derives from the
    /// checkpoint.
    pub(super) fn replace(
        &mut self,
        role: Role,
        source: ComponentSource,
    ) -> Result<(), BundleError> {
        if role == Role::Template {
            self.role_config.template = match &source {
                ComponentSource::Builtin(name) if name == JINJA => settings(&self.weights_dir)?,
                // Templates with images are told what the model is told of them.
                ComponentSource::Builtin(name) if name != PLAIN => self.role_config.model.clone(),
                _ => text::plain_settings(&self.folder)?,
            };
        }
        *self.roles.get_mut(role) = source;
        Ok(())
    }

    /// Refuses to run a template in Jinja that is nowhere to be found.
    pub(super) fn check_chat_template(&self) -> Result<(), BundleError> {
        let is_jinja = self.roles.template == ComponentSource::Builtin(JINJA.to_owned());
        if !is_jinja || self.role_config.template.get("chat_template").is_some() {
            return Ok(());
        }
        let what = format!(
            "the checkpoint has no chat template: there is no file {TEMPLATE_FILE}, and no key \
             chat_template in tokenizer_config.json; name a file in Jinja with --chat-template, \
             or set config.template.chat_template in the manifest"
        );
        Err(BundleError::new(&self.weights_dir, what))
    }
}

/// `tokenizer_config.json`, as far as chat templates see it.
#[derive(Debug, Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Templates>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
}

/// The value of `chat_template`.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "neither a string nor a list of objects with name and template"
)]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Debug, Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// A special token: its text, alone or among its properties.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "neither a string nor an object with content")]
enum Token {
    Text(String),
    Added { content: String },
}

impl Token {
    fn text(self) -> String {
        match self {
            Self::Text(text) | Self::Added { content: text } => text,
        }
    }
}

/// What the component for Jinja is told of a checkpoint. A file of its own wins over the
/// template in `tokenizer_config.json`, as in transformers.
fn settings(dir: &Path) -> Result<Value, BundleError> {
    let path = dir.join("tokenizer_config.json");
    let config: TokenizerConfig = files::read_optional(&path)?;
    let file = dir.join(TEMPLATE_FILE);
    let template = match config.chat_template {
        _ if file.exists() => Some(files::read_text(&file)?),
        None => None,
        Some(Templates::One(template)) => Some(template),
        Some(Templates::Named(list)) => {
            let names: Vec<_> = list.iter().map(|one| one.name.clone()).collect();
            let default = list.into_iter().find(|one| one.name == DEFAULT_TEMPLATE);
            let Some(default) = default else {
                let what = format!(
                    "chat_template has no template of the name {DEFAULT_TEMPLATE:?}; it has \
                     {names:?}"
                );
                return Err(BundleError::new(&path, what));
            };
            Some(default.template)
        }
    };
    let mut settings = json!({
        "bos_token": config.bos_token.map(Token::text),
        "eos_token": config.eos_token.map(Token::text),
    });
    if let Some(template) = template {
        settings["chat_template"] = json!(template);
    }
    Ok(settings)
}
