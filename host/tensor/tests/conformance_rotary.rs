//! The rotation of heads, with their norms and without, against direct formulas in f64.

mod common;

use common::{Random, check_close, check_same_bits, contexts};
use tenon_tensor::{HeadNorms, Indices, Tensor, ops};

#[test]
fn rotary_matches_reference() {
    for ctx in contexts() {
        let mut random = Random(9);
        for _ in 0..20 {
            let (heads, kept) = (random.integer(1, 5), random.integer(0, 5));
            let head_dim = random.integer(2, 40);
            let n = random.integer(1, head_dim / 2);
            let rows = random.integer(1, 300);
            let positions: Vec<u32> = (0..rows).map(|_| random.integer(0, 9000) as u32).collect();
            let frequencies: Vec<f32> = (0..n).map(|i| 0.9f32.powi(i as i32)).collect();
            let indices = Indices::new(positions.clone());
            let table = ops::rotary_table(&ctx, &indices, &frequencies, 1.5).unwrap();
            let width = (heads + kept) * head_dim;
            let (x, values) = random.tensor(&ctx, &[rows, width]);
            let y = ops::rotary(&ctx, &x, &table, heads, head_dim, None).unwrap();
            let mut wanted: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
            for (row, &position) in wanted.chunks_exact_mut(width).zip(&positions) {
                for head in row.chunks_exact_mut(head_dim).take(heads) {
                    for (i, &frequency) in frequencies.iter().enumerate() {
                        let angle = f64::from(position as f32 * frequency);
                        let (sin, cos) = (1.5 * angle.sin(), 1.5 * angle.cos());
                        let (left, right) = (head[i], head[i + n]);
                        head[i] = left * cos - right * sin;
                        head[i + n] = right * cos + left * sin;
                    }
                }
            }
            let what = format!("{:?} {rows}x{heads}x{head_dim}", ctx.device);
            check_close(&what, &y.to_f32().unwrap(), &wanted, 1e-6, 1e-5);
        }
    }
}

#[test]
fn rotary_with_norms_matches_reference() {
    for ctx in contexts() {
        let mut random = Random(12);
        for case in 0..30 {
            let key_heads = random.integer(1, 3);
            let query_heads = key_heads * random.integer(1, 3);
            let heads = query_heads + key_heads;
            let head_dim = match case % 3 {
                0 => random.integer(2, 40),
                1 => [16, 64, 80, 96, 128, 256][random.integer(0, 5)],
                _ => 8 * random.integer(1, 32),
            };
            // All of a head, or a part of it.
            let n = match case % 2 {
                0 => head_dim / 2,
                _ => random.integer(1, head_dim / 2),
            };
            let rows = random.integer(1, 60);
            let positions: Vec<u32> = (0..rows).map(|_| random.integer(0, 9000) as u32).collect();
            let frequencies: Vec<f32> = (0..n).map(|i| 0.9f32.powi(i as i32)).collect();
            let indices = Indices::new(positions.clone());
            let table = ops::rotary_table(&ctx, &indices, &frequencies, 1.0).unwrap();
            // The rest of a row need not be whole heads.
            let kept = random.integer(0, 2 * head_dim);
            let width = heads * head_dim + kept;
            let (x, values) = random.tensor(&ctx, &[rows, width]);
            let (query, query_weight) = random.tensor(&ctx, &[head_dim]);
            let (key, key_weight) = random.tensor(&ctx, &[head_dim]);
            let offset = (case % 4 / 2) as f32;
            let norms = HeadNorms {
                query: &query,
                key: &key,
                query_heads,
                eps: 1e-6,
                weight_offset: offset,
            };
            let y = ops::rotary(&ctx, &x, &table, heads, head_dim, Some(&norms)).unwrap();
            let mut wanted: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
            for (row, &position) in wanted.chunks_exact_mut(width).zip(&positions) {
                let of_row = row.chunks_exact_mut(head_dim).take(heads);
                for (index, head) in of_row.enumerate() {
                    let squares: f64 = head.iter().map(|x| x * x).sum();
                    let scale = 1.0 / (squares / head_dim as f64 + 1e-6).sqrt();
                    let weight = match index < query_heads {
                        true => &query_weight,
                        false => &key_weight,
                    };
                    for (x, &w) in head.iter_mut().zip(weight) {
                        *x *= scale * f64::from(w + offset);
                    }
                    for (i, &frequency) in frequencies.iter().enumerate() {
                        let (sin, cos) = f64::from(position as f32 * frequency).sin_cos();
                        let (left, right) = (head[i], head[i + n]);
                        head[i] = left * cos - right * sin;
                        head[i + n] = right * cos + left * sin;
                    }
                }
            }
            let what = format!("{:?} {rows}x{heads}x{head_dim}+{kept}", ctx.device);
            check_close(&what, &y.to_f32().unwrap(), &wanted, 3e-6, 1e-5);
            if ctx.device.records() {
                continue;
            }
            // On the processor it is one pass over what the operations by themselves compute.
            let part = |first: usize, heads: usize, weight: &Tensor| {
                let width = heads * head_dim;
                let x = ops::slice(&ctx, &x, 1, first * head_dim, width).unwrap();
                let x = ops::rms_norm(&ctx, &x, weight, 1e-6, offset).unwrap();
                let x = ops::rotary(&ctx, &x, &table, heads, head_dim, None).unwrap();
                x.to_f32().unwrap()
            };
            let separate = [
                (0, query_heads, part(0, query_heads, &query)),
                (query_heads, key_heads, part(query_heads, key_heads, &key)),
            ];
            for (first, heads, wanted) in separate {
                let part = ops::slice(&ctx, &y, 1, first * head_dim, heads * head_dim).unwrap();
                check_same_bits(&what, &part.to_f32().unwrap(), &wanted);
            }
        }
    }
}

/// A head's norm is its own: a row beside others has the bits that it has alone.
#[test]
fn rows_of_rotary_with_norms_do_not_depend_on_their_batch() {
    for ctx in contexts() {
        let mut random = Random(13);
        for head_dim in [12, 64, 80] {
            let (rows, width) = (33, 5 * head_dim);
            let (x, values) = random.tensor(&ctx, &[rows, width]);
            let (table, angles) = random.tensor(&ctx, &[rows, head_dim]);
            let (weight, _) = random.tensor(&ctx, &[head_dim]);
            let norms = HeadNorms {
                query: &weight,
                key: &weight,
                query_heads: 2,
                eps: 1e-6,
                weight_offset: 1.0,
            };
            let rotated = |x: &Tensor, table: &Tensor| {
                let y = ops::rotary(&ctx, x, table, 3, head_dim, Some(&norms));
                y.unwrap().to_f32().unwrap()
            };
            let all = rotated(&x, &table);
            for row in [0, 7, rows - 1] {
                let of_row = |values: &[f32], width: usize| {
                    Tensor::from_f32(&ctx, &[1, width], &values[row * width..][..width]).unwrap()
                };
                let alone = rotated(&of_row(&values, width), &of_row(&angles, head_dim));
                let what = format!("{:?} {head_dim} row {row}", ctx.device);
                check_same_bits(&what, &all[row * width..][..width], &alone);
            }
        }
    }
}
