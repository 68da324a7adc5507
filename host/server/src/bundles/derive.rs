//! A bundle from a Hugging Face or sentence-transformers folder.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::builtin::{self, ModelDefaults};
use super::matryoshka::Matryoshka;
use super::pooling::Chain;
use super::text::{SentenceSettings, TransformerSettings};
use super::{Bundle, BundleError, ComponentSource, PerRole, ServedDtype, json as files};
use crate::role::Role;

/// The built-in component that renders text as it is.
pub(super) const PLAIN: &str = "plain";

/// Reads what the folder says of itself. `name` is what it is served as; by default the
/// folder's own name.
pub fn from_directory(dir: &Path, name: Option<&str>) -> Result<Bundle, BundleError> {
    derive(dir, name, None)
}

/// The same, computed by a `model` that the operator names: then the checkpoint's architecture
/// need not be known.
pub(super) fn derive(
    dir: &Path,
    name: Option<&str>,
    model: Option<ComponentSource>,
) -> Result<Bundle, BundleError> {
    if !dir.is_dir() {
        return Err(BundleError::new(dir, "there is no such folder"));
    }
    let chain = Chain::read(dir)?;
    // Some keep the transformer in a folder of its own.
    let weights_dir = match &chain {
        Some(chain) => dir.join(&chain.transformer),
        None => dir.to_owned(),
    };
    let config_path = weights_dir.join("config.json");
    let checkpoint_config = files::read_text(&config_path)?;
    let config: Map<String, Value> = serde_json::from_str(&checkpoint_config)
        .map_err(|error| BundleError::new(&config_path, error))?;
    let (model, defaults) =
        computed_by(&config, model).map_err(|what| BundleError::new(&config_path, what))?;
    let chain = chain.unwrap_or_else(|| {
        let mode = defaults.pooling;
        let mode = mode.unwrap_or_else(|| default_pooling(&config));
        Chain::pooled(mode, defaults.normalize)
    });
    let preprocessor = preprocessor(&weights_dir)?;
    let matryoshka =
        Matryoshka::read(&config).map_err(|what| BundleError::new(&config_path, what))?;

    let transformer = TransformerSettings::read(&weights_dir)?;
    let sentences = SentenceSettings::read(dir)?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => own_name(dir)?,
    };
    let builtin = |name: &str| ComponentSource::Builtin(name.into());
    let dtype = config.get("dtype").or_else(|| config.get("torch_dtype"));
    let mut bundle = Bundle {
        name,
        aliases: Vec::new(),
        folder: dir.to_owned(),
        weights_dir,
        dtype: ServedDtype::Auto,
        roles: PerRole {
            request_parser: builtin("openai"),
            template: builtin(PLAIN),
            model,
            pooling: builtin("standard"),
            response_encoder: builtin("openai"),
        },
        role_config: PerRole {
            request_parser: json!({}),
            template: json!({}),
            model: preprocessor,
            pooling: json!({
                "modules": chain.modules,
                "matryoshka_layer_norm": defaults.matryoshka_layer_norm,
                "truncate_dim": sentences.truncate_dim,
            }),
            response_encoder: json!({}),
        },
        checkpoint_is_bf16: dtype.and_then(Value::as_str) == Some("bfloat16"),
        max_tokens: transformer.max_seq_length,
        lowercase: transformer.do_lower_case,
        checkpoint_config,
    };
    if let Some(matryoshka) = &matryoshka {
        bundle.use_matryoshka(matryoshka);
    }
    let template = defaults.template.unwrap_or(PLAIN);
    bundle.replace(Role::Template, builtin(template))?;
    Ok(bundle)
}

/// The model that computes a checkpoint, and how it is served by default.
fn computed_by(
    config: &Map<String, Value>,
    named: Option<ComponentSource>,
) -> Result<(ComponentSource, ModelDefaults), String> {
    let Some(source) = named else {
        let found = builtin::model_of(config)?;
        return Ok((ComponentSource::Builtin(found.name.into()), found.model));
    };
    let known = match &source {
        ComponentSource::Builtin(name) => builtin::component(name),
        ComponentSource::File(_) => builtin::model_of(config).ok(),
    };
    let defaults = known.map(|known| known.model).unwrap_or_default();
    Ok((source, defaults))
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

/// How sentence-transformers pools a model that has no modules.json: a causal language model
/// by its last token, any other by the mean.
fn default_pooling(config: &Map<String, Value>) -> &'static str {
    let name = builtin::architecture(config).and_then(Value::as_str);
    let is_language_model = name.is_some_and(|name| name.ends_with("ForCausalLM"));
    match is_language_model && config.get("is_causal") != Some(&Value::Bool(false)) {
        true => "lasttoken",
        false => "mean",
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
        let found = |text: &str| computed_by(&config(text), None).map(|(source, _)| source);
        let decoder = Ok(ComponentSource::Builtin("decoder".into()));
        assert_eq!(found(r#"{"architectures": ["Qwen3ForCausalLM"]}"#), decoder);
        assert_eq!(found(r#"{"model_type": "gemma3_text"}"#), decoder);
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
