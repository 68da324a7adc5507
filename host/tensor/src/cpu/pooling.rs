//! One row a sequence.

use super::device::ELEMENT_COST;
use super::{CpuDevice, Rows};
use crate::ops::PoolMode;
use crate::sequence::Span;

/// Pools the rows of each span into a row of `out`. Rows are added one after the other.
pub(crate) fn segment_pool(
    device: &CpuDevice,
    x: Rows,
    spans: &[Span],
    mode: PoolMode,
    out: &mut [f32],
) {
    let width = x.width;
    assert!(out.len() == spans.len() * width);
    assert!(spans.iter().all(|span| span.start + span.length <= x.rows));
    let rows: usize = spans.iter().map(|span| span.length).sum();
    let cost = width * ELEMENT_COST * rows.div_ceil(spans.len());
    device.parallel_rows(out, width, cost, |first, out| {
        for (span, out) in spans[first..].iter().zip(out.chunks_exact_mut(width)) {
            pool(x, *span, mode, out);
        }
    });
}

fn pool(x: Rows, span: Span, mode: PoolMode, out: &mut [f32]) {
    let first = span.start + span.excluded;
    let last = span.start + span.length - 1;
    if let PoolMode::Last = mode {
        return out.copy_from_slice(x.row(last));
    }
    out.copy_from_slice(x.row(first));
    let count = (span.length - span.excluded) as f32;
    match mode {
        PoolMode::First | PoolMode::Last => {}
        PoolMode::Mean => {
            add_rows(x, first + 1..last + 1, out);
            divide(out, count);
        }
        PoolMode::MeanSqrtLen => {
            add_rows(x, first + 1..last + 1, out);
            divide(out, count.sqrt());
        }
        PoolMode::WeightedMean => {
            // f64 holds the sum of the positions of any sequence exactly.
            let mut positions = 0.0f64;
            out.fill(0.0);
            for row in first..=last {
                let position = (row - span.start + 1) as f32;
                positions += f64::from(position);
                for (out, x) in out.iter_mut().zip(x.row(row)) {
                    *out += x * position;
                }
            }
            divide(out, positions as f32);
        }
        PoolMode::Max => {
            for row in first + 1..=last {
                for (out, &x) in out.iter_mut().zip(x.row(row)) {
                    // Not f32::max, which would hide a NaN.
                    *out = if x > *out || x.is_nan() { x } else { *out };
                }
            }
        }
    }
}

fn add_rows(x: Rows, rows: std::ops::Range<usize>, out: &mut [f32]) {
    for row in rows {
        for (out, x) in out.iter_mut().zip(x.row(row)) {
            *out += x;
        }
    }
}

fn divide(out: &mut [f32], divisor: f32) {
    for out in out {
        *out /= divisor;
    }
}
