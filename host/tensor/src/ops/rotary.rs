//! Rotary position embeddings: a table of angles a batch, and the rotation of heads.

use super::{MAX_HEAD_DIM, check_eps, check_shape, check_weight_offset, product};
use crate::context::On;
use crate::cpu::{self, optional_slice, rows};
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::{Context, Indices, Tensor};

/// The most frequencies of a table.
const MAX_FREQUENCIES: usize = 4096;

/// Cosines and sines of position * inverse frequency, times `factor`: `[positions, 2 n]`,
/// the n cosines of a position first.
///
/// # Errors
/// As for all [operations](super).
pub fn rotary_table(
    ctx: &Context,
    positions: &Indices,
    inverse_frequencies: &[f32],
    factor: f32,
) -> Result<Tensor> {
    const OP: &str = "rotary-table";
    let n = inverse_frequencies.len();
    if !(1..=MAX_FREQUENCIES).contains(&n) {
        bail!(
            InvalidArgument,
            "{OP}: {n} frequencies, not in 1..={MAX_FREQUENCIES}"
        );
    }
    let finite = |x: &f32| x.is_finite();
    if let Some(frequency) = inverse_frequencies.iter().find(|x| !finite(x)) {
        bail!(
            InvalidArgument,
            "{OP}: an inverse frequency is {frequency}, not finite"
        );
    }
    if !factor.is_finite() {
        bail!(InvalidArgument, "{OP}: factor is {factor}, not finite");
    }
    let shape = Shape::new(OP, &[positions.len(), 2 * n])?;
    ctx.charge(OP, product(&[16, shape.elements()]))?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let mut out = cpu.allocate(OP, &shape)?;
            cpu::rotary_table(
                cpu.device,
                positions.values(),
                inverse_frequencies,
                factor,
                out.as_mut_slice(),
            );
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.rotary_table(positions, inverse_frequencies, factor, shape),
    }
}

/// The norms of query and key heads: x / sqrt(mean x^2 + eps) * (weight + weight_offset) of each
/// head by itself.
#[derive(Debug, Clone, Copy)]
pub struct HeadNorms<'a> {
    /// The weight of the query heads, `[head_dim]`.
    pub query: &'a Tensor,
    /// The weight of the heads after them, `[head_dim]`.
    pub key: &'a Tensor,
    /// How many of the heads, from the first on, are queries.
    pub query_heads: usize,
    /// Finite and at least 0.
    pub eps: f32,
    /// What is added to the weights; finite.
    pub weight_offset: f32,
}

impl HeadNorms<'_> {
    fn check(&self, op: &str, heads: usize, head_dim: usize) -> Result<()> {
        check_eps(op, self.eps)?;
        check_weight_offset(op, self.weight_offset)?;
        check_shape(op, "norms.query", self.query, &[head_dim])?;
        check_shape(op, "norms.key", self.key, &[head_dim])?;
        // One warp sums a head on a GPU: a head without end would hold it up.
        if head_dim > MAX_HEAD_DIM {
            bail!(
                Unsupported,
                "{op}: head_dim {head_dim} with norms is over {MAX_HEAD_DIM}"
            );
        }
        if self.query_heads > heads {
            bail!(
                InvalidArgument,
                "{op}: {} query heads, more than all {heads}",
                self.query_heads
            );
        }
        Ok(())
    }
}

/// Rotates the pairs (i, i + n) of the first `heads` heads of `head_dim` by angle i of its
/// row's entry in `table` `[rows, 2 n]`, after `norms` of these heads, where there are any; the
/// rest of x `[rows, width]` stays.
///
/// # Errors
/// As for all [operations](super).
pub fn rotary(
    ctx: &Context,
    x: &Tensor,
    table: &Tensor,
    heads: usize,
    head_dim: usize,
    norms: Option<&HeadNorms<'_>>,
) -> Result<Tensor> {
    const OP: &str = "rotary";
    let &[height, width] = x.shape() else {
        bail!(ShapeMismatch, "{OP}: x is {:?}, not of rank 2", x.shape());
    };
    let rotated = match heads.checked_mul(head_dim) {
        Some(rotated) if rotated > 0 && rotated <= width => rotated,
        _ => bail!(
            ShapeMismatch,
            "{OP}: {heads} heads of {head_dim} are not among the {width} columns of x"
        ),
    };
    let angles = match *table.shape() {
        [_, angles] if angles.is_multiple_of(2) && angles <= head_dim => angles,
        _ => bail!(
            ShapeMismatch,
            "{OP}: table is {:?}, not two of at most {} angles a row",
            table.shape(),
            head_dim / 2
        ),
    };
    check_shape(OP, "table", table, &[height, angles])?;
    let shape = *x.checked_shape();
    let mut cost = product(&[2, shape.elements()]);
    if let Some(norms) = norms {
        norms.check(OP, heads, head_dim)?;
        cost = cost.saturating_add(product(&[2, height, rotated]));
    }
    ctx.charge(OP, cost)?;
    match ctx.on() {
        On::Cpu(cpu) => {
            let (x, table) = (cpu.readable(OP, x)?, cpu.readable(OP, table)?);
            let query = cpu.optional(OP, norms.map(|norms| norms.query))?;
            let key = cpu.optional(OP, norms.map(|norms| norms.key))?;
            let norms = match (norms, optional_slice(&query), optional_slice(&key)) {
                (Some(norms), Some(query), Some(key)) => Some(cpu::HeadNorms {
                    query,
                    key,
                    query_heads: norms.query_heads,
                    eps: norms.eps,
                    weight_offset: norms.weight_offset,
                }),
                (None, ..) => None,
                _ => bail!(Other, "{OP}: norms are not readable in place"),
            };
            let mut out = cpu.allocate(OP, &shape)?;
            let (x, table) = (rows(OP, &x)?, rows(OP, &table)?);
            let heads = [heads, head_dim];
            cpu::rotary(cpu.device, x, table, heads, norms, out.as_mut_slice());
            Ok(Tensor::from_buffer(out, shape))
        }
        On::Cuda(cuda) => cuda.rotary(x, table, heads, head_dim, norms),
    }
}
