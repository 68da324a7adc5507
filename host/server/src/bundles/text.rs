//! What the files say of texts: prompts, lower case, and the longest input.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::pooling::Chain;
use super::{BundleError, json as files};

/// `sentence_bert_config.json`. The keys that follow the second are known and say nothing
/// that matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerSettings {
    /// The longest input, special tokens counted.
    pub max_seq_length: Option<usize>,
    /// Whether texts are lowercased before they are tokenised.
    #[serde(default)]
    pub do_lower_case: bool,
    /// What the transformer gives: `sentence_embedding` where it pools by itself.
    pub module_output_name: Option<String>,
    #[serde(default, rename = "model_args")]
    _model_args: Option<Value>,
    #[serde(default, rename = "tokenizer_args")]
    _tokenizer_args: Option<Value>,
    #[serde(default, rename = "config_args")]
    _config_args: Option<Value>,
    #[serde(default, rename = "processor_kwargs")]
    _processor_kwargs: Option<Value>,
    #[serde(default, rename = "model_kwargs")]
    _model_kwargs: Option<Value>,
    #[serde(default, rename = "config_kwargs")]
    _config_kwargs: Option<Value>,
    #[serde(default, rename = "transformer_task")]
    _transformer_task: Option<Value>,
    #[serde(default, rename = "modality_config")]
    _modality_config: Option<Value>,
}

impl TransformerSettings {
    /// Reads the settings of the Transformer module that lies in `dir`.
    pub fn read(dir: &Path) -> Result<Self, BundleError> {
        files::read_optional(&dir.join("sentence_bert_config.json"))
    }
}

/// What the component that renders text as it is is told of a checkpoint.
pub fn plain_settings(dir: &Path) -> Result<Value, BundleError> {
    let settings = SentenceSettings::read(dir)?;
    let include_prompt = Chain::read(dir)?.is_none_or(|chain| chain.include_prompt);
    Ok(json!({
        "prompts": settings.prompts,
        "default_prompt_name": settings.default_prompt_name,
        "include_prompt": include_prompt,
    }))
}

/// `config_sentence_transformers.json`, as far as it changes vectors. Its other keys are
/// notes of versions.
#[derive(Debug, Default, Deserialize)]
pub struct SentenceSettings {
    /// Prompts by name; an empty one is as good as none, but may be asked for.
    #[serde(default)]
    prompts: BTreeMap<String, String>,
    /// The prompt of a request that names none.
    default_prompt_name: Option<String>,
    /// The length of vectors, where it is less than the model's own.
    pub truncate_dim: Option<u32>,
}

impl SentenceSettings {
    /// Reads the file of a checkpoint's folder, if there is one.
    pub fn read(dir: &Path) -> Result<Self, BundleError> {
        let path = dir.join("config_sentence_transformers.json");
        let settings: Self = files::read_optional(&path)?;
        if let Some(name) = &settings.default_prompt_name
            && !settings.prompts.contains_key(name)
        {
            let what = format!("default_prompt_name is {name:?}, which is not among the prompts");
            return Err(BundleError::new(&path, what));
        }
        Ok(settings)
    }
}
