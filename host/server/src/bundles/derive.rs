//! A bundle from a Hugging Face or sentence-transformers folder.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::pooling::Chain;
use super::text::{Prompts, TransformerSettings};
use crate::role::Role;

use super::{Bundle, BundleError, ComponentSource, PerRole, ServedDtype, json as files};

/// Architectures, and the built-in component that computes each.
const ARCHITECTURES: &[(&str, &str)] = &[
    ("BertModel", "bert"),
    ("BertForMaskedLM", "bert"),
    ("BertForPreTraining", "bert"),
    ("RobertaModel", "bert"),
    ("RobertaForMaskedLM", "bert"),
    ("XLMRobertaModel", "bert"),
    ("XLMRobertaForMaskedLM", "bert"),
    ("CamembertModel", "bert"),
    ("CamembertForMaskedLM", "bert"),
    ("DistilBertModel", "bert"),
    ("DistilBertForMaskedLM", "bert"),
    ("NomicBertModel", "nomic"),
    ("NomicBertForMaskedLM", "nomic"),
    ("ModernBertModel", "modernbert"),
    ("ModernBertForMaskedLM", "modernbert"),
    ("Gemma3TextModel", "decoder"),
    ("Gemma3ForCausalLM", "decoder"),
    ("LlamaModel", "decoder"),
    ("LlamaForCausalLM", "decoder"),
    ("MistralModel", "decoder"),
    ("MistralForCausalLM", "decoder"),
    ("Qwen2Model", "decoder"),
    ("Qwen2ForCausalLM", "decoder"),
    ("Qwen3Model", "decoder"),
    ("Qwen3ForCausalLM", "decoder"),
    ("CLIPModel", "clip"),
    ("Qwen2VLModel", "qwen2-vl"),
    ("Qwen2VLForConditionalGeneration", "qwen2-vl"),
];

/// Model types, for a checkpoint that names no architecture.
const MODEL_TYPES: &[(&str, &str)] = &[
    ("bert", "bert"),
    ("roberta", "bert"),
    ("xlm-roberta", "bert"),
    ("camembert", "bert"),
    ("distilbert", "bert"),
    ("nomic_bert", "nomic"),
    ("modernbert", "modernbert"),
    ("gemma3_text", "decoder"),
    ("llama", "decoder"),
    ("mistral", "decoder"),
    ("qwen2", "decoder"),
    ("qwen3", "decoder"),
    ("clip", "clip"),
    ("qwen2_vl", "qwen2-vl"),
];

/// How a model component is served where the folder does not say it.
struct Defaults {
    template: &'static str,
    /// None: as sentence-transformers does for any other model.
    pooling: Option<&'static str>,
    normalize: bool,
}

impl Defaults {
    fn of(component: &str) -> Self {
        let (template, pooling, normalize) = match component {
            "clip" => ("clip", Some("cls"), true),
            "qwen2-vl" => ("gme-qwen2-vl", Some("lasttoken"), true),
            _ => ("plain", None, false),
        };
        Self {
            template,
            pooling,
            normalize,
        }
    }
}

/// Reads what the folder says of itself. `name` is what it is served as; by default the
/// folder's own name.
pub fn from_directory(dir: &Path, name: Option<&str>) -> Result<Bundle, BundleError> {
    if !dir.is_dir() {
        return Err(BundleError::new(dir, "there is no such folder"));
    }
    let chain = Chain::read(dir)?;
    // Early checkpoints keep the transformer in a folder of its own.
    let top = dir;
    let dir = &match &chain {
        Some(chain) => top.join(&chain.transformer),
        None => top.to_owned(),
    };
    let config_path = dir.join("config.json");
    let checkpoint_config = files::read_text(&config_path)?;
    let config: Map<String, Value> = serde_json::from_str(&checkpoint_config)
        .map_err(|error| BundleError::new(&config_path, error))?;
    let component = component(&config).map_err(|what| BundleError::new(&config_path, what))?;
    let defaults = Defaults::of(component);
    let chain = chain.unwrap_or_else(|| {
        let mode = defaults.pooling.unwrap_or_else(|| default_pooling(&config));
        Chain::pooled(mode, defaults.normalize)
    });
    let preprocessor = preprocessor(dir)?;
    let matryoshka = matryoshka(&config).map_err(|what| BundleError::new(&config_path, what))?;

    let transformer = TransformerSettings::read(dir)?;
    let prompts = Prompts::read(top)?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => own_name(top)?,
    };
    let builtin = |name: &str| ComponentSource::Builtin(name.into());
    let dtype = config.get("dtype").or_else(|| config.get("torch_dtype"));
    let mut bundle = Bundle {
        name,
        aliases: Vec::new(),
        weights_dir: dir.to_owned(),
        dtype: ServedDtype::Auto,
        roles: PerRole {
            request_parser: builtin("openai"),
            template: builtin("plain"),
            model: builtin(component),
            pooling: builtin("standard"),
            response_encoder: builtin("openai"),
        },
        role_config: PerRole {
            request_parser: json!({}),
            template: json!({
                "prompts": prompts.prompts,
                "default_prompt_name": prompts.default_prompt_name,
                "include_prompt": chain.include_prompt,
            }),
            model: preprocessor,
            pooling: json!({
                "modules": chain.modules,
                "matryoshka": matryoshka.is_some(),
                "matryoshka_dimensions": matryoshka.unwrap_or_default(),
            }),
            response_encoder: json!({}),
        },
        checkpoint_is_bf16: dtype.and_then(Value::as_str) == Some("bfloat16"),
        max_tokens: transformer.max_seq_length,
        lowercase: transformer.do_lower_case,
        checkpoint_config,
    };
    if defaults.template != "plain" {
        bundle.replace(Role::Template, builtin(defaults.template))?;
    }
    Ok(bundle)
}

fn component(config: &Map<String, Value>) -> Result<&'static str, String> {
    let find = |table: &[(&str, &'static str)], name: &str| {
        table
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, component)| *component)
    };
    let known = |table: &[(&str, &str)]| -> String {
        table
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    if let Some(architecture) = architecture(config) {
        let name = architecture.as_str().unwrap_or_default();
        return find(ARCHITECTURES, name).ok_or_else(|| {
            format!(
                "architectures is {architecture}; supported are {}",
                known(ARCHITECTURES)
            )
        });
    }
    match config.get("model_type") {
        Some(kind) => find(MODEL_TYPES, kind.as_str().unwrap_or_default())
            .ok_or_else(|| format!("model_type is {kind}; supported are {}", known(MODEL_TYPES))),
        None => Err("it names neither architectures nor model_type".into()),
    }
}

/// What the components of a model with images are told of `preprocessor_config.json`, or of
/// the newer file that holds it.
fn preprocessor(dir: &Path) -> Result<Value, BundleError> {
    for (file, key) in [
        ("preprocessor_config.json", None),
        ("processor_config.json", Some("image_processor")),
    ] {
        let path = dir.join(file);
        if !path.exists() {
            continue;
        }
        let mut settings = Value::Object(files::read_object(&path)?);
        if let Some(key) = key {
            settings = settings[key].take();
        }
        if settings.is_object() {
            return Ok(json!({"preprocessor": settings}));
        }
    }
    Ok(json!({}))
}

/// The first architecture, where the checkpoint names one.
fn architecture(config: &Map<String, Value>) -> Option<&Value> {
    config.get("architectures").and_then(|list| list.get(0))
}

/// How sentence-transformers pools a model that has no modules.json: a causal language model
/// by its last token, any other by the mean.
fn default_pooling(config: &Map<String, Value>) -> &'static str {
    let name = architecture(config).and_then(Value::as_str);
    let is_language_model = name.is_some_and(|name| name.ends_with("ForCausalLM"));
    match is_language_model && config.get("is_causal") != Some(&Value::Bool(false)) {
        true => "lasttoken",
        false => "mean",
    }
}

/// The lengths that callers may ask for; an empty list means any. None: not trained for it.
fn matryoshka(config: &Map<String, Value>) -> Result<Option<Vec<u32>>, String> {
    if let Some(listed) = config
        .get("matryoshka_dimensions")
        .filter(|value| !value.is_null())
    {
        return serde_json::from_value(listed.clone())
            .map(Some)
            .map_err(|error| format!("matryoshka_dimensions: {error}"));
    }
    match config.get("is_matryoshka") {
        Some(Value::Bool(true)) => Ok(Some(Vec::new())),
        None | Some(Value::Bool(false) | Value::Null) => Ok(None),
        Some(other) => Err(format!("is_matryoshka is {other}, not true or false")),
    }
}

fn own_name(dir: &Path) -> Result<String, BundleError> {
    let full = dir
        .canonicalize()
        .map_err(|error| BundleError::new(dir, error))?;
    match full.file_name() {
        Some(name) => Ok(name.to_string_lossy().into_owned()),
        None => Err(BundleError::new(
            dir,
            "the folder has no name; give one to serve it under",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn decoders_are_found_by_architecture_and_by_type() {
        let found = |text: &str| component(&config(text));
        assert_eq!(
            found(r#"{"architectures": ["Qwen3ForCausalLM"]}"#),
            Ok("decoder")
        );
        assert_eq!(found(r#"{"model_type": "gemma3_text"}"#), Ok("decoder"));
        let refused = found(r#"{"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3"}"#);
        let said = refused.expect_err("refused");
        assert!(said.contains("Qwen3MoeForCausalLM"), "{said}");
        assert!(said.contains("supported are"), "{said}");
    }

    #[test]
    fn causal_language_models_pool_the_last_token_by_default() {
        let pooling = |text: &str| default_pooling(&config(text));
        assert_eq!(
            pooling(r#"{"architectures": ["Qwen2ForCausalLM"]}"#),
            "lasttoken"
        );
        assert_eq!(
            pooling(r#"{"architectures": ["Qwen2ForCausalLM"], "is_causal": false}"#),
            "mean"
        );
        assert_eq!(pooling(r#"{"architectures": ["Qwen2Model"]}"#), "mean");
        assert_eq!(pooling(r#"{"model_type": "qwen2"}"#), "mean");
    }
}
