//! CLIP: a tower for texts, a tower for images, and a projection of each into one space.

mod text;
mod tower;
mod vision;

use serde::Deserialize;
use tenon_sdk::batches::Batch;
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::preprocessor::Preprocessor;
use tenon_sdk::tensor::{self, Error, Tensor};
use tenon_sdk::{Model, ModelInfo, role_settings};

use text::TextTower;
use vision::VisionTower;

/// The width of the common space where `config.json` does not name it.
const DEFAULT_PROJECTION_DIM: u32 = 512;

/// A loaded CLIP.
pub struct Clip {
    text: TextTower,
    vision: VisionTower,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    preprocessor: Preprocessor,
}

impl Model for Clip {
    fn load() -> Result<(Self, ModelInfo), String> {
        let Settings { preprocessor } = role_settings()?;
        let config = CheckpointConfig::read()?;
        let projection_dim = config.size_or("projection_dim", DEFAULT_PROJECTION_DIM)?;
        let weights = Weights::find(&[""], "text_projection.weight")?;
        let text = TextTower::load(&config.section("text_config")?, &weights, projection_dim)?;
        let vision = VisionTower::load(
            &config.section("vision_config")?,
            &preprocessor,
            &weights,
            projection_dim,
        )?;
        let info = ModelInfo {
            hidden_size: projection_dim,
            max_tokens: Some(text.max_tokens),
            vocab_size: text.vocab_size,
            images: true,
            pooled: true,
        };
        Ok((Self { text, vision }, info))
    }

    /// A sequence that is an image is one placeholder: the text tower's row for it is left.
    fn forward(&self, input: &Batch) -> Result<Tensor, Error> {
        let texts = self.text.forward(input)?;
        match self.vision.forward(input)? {
            None => Ok(texts),
            Some(images) => {
                let rows = tensor::concat(&[&texts, &images], 0)?;
                tensor::embedding(&rows, &input.sequences_with_images(), None)
            }
        }
    }
}

tenon_sdk::export_model!(Clip);
