//! softmax(scale q k^T + bias + mask) v inside each sequence, made of the same tiles as a
//! linear layer: keys and values are packed into panels once for all query heads that share
//! them. Where products are of bfloat16 pairs, queries, keys, values and the softmax's
//! exponentials are rounded to them; sums, scores and their softmax are in f32.
#![allow(unsafe_code)]

use std::ops::Range;

use super::attention_pack::{pack_keys, pack_values};
use super::distance_bias::DistanceBias;
use super::gemm::{Block, InPlace, SharedMut};
use super::level::Kernel;
use super::math::exp2_of_negative;
use super::memory::LINE;
use super::pack::Format;
use super::simd::{Simd, bf16_pairs};
use super::tile::{
    AmxBf16Product, DotBf16Product, F32Product, PanelProduct, Product, Raw, Sum, Tile,
};
use super::{CpuDevice, Level, Rows};
use crate::ops::MAX_HEAD_DIM;
use crate::sequence::Span;

/// The operands of an attention.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    /// `[rows, heads * head_dim]`
    pub q: Rows<'a>,
    /// `[rows, kv_heads * head_dim]`, as is `v`.
    pub k: Rows<'a>,
    pub v: Rows<'a>,
    /// `[heads, 2 * reach + 1]`; no query sees a key that is farther away than the reach.
    pub bias: Option<Rows<'a>>,
    pub spans: &'a [Span],
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub scale: f32,
    pub causal: bool,
    pub window: Option<usize>,
    /// That of the model's weights: where they are multiplied in pairs of bfloat16, so are
    /// queries and keys, and exponentials and values.
    pub format: Format,
}

/// Queries of one work item: a long sequence becomes several, which pack the keys again.
const ITEM_QUERIES: usize = 1024;

/// Multiply-adds of a work item, at least: short sequences have several heads in one, whose
/// rows lie beside each other.
const ITEM_COST: usize = 100_000;

/// Scores that are computed before their softmax: they stay in the second-level cache.
const BLOCK_SCORES: usize = 32 << 10;

/// The most query rows in a block of scores.
const MAX_BLOCK_QUERIES: usize = 96;

impl Attention<'_> {
    /// Query rows of a block of scores over up to `keys` keys.
    fn block_queries(keys: usize) -> usize {
        (BLOCK_SCORES / keys).clamp(24, MAX_BLOCK_QUERIES) / 12 * 12
    }

    /// The keys that any of these queries of a sequence sees.
    fn keys(&self, queries: &Range<usize>, length: usize) -> Range<usize> {
        let window = self.window.unwrap_or(length);
        let first = queries.start.saturating_sub(window);
        let end = if self.causal {
            queries.end
        } else {
            queries.end.saturating_add(window)
        };
        first..end.min(length)
    }

    /// The longest sequence's rows.
    fn longest(&self) -> usize {
        self.spans.iter().map(|span| span.length).max().unwrap_or(1)
    }

    /// Words of scratch that the bias and so many threads need.
    pub fn scratch_words(&self, level: Level, threads: usize) -> usize {
        self.bias_words(level) + threads * self.thread_words(level)
    }

    /// Words of scratch that the bias needs.
    fn bias_words(&self, level: Level) -> usize {
        match self.bias {
            Some(_) => DistanceBias::words(level, self.heads, self.longest()),
            None => 0,
        }
    }

    /// Words of scratch that one thread needs.
    fn thread_words(&self, level: Level) -> usize {
        // Not that of the longest sequence: shorter ones have larger blocks of queries.
        let columns = level.panel_columns();
        let words = |span: &Span| self.layout(columns, span.length).words;
        self.spans.iter().map(words).max().unwrap_or(0)
    }

    /// How a thread's scratch is divided for a sequence of this length.
    fn layout(&self, columns: usize, length: usize) -> ScratchLayout {
        ScratchLayout::new(columns, length, self.head_dim, self.format)
    }

    /// Multiply-adds, the mask left out of account.
    pub fn cost(&self) -> usize {
        let pairs: usize = self
            .spans
            .iter()
            .map(|span| span.length * span.length)
            .sum();
        pairs.saturating_mul(2 * self.heads * self.head_dim)
    }
}

/// Where the parts of a thread's scratch begin.
#[derive(Clone, Copy)]
struct ScratchLayout {
    values: usize,
    queries: usize,
    scores: usize,
    words: usize,
}

impl ScratchLayout {
    /// The keys come first: whole panels of `columns` keys, each `head_dim` long. Then
    /// values: panels of `columns` of their elements. Then a block of queries, where they are
    /// not read in place, and one of scores. Words hold `depth` elements, of which those of
    /// queries and keys are of one row, those of values of as many rows.
    fn new(columns: usize, length: usize, head_dim: usize, format: Format) -> Self {
        let depth = format.depth();
        let keys = (length + columns).next_multiple_of(columns);
        let row = head_dim.div_ceil(depth);
        let values = keys * row;
        let steps = value_steps(length, depth, format.run()).next_multiple_of(LINE);
        let queries = values + head_dim.next_multiple_of(columns) * steps;
        let block = Attention::block_queries(length);
        let copied = if depth == 1 { 0 } else { block * row };
        let scores = queries + copied.next_multiple_of(16);
        let words = scores + block * score_stride(columns, length);
        Self {
            values,
            queries,
            scores,
            words: words.next_multiple_of(16),
        }
    }
}

/// Steps of a panel of so many values, whole runs.
pub(super) fn value_steps(values: usize, depth: usize, run: usize) -> usize {
    values.div_ceil(depth).next_multiple_of(run)
}

/// A stride for scores of `keys` keys and those that fill up their panels.
fn score_stride(columns: usize, keys: usize) -> usize {
    (keys + columns).next_multiple_of(256) + 16
}

/// Computes attention into `out`, `[rows, heads * head_dim]` without gaps. `scratch` has
/// [`Attention::scratch_words`] for the device's threads.
pub(crate) fn attention(device: &CpuDevice, op: Attention, scratch: &mut [f32], out: &mut [f32]) {
    let level = device.level();
    let words = op.thread_words(level);
    let rows = op.q.rows;
    assert!(op.q.width == op.heads * op.head_dim && op.k.width == op.kv_heads * op.head_dim);
    assert!(op.v.width == op.k.width && op.k.rows == rows && op.v.rows == rows);
    assert!(op.head_dim <= MAX_HEAD_DIM && op.format.is_for(level));
    assert!(op.heads.is_multiple_of(op.kv_heads) && out.len() == rows * op.q.width);
    assert!(op.spans.iter().all(|span| span.start + span.length <= rows));
    // The threads' parts come first: they are whole cache lines.
    let (scratch, rest) = scratch.split_at_mut(words * device.threads());
    let bias = op.bias.map(|table| {
        assert!(table.rows == op.heads && !table.width.is_multiple_of(2));
        let to = &mut rest[..op.bias_words(level)];
        DistanceBias::new(level, table, op.longest(), to)
    });

    let mut items = Vec::new();
    for span in op.spans {
        let queries = span.length.min(ITEM_QUERIES);
        let head_cost = 2 * queries * span.length * op.head_dim * (op.heads / op.kv_heads);
        let heads = ITEM_COST.div_ceil(head_cost).min(op.kv_heads);
        for first in (0..span.length).step_by(ITEM_QUERIES) {
            let queries = first..(first + ITEM_QUERIES).min(span.length);
            for kv_head in (0..op.kv_heads).step_by(heads) {
                let kv_heads = kv_head..(kv_head + heads).min(op.kv_heads);
                items.push((*span, queries.clone(), kv_heads));
            }
        }
    }
    let (out, scratch) = (SharedMut::new(out), SharedMut::new(scratch));
    device.parallel(items.len(), op.cost(), |thread, item| {
        let (span, queries, kv_heads) = items[item].clone();
        // SAFETY: the level is available. An item writes its own queries' rows of its own
        // heads' columns of `out`, and each thread its own part of `scratch`; both are
        // borrowed until all are done.
        unsafe {
            let scratch = SharedMut::from_pointer(scratch.get().add(thread * words));
            level.run(Item {
                op: &op,
                bias,
                span,
                queries,
                kv_heads,
                scratch,
                out,
            });
        }
    });
}

/// A thread's scratch.
struct Scratch {
    /// The keys that are packed, and the values.
    all: Range<usize>,
    keys: *mut f32,
    values: *mut f32,
    queries: *mut f32,
    scores: *mut f32,
}

/// Some queries of a sequence, for all query heads of some key-value heads.
struct Item<'a> {
    op: &'a Attention<'a>,
    bias: Option<DistanceBias<'a>>,
    span: Span,
    queries: Range<usize>,
    kv_heads: Range<usize>,
    scratch: SharedMut,
    out: SharedMut,
}

impl Kernel for Item<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.op.format {
                Format::F32 | Format::WideBf16 => self.product::<S, F32Product>(),
                Format::DotBf16 => self.product::<S, DotBf16Product>(),
                Format::AmxBf16 => self.product::<S, AmxBf16Product>(),
            }
        }
    }
}

impl Item<'_> {
    /// The item with products of `P`.
    ///
    /// # Safety
    /// As for [`Kernel::run`].
    #[inline(always)]
    unsafe fn product<S: Simd, P: Product>(self) {
        let op = self.op;
        let columns = 2 * S::LANES;
        let layout = op.layout(columns, self.span.length);
        let all = op.keys(&self.queries, self.span.length);
        // Blocks look at panels from their first key on.
        let all = all.start / columns * columns..all.end;
        // SAFETY: the scratch has what `ScratchLayout` says for every sequence.
        unsafe {
            let keys = self.scratch.get();
            let scratch = Scratch {
                all: all.clone(),
                keys,
                values: keys.add(layout.values),
                queries: keys.add(layout.queries),
                scores: keys.add(layout.scores),
            };
            let mut unit = P::Unit::default();
            let group = op.heads / op.kv_heads;
            let step = Attention::block_queries(self.span.length);
            for kv_head in self.kv_heads.clone() {
                pack_keys::<S, P>(op, &self.span, kv_head, &all, scratch.keys);
                pack_values::<S, P>(op, &self.span, kv_head, &all, scratch.values);
                if kv_head + 1 < self.kv_heads.end {
                    self.prefetch::<S>(kv_head + 1, &all);
                }
                for head in kv_head * group..(kv_head + 1) * group {
                    for first in self.queries.clone().step_by(step) {
                        let queries = first..(first + step).min(self.queries.end);
                        self.block::<S, P>(&mut unit, head, queries, &scratch);
                    }
                }
            }
        }
    }

    /// Brings the next head's rows closer. They are pieces of rows that lie far apart, which
    /// the processor does not guess by itself.
    ///
    /// # Safety
    /// The processor has the instructions of `S`.
    #[inline(always)]
    unsafe fn prefetch<S: Simd>(&self, kv_head: usize, keys: &Range<usize>) {
        let op = self.op;
        let head = kv_head * (op.heads / op.kv_heads);
        for row in self.span.start + keys.start..self.span.start + keys.end {
            for element in (0..op.head_dim).step_by(16) {
                // SAFETY: the caller's promise.
                unsafe {
                    S::prefetch_far(&op.k.row(row)[kv_head * op.head_dim + element]);
                    S::prefetch_far(&op.v.row(row)[kv_head * op.head_dim + element]);
                    S::prefetch_far(&op.q.row(row)[head * op.head_dim + element]);
                }
            }
        }
    }

    /// One block of queries of one head.
    ///
    /// # Safety
    /// As for [`Kernel::run`]; keys and values of the head are packed.
    #[inline(always)]
    unsafe fn block<S: Simd, P: Product>(
        &self,
        unit: &mut P::Unit,
        head: usize,
        queries: Range<usize>,
        scratch: &Scratch,
    ) {
        let &Scratch {
            ref all,
            keys,
            values,
            scores,
            ..
        } = scratch;
        let op = self.op;
        let columns = 2 * S::LANES;
        let seen = op.keys(&queries, self.span.length);
        let first = seen.start / columns * columns;
        let stride = score_stride(columns, self.span.length);
        let row = self.span.start + queries.start;
        // SAFETY: panels and rows are inside what was packed, what the operands have and
        // what the scratch has room for.
        unsafe {
            let steps = op.head_dim.div_ceil(P::DEPTH);
            let (q, q_stride) = if P::DEPTH == 1 {
                let first = row * op.q.stride + head * op.head_dim;
                (op.q.data.as_ptr().add(first), op.q.stride)
            } else {
                for index in 0..queries.len() {
                    let q = &op.q.row(row + index)[head * op.head_dim..][..op.head_dim];
                    bf16_pairs::<S>(q, scratch.queries.add(index * steps));
                }
                (scratch.queries.cast_const(), steps)
            };
            for panel in (first..seen.end).step_by(columns) {
                PanelProduct {
                    all: Tile {
                        rows: queries.len(),
                        steps,
                        a: q,
                        lda: q_stride,
                        b: keys.add((panel - all.start) * steps),
                        c: scores.add(panel - first),
                        ldc: stride,
                        sum: Sum::Begin,
                        ahead: None,
                    },
                    columns,
                    next: None,
                }
                .run::<S, P, Raw>(unit, 0, 0, None);
            }
            let width = (seen.end - first).next_multiple_of(columns);
            let mut inverse_sums = [0.0f32; MAX_BLOCK_QUERIES];
            for (index, query) in queries.clone().enumerate() {
                let row = std::slice::from_raw_parts_mut(scores.add(index * stride), width);
                let scale = match &self.bias {
                    None => op.scale,
                    Some(bias) => {
                        add_bias::<S>(row, op.scale, bias.of(head, query, first));
                        1.0
                    }
                };
                let visible = op.keys(&(query..query + 1), self.span.length);
                row[..visible.start - first].fill(f32::NEG_INFINITY);
                row[visible.end - first..].fill(f32::NEG_INFINITY);
                inverse_sums[index] = 1.0 / exponentials::<S, P>(row, scale);
            }
            let out = self.out.get().add(row * op.q.width + head * op.head_dim);
            Block {
                rows: queries.len(),
                // Beyond the keys that are seen A's words are zeros, and values are there.
                steps: value_steps(seen.end - first, P::DEPTH, P::RUN),
                b: values.add((first - all.start) / P::DEPTH * columns),
                step_words: columns,
                panel_words: value_steps(all.len(), P::DEPTH, P::RUN) * columns,
                c: out,
                ldc: op.q.width,
                columns: op.head_dim,
                row: 0,
                column: 0,
                after: keys,
            }
            .run::<S, P, Raw>(
                unit,
                &InPlace {
                    a: scores,
                    lda: stride,
                },
                &Raw,
            );
            for (index, &inverse_sum) in inverse_sums[..queries.len()].iter().enumerate() {
                let row = out.add(index * op.q.width);
                for x in std::slice::from_raw_parts_mut(row, op.head_dim) {
                    *x *= inverse_sum;
                }
            }
        }
    }
}

/// Replaces scores by scale * score + bias.
///
/// # Safety
/// The processor has the instructions of `S`; `row` is whole vectors.
#[inline(always)]
unsafe fn add_bias<S: Simd>(row: &mut [f32], scale: f32, bias: &[f32]) {
    // SAFETY: the caller's promise; both have a vector in each chunk.
    unsafe {
        let scale = S::splat(scale);
        let bias = bias[..row.len()].chunks_exact(S::LANES);
        for (scores, bias) in row.chunks_exact_mut(S::LANES).zip(bias) {
            let sum = S::fma(S::load(scores.as_ptr()), scale, S::load(bias.as_ptr()));
            S::store(scores.as_mut_ptr(), sum);
        }
    }
}

/// Replaces scores by exp(scale * (score - the largest)), as words of A for `P`, and returns
/// their sum.
///
/// # Safety
/// The processor has the instructions of `S`; `row` is whole pairs of vectors.
#[inline(always)]
unsafe fn exponentials<S: Simd, P: Product>(row: &mut [f32], scale: f32) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let mut greatest = [S::splat(f32::NEG_INFINITY); 2];
        for pair in row.chunks_exact(2 * S::LANES) {
            greatest[0] = S::max(S::load(pair.as_ptr()), greatest[0]);
            greatest[1] = S::max(S::load(pair.as_ptr().add(S::LANES)), greatest[1]);
        }
        // In powers of 2: the scores times `scale`, less the greatest of that.
        let scale = scale * std::f32::consts::LOG2_E;
        let greatest = S::max_lane(S::max(greatest[0], greatest[1]));
        let (scale, shift) = (S::splat(scale), S::splat(-greatest * scale));
        let mut sums = [S::splat(0.0); 2];
        // What is written lies at or before what was just read.
        let mut to = row.as_mut_ptr();
        let mut from = to.cast_const();
        for _ in 0..row.len() / (2 * S::LANES) {
            let second = from.add(S::LANES);
            let e = [
                exp2_of_negative::<S>(S::fma(S::load(from), scale, shift)),
                exp2_of_negative::<S>(S::fma(S::load(second), scale, shift)),
            ];
            from = from.add(2 * S::LANES);
            if P::DEPTH == 1 {
                S::store(to, e[0]);
                S::store(to.add(S::LANES), e[1]);
            } else {
                S::store(to, S::bf16_in_order(e[0], e[1]));
            }
            to = to.add(2 * S::LANES / P::DEPTH);
            sums = [S::add(sums[0], e[0]), S::add(sums[1], e[1])];
        }
        S::sum(S::add(sums[0], sums[1]))
    }
}
