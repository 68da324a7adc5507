//! The tower for images.

use tenon_sdk::batches::{Batch, PatchOptions};
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::layers::{LayerNorm, Linear};
use tenon_sdk::preprocessor::Preprocessor;
use tenon_sdk::tensor::{self, Activation, Error, PixelOptions, PoolMode, Tensor};

use crate::tower::{Defaults, Layers, TowerConfig};

const DEFAULTS: Defaults = Defaults {
    hidden_size: 768,
    intermediate_size: 3072,
    heads: 12,
};
const DEFAULT_IMAGE_SIZE: u32 = 224;
const DEFAULT_PATCH_SIZE: u32 = 32;
/// The largest image side: a grid of it still has a countable number of patches.
const MAX_IMAGE_SIZE: u32 = 4096;

/// A loaded tower.
pub struct VisionTower {
    patch_size: u32,
    pixels: PixelOptions,
    patch_embedding: Linear,
    /// The position embeddings, the class embedding added to the first.
    places: Tensor,
    first_norm: LayerNorm,
    layers: Layers,
    last_norm: LayerNorm,
    projection: Linear,
}

impl VisionTower {
    /// Takes the weights of `vision_model` and `visual_projection`.
    pub fn load(
        config: &CheckpointConfig,
        preprocessor: &Preprocessor,
        weights: &Weights,
        projection_dim: u32,
    ) -> Result<Self, String> {
        let tower = TowerConfig::read(config, &DEFAULTS, false)?;
        let hidden = tower.hidden_size;
        config.require("num_channels", 3)?;
        let image_size = config.size_or("image_size", DEFAULT_IMAGE_SIZE)?;
        let patch_size = config.size_or("patch_size", DEFAULT_PATCH_SIZE)?;
        if !image_size.is_multiple_of(patch_size) || image_size > MAX_IMAGE_SIZE {
            return Err(format!(
                "config.json: vision_config.image_size {image_size} is no multiple of patch_size \
                 {patch_size}, or more than {MAX_IMAGE_SIZE}"
            ));
        }
        let (_, crop) = preprocessor.shortest_edge_and_crop()?;
        if crop != image_size {
            return Err(format!(
                "preprocessor_config.json: crop_size is {crop}, but the model takes images of \
                 {image_size}"
            ));
        }
        let model = weights.under("vision_model.");
        let embeddings = model.under("embeddings.");
        let patches = (image_size / patch_size).pow(2);
        Ok(Self {
            patch_size,
            pixels: preprocessor.pixel_options(1)?,
            patch_embedding: Linear::without_bias(
                &embeddings,
                "patch_embedding",
                3 * patch_size * patch_size,
                hidden,
            )?,
            places: places(&embeddings, patches, hidden)?,
            // The checkpoints spell it so.
            first_norm: tower.norm(&model, "pre_layrnorm")?,
            layers: Layers::load(&model, &tower)?,
            last_norm: tower.norm(&model, "post_layernorm")?,
            projection: Linear::without_bias(weights, "visual_projection", hidden, projection_dim)?,
        })
    }

    /// One row an image; none where the batch has no image.
    pub fn forward(&self, input: &Batch) -> Result<Option<Tensor>, Error> {
        let options = PatchOptions {
            size: self.patch_size,
            merge: 1,
            leading: 1,
        };
        let Some(patches) = input.patches(options)? else {
            return Ok(None);
        };
        let pixels = tensor::pixels(&patches, self.pixels)?;
        // The leading row has no pixels: its embedding is its place's alone.
        let embedded = self.patch_embedding.apply(&pixels, Activation::Identity)?;
        let placed = tensor::embedding(&self.places, &patches.position_ids(), Some(&embedded))?;
        let layout = patches.layout();
        let hidden = self
            .layers
            .forward(self.first_norm.apply(&placed, None)?, &layout)?;
        let pooled = tensor::segment_pool(&hidden, &layout, PoolMode::First)?;
        let normed = self.last_norm.apply(&pooled, None)?;
        self.projection
            .apply(&normed, Activation::Identity)
            .map(Some)
    }
}

fn places(weights: &Weights, patches: u32, hidden: u32) -> Result<Tensor, String> {
    let class = weights.get("class_embedding", &[1, hidden])?;
    let positions = weights.get("position_embedding.weight", &[patches + 1, hidden])?;
    let joined = || {
        let first = tensor::add(&tensor::slice(&positions, 0, 0, 1)?, &class)?;
        let others = tensor::slice(&positions, 0, 1, patches)?;
        tensor::concat(&[&first, &others], 0)
    };
    joined().map_err(|error| format!("the position embedding of images: {error}"))
}
