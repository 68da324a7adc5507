//! Attention over packed sequences.

use super::{check_shape, product};
use crate::context::On;
use crate::cpu::{self, Attention, Format, OnCpu, optional_rows, rows};
use crate::dtype::DType;
use crate::error::{Result, bail};
use crate::{Context, SequenceLayout, Tensor};

const OP: &str = "attention";

/// The widest head.
pub(crate) const MAX_HEAD_DIM: usize = 256;

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionOptions {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// What scores are multiplied with, commonly 1/sqrt(head_dim); above 0.
    pub scale: f32,
    /// A token sees only itself and those before it.
    pub causal: bool,
    /// The token at i sees the one at j only if |i - j| <= window.
    pub window: Option<usize>,
}

/// Queries `[rows, heads * head_dim]`, keys and values `[rows, kv_heads * head_dim]`.
#[derive(Debug, Clone, Copy)]
pub enum AttentionInput<'a> {
    /// All three side by side.
    Fused(&'a Tensor),
    /// Queries, keys and values by themselves.
    Separate(&'a Tensor, &'a Tensor, &'a Tensor),
}

impl AttentionInput<'_> {
    /// The three, views where they are fused.
    fn parts(&self, ctx: &Context, heads: usize, kv_heads: usize) -> Result<[Tensor; 3]> {
        let qkv = match *self {
            Self::Fused(qkv) => qkv,
            Self::Separate(q, k, v) => return Ok([q.clone(), k.clone(), v.clone()]),
        };
        let all = heads.saturating_add(kv_heads.saturating_mul(2));
        let head_dim = match *qkv.shape() {
            [_, width] if width.is_multiple_of(all) => width / all,
            _ => bail!(
                ShapeMismatch,
                "{OP}: fused q, k and v are {:?}, which {heads} heads and twice {kv_heads} do \
                 not divide",
                qkv.shape()
            ),
        };
        let part = |first: usize, heads: usize| {
            super::slice(ctx, qkv, 1, first * head_dim, heads * head_dim)
        };
        Ok([
            part(0, heads)?,
            part(heads, kv_heads)?,
            part(heads + kv_heads, kv_heads)?,
        ])
    }
}

/// softmax(scale q k^T + bias + mask) v inside each sequence of `layout`, which covers all
/// rows. `head_dim` is at most 256. The result is `[rows, heads * head_dim]`.
///
/// In bf16 and f16 the operands of both products are rounded, exponentials too, and sums and
/// scores are in f32; a processor without products of bf16 rounds nothing.
///
/// `bias` is `[heads, 2 * reach + 1]`: element reach + j - i of a head is added to the score
/// of the query at i and the key at j. Its reach is that of the farthest keys that are seen.
///
/// # Errors
/// As for all [operations](super).
pub fn attention(
    ctx: &Context,
    input: AttentionInput<'_>,
    layout: &SequenceLayout,
    bias: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let &AttentionOptions {
        heads,
        kv_heads,
        scale,
        window,
        ..
    } = options;
    if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        bail!(
            InvalidArgument,
            "{OP}: {heads} heads and {kv_heads} kv-heads"
        );
    }
    if !scale.is_finite() || scale <= 0.0 {
        bail!(
            InvalidArgument,
            "{OP}: scale is {scale}, not finite and above 0"
        );
    }
    let [q, k, v] = input.parts(ctx, heads, kv_heads)?;
    let &[rows_of_q, width] = q.shape() else {
        bail!(
            ShapeMismatch,
            "{OP}: q is {:?}, not [rows, heads * head_dim]",
            q.shape()
        );
    };
    if !width.is_multiple_of(heads) {
        bail!(
            ShapeMismatch,
            "{OP}: q is {:?}, which {heads} heads do not divide",
            q.shape()
        );
    }
    let head_dim = width / heads;
    if head_dim > MAX_HEAD_DIM {
        bail!(
            Unsupported,
            "{OP}: head_dim {head_dim} is over {MAX_HEAD_DIM}"
        );
    }
    check_shape(OP, "k", &k, &[rows_of_q, kv_heads * head_dim])?;
    check_shape(OP, "v", &v, &[rows_of_q, kv_heads * head_dim])?;
    if !layout.is_packed() || layout.rows() != rows_of_q {
        let (sequences, rows) = (layout.sequences(), layout.rows());
        bail!(
            ShapeMismatch,
            "{OP}: layout's {sequences} sequences have {rows} rows, not q's {rows_of_q} in order"
        );
    }
    if let Some(bias) = bias {
        check_bias(bias, heads, layout, window)?;
    }
    let squares = layout
        .spans()
        .iter()
        .map(|span| product(&[span.length, span.length]));
    let pairs = squares.fold(0, u64::saturating_add);
    let mut cost = product(&[2, width]).saturating_mul(pairs);
    if let Some(bias) = bias {
        let added = product(&[heads]).saturating_mul(pairs);
        cost = cost.saturating_add(added.saturating_add(product(bias.shape())));
    }
    ctx.charge(OP, cost)?;
    let parts = [&q, &k, &v];
    match ctx.on() {
        On::Cpu(cpu) => on_cpu(&cpu, ctx.dtype, parts, layout, bias, options),
        On::Cuda(cuda) => cuda.attention(parts, layout, bias, options),
    }
}

fn on_cpu(
    cpu: &OnCpu,
    dtype: DType,
    [q, k, v]: [&Tensor; 3],
    layout: &SequenceLayout,
    bias: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let shape = *q.checked_shape();
    let bias = cpu.optional(OP, bias)?;
    let (q, k, v) = (
        cpu.readable(OP, q)?,
        cpu.readable(OP, k)?,
        cpu.readable(OP, v)?,
    );
    let device = cpu.device;
    let op = Attention {
        q: rows(OP, &q)?,
        k: rows(OP, &k)?,
        v: rows(OP, &v)?,
        bias: optional_rows(OP, &bias)?,
        spans: layout.spans(),
        heads: options.heads,
        kv_heads: options.kv_heads,
        head_dim: shape.width() / options.heads,
        scale: options.scale,
        causal: options.causal,
        window: options.window,
        format: Format::of(dtype, device.level()),
    };
    let words = op.scratch_words(device.level(), device.threads());
    let mut scratch = cpu.scratch(OP, words)?;
    let mut out = cpu.allocate(OP, &shape)?;
    cpu::attention(device, op, scratch.as_mut_slice(), out.as_mut_slice());
    Ok(Tensor::from_buffer(out, shape))
}

/// Refuses a bias that has not one row a head and one element for each distance at which a
/// query sees a key.
fn check_bias(
    bias: &Tensor,
    heads: usize,
    layout: &SequenceLayout,
    window: Option<usize>,
) -> Result<()> {
    let reach = match *bias.shape() {
        [rows, width] if rows == heads && !width.is_multiple_of(2) => width / 2,
        _ => bail!(
            ShapeMismatch,
            "{OP}: bias is {:?}, not [{heads}, 2 * reach + 1]",
            bias.shape()
        ),
    };
    let farthest = layout.max_rows() - 1;
    let farthest = window.map_or(farthest, |window| window.min(farthest));
    if farthest > reach {
        bail!(
            ShapeMismatch,
            "{OP}: bias is {:?} and reaches {reach}, but keys are up to {farthest} away",
            bias.shape()
        );
    }
    Ok(())
}
