//! A bundle: a model's weights and the component for each role.

pub mod builtin;
mod chat;
mod derive;
mod json;
mod manifest;
mod matryoshka;
mod pooling;
pub mod pull;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

pub use chat::ChatTemplate;
pub use derive::from_directory;
pub use manifest::from_manifest;
pub use matryoshka::Matryoshka;

use crate::role::Role;

/// Why a bundle cannot be used: it names the file, and the key where there is one.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {what}")]
pub struct BundleError {
    /// The file or folder.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

impl BundleError {
    pub(crate) fn new(file: &Path, what: impl fmt::Display) -> Self {
        Self {
            file: file.display().to_string(),
            what: what.to_string(),
        }
    }
}

/// The dtype that weights are served in, as the operator asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ServedDtype {
    /// The checkpoint's precision: bf16 for a bf16 checkpoint where the device multiplies
    /// it natively, else f32.
    #[default]
    Auto,
    /// 32-bit floating point.
    F32,
    /// bfloat16.
    Bf16,
    /// 16-bit floating point, on a CUDA device only.
    F16,
    /// Linear layers in e4m3 with a scale for each row, all else in bf16; on a CUDA device of
    /// compute capability 8.9 or later only.
    Fp8,
}

/// Where a component comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ComponentSource {
    /// One that the binary holds, e.g. `bert`.
    Builtin(String),
    /// A file.
    File(PathBuf),
}

impl fmt::Display for ComponentSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin(name) => write!(f, "builtin:{name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Something for each role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerRole<T> {
    /// Reads requests.
    pub request_parser: T,
    /// Renders inputs.
    pub template: T,
    /// Computes hidden states.
    pub model: T,
    /// Makes vectors.
    pub pooling: T,
    /// Writes answers.
    pub response_encoder: T,
}

impl<T> PerRole<T> {
    /// What there is for one role.
    pub fn get(&self, role: Role) -> &T {
        match role {
            Role::RequestParser => &self.request_parser,
            Role::Template => &self.template,
            Role::Model => &self.model,
            Role::Pooling => &self.pooling,
            Role::ResponseEncoder => &self.response_encoder,
        }
    }

    /// What there is for one role, to be replaced.
    pub fn get_mut(&mut self, role: Role) -> &mut T {
        match role {
            Role::RequestParser => &mut self.request_parser,
            Role::Template => &mut self.template,
            Role::Model => &mut self.model,
            Role::Pooling => &mut self.pooling,
            Role::ResponseEncoder => &mut self.response_encoder,
        }
    }

    /// Every role with what there is for it, in the order of a request's life.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &T)> {
        Role::ALL.into_iter().map(|role| (role, self.get(role)))
    }
}

/// All that it takes to serve a model.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The name under which it is served.
    pub name: String,
    /// Further names that reach it.
    pub aliases: Vec<String>,
    /// The folder that it was derived from.
    pub folder: PathBuf,
    /// The folder of the transformer: of weights, `config.json` and tokenizer.
    pub weights_dir: PathBuf,
    /// The dtype to serve in.
    pub dtype: ServedDtype,
    /// The component of each role.
    pub roles: PerRole<ComponentSource>,
    /// The settings of each role: a JSON object.
    pub role_config: PerRole<Value>,
    /// The checkpoint's `config.json`.
    pub checkpoint_config: String,
    /// Whether the checkpoint says that it is stored in bf16.
    pub checkpoint_is_bf16: bool,
    /// The longest input in tokens, as the checkpoint's files say.
    pub max_tokens: Option<usize>,
    /// Whether texts are put in lower case before they are tokenised.
    pub lowercase: bool,
}

/// Opens a manifest, or derives a bundle from a model's folder.
pub fn open(target: &Path) -> Result<Bundle, BundleError> {
    match target.is_dir() {
        true => from_directory(target, None),
        false => from_manifest(target),
    }
}

#[cfg(test)]
mod tests;
