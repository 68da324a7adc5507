//! Decoders of text: Qwen2, Qwen3, Mistral, Llama and the text model of Gemma 3.

use tenon_sdk::batches::Batch;
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::decoder::Decoder;
use tenon_sdk::tensor::{self, Error, Tensor};
use tenon_sdk::{Model, ModelInfo};

/// A decoder that is given text.
pub struct TextDecoder(Decoder);

impl Model for TextDecoder {
    fn load() -> Result<(Self, ModelInfo), String> {
        let weights = Weights::find(&["", "model."], "embed_tokens.weight")?;
        let decoder = Decoder::load(&CheckpointConfig::read()?, &weights)?;
        if decoder.mrope_section().is_some() {
            return Err("config.json: it is the text model of another architecture".to_owned());
        }
        let info = ModelInfo {
            hidden_size: decoder.hidden_size(),
            max_tokens: Some(decoder.max_tokens()),
            vocab_size: decoder.vocab_size(),
            images: false,
            pooled: false,
        };
        Ok((Self(decoder), info))
    }

    fn forward(&self, input: &Batch) -> Result<Tensor, Error> {
        let positions = input.position_ids(0);
        let table = |frequencies: &[f32]| tensor::rotary_table(&positions, frequencies, 1.0);
        let embedded = self.0.embed(&input.token_ids())?;
        self.0.forward(embedded, table, &input.layout())
    }
}

tenon_sdk::export_model!(TextDecoder);
