//! A row's result is the same to the bit alone, in any batch, and on any number of threads.

mod common;

use common::{ACTIVATIONS, Random, bf16_contexts, check_same_bits, contexts, f32_bytes, file};
use tenon_tensor::{
    AttentionInput, AttentionOptions, Context, DType, PoolMode, SequenceLayout, Tensor, Weights,
    ops,
};

/// A small encoder layer: every operation whose rows could touch each other.
fn layer(ctx: &Context, x: &[f32], weights: &[Vec<f32>], cu: &[u32], width: usize) -> Vec<f32> {
    let rows = x.len() / width;
    let tensor = |shape: &[usize], values: &[f32]| Tensor::from_f32(ctx, shape, values).unwrap();
    let x = tensor(&[rows, width], x);
    let fused = tensor(&[3 * width, width], &weights[0]);
    let up = tensor(&[2 * width + 5, width], &weights[1]);
    let down = tensor(&[width, 2 * width + 5], &weights[2]);
    let bias = tensor(&[width], &weights[3]);
    let qkv = ops::linear(ctx, &x, &fused, None, ACTIVATIONS[0], None).unwrap();
    let layout = SequenceLayout::packed(cu, &vec![0; cu.len() - 1]).unwrap();
    let options = AttentionOptions {
        heads: 2,
        kv_heads: 2,
        scale: 0.3,
        causal: false,
        window: Some(50),
    };
    let input = AttentionInput::Fused(&qkv);
    let mixed = ops::attention(ctx, input, &layout, None, &options).unwrap();
    let near = tensor(&[2, 101], &weights[4]);
    let input = AttentionInput::Separate(&mixed, &x, &x);
    let mixed = ops::attention(ctx, input, &layout, Some(&near), &options).unwrap();
    let normal = ops::layer_norm(ctx, &mixed, Some(&bias), None, 1e-5, Some(&x)).unwrap();
    let wide = ops::linear(ctx, &normal, &up, None, ACTIVATIONS[2], None).unwrap();
    let out = ops::linear(
        ctx,
        &wide,
        &down,
        Some(&bias),
        ACTIVATIONS[0],
        Some(&normal),
    )
    .unwrap();
    let pooled = ops::segment_pool(ctx, &out, &layout, PoolMode::Mean).unwrap();
    ops::l2_normalize(ctx, &pooled, 1e-12)
        .unwrap()
        .to_f32()
        .unwrap()
}

#[test]
fn sequences_do_not_depend_on_their_batch() {
    let mut first: Option<(String, Vec<f32>)> = None;
    for ctx in contexts().into_iter().chain(bf16_contexts()) {
        let mut random = Random(11);
        // Odd widths, and one whose rows are a power of two apart.
        for width in [46, 256] {
            let sizes = [
                3 * width * width,
                (2 * width + 5) * width,
                (2 * width + 5) * width,
                width,
                2 * 101,
            ];
            let weights: Vec<_> = sizes
                .iter()
                .map(|&size| {
                    random
                        .values(size)
                        .iter()
                        .map(|x| x * 0.2)
                        .collect::<Vec<_>>()
                })
                .collect();
            let lengths: Vec<usize> = (0..12).map(|_| random.integer(1, 170)).collect();
            let sequences: Vec<_> = lengths
                .iter()
                .map(|length| random.values(length * width))
                .collect();
            let mut cu = vec![0u32];
            for length in &lengths {
                cu.push(cu[cu.len() - 1] + *length as u32);
            }
            let batch = layer(&ctx, &sequences.concat(), &weights, &cu, width);
            for (index, sequence) in sequences.iter().enumerate() {
                let alone = layer(&ctx, sequence, &weights, &[0, lengths[index] as u32], width);
                let what = format!("{:?} sequence {index}", ctx.device);
                check_same_bits(&what, &batch[index * width..][..width], &alone);
            }
            // On one level, the number of threads does not matter either.
            let name = format!("{} {} {width}", ctx.device.name(), ctx.dtype);
            match &first {
                Some((other, values)) if *other == name => check_same_bits(&name, values, &batch),
                _ => {}
            }
            if width == 256 {
                first = Some((name, batch));
            }
        }
    }
}

/// A weight that is packed for one call, or one of a checkpoint that is served in f32 or bf16.
fn weight(ctx: &Context, case: usize, shape: &[usize], values: &[f32]) -> Tensor {
    let dtype = match case % 3 {
        0 => return Tensor::from_f32(ctx, shape, values).unwrap(),
        1 => DType::F32,
        _ => DType::BF16,
    };
    let dir = tempfile::tempdir().unwrap();
    let bytes = file(&[("w", "F32", shape, f32_bytes(values))]);
    std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let weights = Weights::open(&ctx.device, dir.path(), dtype).unwrap();
    weights.get("w", shape).unwrap()
}

#[test]
fn rows_of_linear_do_not_depend_on_their_batch() {
    for ctx in contexts() {
        let mut random = Random(12);
        for case in 0..25 {
            // The last ones have several slices of k on a matrix unit.
            let longest = if case < 22 { 800 } else { 5000 };
            let (n, k) = (random.integer(1, 100), random.integer(1, longest));
            let rows = random.integer(1, 330);
            let (x, xs) = random.tensor(&ctx, &[rows, k]);
            let w = weight(&ctx, case, &[n, k], &random.values(n * k));
            let activation = ACTIVATIONS[random.integer(0, 6)];
            let all = ops::linear(&ctx, &x, &w, None, activation, None).unwrap();
            let all = all.to_f32().unwrap();
            for _ in 0..4 {
                let first = random.integer(0, rows - 1);
                let count = random.integer(1, (rows - first).min(20));
                let some = Tensor::from_f32(&ctx, &[count, k], &xs[first * k..][..count * k]);
                let some = ops::linear(&ctx, &some.unwrap(), &w, None, activation, None);
                let what = format!("{:?} {rows}x{n}x{k} rows {first}+{count}", ctx.device);
                let wanted = &all[first * n..][..count * n];
                check_same_bits(&what, wanted, &some.unwrap().to_f32().unwrap());
            }
        }
    }
}
