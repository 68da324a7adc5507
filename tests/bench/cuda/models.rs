//! The models that are measured on a GPU, and what a token costs in each.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tenon_tests::tools::root;

use crate::matrices::Matrices;

/// What is measured with one checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// Its name, and that of its folder.
    pub name: &'static str,
    /// Tokens of an input.
    pub lengths: &'static [usize],
    /// Tokens of an input that is alone; none: that is not measured.
    pub alone: &'static [usize],
    /// Tokens of a batch.
    pub batch_tokens: usize,
    /// Tokens of a request; so many clients ask that some batches wait.
    pub request_tokens: usize,
    /// The guest code that computes it.
    pub guest: Guest,
    /// Whether it is a committed checkpoint of some kilobytes, which shows that the benchmark runs.
    pub tiny: bool,
}

/// The guest code of a model, to be run natively.
#[derive(Debug, Clone, Copy)]
pub enum Guest {
    /// `model-bert`.
    Bert,
    /// `model-decoder`.
    Decoder,
}

const WHOLE: Model = Model {
    name: "",
    lengths: &[32, 128, 512, 2048],
    alone: &[],
    batch_tokens: 16_384,
    request_tokens: 4096,
    guest: Guest::Decoder,
    tiny: false,
};

const TINY: Model = Model {
    lengths: &[8, 24],
    alone: &[16],
    batch_tokens: 48,
    request_tokens: 24,
    tiny: true,
    ..WHOLE
};

/// All of them, in the order in which they are measured.
const MODELS: [Model; 6] = [
    Model {
        name: "bge-large",
        lengths: &[32, 128, 512],
        alone: &[16, 128, 512],
        guest: Guest::Bert,
        ..WHOLE
    },
    Model {
        name: "qwen3-0.6b",
        alone: &[16, 128, 512],
        ..WHOLE
    },
    Model {
        name: "gte-qwen2-1.5b",
        ..WHOLE
    },
    Model {
        name: "e5-mistral-7b",
        // A batch takes so long that fewer tokens keep the device busy.
        request_tokens: 2048,
        ..WHOLE
    },
    Model {
        name: "bert",
        guest: Guest::Bert,
        ..TINY
    },
    Model {
        name: "qwen3",
        ..TINY
    },
];

/// What is measured unless the command line says otherwise: 5 GB of weights.
pub const DEFAULT: &str = "bge-large,qwen3-0.6b,gte-qwen2-1.5b";

/// The models of a list with commas between. `all` are those in the sizes that are in use, `tiny`
/// those that are committed.
pub fn named(list: &str) -> Result<Vec<Model>> {
    let mut found = Vec::new();
    for name in list.split(',') {
        let before = found.len();
        let is_meant = |model: &&Model| match name {
            "all" => !model.tiny,
            "tiny" => model.tiny,
            _ => model.name == name && !model.tiny,
        };
        found.extend(MODELS.iter().filter(is_meant));
        if found.len() == before {
            let names = MODELS.iter().filter(|model| !model.tiny);
            let names: Vec<_> = names.map(|model| model.name).collect();
            bail!(
                "--models has no {name:?}: there are {}, all and tiny",
                names.join(", ")
            );
        }
    }
    Ok(found)
}

impl Model {
    /// Its checkpoint.
    pub fn folder(&self, checkpoints: &Path) -> PathBuf {
        match self.tiny {
            true => root().join("tests/families").join(self.name),
            false => checkpoints.join(self.name),
        }
    }
}

/// Floating-point operations that the forward pass of a token takes.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    products: f64,
    attention_per_key: f64,
    causal: bool,
}

impl Cost {
    /// How it is counted.
    pub const DEFINITION: &'static str = "GFLOP a token: 2 for each weight of the matrices of all \
         layers, and of attention 4 * heads * head_dim a layer for each key that the token sees: \
         all of its input, of causal models half";

    /// As a checkpoint's files say.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        let config: Value = serde_json::from_slice(&text)?;
        let number = |key: &str| -> Result<f64> {
            let value = config[key].as_f64();
            value.with_context(|| format!("{}: no {key}", path.display()))
        };
        let heads = number("num_attention_heads")?;
        let head_dim = match config["head_dim"].is_number() {
            true => number("head_dim")?,
            false => number("hidden_size")? / heads,
        };
        let matrices = Matrices::read(&folder.join("model.safetensors"))?;
        Ok(Self {
            products: matrices.flop_per_token,
            attention_per_key: 4.0 * heads * head_dim * number("num_hidden_layers")?,
            causal: config["model_type"] != "bert" && config["is_causal"] != false,
        })
    }

    /// In an input of so many tokens.
    pub fn flop_per_token(&self, tokens: usize) -> f64 {
        let tokens = tokens as f64;
        let keys = match self.causal {
            true => (tokens + 1.0) / 2.0,
            false => tokens,
        };
        self.products + self.attention_per_key * keys
    }
}
