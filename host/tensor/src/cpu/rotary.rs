//! Rotary position embeddings.

use super::device::ELEMENT_COST;
use super::{CpuDevice, Rows};

/// What a sine and a cosine cost, in elements.
const ANGLE_COST: usize = 8;

/// Cosines, then sines, of each position's angles, times `factor`, into `out`.
pub(crate) fn rotary_table(
    device: &CpuDevice,
    positions: &[u32],
    inverse_frequencies: &[f32],
    factor: f32,
    out: &mut [f32],
) {
    let n = inverse_frequencies.len();
    assert!(out.len() == positions.len() * 2 * n);
    let cost = n * ANGLE_COST * ELEMENT_COST;
    device.parallel_rows(out, 2 * n, cost, |first, out| {
        for (out, &position) in out.chunks_exact_mut(2 * n).zip(&positions[first..]) {
            let (cosines, sines) = out.split_at_mut(n);
            for ((cos, sin), frequency) in cosines.iter_mut().zip(sines).zip(inverse_frequencies) {
                // Rounded to f32 like the reference's angle, whose error grows with it.
                let angle = position as f32 * frequency;
                let (s, c) = f64::from(angle).sin_cos();
                *cos = c as f32 * factor;
                *sin = s as f32 * factor;
            }
        }
    });
}

/// Rotates the pairs of the first heads by the angles of their row, into `out`, which gets
/// the rest of x too.
pub(crate) fn rotary(
    device: &CpuDevice,
    x: Rows,
    table: Rows,
    [heads, head_dim]: [usize; 2],
    out: &mut [f32],
) {
    let n = table.width / 2;
    let rotated = heads * head_dim;
    assert!(out.len() == x.rows * x.width && table.rows == x.rows);
    assert!(rotated <= x.width && 2 * n <= head_dim);
    device.parallel_rows(out, x.width, x.width * ELEMENT_COST, |first, out| {
        for (index, out) in out.chunks_exact_mut(x.width).enumerate() {
            let (cosines, sines) = table.row(first + index).split_at(n);
            let (heads, rest) = x.row(first + index).split_at(rotated);
            let (out, out_rest) = out.split_at_mut(rotated);
            out_rest.copy_from_slice(rest);
            let heads = heads.chunks_exact(head_dim);
            for (out, head) in out.chunks_exact_mut(head_dim).zip(heads) {
                let (left, rest) = head.split_at(n);
                let (right, kept) = rest.split_at(n);
                let (out_left, rest) = out.split_at_mut(n);
                let (out_right, out_kept) = rest.split_at_mut(n);
                for i in 0..n {
                    out_left[i] = left[i] * cosines[i] - right[i] * sines[i];
                    out_right[i] = right[i] * cosines[i] + left[i] * sines[i];
                }
                out_kept.copy_from_slice(kept);
            }
        }
    });
}
