//! Attention over packed sequences.

use super::launch::{Grid, MAX_BLOCKS_YZ, arguments};
use super::operand::{OnCuda, Rows, on_device};
use crate::SequenceLayout;
use crate::dtype::DType;
use crate::error::{Result, bail};
use crate::ops::AttentionOptions;
use crate::tensor::Tensor;

const OP: &str = "attention";

/// Threads of a block.
const THREADS: u32 = 128;

/// What addresses and strides are multiples of on tensor cores, in bytes.
const ALIGNMENT: u64 = 16;

/// The longest sequence of a batch that the short form of a kernel is for, as measured. Both
/// forms round alike, so that a sequence's results do not depend on the others'.
const SHORT_ROWS: usize = 128;

/// A kernel, the queries that a block of it has, and its shared memory.
struct Kernel {
    name: String,
    queries: usize,
    shared_bytes: usize,
    /// Whether it takes the width of heads as an argument.
    any_width: bool,
}

/// The kernel on tensor cores, as in `kernels/attention.cu`; none where it cannot take these.
fn on_tensor_cores(
    parts: &[Rows; 3],
    dtype: DType,
    head_dim: usize,
    max_rows: usize,
) -> Option<Kernel> {
    // Tiles of keys, how many of them are in shared memory, and whether there is a form whose
    // blocks have half the queries: of short sequences there are then enough of them.
    let (keys, stages, halves) = match head_dim {
        32 | 80 | 96 | 128 => (32, 2, true),
        64 => (64, 2, true),
        256 => (64, 1, false),
        _ => return None,
    };
    let (queries, form) = match halves {
        true if max_rows > SHORT_ROWS => (128, ""),
        true => (64, "_short"),
        false => (64, ""),
    };
    let aligned = |rows: &Rows| {
        let stride = rows.stride as u64 * dtype.size() as u64;
        (rows.address | stride).is_multiple_of(ALIGNMENT)
    };
    if dtype == DType::F32 || !parts.iter().all(aligned) {
        return None;
    }
    Some(Kernel {
        name: format!("attention_{dtype}_{head_dim}{form}"),
        queries,
        shared_bytes: (queries + 2 * stages * keys) * (head_dim + 8) * 2,
        any_width: false,
    })
}

/// The kernel for all others, as in `kernels/attention_plain.cu`.
fn plain(dtype: DType, head_dim: usize) -> Kernel {
    const QUERIES: usize = 16;
    const KEYS: usize = 32;
    Kernel {
        name: format!("attention_plain_{dtype}"),
        queries: QUERIES,
        shared_bytes: (KEYS * (head_dim + 1) + QUERIES * head_dim) * 4,
        any_width: true,
    }
}

impl OnCuda<'_> {
    pub fn attention(
        &self,
        [q, k, v]: [&Tensor; 3],
        layout: &SequenceLayout,
        bias: Option<&Tensor>,
        options: &AttentionOptions,
    ) -> Result<Tensor> {
        let shape = *q.checked_shape();
        let q = self.rows(OP, q)?;
        let dtype = q.dtype;
        let parts = [q, self.rows_as(OP, k, dtype)?, self.rows_as(OP, v, dtype)?];
        let reach = bias.map_or(0, |bias| bias.checked_shape().width() / 2);
        let bias = self.optional_f32(OP, bias)?;
        let cu_seqlens = layout.on_device().cu_seqlens(self, layout)?;
        if options.heads > MAX_BLOCKS_YZ {
            let heads = options.heads;
            bail!(
                Unsupported,
                "{OP}: {heads} heads, {MAX_BLOCKS_YZ} is the limit"
            );
        }
        let head_dim = shape.width() / options.heads;
        let kernel = on_tensor_cores(&parts, dtype, head_dim, layout.max_rows());
        let kernel = kernel.unwrap_or_else(|| plain(dtype, head_dim));
        let out = self.allocate(OP, dtype, &shape)?;
        let [q, k, v] = &parts;
        // A sequence has at most i32::MAX rows: beyond them nothing is out of sight.
        let window = options
            .window
            .map_or(i32::MAX, |window| i32::try_from(window).unwrap_or(i32::MAX));
        let right = if options.causal { 0 } else { window };
        for first in (0..layout.sequences()).step_by(MAX_BLOCKS_YZ) {
            let sequences = (layout.sequences() - first).min(MAX_BLOCKS_YZ);
            let mut arguments = Vec::from(arguments![
                q.address,
                q.stride,
                k.address,
                k.stride,
                v.address,
                v.stride,
                out.address(),
                cu_seqlens.address() + 4 * first as u64,
                bias.address(),
                reach as i32,
                options.heads as i32,
                options.kv_heads as i32,
                options.scale,
                window,
                right,
            ]);
            if kernel.any_width {
                arguments.insert(12, (head_dim as i32).into());
            }
            let grid = Grid {
                blocks: [
                    layout.max_rows().div_ceil(kernel.queries) as u32,
                    options.heads as u32,
                    sequences as u32,
                ],
                threads: THREADS,
                shared_bytes: kernel.shared_bytes as u32,
            };
            self.launch(OP, &kernel.name, grid, &mut arguments)?;
        }
        Ok(on_device(out, shape))
    }
}
