//! The forward graph of BERT, RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT and MPNet
//! encoders.

mod config;
mod family;
mod relative_bias;

use tenon_sdk::batches::Batch;
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::layers::{LayerNorm, Linear};
use tenon_sdk::tensor::{
    self, Activation, AttentionInput, AttentionOptions, Error, Layout, Tensor,
};
use tenon_sdk::{Model, ModelInfo};

use config::BertConfig;

/// A loaded encoder, without its pooler.
pub struct Bert {
    words: Tensor,
    positions: Tensor,
    /// The padding token, where positions are counted from it.
    padding: Option<u32>,
    token_types: Option<Tensor>,
    embedding_norm: LayerNorm,
    /// What attention adds to scores by distance; all layers share it.
    relative_bias: Option<Tensor>,
    layers: Vec<EncoderLayer>,
}

struct EncoderLayer {
    qkv: Linear,
    attention: AttentionOptions,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    activation: Activation,
    output: Linear,
    output_norm: LayerNorm,
}

impl Model for Bert {
    fn load() -> Result<(Self, ModelInfo), String> {
        let config = BertConfig::read(&CheckpointConfig::read()?)?;
        let family = config.family;
        let weights = Weights::find(family.prefixes, "embeddings.word_embeddings.weight")?;
        let (hidden, max_tokens) = (config.hidden_size, config.max_tokens()?);

        let embeddings = weights.under("embeddings.");
        let table = |name: &str, rows| embeddings.get(&format!("{name}.weight"), &[rows, hidden]);
        let bert = Self {
            words: table("word_embeddings", config.vocab_size)?,
            positions: table("position_embeddings", config.max_position_embeddings)?,
            padding: config.padding,
            token_types: config
                .type_vocab_size
                .map(|rows| table("token_type_embeddings", rows))
                .transpose()?,
            embedding_norm: LayerNorm::take(&embeddings, "LayerNorm", hidden, config.eps)?,
            relative_bias: family
                .relative_bias
                .map(|name| relative_bias::load(&weights, name, config.heads, max_tokens - 1))
                .transpose()?,
            layers: (0..config.layers)
                .map(|index| {
                    let layer = format!("{}.{index}.", family.names.layers);
                    EncoderLayer::load(&weights.under(&layer), &config)
                })
                .collect::<Result<_, _>>()?,
        };
        let info = ModelInfo {
            hidden_size: hidden,
            max_tokens: Some(max_tokens),
            vocab_size: config.vocab_size,
            images: false,
            pooled: false,
        };
        Ok((bert, info))
    }

    fn forward(&self, input: &Batch) -> Result<Tensor, Error> {
        let layout = input.layout();
        let positions = match self.padding {
            Some(padding) => input.position_ids_skipping(padding),
            None => input.position_ids(0),
        };
        let mut sum = tensor::embedding(&self.words, &input.token_ids(), None)?;
        if let Some(token_types) = &self.token_types {
            sum = tensor::embedding(token_types, &input.token_type_ids(), Some(&sum))?;
        }
        sum = tensor::embedding(&self.positions, &positions, Some(&sum))?;
        let mut hidden = self.embedding_norm.apply(&sum, None)?;
        for layer in &self.layers {
            hidden = layer.forward(&hidden, &layout, self.relative_bias.as_ref())?;
        }
        Ok(hidden)
    }
}

impl EncoderLayer {
    fn load(weights: &Weights, config: &BertConfig) -> Result<Self, String> {
        let names = &config.family.names;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |name, inputs, outputs| Linear::with_bias(weights, name, inputs, outputs);
        let norm = |name| LayerNorm::take(weights, name, hidden, config.eps);
        Ok(Self {
            qkv: Linear::fused_with_bias(weights, &names.qkv, hidden, 3 * hidden)?,
            attention: AttentionOptions {
                heads: config.heads,
                kv_heads: config.heads,
                scale: 1.0 / ((hidden / config.heads) as f32).sqrt(),
                causal: false,
                window: None,
            },
            attention_output: linear(names.attention_output, hidden, hidden)?,
            attention_norm: norm(names.attention_norm)?,
            intermediate: linear(names.intermediate, hidden, inner)?,
            activation: config.activation,
            output: linear(names.output, inner, hidden)?,
            output_norm: norm(names.output_norm)?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        layout: &Layout,
        relative_bias: Option<&Tensor>,
    ) -> Result<Tensor, Error> {
        let qkv = self.qkv.apply(x, Activation::Identity)?;
        let qkv = AttentionInput::Fused(&qkv);
        let context = tensor::attention(&qkv, layout, relative_bias, self.attention)?;
        let attended = self
            .attention_output
            .apply(&context, Activation::Identity)?;
        let attended = self.attention_norm.apply(&attended, Some(x))?;

        let inner = self.intermediate.apply(&attended, self.activation)?;
        let outer = self.output.apply(&inner, Activation::Identity)?;
        self.output_norm.apply(&outer, Some(&attended))
    }
}

tenon_sdk::export_model!(Bert);
