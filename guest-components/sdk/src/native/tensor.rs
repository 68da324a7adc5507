//! The interface `tensor`, natively.

pub use tenon_tensor::{Activation, Error, PoolMode};
use tenon_tensor::{SequenceLayout, ops};

use super::environment;

/// Element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// bfloat16: the upper half of an f32.
    Bf16,
    /// Unsigned bytes: pixels.
    U8,
}

/// A tensor on the device.
#[derive(Debug)]
pub struct Tensor(pub(super) tenon_tensor::Tensor);

impl Tensor {
    /// The dimensions, outermost first.
    pub fn shape(&self) -> Vec<u32> {
        self.0.shape().iter().map(|&dim| dim as u32).collect()
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match self.0.dtype() {
            tenon_tensor::DType::F32 => Dtype::F32,
            tenon_tensor::DType::F16 => Dtype::F16,
            // Tensors are never of fp8.
            tenon_tensor::DType::BF16 | tenon_tensor::DType::FP8 => Dtype::Bf16,
            tenon_tensor::DType::U8 => Dtype::U8,
        }
    }

    /// The tensor behind it, for whoever runs a guest natively.
    pub fn native(&self) -> &tenon_tensor::Tensor {
        &self.0
    }
}

/// One integer a token.
pub struct Indices(pub(super) tenon_tensor::Indices);

impl Indices {
    /// How many there are.
    #[allow(
        clippy::len_without_is_empty,
        reason = "the signature of the generated binding"
    )]
    pub fn len(&self) -> u32 {
        self.0.len() as u32
    }
}

/// Where each sequence of a packed batch begins and ends.
pub struct Layout(pub(super) SequenceLayout);

impl Layout {
    /// How many sequences there are.
    pub fn sequences(&self) -> u32 {
        self.0.sequences() as u32
    }

    /// How many rows they have together.
    pub fn rows(&self) -> u32 {
        self.0.rows() as u32
    }

    /// The longest sequence's rows.
    pub fn max_rows(&self) -> u32 {
        self.0.max_rows() as u32
    }
}

/// Images cut into patches.
pub struct Patches(pub(super) tenon_tensor::Patches);

impl Patches {
    /// Each image as a sequence of rows.
    pub fn layout(&self) -> Layout {
        Layout(self.0.layout().clone())
    }

    /// 0, 1, 2, ... in each image.
    pub fn position_ids(&self) -> Indices {
        Indices(self.0.position_ids())
    }

    /// The row of each patch in its image's grid.
    pub fn row_ids(&self) -> Indices {
        Indices(self.0.row_ids())
    }

    /// The column of each patch in its image's grid.
    pub fn column_ids(&self) -> Indices {
        Indices(self.0.column_ids())
    }
}

/// How pixels become numbers.
#[derive(Debug, Clone, Copy)]
pub struct PixelOptions {
    /// How often a patch's pixels are repeated as frames of a video.
    pub frames: u32,
    /// Taken from red, green and blue, which are 0 to 1.
    pub mean: (f32, f32, f32),
    /// What they are divided by after that.
    pub deviation: (f32, f32, f32),
}

/// The pixels of patches, normalised.
///
/// # Errors
/// That of [`ops::pixels`].
pub fn pixels(patches: &Patches, options: PixelOptions) -> Result<Tensor, Error> {
    let options = tenon_tensor::PixelOptions {
        frames: options.frames as usize,
        mean: options.mean.into(),
        deviation: options.deviation.into(),
    };
    ops::pixels(&environment()?.context, &patches.0, &options).map(Tensor)
}

/// How attention is computed.
#[derive(Debug, Clone, Copy)]
pub struct AttentionOptions {
    /// Query heads.
    pub heads: u32,
    /// Key and value heads; divides `heads`.
    pub kv_heads: u32,
    /// What scores are multiplied with.
    pub scale: f32,
    /// A token sees only itself and those before it.
    pub causal: bool,
    /// The token at i sees the one at j only if |i - j| <= window.
    pub window: Option<u32>,
}

/// Queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub enum AttentionInput<'a> {
    /// All three side by side.
    Fused(&'a Tensor),
    /// By themselves.
    Separate((&'a Tensor, &'a Tensor, &'a Tensor)),
}

/// A shape as the tensor crate has it.
pub(super) fn dims(shape: &[u32]) -> Vec<usize> {
    shape.iter().map(|&dim| dim as usize).collect()
}

fn inner(tensor: Option<&Tensor>) -> Option<&tenon_tensor::Tensor> {
    tensor.map(|tensor| &tensor.0)
}

/// Rows of `table` picked by `ids`, plus `residual`.
///
/// # Errors
/// That of [`ops::embedding`].
pub fn embedding(
    table: &Tensor,
    ids: &Indices,
    residual: Option<&Tensor>,
) -> Result<Tensor, Error> {
    ops::embedding(&environment()?.context, &table.0, &ids.0, inner(residual)).map(Tensor)
}

/// activation(x weight^T + bias) + residual.
///
/// # Errors
/// That of [`ops::linear`].
pub fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Result<Tensor, Error> {
    let context = &environment()?.context;
    ops::linear(
        context,
        &x.0,
        &weight.0,
        inner(bias),
        activation,
        inner(residual),
    )
    .map(Tensor)
}

/// Layer norm of x + residual over the last dimension.
///
/// # Errors
/// That of [`ops::layer_norm`].
pub fn layer_norm(
    x: &Tensor,
    weight: Option<&Tensor>,
    bias: Option<&Tensor>,
    eps: f32,
    residual: Option<&Tensor>,
) -> Result<Tensor, Error> {
    let context = &environment()?.context;
    ops::layer_norm(
        context,
        &x.0,
        inner(weight),
        inner(bias),
        eps,
        inner(residual),
    )
    .map(Tensor)
}

/// Root-mean-square norm over the last dimension.
///
/// # Errors
/// That of [`ops::rms_norm`].
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32, offset: f32) -> Result<Tensor, Error> {
    ops::rms_norm(&environment()?.context, &x.0, &weight.0, eps, offset).map(Tensor)
}

/// softmax(scale q k^T + bias + mask) v inside each sequence of `layout`.
///
/// # Errors
/// That of [`ops::attention`].
pub fn attention(
    input: &AttentionInput<'_>,
    layout: &Layout,
    bias: Option<&Tensor>,
    options: AttentionOptions,
) -> Result<Tensor, Error> {
    let options = tenon_tensor::AttentionOptions {
        heads: options.heads as usize,
        kv_heads: options.kv_heads as usize,
        scale: options.scale,
        causal: options.causal,
        window: options.window.map(|window| window as usize),
    };
    let input = match *input {
        AttentionInput::Fused(qkv) => tenon_tensor::AttentionInput::Fused(&qkv.0),
        AttentionInput::Separate((q, k, v)) => {
            tenon_tensor::AttentionInput::Separate(&q.0, &k.0, &v.0)
        }
    };
    let context = &environment()?.context;
    ops::attention(context, input, &layout.0, inner(bias), &options).map(Tensor)
}

/// Cosines and sines of rotary angles.
///
/// # Errors
/// That of [`ops::rotary_table`].
pub fn rotary_table(
    positions: &Indices,
    inverse_frequencies: &[f32],
    factor: f32,
) -> Result<Tensor, Error> {
    let context = &environment()?.context;
    ops::rotary_table(context, &positions.0, inverse_frequencies, factor).map(Tensor)
}

/// The norms of query and key heads.
#[derive(Debug, Clone, Copy)]
pub struct HeadNorms<'a> {
    /// The weight of the query heads.
    pub query: &'a Tensor,
    /// The weight of the heads after them.
    pub key: &'a Tensor,
    /// How many of the heads, from the first on, are queries.
    pub query_heads: u32,
    /// Finite and at least 0.
    pub eps: f32,
    /// What is added to the weights.
    pub weight_offset: f32,
}

/// Rotates the pairs of the first heads, after their norms where there are any.
///
/// # Errors
/// That of [`ops::rotary`].
pub fn rotary(
    x: &Tensor,
    table: &Tensor,
    heads: u32,
    head_dim: u32,
    norms: Option<&HeadNorms<'_>>,
) -> Result<Tensor, Error> {
    let norms = norms.map(|norms| tenon_tensor::HeadNorms {
        query: &norms.query.0,
        key: &norms.key.0,
        query_heads: norms.query_heads as usize,
        eps: norms.eps,
        weight_offset: norms.weight_offset,
    });
    let (heads, head_dim) = (heads as usize, head_dim as usize);
    let context = &environment()?.context;
    ops::rotary(context, &x.0, &table.0, heads, head_dim, norms.as_ref()).map(Tensor)
}

/// activation of every element.
///
/// # Errors
/// That of [`ops::activate`].
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor, Error> {
    ops::activate(&environment()?.context, &x.0, activation).map(Tensor)
}

/// activation(left) * right of two halves side by side.
///
/// # Errors
/// That of [`ops::gated`].
pub fn gated(x: &Tensor, activation: Activation) -> Result<Tensor, Error> {
    ops::gated(&environment()?.context, &x.0, activation).map(Tensor)
}

/// a + b, of one shape.
///
/// # Errors
/// That of [`ops::add`].
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor, Error> {
    ops::add(&environment()?.context, &a.0, &b.0).map(Tensor)
}

/// a * b, elementwise, of one shape.
///
/// # Errors
/// That of [`ops::mul`].
pub fn mul(a: &Tensor, b: &Tensor) -> Result<Tensor, Error> {
    ops::mul(&environment()?.context, &a.0, &b.0).map(Tensor)
}

/// x times a number.
///
/// # Errors
/// That of [`ops::scale`].
pub fn scale(x: &Tensor, factor: f32) -> Result<Tensor, Error> {
    ops::scale(&environment()?.context, &x.0, factor).map(Tensor)
}

/// `length` entries of dimension `axis` from `start` on.
///
/// # Errors
/// That of [`ops::slice`].
pub fn slice(x: &Tensor, axis: u32, start: u32, length: u32) -> Result<Tensor, Error> {
    let (axis, start, length) = (axis as usize, start as usize, length as usize);
    ops::slice(&environment()?.context, &x.0, axis, start, length).map(Tensor)
}

/// The same elements in the same order with other dimensions.
///
/// # Errors
/// That of [`ops::reshape`].
pub fn reshape(x: &Tensor, shape: &[u32]) -> Result<Tensor, Error> {
    ops::reshape(&environment()?.context, &x.0, &dims(shape)).map(Tensor)
}

/// Tensors one after the other along `axis`.
///
/// # Errors
/// That of [`ops::concat`].
pub fn concat(parts: &[&Tensor], axis: u32) -> Result<Tensor, Error> {
    let parts: Vec<_> = parts.iter().map(|part| &part.0).collect();
    ops::concat(&environment()?.context, &parts, axis as usize).map(Tensor)
}

/// One row a sequence.
///
/// # Errors
/// That of [`ops::segment_pool`].
pub fn segment_pool(x: &Tensor, layout: &Layout, mode: PoolMode) -> Result<Tensor, Error> {
    ops::segment_pool(&environment()?.context, &x.0, &layout.0, mode).map(Tensor)
}

/// x / max(||x||, eps) over the last dimension.
///
/// # Errors
/// That of [`ops::l2_normalize`].
pub fn l2_normalize(x: &Tensor, eps: f32) -> Result<Tensor, Error> {
    ops::l2_normalize(&environment()?.context, &x.0, eps).map(Tensor)
}
