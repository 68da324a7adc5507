//! The forward graph of GPT-NeoX, written with the SDK alone: attention and the feed-forward
//! part side by side, rotary positions in a part of each head, and a projection in which each
//! head's query, key and value stand together.

mod config;

use tenon_sdk::batches::Batch;
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::layers::{LayerNorm, Linear};
use tenon_sdk::tensor::{
    self, Activation, AttentionInput, AttentionOptions, Error, Layout, Tensor,
};
use tenon_sdk::{Model, ModelInfo};

use config::GptNeoXConfig;

/// A loaded decoder, without its language modelling head.
pub struct GptNeoX {
    tokens: Tensor,
    frequencies: Vec<f32>,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
}

struct Layer {
    attention_norm: LayerNorm,
    attention: Attention,
    mlp_norm: LayerNorm,
    up: Linear,
    activation: Activation,
    down: Linear,
    parallel: bool,
}

struct Attention {
    qkv: Linear,
    output: Linear,
    head_dim: u32,
    options: AttentionOptions,
}

impl Model for GptNeoX {
    fn load() -> Result<(Self, ModelInfo), String> {
        let config = GptNeoXConfig::read(&CheckpointConfig::read()?)?;
        let weights = Weights::find(&["", "gpt_neox."], "embed_in.weight")?;
        let hidden = config.hidden_size;
        let layer = |index| Layer::load(&weights.under(&format!("layers.{index}.")), &config);
        let model = Self {
            tokens: weights.get("embed_in.weight", &[config.vocab_size, hidden])?,
            layers: (0..config.layers).map(layer).collect::<Result<_, _>>()?,
            final_norm: LayerNorm::take(&weights, "final_layer_norm", hidden, config.eps)?,
            frequencies: config.frequencies,
        };
        let info = ModelInfo {
            hidden_size: hidden,
            max_tokens: Some(config.max_tokens),
            vocab_size: config.vocab_size,
            images: false,
            pooled: false,
        };
        Ok((model, info))
    }

    fn forward(&self, input: &Batch) -> Result<Tensor, Error> {
        let layout = input.layout();
        let angles = tensor::rotary_table(&input.position_ids(0), &self.frequencies, 1.0)?;
        let mut hidden = tensor::embedding(&self.tokens, &input.token_ids(), None)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &angles, &layout)?;
        }
        self.final_norm.apply(&hidden, None)
    }
}

impl Layer {
    fn load(weights: &Weights, config: &GptNeoXConfig) -> Result<Self, String> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |name| LayerNorm::take(weights, name, hidden, config.eps);
        Ok(Self {
            attention_norm: norm("input_layernorm")?,
            attention: Attention::load(&weights.under("attention."), config)?,
            mlp_norm: norm("post_attention_layernorm")?,
            up: Linear::with_bias(weights, "mlp.dense_h_to_4h", hidden, inner)?,
            activation: config.activation,
            down: Linear::with_bias(weights, "mlp.dense_4h_to_h", inner, hidden)?,
            parallel: config.parallel,
        })
    }

    fn forward(&self, x: &Tensor, angles: &Tensor, layout: &Layout) -> Result<Tensor, Error> {
        let normed = self.attention_norm.apply(x, None)?;
        let attended = self.attention.apply_onto(x, &normed, angles, layout)?;
        let read = if self.parallel { x } else { &attended };
        let inner = self.mlp_norm.apply(read, None)?;
        let inner = self.up.apply(&inner, self.activation)?;
        self.down.apply_onto(&attended, &inner)
    }
}

impl Attention {
    fn load(weights: &Weights, config: &GptNeoXConfig) -> Result<Self, String> {
        let hidden = config.hidden_size;
        let head_dim = hidden / config.heads;
        let linear = match config.attention_bias {
            true => Linear::with_bias,
            false => Linear::without_bias,
        };
        Ok(Self {
            qkv: linear(weights, "query_key_value", hidden, 3 * hidden)?,
            output: linear(weights, "dense", hidden, hidden)?,
            head_dim,
            options: AttentionOptions {
                heads: config.heads,
                kv_heads: config.heads,
                scale: 1.0 / (head_dim as f32).sqrt(),
                causal: true,
                window: None,
            },
        })
    }

    /// residual + attention(x)
    fn apply_onto(
        &self,
        residual: &Tensor,
        x: &Tensor,
        angles: &Tensor,
        layout: &Layout,
    ) -> Result<Tensor, Error> {
        let qkv = self.qkv.apply(x, Activation::Identity)?;
        let rotate =
            |x: &Tensor| tensor::rotary(x, angles, self.options.heads, self.head_dim, None);
        let query = rotate(&self.third(&qkv, 0)?)?;
        let key = rotate(&self.third(&qkv, 1)?)?;
        let value = self.third(&qkv, 2)?;
        let input = AttentionInput::Separate((&query, &key, &value));
        let context = tensor::attention(&input, layout, None, self.options)?;
        self.output.apply_onto(residual, &context)
    }

    /// One third of every head in `qkv`, side by side: the queries, the keys or the values.
    fn third(&self, qkv: &Tensor, which: u32) -> Result<Tensor, Error> {
        let heads = (0..self.options.heads)
            .map(|head| tensor::slice(qkv, 1, (3 * head + which) * self.head_dim, self.head_dim))
            .collect::<Result<Vec<_>, _>>()?;
        tensor::concat(&heads.iter().collect::<Vec<_>>(), 1)
    }
}

tenon_sdk::export_model!(GptNeoX);
