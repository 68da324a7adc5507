//! Keys and values of a head in the order that attention's products read them.
#![allow(unsafe_code)]

use std::ops::Range;

use super::attention::{Attention, value_steps};
use super::simd::{MAX_LANES, MAX_TILE_COLUMNS, Simd, bf16_pairs};
use super::tile::Product;
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
    // As many steps of as many keys as a vector has lanes.
    let mut square = [0.0f32; MAX_LANES * MAX_LANES];
    for block in (0..keys.len().next_multiple_of(columns)).step_by(S::LANES) {
        for first in (0..steps).step_by(S::LANES) {
            let from = P::DEPTH * first;
            let elements = (head_dim - from).min(P::DEPTH * S::LANES);
            for (lane, words) in square.chunks_exact_mut(S::LANES).take(S::LANES).enumerate() {
                let key = keys.start + block + lane;
                if key >= keys.end {
                    words.fill(0.0);
                    continue;
                }
                let row = &op.k.row(span.start + key)[kv_head * head_dim + from..][..elements];
                // SAFETY: the caller's promise; the words have room for a vector of steps.
                unsafe {
                    if P::DEPTH == 1 {
                        words[..elements].copy_from_slice(row);
                    } else {
                        bf16_pairs::<S>(row, words.as_mut_ptr());
                    }
                }
            }
            // SAFETY: the caller's promise; the square's steps of its keys in their panel.
            unsafe {
                let panel = to.add(block / columns * columns * steps);
                let to = panel.add(first * columns + block % columns);
                let rows = S::LANES.min(steps - first);
                S::transpose(square.as_ptr(), to, columns, rows);
            }
        }
    }
}

/// Panels `[steps][columns]` of the values' elements, whose steps are of `P::DEPTH` values and
/// are filled up with zeros to whole runs; so is the last panel.
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
        let steps = keys.len().div_ceil(P::DEPTH);
        let missing = (value_steps(keys.len(), P::DEPTH, P::RUN) - steps) * columns;
        // SAFETY: what is left of the panel's last run.
        unsafe {
            to.write_bytes(0, missing);
            to = to.add(missing);
        }
    }
}
