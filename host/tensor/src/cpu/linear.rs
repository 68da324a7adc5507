//! activation(x weight^T + bias) + residual, blocked for the caches and split over threads.
#![allow(unsafe_code)]

use super::convert::bf16_bits;
use super::gemm::{BLOCK_ROWS, Block, SharedMut};
use super::level::Kernel;
use super::math::activate;
use super::pack::{Format, Panels};
use super::simd::{MAX_TILE_COLUMNS, Simd};
use super::tile::{DotBf16Product, F32Product, Finish, Product, WideBf16Product};
use super::{CpuDevice, Rows};
use crate::ops::Activation;

/// The operands of a linear layer.
pub(crate) struct Linear<'a> {
    /// `[rows, in]`
    pub x: Rows<'a>,
    /// `[out, in]`
    pub weight: Panels<'a>,
    /// `[out]`
    pub bias: Option<&'a [f32]>,
    pub activation: Activation,
    /// `[rows, out]`
    pub residual: Option<Rows<'a>>,
}

/// Parts for each thread, so that one that is held up does not hold up the others.
const PARTS_PER_THREAD: usize = 4;

/// Computes a linear layer into `out`, `[rows, out]` without gaps.
pub(crate) fn linear(device: &CpuDevice, op: &Linear, out: &mut [f32]) {
    let Panels { n, k, columns, .. } = op.weight;
    let rows = op.x.rows;
    assert!(op.x.width == k && out.len() == rows * n && columns == device.level().panel_columns());
    assert!(op.weight.words.len() == n.div_ceil(columns) * op.weight.panel_words());
    assert!(op.bias.is_none_or(|bias| bias.len() == n));
    assert!(
        op.residual
            .is_none_or(|residual| residual.rows == rows && residual.width == n)
    );

    let panels = n.div_ceil(columns);
    let row_parts = rows.div_ceil(BLOCK_ROWS);
    let part_rows = rows.div_ceil(row_parts);
    let wanted = (PARTS_PER_THREAD * device.threads()).div_ceil(row_parts);
    let column_parts = if device.threads() == 1 {
        1
    } else {
        wanted.clamp(1, panels)
    };
    let part_panels = panels.div_ceil(column_parts);
    let column_parts = panels.div_ceil(part_panels);

    let c = SharedMut::new(out);
    let cost = rows.saturating_mul(n).saturating_mul(k);
    device.parallel(row_parts * column_parts, cost, |_, part| {
        let (row_part, column_part) = (part / column_parts, part % column_parts);
        let first_row = row_part * part_rows;
        let part = Part {
            op,
            rows: first_row..(first_row + part_rows).min(rows),
            panels: column_part * part_panels..((column_part + 1) * part_panels).min(panels),
            c,
        };
        if part.rows.is_empty() {
            return;
        }
        // SAFETY: the device's level is available; parts do not overlap, and `out` is
        // borrowed until all are done.
        unsafe { device.level().run(part) };
    });
}

/// Some rows of the result and some panels of its columns.
struct Part<'a> {
    op: &'a Linear<'a>,
    rows: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
    c: SharedMut,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise; the format says which product the words are for.
        unsafe {
            match self.op.weight.format {
                Format::F32 => self.product::<S, F32Product>(),
                Format::WideBf16 => self.product::<S, WideBf16Product>(),
                Format::DotBf16 => self.product::<S, DotBf16Product>(),
            }
        }
    }
}

impl Part<'_> {
    /// # Safety
    /// As for [`Kernel::run`], and the weight is packed for `P`.
    #[inline(always)]
    unsafe fn product<S: Simd, P: Product>(self) {
        let weight = &self.op.weight;
        let x = &self.op.x;
        let steps = weight.format.steps(weight.k);
        let rows = self.rows.len();
        let copied;
        let (a, lda) = match weight.format {
            Format::DotBf16 => {
                copied = pair_rows(x, self.rows.clone());
                (copied.as_ptr(), padded(steps))
            }
            _ if x.stride.is_multiple_of(CONFLICTING_STRIDE) && rows > 1 => {
                copied = copy_rows(x, self.rows.clone());
                (copied.as_ptr(), padded(steps))
            }
            // SAFETY: `Rows` reaches to its last row.
            _ => (
                unsafe { x.data.as_ptr().add(self.rows.start * x.stride) },
                x.stride,
            ),
        };
        let first_column = self.panels.start * weight.columns;
        let end_column = (self.panels.end * weight.columns).min(weight.n);
        let finish = Epilogue {
            bias: self.op.bias,
            activation: self.op.activation,
            residual: self.op.residual,
        };
        // SAFETY: `linear` checked that the operands have the sizes that the weight says.
        unsafe {
            Block {
                rows,
                steps,
                a,
                lda,
                b: weight
                    .words
                    .as_ptr()
                    .add(self.panels.start * weight.panel_words()),
                step_words: weight.format.step_words(weight.columns),
                panel_words: weight.panel_words(),
                c: self.c.get().add(self.rows.start * weight.n + first_column),
                ldc: weight.n,
                columns: end_column - first_column,
                row: self.rows.start,
                column: first_column,
            }
            .run::<S, P, Epilogue>(&finish);
        }
    }
}

/// Rows this many elements apart, or a multiple, share few sets of the first-level cache.
const CONFLICTING_STRIDE: usize = 256;

/// A stride for rows of `words` that spreads them over all cache sets.
fn padded(words: usize) -> usize {
    words.next_multiple_of(CONFLICTING_STRIDE) + 16
}

/// Rows with a stride of [`padded`].
#[inline(always)]
fn copy_rows(x: &Rows, rows: std::ops::Range<usize>) -> Vec<f32> {
    let stride = padded(x.width);
    let mut out = vec![0.0; rows.len() * stride];
    for (row, out) in rows.zip(out.chunks_exact_mut(stride)) {
        out[..x.width].copy_from_slice(x.row(row));
    }
    out
}

/// Rows rounded to pairs of bfloat16, with a stride of [`padded`].
#[inline(always)]
fn pair_rows(x: &Rows, rows: std::ops::Range<usize>) -> Vec<f32> {
    let stride = padded(x.width.div_ceil(2));
    let mut out = vec![0.0; rows.len() * stride];
    for (row, out) in rows.zip(out.chunks_exact_mut(stride)) {
        let (pairs, last) = x.row(row).as_chunks::<2>();
        for (&[low, high], out) in pairs.iter().zip(out.iter_mut()) {
            *out = f32::from_bits(bf16_bits(low) | bf16_bits(high) << 16);
        }
        if let [last] = last {
            out[pairs.len()] = f32::from_bits(bf16_bits(*last));
        }
    }
    out
}

/// What is fused behind the product.
struct Epilogue<'a> {
    bias: Option<&'a [f32]>,
    activation: Activation,
    residual: Option<Rows<'a>>,
}

impl Finish for Epilogue<'_> {
    #[inline(always)]
    unsafe fn tile<S: Simd>(
        &self,
        row: usize,
        column: usize,
        rows: usize,
        columns: usize,
        c: *mut f32,
        ldc: usize,
    ) {
        // Whole vectors are loaded, so what lies at the edge is copied.
        let edge = columns < 2 * S::LANES;
        let mut bias = [0.0f32; MAX_TILE_COLUMNS];
        if let Some(all) = self.bias {
            bias[..columns].copy_from_slice(&all[column..][..columns]);
        }
        let plain = self.bias.is_none() && matches!(self.activation, Activation::Identity);
        // SAFETY: the caller promises the tile at `c`; `bias` and `residual` have a whole
        // tile's width.
        unsafe {
            let bias = [S::load(bias.as_ptr()), S::load(bias.as_ptr().add(S::LANES))];
            for r in 0..rows {
                let out = c.add(r * ldc);
                if !plain {
                    for (half, &bias) in bias.iter().enumerate() {
                        let out = out.add(half * S::LANES);
                        let v = S::add(S::load(out), bias);
                        S::store(out, activate::<S>(self.activation, v));
                    }
                }
                let Some(residual) = self.residual else {
                    continue;
                };
                let residual = &residual.row(row + r)[column..][..columns];
                if edge {
                    for (index, &residual) in residual.iter().enumerate() {
                        *out.add(index) += residual;
                    }
                } else {
                    for half in 0..2 {
                        let out = out.add(half * S::LANES);
                        let residual = S::load(residual.as_ptr().add(half * S::LANES));
                        S::store(out, S::add(S::load(out), residual));
                    }
                }
            }
        }
    }
}
