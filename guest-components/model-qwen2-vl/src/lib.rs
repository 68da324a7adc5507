//! Qwen2-VL: a decoder of text, among whose tokens images stand.

mod vision;

use serde::Deserialize;
use tenon_sdk::batches::{Axis, Batch};
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::decoder::Decoder;
use tenon_sdk::preprocessor::Preprocessor;
use tenon_sdk::rotary::concat_tables;
use tenon_sdk::tensor::{self, Error, Tensor};
use tenon_sdk::{Model, ModelInfo, role_settings};

use vision::VisionTower;

/// A loaded Qwen2-VL, without its language modelling head.
pub struct Qwen2Vl {
    decoder: Decoder,
    vision: VisionTower,
    /// How many of a head's frequencies turn with frames, rows and columns.
    mrope_section: [u32; 3],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    preprocessor: Preprocessor,
}

impl Model for Qwen2Vl {
    fn load() -> Result<(Self, ModelInfo), String> {
        let Settings { preprocessor } = role_settings()?;
        let config = CheckpointConfig::read()?;
        let weights = Weights::find(
            &["model.language_model.", "language_model.", "model."],
            "embed_tokens.weight",
        )?;
        // Newer files have a section for the text model.
        let decoder = match config.get("text_config") {
            Some(_) => Decoder::load(&config.section("text_config")?, &weights)?,
            None => Decoder::load(&config, &weights)?,
        };
        let Some(mrope_section) = decoder.mrope_section() else {
            return Err("config.json: model_type is not that of Qwen2-VL".to_owned());
        };
        let weights = Weights::find(&["model.visual.", "visual."], "patch_embed.proj.weight")?;
        let vision = VisionTower::load(
            &config.section("vision_config")?,
            &preprocessor,
            &weights,
            decoder.hidden_size(),
        )?;
        let info = ModelInfo {
            hidden_size: decoder.hidden_size(),
            max_tokens: Some(decoder.max_tokens()),
            vocab_size: decoder.vocab_size(),
            images: true,
            pooled: false,
        };
        let model = Self {
            decoder,
            vision,
            mrope_section,
        };
        Ok((model, info))
    }

    fn forward(&self, input: &Batch) -> Result<Tensor, Error> {
        let mut embedded = self.decoder.embed(&input.token_ids())?;
        if let Some(images) = self.vision.forward(input)? {
            let rows = tensor::concat(&[&embedded, &images], 0)?;
            embedded = tensor::embedding(&rows, &input.rows_with_images(), None)?;
        }
        let axes = [Axis::Frame, Axis::Row, Axis::Column];
        let positions = axes.map(|axis| input.position_ids_along(axis));
        let table = |frequencies: &[f32]| {
            let mut rest = frequencies;
            let mut tables = Vec::new();
            for (positions, &count) in positions.iter().zip(&self.mrope_section) {
                let (section, after) = rest.split_at(count as usize);
                tables.push(tensor::rotary_table(positions, section, 1.0)?);
                rest = after;
            }
            concat_tables(&tables)
        };
        self.decoder.forward(embedded, table, &input.layout())
    }
}

tenon_sdk::export_model!(Qwen2Vl);
