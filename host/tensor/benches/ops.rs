//! Operations against the processor's own limit:
//! `cargo bench -p tenon-tensor --bench ops [-- [THREADS] [bf16] [linear|attention|rows|forward]..]`.
//!
//! The limit is measured beside every operation ([`Device::measure_flops`]), and the best of
//! several runs counts: on a shared machine both vary, and others only slow down.

use std::time::Instant;

use tenon_tensor::{
    Account, Activation, AttentionInput, AttentionOptions, Context, DType, Device, SequenceLayout,
    Tensor, Weights, ops,
};

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let threads = numbers.next().unwrap_or(1);
    let bf16 = std::env::args().any(|argument| argument == "bf16");
    let device = Device::cpu(threads).unwrap();
    println!("{device:?}");
    let ctx = Context {
        device,
        account: Account::new(8 << 30),
        dtype: if bf16 { DType::BF16 } else { DType::F32 },
    };
    let names = ["linear", "attention", "rows", "forward"];
    let chosen: Vec<String> = std::env::args()
        .filter(|it| names.contains(&it.as_str()))
        .collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|it| it == name);
    for (name, run) in names.iter().zip([linear, attention, rows, forward]) {
        if is_chosen(name) {
            run(&ctx);
        }
    }
}

/// The least seconds of a call, of runs that take half a second together.
fn best(mut body: impl FnMut()) -> f64 {
    body();
    let (start, mut best) = (Instant::now(), f64::MAX);
    while start.elapsed().as_secs_f64() < 0.4 {
        let call = Instant::now();
        body();
        best = best.min(call.elapsed().as_secs_f64());
    }
    best
}

fn report(ctx: &Context, what: &str, seconds: f64, flops: f64) {
    let rate = flops / seconds;
    let peaks = (0..20).map(|_| ctx.device.measure_flops(ctx.dtype).unwrap());
    let share = 100.0 * rate / peaks.fold(0.0, f64::max);
    println!(
        "{what:44} {:8.1} us {:7.1} GFLOP/s {share:5.1} %",
        seconds * 1e6,
        rate / 1e9
    );
}

fn random(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor(ctx: &Context, shape: &[usize]) -> Tensor {
    Tensor::from_f32(ctx, shape, &random(shape.iter().product())).unwrap()
}

/// A checkpoint of one weight, so that it is packed as those of models are.
fn weight(ctx: &Context, n: usize, k: usize) -> Tensor {
    let header = format!(
        r#"{{"w":{{"dtype":"F32","shape":[{n},{k}],"data_offsets":[0,{}]}}}}"#,
        n * k * 4
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(random(n * k).iter().flat_map(|x| x.to_le_bytes()));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("model.safetensors"), file).unwrap();
    Weights::open(&ctx.device, dir.path(), ctx.dtype)
        .unwrap()
        .get("w", &[n, k])
        .unwrap()
}

fn linear(ctx: &Context) {
    for (n, k) in [
        (384, 384),
        (1152, 384),
        (1536, 384),
        (384, 1536),
        (1024, 1024),
        (4096, 1024),
        (1024, 4096),
    ] {
        let w = weight(ctx, n, k);
        for m in [16, 128, 1024, 8192] {
            let x = tensor(ctx, &[m, k]);
            let seconds = best(|| {
                ops::linear(ctx, &x, &w, None, Activation::Identity, None).unwrap();
            });
            report(
                ctx,
                &format!("linear {m} x {n} x {k}"),
                seconds,
                2.0 * (m * n * k) as f64,
            );
        }
    }
    let (w, b) = (weight(ctx, 1536, 384), tensor(ctx, &[1536]));
    let x = tensor(ctx, &[1024, 384]);
    for activation in [
        Activation::Identity,
        Activation::GeluErf,
        Activation::GeluTanh,
    ] {
        let seconds = best(|| {
            ops::linear(ctx, &x, &w, Some(&b), activation, None).unwrap();
        });
        let what = format!("linear 1024 x 1536 x 384 bias {activation:?}");
        report(ctx, &what, seconds, 2.0 * (1024 * 1536 * 384) as f64);
    }
}

fn attention(ctx: &Context) {
    for (heads, dim) in [(12, 32), (16, 64)] {
        for length in [16, 58, 128, 512, 2048] {
            let sequences = 512usize.div_ceil(length);
            let rows = sequences * length;
            let qkv = tensor(ctx, &[rows, 3 * heads * dim]);
            let part = |i| ops::slice(ctx, &qkv, 1, i * heads * dim, heads * dim).unwrap();
            let cu: Vec<u32> = (0..=sequences).map(|i| (i * length) as u32).collect();
            let layout = SequenceLayout::packed(&cu, &vec![0; sequences]).unwrap();
            let options = AttentionOptions {
                heads,
                kv_heads: heads,
                scale: 0.1,
                causal: false,
                window: None,
            };
            let (q, k, v) = (part(0), part(1), part(2));
            let bias = tensor(ctx, &[heads, 2 * length - 1]);
            for (bias, kind) in [(None, ""), (Some(&bias), " biased")] {
                let input = AttentionInput::Separate(&q, &k, &v);
                let seconds = best(|| {
                    ops::attention(ctx, input, &layout, bias, &options).unwrap();
                });
                let flops = 4.0 * (sequences * length * length * heads * dim) as f64;
                let what = format!("attention{kind} {sequences} x {length} rows, {heads} x {dim}");
                report(ctx, &what, seconds, flops);
            }
        }
    }
}

/// Operations that are bound by memory: bytes read and written in a second.
fn rows(ctx: &Context) {
    for rows in [16, 2048] {
        let (x, r) = (tensor(ctx, &[rows, 384]), tensor(ctx, &[rows, 384]));
        let (w, b) = (tensor(ctx, &[384]), tensor(ctx, &[384]));
        let print = |what: &str, tensors: usize, seconds: f64| {
            let rate = (tensors * rows * 384 * 4) as f64 / seconds / 1e9;
            let what = format!("{what} {rows} x 384");
            println!("{what:44} {:8.1} us {rate:7.1} GB/s", seconds * 1e6);
        };
        let norm = || drop(ops::layer_norm(ctx, &x, Some(&w), Some(&b), 1e-5, Some(&r)).unwrap());
        print("layer-norm with residual", 3, best(norm));
        print("add", 3, best(|| drop(ops::add(ctx, &x, &r).unwrap())));
        let gelu = || drop(ops::activate(ctx, &x, Activation::GeluErf).unwrap());
        print("gelu-erf", 2, best(gelu));
    }
}

/// The operations of a MiniLM-L6 forward pass: 12 heads of 32, six layers, in one call as a
/// model makes it.
fn forward(ctx: &Context) {
    // Each layer has weights of its own: together they are more than the caches hold.
    let layers = [(); 6].map(|()| {
        [(1152, 384), (384, 384), (1536, 384), (384, 1536)].map(|(n, k)| weight(ctx, n, k))
    });
    let vector = |n: usize| tensor(ctx, &[n]);
    let (b384, b1152, b1536) = (vector(384), vector(1152), vector(1536));
    let options = AttentionOptions {
        heads: 12,
        kv_heads: 12,
        scale: 0.2,
        causal: false,
        window: None,
    };
    for rows in [16, 128, 256, 512, 1024, 2048] {
        let length = rows.min(128);
        let cu: Vec<u32> = (0..=rows / length).map(|i| (i * length) as u32).collect();
        let layout = SequenceLayout::packed(&cu, &vec![0; cu.len() - 1]).unwrap();
        let input = tensor(ctx, &[rows, 384]);
        let layer = |x: &Tensor, weights: &[Tensor; 4]| -> tenon_tensor::Result<Tensor> {
            let [fused, output, up, down] = weights;
            let plain = Activation::Identity;
            let qkv = ops::linear(ctx, x, fused, Some(&b1152), plain, None)?;
            let mixed = ops::attention(ctx, AttentionInput::Fused(&qkv), &layout, None, &options)?;
            let x = ops::linear(ctx, &mixed, output, Some(&b384), plain, Some(x))?;
            let x = ops::layer_norm(ctx, &x, Some(&b384), Some(&b384), 1e-12, None)?;
            let wide = ops::linear(ctx, &x, up, Some(&b1536), Activation::GeluErf, None)?;
            let x = ops::linear(ctx, &wide, down, Some(&b384), plain, Some(&x))?;
            ops::layer_norm(ctx, &x, Some(&b384), Some(&b384), 1e-12, None)
        };
        let seconds = best(|| {
            let mut x = input.clone();
            for weights in &layers {
                x = layer(&x, weights).unwrap();
            }
        });
        let flops = 6 * rows * (2 * 12 * 384 * 384 + 4 * length * 384);
        let what = format!("six layers of MiniLM, {rows} tokens of {length}");
        report(ctx, &what, seconds, flops as f64);
    }
}
