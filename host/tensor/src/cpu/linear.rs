//! activation(x weight^T + bias) + residual, blocked for the caches and split over threads.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::gemm::{Block, InPlace, Operand, SharedMut};
use super::level::Kernel;
use super::math::activate;
use super::memory::LINE;
use super::pack::{Format, Panels};
use super::simd::{MAX_TILE_COLUMNS, Simd, bf16_pairs};
use super::tile::{AmxBf16Product, DotBf16Product, F32Product, Finish, Product, WideBf16Product};
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

impl Linear<'_> {
    /// How the result is split.
    fn split(&self, threads: usize) -> Split {
        let panels = self.weight.n.div_ceil(self.weight.columns);
        // Threads that keep to their own rows find them in their own caches. Fewer rows would
        // be read faster than the weights, which all of them then read.
        let of_threads = threads.min(self.x.rows / ROWS_PER_THREAD).max(1);
        let row_parts = self
            .x
            .rows
            .div_ceil(self.block_rows())
            .next_multiple_of(of_threads);
        let wanted = if threads == 1 {
            1
        } else {
            let cost = self.x.rows.saturating_mul(self.weight.n * self.weight.k);
            let fewest = PARTS_PER_THREAD * threads;
            // What is not kept every part copies again, on a matrix unit for as long as it
            // multiplies.
            let most = match self.weight.format == Format::AmxBf16 && !self.keeps() {
                true => fewest,
                false => MOST_PARTS_PER_THREAD * threads,
            };
            (cost / PART_COST).clamp(fewest, most)
        };
        let column_parts = wanted.div_ceil(row_parts).clamp(1, panels);
        let panels_of_part = panels.div_ceil(column_parts);
        Split {
            panels,
            rows_of_part: self.x.rows.div_ceil(row_parts),
            panels_of_part,
            row_parts,
            column_parts: panels.div_ceil(panels_of_part),
        }
    }

    /// Rows of A that are multiplied with a slice of a panel before the next. Of a slice they
    /// take less than half of a 512 KB cache. A matrix unit waits longer for panels than for
    /// rows: there they are more, up to 1.2 MB of its processors' 2 MB.
    fn block_rows(&self) -> usize {
        match self.weight.format {
            Format::AmxBf16 => 288,
            _ => 144,
        }
    }

    /// Whether A is copied, slice by slice, before it is read.
    fn copies(&self) -> bool {
        self.weight.format.depth() > 1
            || self.x.rows > 1 && self.x.stride.is_multiple_of(CONFLICTING_STRIDE)
    }

    /// Slices of A.
    fn slices(&self) -> usize {
        let steps = self.weight.format.steps(self.weight.k);
        steps.div_ceil(self.weight.format.slice_steps())
    }

    /// Whether a thread's scratch holds all slices of its rows, so that they are copied once for
    /// all parts of these rows. Where there are many they would fill the cache.
    fn keeps(&self) -> bool {
        self.slices() <= MOST_KEPT
    }

    /// How many slices of A a thread's scratch holds.
    fn slots(&self) -> usize {
        if self.keeps() { self.slices() } else { 1 }
    }

    /// Words from a copied row of a slice to the next: an odd number of cache lines, which
    /// spreads over all sets.
    fn copy_stride(&self) -> usize {
        let Panels { format, k, .. } = self.weight;
        let steps = format.steps(k).min(format.slice_steps());
        (steps.div_ceil(LINE) | 1) * LINE
    }

    /// Words of scratch that one thread needs.
    fn thread_words(&self, threads: usize) -> usize {
        if self.copies() {
            self.slots() * self.split(threads).rows_of_part * self.copy_stride()
        } else {
            0
        }
    }

    /// Words of scratch that [`linear`] needs with this many threads.
    pub fn scratch_words(&self, threads: usize) -> usize {
        self.thread_words(threads) * threads
    }
}

/// The fewest rows for which each thread reads all weights.
const ROWS_PER_THREAD: usize = 48;

/// Parts for each thread, so that one that is held up does not hold up the others.
const PARTS_PER_THREAD: usize = 4;

/// No more are made of a product, however large: a part of many panels reads its rows of A
/// from memory once, and the wait for the last part is short beside the whole.
const MOST_PARTS_PER_THREAD: usize = 16;

/// Multiply-adds of a part of a large product, about 0.1 ms: the others wait that long for
/// the last one, and longer if its thread is not running.
const PART_COST: usize = 5_000_000;

/// Rows this many elements apart, or a multiple, share few sets of the first-level cache.
const CONFLICTING_STRIDE: usize = 1024;

/// The most slices of A that are kept. With more the copies would fill the second-level cache.
const MOST_KEPT: usize = 2;

/// Blocks of rows, and runs of panels.
struct Split {
    panels: usize,
    rows_of_part: usize,
    panels_of_part: usize,
    row_parts: usize,
    column_parts: usize,
}

/// Computes a linear layer into `out`, `[rows, out]` without gaps. `scratch` has
/// [`Linear::scratch_words`].
pub(crate) fn linear(device: &CpuDevice, op: &Linear, scratch: &mut [f32], out: &mut [f32]) {
    let Panels { n, k, columns, .. } = op.weight;
    let rows = op.x.rows;
    assert!(op.x.width == k && out.len() == rows * n && columns == device.level().panel_columns());
    assert!(op.weight.format.is_for(device.level()));
    assert!(op.weight.words.len() == n.div_ceil(columns) * op.weight.panel_words());
    assert!(op.bias.is_none_or(|bias| bias.len() == n));
    assert!(
        op.residual
            .is_none_or(|residual| residual.rows == rows && residual.width == n)
    );
    let thread_words = op.thread_words(device.threads());
    assert!(scratch.len() >= thread_words * device.threads());

    let split = op.split(device.threads());
    // The block of rows whose slices lie in each thread's scratch.
    let kept: Vec<_> = (0..device.threads())
        .map(|_| AtomicUsize::new(usize::MAX))
        .collect();
    let (c, scratch) = (SharedMut::new(out), SharedMut::new(scratch));
    let cost = rows.saturating_mul(n).saturating_mul(k);
    device.parallel(
        split.row_parts * split.column_parts,
        cost,
        |thread, part| {
            let row_part = part / split.column_parts;
            let row = row_part * split.rows_of_part;
            let panel = part % split.column_parts * split.panels_of_part;
            let is_kept = op.keeps() && kept[thread].swap(row_part, Relaxed) == row_part;
            let after = (part + 1) % split.column_parts * split.panels_of_part;
            let part = Part {
                op,
                rows: row..(row + split.rows_of_part).min(rows),
                panels: panel..(panel + split.panels_of_part).min(split.panels),
                after,
                is_kept,
                // SAFETY: each thread has its own words, as checked above.
                scratch: SharedMut::from_pointer(unsafe {
                    scratch.get().add(thread * thread_words)
                }),
                c,
            };
            if !part.rows.is_empty() {
                // SAFETY: the device's level is available; parts do not overlap, and `out` is
                // borrowed until all are done.
                unsafe { device.level().run(part) };
            }
        },
    );
}

/// Some rows of the result and some panels of its columns.
struct Part<'a> {
    op: &'a Linear<'a>,
    rows: std::ops::Range<usize>,
    panels: std::ops::Range<usize>,
    /// The first panel of the part that this thread is likely to take next.
    after: usize,
    /// Whether this thread copied all slices of these rows into the scratch already.
    is_kept: bool,
    scratch: SharedMut,
    c: SharedMut,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise; the format says which product the words are for, and `linear`
        // checked that the level has it.
        unsafe {
            match self.op.weight.format {
                Format::F32 => self.product::<S, F32Product>(),
                Format::WideBf16 => self.product::<S, WideBf16Product>(),
                Format::DotBf16 => self.product::<S, DotBf16Product>(),
                Format::AmxBf16 => self.product::<S, AmxBf16Product>(),
            }
        }
    }
}

impl Part<'_> {
    /// # Safety
    /// As for [`Kernel::run`], and the weight is packed for `P`.
    #[inline(always)]
    unsafe fn product<S: Simd, P: Product>(self) {
        let Linear {
            weight,
            x,
            bias,
            activation,
            residual,
        } = self.op;
        let first_column = self.panels.start * weight.columns;
        let end_column = (self.panels.end * weight.columns).min(weight.n);
        let finish = Epilogue {
            bias: *bias,
            activation: *activation,
            residual: *residual,
        };
        // SAFETY: `linear` checked that the operands have the sizes that the weight says, and
        // the scratch that of all slots. What is kept was copied by this thread in this call.
        unsafe {
            let panel = |index| weight.words.as_ptr().add(index * weight.panel_words());
            let block = Block {
                rows: self.rows.len(),
                steps: weight.format.steps(weight.k),
                b: panel(self.panels.start),
                step_words: weight.format.step_words(weight.columns),
                panel_words: weight.panel_words(),
                c: self.c.get().add(self.rows.start * weight.n + first_column),
                ldc: weight.n,
                columns: end_column - first_column,
                row: self.rows.start,
                column: first_column,
                after: panel(self.after),
            };
            let mut unit = P::Unit::default();
            if self.op.copies() {
                let copy = Copied {
                    x,
                    rows: self.rows.clone(),
                    stride: self.op.copy_stride(),
                    slots: self.op.slots(),
                    is_kept: self.is_kept,
                    to: self.scratch,
                };
                block.run::<S, P, Epilogue>(&mut unit, &copy, &finish);
            } else {
                let a = x.data.as_ptr().add(self.rows.start * x.stride);
                block.run::<S, P, Epilogue>(&mut unit, &InPlace { a, lda: x.stride }, &finish);
            }
        }
    }
}

/// Rows of A copied slice by slice: close together, and where asked for rounded to pairs of
/// bfloat16.
struct Copied<'a> {
    x: &'a Rows<'a>,
    rows: std::ops::Range<usize>,
    /// Words from a row of a slot to the next.
    stride: usize,
    /// How many slices `to` has room for; they take turns.
    slots: usize,
    /// Whether all slices are in their slots: copied earlier in this call, of the same rows.
    is_kept: bool,
    to: SharedMut,
}

impl Operand for Copied<'_> {
    #[inline(always)]
    unsafe fn slice<S: Simd, P: Product>(&self, first: usize, steps: usize) -> (*const f32, usize) {
        let stride = self.stride;
        let slot = first / P::SLICE_STEPS % self.slots;
        // SAFETY: the scratch has so many slots, of these rows each.
        let to = unsafe { self.to.get().add(slot * self.rows.len() * stride) };
        if self.is_kept {
            return (to, stride);
        }
        for (index, row) in self.rows.clone().enumerate() {
            let from = self.x.row(row);
            // SAFETY: a slot has a row of at least `steps` words for each row.
            unsafe {
                let to = to.add(index * stride);
                if P::DEPTH == 2 {
                    let from = &from[2 * first..];
                    bf16_pairs::<S>(&from[..from.len().min(2 * steps)], to);
                } else {
                    let from = &from[first..][..steps];
                    from.as_ptr().copy_to_nonoverlapping(to, steps);
                }
            }
        }
        (to, stride)
    }
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
