//! Rotary position embeddings.

use super::device::ELEMENT_COST;
use super::norm::rms_norm_rows;
use super::{CpuDevice, RmsNorm, Rows};

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

/// The norms of heads, of which the first `query_heads` are queries and the others keys.
#[derive(Clone, Copy)]
pub(crate) struct HeadNorms<'a> {
    pub query: &'a [f32],
    pub key: &'a [f32],
    pub query_heads: usize,
    pub eps: f32,
    pub weight_offset: f32,
}

impl HeadNorms<'_> {
    /// The norms of the heads of one row, into `out`.
    fn apply(&self, device: &CpuDevice, heads: &[f32], out: &mut [f32]) {
        let queries = self.query_heads * self.query.len();
        let (query_heads, key_heads) = heads.split_at(queries);
        let (out_queries, out_keys) = out.split_at_mut(queries);
        let parts = [
            (query_heads, self.query, out_queries),
            (key_heads, self.key, out_keys),
        ];
        for (heads, weight, out) in parts.into_iter().filter(|(heads, ..)| !heads.is_empty()) {
            let op = RmsNorm {
                x: Rows::new(heads, 1, heads.len(), heads.len()),
                weight,
                weight_offset: self.weight_offset,
                eps: self.eps,
            };
            rms_norm_rows(device, op, 0, out);
        }
    }
}

/// Rotates the pairs of the first heads by the angles of their row, after their norms where
/// there are any, into `out`, which gets the rest of x too.
pub(crate) fn rotary(
    device: &CpuDevice,
    x: Rows,
    table: Rows,
    [heads, head_dim]: [usize; 2],
    norms: Option<HeadNorms>,
    out: &mut [f32],
) {
    let n = table.width / 2;
    let rotated = heads * head_dim;
    assert!(out.len() == x.rows * x.width && table.rows == x.rows);
    assert!(rotated <= x.width && 2 * n <= head_dim);
    assert!(norms.is_none_or(|norms| {
        let lengths = [norms.query.len(), norms.key.len()];
        lengths == [head_dim; 2] && norms.query_heads <= heads
    }));
    let normed = norms.map_or(0, |_| rotated);
    let cost = (x.width + normed) * ELEMENT_COST;
    device.parallel_rows(out, x.width, cost, |first, out| {
        for (index, out) in out.chunks_exact_mut(x.width).enumerate() {
            let (cosines, sines) = table.row(first + index).split_at(n);
            let (heads, rest) = x.row(first + index).split_at(rotated);
            let (out, out_rest) = out.split_at_mut(rotated);
            out_rest.copy_from_slice(rest);
            match &norms {
                Some(norms) => norms.apply(device, heads, out),
                None => out.copy_from_slice(heads),
            }
            for head in out.chunks_exact_mut(head_dim) {
                let (left, rest) = head.split_at_mut(n);
                let right = &mut rest[..n];
                for i in 0..n {
                    let (l, r) = (left[i], right[i]);
                    left[i] = l * cosines[i] - r * sines[i];
                    right[i] = r * cosines[i] + l * sines[i];
                }
            }
        }
    });
}
