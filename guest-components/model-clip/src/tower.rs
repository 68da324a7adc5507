//! What both towers have in common: their sizes and their layers.

use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::layers::{LayerNorm, Linear};
use tenon_sdk::pre_norm_layer::PreNormLayer;
use tenon_sdk::tensor::{Activation, AttentionOptions, Error, Layout, Tensor};

/// The most layers; the deepest known tower has 48.
const MAX_LAYERS: u32 = 1024;

/// The sizes of a tower.
pub struct TowerConfig {
    /// Width of its hidden states.
    pub hidden_size: u32,
    /// The eps of its norms.
    pub eps: f32,
    intermediate_size: u32,
    heads: u32,
    layers: u32,
    activation: Activation,
    causal: bool,
}

/// What transformers takes where `config.json` is silent.
pub struct Defaults {
    /// Width of the hidden states.
    pub hidden_size: u32,
    /// Width inside of the feed-forward part.
    pub intermediate_size: u32,
    /// Attention heads.
    pub heads: u32,
}

impl TowerConfig {
    /// Reads a tower's section.
    pub fn read(
        config: &CheckpointConfig,
        defaults: &Defaults,
        causal: bool,
    ) -> Result<Self, String> {
        let hidden_size = config.size_or("hidden_size", defaults.hidden_size)?;
        let heads = config.size_or("num_attention_heads", defaults.heads)?;
        if !hidden_size.is_multiple_of(heads) || hidden_size > u32::MAX / 3 {
            return Err(format!(
                "config.json: hidden_size {hidden_size} is not a multiple of num_attention_heads \
                 {heads}, or too large"
            ));
        }
        let layers = config.size_or("num_hidden_layers", 12)?;
        if layers > MAX_LAYERS {
            return Err(format!(
                "config.json: num_hidden_layers is {layers}, at most {MAX_LAYERS} are supported"
            ));
        }
        Ok(Self {
            hidden_size,
            eps: config.positive_or("layer_norm_eps", 1e-5)?,
            intermediate_size: config.size_or("intermediate_size", defaults.intermediate_size)?,
            heads,
            layers,
            activation: match config.get("hidden_act") {
                Some(_) => config.activation("hidden_act")?,
                None => Activation::GeluQuick,
            },
            causal,
        })
    }

    /// Takes a norm over the hidden states.
    pub fn norm(&self, weights: &Weights, name: &str) -> Result<LayerNorm, String> {
        LayerNorm::take(weights, name, self.hidden_size, self.eps)
    }
}

/// The layers of a tower.
pub struct Layers(Vec<PreNormLayer>);

impl Layers {
    /// Takes the weights of `encoder.layers`.
    pub fn load(weights: &Weights, config: &TowerConfig) -> Result<Self, String> {
        let layer = |index| layer(&weights.under(&format!("encoder.layers.{index}.")), config);
        (0..config.layers)
            .map(layer)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The hidden states after all layers, of those before them.
    pub fn forward(&self, hidden: Tensor, layout: &Layout) -> Result<Tensor, Error> {
        let forward = |x: Tensor, layer: &PreNormLayer| layer.forward(&x, None, layout);
        self.0.iter().try_fold(hidden, forward)
    }
}

fn layer(weights: &Weights, config: &TowerConfig) -> Result<PreNormLayer, String> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let attention = weights.under("self_attn.");
    let names = ["q_proj", "k_proj", "v_proj"];
    Ok(PreNormLayer {
        attention_norm: config.norm(weights, "layer_norm1")?,
        qkv: Linear::fused_with_bias(&attention, &names, hidden, 3 * hidden)?,
        output: Linear::with_bias(&attention, "out_proj", hidden, hidden)?,
        attention: AttentionOptions {
            heads: config.heads,
            kv_heads: config.heads,
            scale: 1.0 / ((hidden / config.heads) as f32).sqrt(),
            causal: config.causal,
            window: None,
        },
        mlp_norm: config.norm(weights, "layer_norm2")?,
        up: Linear::with_bias(weights, "mlp.fc1", hidden, inner)?,
        activation: config.activation,
        down: Linear::with_bias(weights, "mlp.fc2", inner, hidden)?,
    })
}
