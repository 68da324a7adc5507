//! Every operation against a naive reference in f64, on every available level.

mod common;

use common::{ACTIVATIONS, Random, activate, bf16_contexts, check_close, contexts};
use tenon_tensor::{
    Activation, AttentionInput, AttentionOptions, DType, Indices, PoolMode, SequenceLayout, Tensor,
    ops,
};

#[test]
fn linear_matches_reference() {
    for ctx in contexts() {
        let mut random = Random(1);
        for case in 0..60 {
            let (m, n, k) = (
                random.integer(1, 40),
                random.integer(1, 70),
                random.integer(1, 90),
            );
            let (m, n, k) = match case {
                0 => (300, 385, 770),
                1 => (7, 33, 1537),
                2 => (290, 64, 512),
                _ => (m, n, k),
            };
            let (x, xs) = random.tensor(&ctx, &[m, k]);
            let (w, ws) = random.tensor(&ctx, &[n, k]);
            let (b, bs) = random.tensor(&ctx, &[n]);
            let (r, rs) = random.tensor(&ctx, &[m, n]);
            let activation = ACTIVATIONS[case % ACTIVATIONS.len()];
            let bias = (case % 3 != 0).then_some(&b);
            let residual = (case % 2 == 0).then_some(&r);
            let y = ops::linear(&ctx, &x, &w, bias, activation, residual).unwrap();
            let mut wanted = Vec::new();
            for i in 0..m {
                for j in 0..n {
                    let products = (0..k).map(|l| xs[i * k + l] as f64 * ws[j * k + l] as f64);
                    let bias = bias.map_or(0.0, |_| bs[j] as f64);
                    let residual = residual.map_or(0.0, |_| rs[i * n + j] as f64);
                    wanted.push(activate(activation, products.sum::<f64>() + bias) + residual);
                }
            }
            let what = format!("{:?} {m}x{n}x{k} {activation:?}", ctx.device);
            let tolerance = 1e-6 + 1.5e-6 * (k as f64).sqrt();
            check_close(&what, &y.to_f32().unwrap(), &wanted, tolerance, 1e-6);
        }
    }
}

#[test]
fn linear_reads_slices_of_wider_rows() {
    for ctx in contexts() {
        let mut random = Random(2);
        let (x, xs) = random.tensor(&ctx, &[2, 5, 40]);
        let (w, ws) = random.tensor(&ctx, &[9, 30]);
        let view = ops::slice(&ctx, &x, 2, 7, 30).unwrap();
        let view = ops::slice(&ctx, &view, 1, 1, 3).unwrap();
        let y = ops::linear(&ctx, &view, &w, None, Activation::Identity, None).unwrap();
        assert_eq!(y.shape(), [2, 3, 9]);
        let mut wanted = Vec::new();
        for i in [1, 2, 3, 6, 7, 8] {
            for j in 0..9 {
                let products = (0..30).map(|l| xs[i * 40 + 7 + l] as f64 * ws[j * 30 + l] as f64);
                wanted.push(products.sum::<f64>());
            }
        }
        check_close("slices", &y.to_f32().unwrap(), &wanted, 1e-5, 0.0);
    }
}

#[test]
fn activations_match_reference() {
    for ctx in contexts() {
        let xs: Vec<f32> = (-120_000..120_001).map(|i| i as f32 / 8000.0).collect();
        let x = Tensor::from_f32(&ctx, &[xs.len()], &xs).unwrap();
        for activation in ACTIVATIONS {
            let y = ops::activate(&ctx, &x, activation).unwrap();
            let wanted: Vec<f64> = xs.iter().map(|&x| activate(activation, x as f64)).collect();
            let what = format!("{:?} {activation:?}", ctx.device);
            check_close(&what, &y.to_f32().unwrap(), &wanted, 2e-6, 4e-7);
        }
    }
}

#[test]
fn activations_keep_nan_and_saturate() {
    for ctx in contexts() {
        let extremes = [f32::NAN, f32::INFINITY, 1e30, -1e30];
        let x = Tensor::from_f32(&ctx, &[4], &extremes).unwrap();
        for activation in ACTIVATIONS {
            let y = ops::activate(&ctx, &x, activation)
                .unwrap()
                .to_f32()
                .unwrap();
            assert!(y[0].is_nan(), "{activation:?}");
            let bounded = if activation == Activation::Tanh {
                1.0
            } else {
                1e30
            };
            assert!((y[2] / bounded - 1.0).abs() < 1e-6, "{activation:?} {y:?}");
            if !matches!(activation, Activation::Identity | Activation::Tanh) {
                assert!(
                    y[3].abs() < 1e-2 || y[3] / -1e30 < 1e-6,
                    "{activation:?} {y:?}"
                );
            }
        }
    }
}

#[test]
fn norms_match_reference() {
    for ctx in contexts() {
        let mut random = Random(3);
        for width in [1, 2, 7, 16, 33, 384, 1000] {
            let rows = random.integer(1, 300);
            let (x, xs) = random.tensor(&ctx, &[rows, width]);
            let (r, rs) = random.tensor(&ctx, &[rows, width]);
            let (w, ws) = random.tensor(&ctx, &[width]);
            let (b, bs) = random.tensor(&ctx, &[width]);
            let y = ops::layer_norm(&ctx, &x, Some(&w), Some(&b), 1e-5, Some(&r)).unwrap();
            let plain = ops::layer_norm(&ctx, &x, None, None, 1e-5, None).unwrap();
            let rms = ops::rms_norm(&ctx, &x, &w, 1e-5, 1.0).unwrap();
            let unit = ops::l2_normalize(&ctx, &x, 1e-12).unwrap();
            let mut wanted = [const { Vec::new() }; 4];
            for i in 0..rows {
                let x: Vec<f64> = xs[i * width..][..width].iter().map(|&x| x as f64).collect();
                let v: Vec<f64> = x
                    .iter()
                    .zip(&rs[i * width..])
                    .map(|(x, &r)| x + r as f64)
                    .collect();
                let normal = |v: &[f64]| {
                    let mean = v.iter().sum::<f64>() / width as f64;
                    let square = v.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
                    let normal = v.iter().map(|v| (v - mean) / (square + 1e-5).sqrt());
                    normal.collect::<Vec<f64>>()
                };
                let square = x.iter().map(|x| x * x).sum::<f64>();
                for (j, v) in normal(&v).into_iter().enumerate() {
                    wanted[0].push(v * ws[j] as f64 + bs[j] as f64);
                }
                wanted[1].extend(normal(&x));
                for (x, &w) in x.iter().zip(&ws) {
                    let scale = (square / width as f64 + 1e-5).sqrt();
                    wanted[2].push(x / scale * (w as f64 + 1.0));
                    wanted[3].push(x / square.sqrt().max(1e-12));
                }
            }
            for (y, wanted) in [y, plain, rms, unit].iter().zip(&wanted) {
                let what = format!("{:?} {rows}x{width}", ctx.device);
                // With two columns the variance can be tiny, and what rounding there is large.
                check_close(&what, &y.to_f32().unwrap(), wanted, 3e-5, 1e-4);
            }
        }
    }
}

#[test]
fn attention_matches_reference() {
    for ctx in contexts().into_iter().chain(bf16_contexts()) {
        let bf16 = ctx.dtype == DType::BF16;
        let mut random = Random(4);
        for case in 0..40 {
            let kv_heads = random.integer(1, 3);
            let heads = kv_heads * random.integer(1, 3);
            let dim = [1, 3, 8, 16, 20, 32, 40, 64, 80, 128, 256][random.integer(0, 10)];
            let mut cu = vec![0u32];
            for _ in 0..random.integer(1, 4) {
                let limit = if case % 8 == 0 { 1300 / heads } else { 70 };
                cu.push(cu[cu.len() - 1] + random.integer(1, limit) as u32);
            }
            let sequences = cu.len() - 1;
            let rows = cu[sequences] as usize;
            let layout = SequenceLayout::packed(&cu, &vec![0; sequences]).unwrap();
            let options = AttentionOptions {
                heads,
                kv_heads,
                scale: 1.5 / (dim as f32).sqrt(),
                causal: case % 2 == 1,
                window: (case % 3 == 2).then(|| random.integer(0, 40)),
            };
            let longest = layout.max_rows() - 1;
            let farthest = options.window.map_or(longest, |w| w.min(longest));
            let reach = farthest + [0, 1, 100][random.integer(0, 2)];
            let (wide, biases) = random.tensor(&ctx, &[heads, 2 * reach + 3]);
            let bias = ops::slice(&ctx, &wide, 1, 1, 2 * reach + 1).unwrap();
            let bias = (case % 5 < 3).then_some(&bias);
            let width = (heads + 2 * kv_heads) * dim;
            let mut values = random.values(rows * width);
            if bf16 {
                truncate_to_bf16(&mut values);
            }
            let fused = Tensor::from_f32(&ctx, &[rows, width], &values).unwrap();
            let k_at = heads * dim;
            let v_at = k_at + kv_heads * dim;
            let q = ops::slice(&ctx, &fused, 1, 0, k_at).unwrap();
            let k = ops::slice(&ctx, &fused, 1, k_at, kv_heads * dim).unwrap();
            let v = ops::slice(&ctx, &fused, 1, v_at, kv_heads * dim).unwrap();
            let input = AttentionInput::Separate(&q, &k, &v);
            let y = ops::attention(&ctx, input, &layout, bias, &options).unwrap();
            let input = AttentionInput::Fused(&fused);
            let same = ops::attention(&ctx, input, &layout, bias, &options).unwrap();
            assert_eq!(y.to_f32().unwrap(), same.to_f32().unwrap());
            let added = |head: usize, i: usize, j: usize| match bias {
                Some(_) => biases[head * (2 * reach + 3) + 1 + reach + j - i] as f64,
                None => 0.0,
            };
            let wanted = attention_reference(&values, dim, &cu, &options, added);
            let reach = bias.map(|_| reach);
            let what = format!(
                "{:?} {} {cu:?} head-dim {dim} {options:?} bias {reach:?}",
                ctx.device, ctx.dtype
            );
            let rounding = if bf16 { BF16_EXPONENTIALS } else { 0.0 };
            check_close(&what, &y.to_f32().unwrap(), &wanted, 3e-6 + rounding, 1e-5);
        }
    }
}

/// Windows that do not begin at the first key, sums over many keys, and scores that few keys
/// dominate, so that a wrong one is seen in bf16 too.
#[test]
fn attention_of_a_long_sequence_matches_reference() {
    let (length, dim) = (1101, 16);
    let mut random = Random(7);
    let mut values = random.values(length * 4 * dim);
    truncate_to_bf16(&mut values);
    let cu = [0, length as u32];
    let layout = SequenceLayout::packed(&cu, &[0]).unwrap();
    for (window, causal) in [(Some(100), false), (Some(100), true), (None, false)] {
        let options = AttentionOptions {
            heads: 2,
            kv_heads: 1,
            scale: 3.0,
            causal,
            window,
        };
        let wanted = attention_reference(&values, dim, &cu, &options, |_, _, _| 0.0);
        for ctx in contexts().into_iter().chain(bf16_contexts()) {
            let fused = Tensor::from_f32(&ctx, &[length, 4 * dim], &values).unwrap();
            let input = AttentionInput::Fused(&fused);
            let y = ops::attention(&ctx, input, &layout, None, &options).unwrap();
            let bf16 = ctx.dtype == DType::BF16;
            let rounding = if bf16 { BF16_EXPONENTIALS } else { 0.0 };
            let what = format!("{:?} {} {options:?}", ctx.device, ctx.dtype);
            check_close(&what, &y.to_f32().unwrap(), &wanted, 3e-5 + rounding, 0.0);
        }
    }
}

/// However large its value is: a weight that is only nearly zero would be seen.
#[test]
fn keys_out_of_sight_count_nothing() {
    let (length, dim, window, hidden) = (140, 16, 9, 40);
    for ctx in contexts().into_iter().chain(bf16_contexts()) {
        let mut random = Random(31);
        let q = random.tensor(&ctx, &[length, dim]).0;
        let k = random.tensor(&ctx, &[length, dim]).0;
        let mut values = random.values(length * dim);
        let layout = SequenceLayout::packed(&[0, length as u32], &[0]).unwrap();
        let options = AttentionOptions {
            heads: 1,
            kv_heads: 1,
            scale: 0.5,
            causal: false,
            window: Some(window),
        };
        let mut attended = |value: f32| {
            values[hidden * dim..][..dim].fill(value);
            let v = Tensor::from_f32(&ctx, &[length, dim], &values).unwrap();
            let input = AttentionInput::Separate(&q, &k, &v);
            let y = ops::attention(&ctx, input, &layout, None, &options).unwrap();
            y.to_f32().unwrap()
        };
        let (zero, large) = (attended(0.0), attended(1e37));
        for query in (0..length).filter(|query| query.abs_diff(hidden) > window) {
            let of_query = query * dim..(query + 1) * dim;
            let what = format!("{:?} {} query {query}", ctx.device, ctx.dtype);
            assert!(zero[of_query.clone()] == large[of_query], "{what}");
        }
    }
}

/// Half a unit in the last place of each exponential, of values below 1.
const BF16_EXPONENTIALS: f64 = 1.0 / 512.0;

/// Makes operands that bf16 does not round: the softmax's exponentials alone are then.
fn truncate_to_bf16(values: &mut [f32]) {
    for x in values {
        *x = f32::from_bits(x.to_bits() & 0xffff_0000);
    }
}

/// softmax(scale q k^T + bias + mask) v of queries, keys and values side by side; the bias is that
/// of a head, the query at i and the key at j of a sequence.
fn attention_reference(
    values: &[f32],
    dim: usize,
    cu: &[u32],
    options: &AttentionOptions,
    bias: impl Fn(usize, usize, usize) -> f64,
) -> Vec<f64> {
    let &AttentionOptions {
        heads, kv_heads, ..
    } = options;
    let width = (heads + 2 * kv_heads) * dim;
    let (k_at, v_at) = (heads * dim, (heads + kv_heads) * dim);
    let at = |row: usize, column: usize| values[row * width + column] as f64;
    let mut wanted = vec![0.0f64; values.len() / width * heads * dim];
    for pair in cu.windows(2) {
        let (start, end) = (pair[0] as usize, pair[1] as usize);
        for i in start..end {
            for head in 0..heads {
                let kv = head / (heads / kv_heads);
                let sees = |j: usize| {
                    let near = options.window.is_none_or(|w| i.abs_diff(j) <= w);
                    near && (!options.causal || j <= i)
                };
                let keys: Vec<usize> = (start..end).filter(|&j| sees(j)).collect();
                let scores = keys.iter().map(|&j| {
                    let products =
                        (0..dim).map(|e| at(i, head * dim + e) * at(j, k_at + kv * dim + e));
                    let score = products.sum::<f64>() * options.scale as f64;
                    (score + bias(head, i, j)).exp()
                });
                let scores: Vec<f64> = scores.collect();
                let sum: f64 = scores.iter().sum();
                for e in 0..dim {
                    let products = keys.iter().zip(&scores);
                    let products = products.map(|(&j, p)| p * at(j, v_at + kv * dim + e));
                    wanted[i * heads * dim + head * dim + e] = products.sum::<f64>() / sum;
                }
            }
        }
    }
    wanted
}

#[test]
fn embedding_picks_rows() {
    for ctx in contexts() {
        let mut random = Random(5);
        let (table, values) = random.tensor(&ctx, &[50, 37]);
        let (residual, more) = random.tensor(&ctx, &[400, 37]);
        let ids: Vec<u32> = (0..400).map(|_| random.integer(0, 49) as u32).collect();
        let indices = Indices::new(ids.clone());
        let y = ops::embedding(&ctx, &table, &indices, Some(&residual)).unwrap();
        let wanted: Vec<f32> = (0..400 * 37)
            .map(|at| values[ids[at / 37] as usize * 37 + at % 37] + more[at])
            .collect();
        assert_eq!(y.to_f32().unwrap(), wanted);
    }
}

#[test]
fn elementwise_layout_and_scale() {
    for ctx in contexts() {
        let mut random = Random(6);
        let (a, left) = random.tensor(&ctx, &[3, 4, 5]);
        let (b, right) = random.tensor(&ctx, &[3, 4, 5]);
        let zip = |f: fn(f32, f32) -> f32| -> Vec<f32> {
            left.iter().zip(&right).map(|(&a, &b)| f(a, b)).collect()
        };
        assert_eq!(
            ops::add(&ctx, &a, &b).unwrap().to_f32().unwrap(),
            zip(|a, b| a + b)
        );
        assert_eq!(
            ops::mul(&ctx, &a, &b).unwrap().to_f32().unwrap(),
            zip(|a, b| a * b)
        );
        assert_eq!(
            ops::scale(&ctx, &a, 2.5).unwrap().to_f32().unwrap(),
            zip(|a, _| a * 2.5)
        );
        for axis in 0..3 {
            let joined = ops::concat(&ctx, &[&a, &b, &a], axis).unwrap();
            let size = a.shape()[axis];
            assert_eq!(joined.shape()[axis], 3 * size);
            for (index, part) in [&a, &b, &a].into_iter().enumerate() {
                let view = ops::slice(&ctx, &joined, axis, index * size, size).unwrap();
                assert_eq!(
                    view.to_f32().unwrap(),
                    part.to_f32().unwrap(),
                    "axis {axis}"
                );
                let sum = ops::add(&ctx, &view, part).unwrap();
                let twice = ops::scale(&ctx, part, 2.0).unwrap();
                assert_eq!(sum.to_f32().unwrap(), twice.to_f32().unwrap());
            }
        }
    }
}

#[test]
fn pooling_matches_reference() {
    for ctx in contexts() {
        let mut random = Random(7);
        let (x, xs) = random.tensor(&ctx, &[30, 11]);
        let cu = [0u32, 1, 4, 13, 30];
        let excluded = [0u32, 2, 0, 5];
        let layout = SequenceLayout::packed(&cu, &excluded).unwrap();
        let selected = layout.select(&[3, 1]).unwrap();
        assert_eq!(
            (selected.sequences(), selected.rows(), selected.max_rows()),
            (2, 20, 17)
        );
        for (layout, sequences) in [(layout, vec![0, 1, 2, 3]), (selected, vec![3, 1])] {
            for mode in [
                PoolMode::First,
                PoolMode::Last,
                PoolMode::Mean,
                PoolMode::MeanSqrtLen,
                PoolMode::WeightedMean,
                PoolMode::Max,
            ] {
                let y = ops::segment_pool(&ctx, &x, &layout, mode).unwrap();
                let mut wanted = Vec::new();
                for &sequence in &sequences {
                    let start = cu[sequence] as usize;
                    let rows = start + excluded[sequence] as usize..cu[sequence + 1] as usize;
                    let count = rows.len() as f64;
                    for j in 0..11 {
                        let at = |row: usize| xs[row * 11 + j] as f64;
                        let position = |row: usize| (row - start + 1) as f64;
                        let sum: f64 = rows.clone().map(at).sum();
                        wanted.push(match mode {
                            PoolMode::First => at(rows.start),
                            PoolMode::Last => at(rows.end - 1),
                            PoolMode::Mean => sum / count,
                            PoolMode::MeanSqrtLen => sum / count.sqrt(),
                            PoolMode::WeightedMean => {
                                let weighted = rows.clone().map(|row| at(row) * position(row));
                                weighted.sum::<f64>() / rows.clone().map(position).sum::<f64>()
                            }
                            PoolMode::Max => rows.clone().map(at).fold(f64::MIN, f64::max),
                        });
                    }
                }
                check_close(
                    &format!("{mode:?}"),
                    &y.to_f32().unwrap(),
                    &wanted,
                    1e-6,
                    1e-6,
                );
            }
        }
    }
}

#[test]
fn gates_and_norms_of_heads_match_reference() {
    for ctx in contexts() {
        let mut random = Random(10);
        for _ in 0..20 {
            let (rows, half) = (random.integer(1, 100), random.integer(1, 70));
            let (x, values) = random.tensor(&ctx, &[rows, 2 * half]);
            let y = ops::gated(&ctx, &x, Activation::Silu).unwrap();
            let gate = |row: &[f32]| -> Vec<f64> {
                let (left, right) = row.split_at(half);
                let pairs = left.iter().zip(right);
                pairs
                    .map(|(&l, &r)| f64::from(l) / (1.0 + f64::from(-l).exp()) * f64::from(r))
                    .collect()
            };
            let wanted: Vec<f64> = values.chunks_exact(2 * half).flat_map(gate).collect();
            check_close("gated", &y.to_f32().unwrap(), &wanted, 1e-6, 1e-5);

            let (weight, scales) = random.tensor(&ctx, &[half]);
            let y = ops::rms_norm(&ctx, &x, &weight, 1e-6, 1.0).unwrap();
            let norm = |head: &[f32]| -> Vec<f64> {
                let squares: f64 = head.iter().map(|&x| f64::from(x).powi(2)).sum();
                let scale = 1.0 / (squares / half as f64 + 1e-6).sqrt();
                let pairs = head.iter().zip(&scales);
                pairs
                    .map(|(&x, &w)| f64::from(x) * scale * (f64::from(w) + 1.0))
                    .collect()
            };
            let wanted: Vec<f64> = values.chunks_exact(half).flat_map(norm).collect();
            check_close("norm of heads", &y.to_f32().unwrap(), &wanted, 1e-6, 1e-5);
        }
    }
}
