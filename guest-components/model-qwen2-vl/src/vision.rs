//! The tower for images: patches, layers over each image, and the merger of four patches
//! into one row of the decoder's.

use tenon_sdk::batches::{Batch, PatchOptions};
use tenon_sdk::checkpoint::{CheckpointConfig, Weights};
use tenon_sdk::layers::{LayerNorm, Linear};
use tenon_sdk::pre_norm_layer::PreNormLayer;
use tenon_sdk::preprocessor::Preprocessor;
use tenon_sdk::rotary::{concat_tables, inverse_frequencies};
use tenon_sdk::tensor::{self, Activation, AttentionOptions, Error, PixelOptions, Tensor};

/// What every checkpoint has, and no file says; or only newer ones.
const EPS: f32 = 1e-6;
const DEFAULT_THETA: f32 = 10_000.0;
/// The most layers; the known towers have 32.
const MAX_LAYERS: u32 = 1024;

/// A loaded tower.
pub struct VisionTower {
    patches: PatchOptions,
    pixels: PixelOptions,
    patch_embedding: Linear,
    /// Those of half a head: rows turn one half of its pairs, columns the other.
    frequencies: Vec<f32>,
    head_dim: u32,
    layers: Vec<PreNormLayer>,
    merger: Merger,
}

/// Joins the patches of a block.
struct Merger {
    norm: LayerNorm,
    up: Linear,
    down: Linear,
    /// Patches of a block, and their widths together.
    block: u32,
    merged: u32,
}

impl VisionTower {
    /// Takes the weights of `visual`, whose rows become `hidden_size` wide.
    pub fn load(
        config: &CheckpointConfig,
        preprocessor: &Preprocessor,
        weights: &Weights,
        hidden_size: u32,
    ) -> Result<Self, String> {
        let width = config.size_or("embed_dim", 1280)?;
        let heads = config.size_or("num_heads", 16)?;
        let head_dim = width / heads;
        if !width.is_multiple_of(heads) || !head_dim.is_multiple_of(4) {
            return Err(format!(
                "config.json: vision_config has {heads} heads for an embed_dim of {width}, whose \
                 width is no multiple of 4"
            ));
        }
        let depth = config.size_or("depth", 32)?;
        let size = config.size_or("patch_size", 14)?;
        let merge = config.size_or("spatial_merge_size", 2)?;
        let frames = config.size_or("temporal_patch_size", 2)?;
        let rope = config.section("rope_parameters")?;
        rope.require("rope_type", "axial")?;
        let theta = rope.positive_or("rope_theta", DEFAULT_THETA)?;
        config.require("in_channels", 3)?;
        config.require("in_chans", 3)?;
        let fits = depth <= MAX_LAYERS && size <= 256 && merge <= 16 && frames <= 16;
        if !fits || width > u32::MAX / 1024 {
            return Err(format!(
                "config.json: vision_config has depth {depth}, embed_dim {width}, patch_size \
                 {size}, spatial_merge_size {merge} and temporal_patch_size {frames}, which are \
                 too large"
            ));
        }
        for (key, told, wanted) in [
            ("patch_size", preprocessor.patch_size, size),
            ("merge_size", preprocessor.merge_size, merge),
            (
                "temporal_patch_size",
                preprocessor.temporal_patch_size,
                frames,
            ),
        ] {
            if told.is_some_and(|told| told != wanted) {
                return Err(format!(
                    "preprocessor_config.json: {key} is {told:?}, but the model has {wanted}"
                ));
            }
        }
        let layers = (0..depth).map(|index| {
            let weights = weights.under(&format!("blocks.{index}."));
            layer(config, &weights, width, heads)
        });
        Ok(Self {
            patches: PatchOptions {
                size,
                merge,
                leading: 0,
            },
            pixels: preprocessor.pixel_options(frames)?,
            patch_embedding: Linear::without_bias(
                weights,
                "patch_embed.proj",
                3 * frames * size * size,
                width,
            )?,
            frequencies: inverse_frequencies(head_dim / 2, theta),
            head_dim,
            layers: layers.collect::<Result<_, _>>()?,
            merger: Merger::load(&weights.under("merger."), width, merge, hidden_size)?,
        })
    }

    /// One row a placeholder; none where the batch has no image.
    pub fn forward(&self, input: &Batch) -> Result<Option<Tensor>, Error> {
        let Some(patches) = input.patches(self.patches)? else {
            return Ok(None);
        };
        let pixels = tensor::pixels(&patches, self.pixels)?;
        let mut hidden = self.patch_embedding.apply(&pixels, Activation::Identity)?;
        let rows = tensor::rotary_table(&patches.row_ids(), &self.frequencies, 1.0)?;
        let columns = tensor::rotary_table(&patches.column_ids(), &self.frequencies, 1.0)?;
        let table = concat_tables(&[rows, columns])?;
        let layout = patches.layout();
        for layer in &self.layers {
            hidden = layer.forward(&hidden, Some((&table, self.head_dim)), &layout)?;
        }
        self.merger.apply(&hidden).map(Some)
    }
}

fn layer(
    config: &CheckpointConfig,
    weights: &Weights,
    width: u32,
    heads: u32,
) -> Result<PreNormLayer, String> {
    let ratio = config.size_or("mlp_ratio", 4)?;
    let Some(inner) = width.checked_mul(ratio) else {
        return Err(format!(
            "config.json: vision_config.mlp_ratio {ratio} is too large"
        ));
    };
    let norm = |name: &str| LayerNorm::take(weights, name, width, EPS);
    let linear = |name: &str, from, to| Linear::with_bias(weights, name, from, to);
    Ok(PreNormLayer {
        attention_norm: norm("norm1")?,
        qkv: linear("attn.qkv", width, 3 * width)?,
        output: linear("attn.proj", width, width)?,
        attention: AttentionOptions {
            heads,
            kv_heads: heads,
            scale: 1.0 / ((width / heads) as f32).sqrt(),
            causal: false,
            window: None,
        },
        mlp_norm: norm("norm2")?,
        up: linear("mlp.fc1", width, inner)?,
        activation: match config.get("hidden_act") {
            Some(_) => config.activation("hidden_act")?,
            None => Activation::GeluQuick,
        },
        down: linear("mlp.fc2", inner, width)?,
    })
}

impl Merger {
    fn load(weights: &Weights, width: u32, merge: u32, hidden_size: u32) -> Result<Self, String> {
        let block = merge * merge;
        let merged = width * block;
        Ok(Self {
            norm: LayerNorm::take(weights, "ln_q", width, EPS)?,
            up: Linear::with_bias(weights, "mlp.0", merged, merged)?,
            down: Linear::with_bias(weights, "mlp.2", merged, hidden_size)?,
            block,
            merged,
        })
    }

    fn apply(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        // The rows of a block follow each other, so that joining them moves nothing.
        let normed = self.norm.apply(hidden, None)?;
        let rows = normed.shape().first().map_or(0, |rows| rows / self.block);
        let joined = tensor::reshape(&normed, &[rows, self.merged])?;
        let inner = self.up.apply(&joined, Activation::GeluErf)?;
        self.down.apply(&inner, Activation::Identity)
    }
}
