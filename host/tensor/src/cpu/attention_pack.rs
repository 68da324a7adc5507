//! Keys and values of a head in the order that attention's products read them.
#![allow(unsafe_code)]

use std::ops::Range;

use super::attention::Attention;
use super::simd::{MAX_TILE_COLUMNS, Simd, bf16_pairs};
use super::tile::Product;
use crate::ops::MAX_HEAD_DIM;
use crate::sequence::Span;

/// Panels `[steps][columns]` of keys, whose steps are of `P::DEPTH` of their elements; the last
/// is filled up with zeros.
///
/// # Safety
/// The processor has the instructions of `S`; `to` has room for `keys` rounded up to whole
/// panels.
#[inline(always)]
pub(super) unsafe fn pack_keys<S: Simd, P: Product>(
    op: &Attention,
    span: &Span,
    kv_head: usize,
    keys: &Range<usize>,
    to: *mut f32,
) {
    let columns = 2 * S::LANES;
    let head_dim = op.head_dim;
    let steps = head_dim.div_ceil(P::DEPTH);
    let mut pairs = [0.0f32; MAX_HEAD_DIM / 2];
    for (index, key) in keys.clone().enumerate() {
        let row = &op.k.row(span.start + key)[kv_head * head_dim..][..head_dim];
        let words = if P::DEPTH == 1 {
            row
        } else {
            // SAFETY: `attention` checked that heads are at most `MAX_HEAD_DIM` wide.
            unsafe { bf16_pairs::<S>(row, pairs.as_mut_ptr()) };
            &pairs[..steps]
        };
        // SAFETY: element `index` of a panel's steps; there are as many panels as keys ask.
        let to = unsafe { to.add(index / columns * columns * steps + index % columns) };
        for (step, &word) in words.iter().enumerate() {
            // SAFETY: as above.
            unsafe { to.add(step * columns).write(word) };
        }
    }
    let filled = keys.len() % columns;
    if filled != 0 {
        // SAFETY: what is left of the last panel's steps.
        unsafe {
            let to = to.add(keys.len() / columns * columns * steps);
            for step in 0..steps {
                to.add(step * columns + filled)
                    .write_bytes(0, columns - filled);
            }
        }
    }
}

/// Panels `[steps][columns]` of the values' elements, whose steps are of `P::DEPTH` values; the
/// last panel is filled up with zeros.
///
/// # Safety
/// The processor has the instructions of `S`; `to` has room for as many panels as
/// `head_dim` asks.
#[inline(always)]
pub(super) unsafe fn pack_values<S: Simd, P: Product>(
    op: &Attention,
    span: &Span,
    kv_head: usize,
    keys: &Range<usize>,
    mut to: *mut f32,
) {
    let columns = 2 * S::LANES;
    let zeros = [0.0f32; MAX_TILE_COLUMNS];
    for first in (0..op.head_dim).step_by(columns) {
        let width = columns.min(op.head_dim - first);
        let mut edges = [zeros; 2];
        for key in keys.clone().step_by(P::DEPTH) {
            // SAFETY: each word of each panel is written once; a value has `width` elements
            // from `first` on, and what is loaded is a panel wide.
            unsafe {
                let mut rows = [zeros.as_ptr(); 2];
                for (index, edge) in edges[..P::DEPTH].iter_mut().enumerate() {
                    if key + index == keys.end {
                        break;
                    }
                    let row = op.v.row(span.start + key + index);
                    let row = &row[kv_head * op.head_dim + first..][..width];
                    rows[index] = if width == columns {
                        row.as_ptr()
                    } else {
                        edge[..width].copy_from_slice(row);
                        edge.as_ptr()
                    };
                }
                for half in 0..2 {
                    let low = S::load(rows[0].add(half * S::LANES));
                    let high = S::load(rows[1].add(half * S::LANES));
                    let words = if P::DEPTH == 1 {
                        low
                    } else {
                        S::bf16_across(low, high)
                    };
                    S::store(to.add(half * S::LANES), words);
                }
                to = to.add(columns);
            }
        }
    }
}
