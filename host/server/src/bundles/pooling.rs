//! The pooling chain of a sentence-transformers folder: modules.json and the modules in it.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::text::TransformerSettings;
use super::{BundleError, json as files};

/// The old booleans, in the order in which sentence-transformers concatenates them.
const MODES: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];

/// The name of the pooled vector among a chain's values.
const SENTENCE_EMBEDDING: &str = "sentence_embedding";

/// What follows the transformer.
#[derive(Debug)]
pub struct Chain {
    /// The folder of the transformer itself, relative to the checkpoint's.
    pub transformer: String,
    /// The modules, for the pooling component.
    pub modules: Vec<Value>,
    /// Whether pooling sees the tokens of a prompt.
    pub include_prompt: bool,
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Chain {
    /// The chain of a folder without modules.json: pooling in this mode, and division by the
    /// vector's length where the model's vectors are `normalized`.
    pub fn pooled(mode: &str, normalized: bool) -> Self {
        let mut modules = vec![json!({"type": "pooling", "modes": [mode]})];
        modules.extend(normalized.then(|| json!({"type": "normalize"})));
        Self {
            transformer: String::new(),
            modules,
            include_prompt: true,
        }
    }

    /// Reads the chain that modules.json lists, if there is one.
    pub fn read(dir: &Path) -> Result<Option<Self>, BundleError> {
        let path = dir.join("modules.json");
        if !path.exists() {
            return Ok(None);
        }
        let mut chain = Self {
            transformer: String::new(),
            modules: Vec::new(),
            include_prompt: true,
        };
        let modules: Vec<Module> = files::read(&path)?;
        for (index, module) in modules.iter().enumerate() {
            let refuse = |what: String| BundleError::new(&path, what);
            // Three spellings: `sentence_transformers.models.X`, and two with the module
            // path of X in newer versions.
            let name = module
                .kind
                .starts_with("sentence_transformers.")
                .then(|| module.kind.rsplit('.').next())
                .flatten();
            let folder = dir.join(checked(&module.path).map_err(refuse)?);
            match name {
                Some("Transformer") if index == 0 => chain.transformer = module.path.clone(),
                Some("CLIPModel") if index == 0 => {
                    chain.transformer = module.path.clone();
                    chain.pool_single_rows();
                }
                Some("Pooling") => {
                    let (pooling, include_prompt) = pooling(&folder.join("config.json"))?;
                    chain.modules.push(pooling);
                    chain.include_prompt = include_prompt;
                }
                Some("Dense") if !chain.transformer.is_empty() => {
                    let what = "a Dense module beside a transformer in a folder of its own is \
                        not supported";
                    return Err(refuse(what.to_owned()));
                }
                Some("Dense") => {
                    chain
                        .modules
                        .push(dense(&folder.join("config.json"), &module.path)?);
                }
                Some("Normalize") => chain.modules.push(json!({"type": "normalize"})),
                _ => {
                    return Err(refuse(format!(
                        "module {index} is of type {:?}; supported are Transformer or \
                         CLIPModel (first), Pooling, Dense and Normalize of sentence_transformers",
                        module.kind
                    )));
                }
            }
        }
        let pools = |module: &Value| module["type"] == "pooling";
        if !chain.modules.iter().any(pools) {
            let transformer = TransformerSettings::read(&dir.join(&chain.transformer))?;
            if transformer.module_output_name.as_deref() != Some(SENTENCE_EMBEDDING) {
                return Err(BundleError::new(&path, "there is no Pooling module"));
            }
            chain.pool_single_rows();
        }
        Ok(Some(chain))
    }

    /// Pools what is pooled already: a model that gives one row a text or image.
    fn pool_single_rows(&mut self) {
        let module = json!({"type": "pooling", "modes": ["cls"]});
        self.modules.insert(0, module);
    }
}

/// A module's folder: relative, and inside the checkpoint's.
fn checked(path: &str) -> Result<&str, String> {
    let inside = Path::new(path)
        .components()
        .all(|component| matches!(component, std::path::Component::Normal(_)));
    match inside {
        true => Ok(path),
        false => Err(format!("the module path {path:?} leaves the folder")),
    }
}

fn pooling(path: &Path) -> Result<(Value, bool), BundleError> {
    let refuse = |what: String| BundleError::new(path, what);
    let settings: Map<String, Value> = files::read_object(path)?;
    let mut flags = [false; MODES.len()];
    let mut listed: Option<Vec<String>> = None;
    let mut include_prompt = true;
    for (key, value) in &settings {
        let flag = MODES.iter().position(|(name, _)| name == key);
        match (key.as_str(), value) {
            (_, Value::Bool(set)) if flag.is_some() => {
                if let Some(flag) = flag {
                    flags[flag] = *set;
                }
            }
            ("pooling_mode", Value::String(mode)) => listed = Some(vec![known(mode, path)?]),
            ("pooling_mode", Value::Array(modes)) => {
                let modes = modes.iter().map(|mode| match mode {
                    Value::String(mode) => known(mode, path),
                    other => Err(refuse(format!(
                        "pooling_mode has {other}, not a mode's name"
                    ))),
                });
                listed = Some(modes.collect::<Result<_, _>>()?);
            }
            ("include_prompt", Value::Bool(set)) => include_prompt = *set,
            ("word_embedding_dimension" | "embedding_dimension", Value::Number(_)) => {}
            _ => return Err(refuse(format!("{key} is {value}, which is not understood"))),
        }
    }
    let from_flags = MODES
        .iter()
        .zip(flags)
        .filter(|(_, set)| *set)
        .map(|((_, mode), _)| *mode);
    let mut modes = listed.unwrap_or_else(|| from_flags.map(String::from).collect());
    if modes.is_empty() {
        modes.push("mean".into());
    }
    let width = settings
        .get("word_embedding_dimension")
        .or_else(|| settings.get("embedding_dimension"));
    let module = json!({"type": "pooling", "modes": modes, "in_features": width});
    Ok((module, include_prompt))
}

fn known(mode: &str, path: &Path) -> Result<String, BundleError> {
    if MODES.iter().any(|(_, name)| *name == mode) {
        return Ok(mode.into());
    }
    let names: Vec<&str> = MODES.iter().map(|(_, name)| *name).collect();
    let what = format!(
        "pooling_mode is {mode:?}; supported are {}",
        names.join(", ")
    );
    Err(BundleError::new(path, what))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dense {
    in_features: u32,
    out_features: u32,
    #[serde(default = "yes")]
    bias: bool,
    activation_function: Option<String>,
    /// What the module reads and writes: its pooled vector, under this name.
    #[serde(default = "sentence_embedding")]
    module_input_name: String,
    #[serde(default = "sentence_embedding")]
    module_output_name: String,
}

fn sentence_embedding() -> String {
    SENTENCE_EMBEDDING.into()
}

fn yes() -> bool {
    true
}

fn dense(path: &Path, folder: &str) -> Result<Value, BundleError> {
    let dense: Dense = files::read(path)?;
    for (key, name) in [
        ("module_input_name", &dense.module_input_name),
        ("module_output_name", &dense.module_output_name),
    ] {
        if name != SENTENCE_EMBEDDING {
            let what = format!("{key} is {name:?}; only {SENTENCE_EMBEDDING:?} is supported");
            return Err(BundleError::new(path, what));
        }
    }
    // An absent activation means Tanh, the default of the module.
    let activation = match dense.activation_function.as_deref() {
        None | Some("torch.nn.modules.activation.Tanh") => "tanh",
        Some("torch.nn.modules.linear.Identity") => "identity",
        Some("torch.nn.modules.activation.ReLU") => "relu",
        Some("torch.nn.modules.activation.GELU") => "gelu",
        Some("torch.nn.modules.activation.SiLU") => "silu",
        Some(other) => {
            let what = format!("activation_function is {other:?}, which is not supported");
            return Err(BundleError::new(path, what));
        }
    };
    Ok(json!({
        "type": "dense", "path": folder, "in_features": dense.in_features,
        "out_features": dense.out_features, "bias": dense.bias, "activation": activation,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::builtin::COMPONENTS;
    use super::*;

    #[test]
    fn a_folder_without_modules_is_pooled_as_its_model_says() {
        let pooling = json!({"type": "pooling", "modes": ["lasttoken"]});
        let chain = Chain::pooled("lasttoken", true);
        assert_eq!(
            chain.modules,
            [pooling.clone(), json!({"type": "normalize"})]
        );
        assert!(chain.include_prompt);
        assert_eq!(Chain::pooled("lasttoken", false).modules, [pooling]);
    }

    #[test]
    fn the_modes_that_models_are_pooled_with_by_default_are_known() {
        for component in COMPONENTS {
            if let Some(mode) = component.model.pooling {
                let known = MODES.iter().any(|(_, name)| *name == mode);
                assert!(known, "{}: {mode}", component.name);
            }
        }
    }
}
