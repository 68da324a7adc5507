//! What is particular to CUDA: activations in 16 bits, the cache of kernels, and errors of the
//! device. That every operation is right in f32, `conformance.rs` shows for all devices.

mod common;

use std::fs;
use std::process::Command;

use common::{ACTIVATIONS, Random, check_close, check_same_bits, cuda_device};
use tenon_tensor::{
    Account, Activation, AttentionInput, AttentionOptions, Context, DType, Device, Error,
    HeadNorms, Indices, PoolMode, SequenceLayout, Tensor, ops,
};

fn context(device: Device, dtype: DType) -> Context {
    Context {
        device,
        account: Account::new(1 << 30),
        dtype,
    }
}

/// A processor in f32 and a CUDA device in a 16-bit type, with how far they may be apart relative
/// to the largest element: operands are the same, but results are rounded.
fn pairs() -> Vec<(Context, Context, f64)> {
    let Some(device) = cuda_device() else {
        return Vec::new();
    };
    let cpu = || context(Device::cpu(2).unwrap(), DType::F32);
    let cuda = |dtype| context(device.clone(), dtype);
    vec![
        (cpu(), cuda(DType::BF16), 1.0 / 128.0),
        (cpu(), cuda(DType::F16), 1.0 / 1024.0),
    ]
}

/// The same elements on both, as the 16-bit type has them.
fn both(random: &mut Random, cpu: &Context, cuda: &Context, shape: &[usize]) -> [Tensor; 2] {
    let values = random.values(shape.iter().product());
    let on_cuda = Tensor::from_f32(cuda, shape, &values).unwrap();
    let rounded = on_cuda.to_f32().unwrap();
    [Tensor::from_f32(cpu, shape, &rounded).unwrap(), on_cuda]
}

#[track_caller]
fn check(what: &str, results: [tenon_tensor::Result<Tensor>; 2], tolerance: f64) {
    let [wanted, found] = results.map(|result| result.unwrap().to_f32().unwrap());
    let wanted: Vec<f64> = wanted.into_iter().map(f64::from).collect();
    let largest = wanted
        .iter()
        .fold(0.0, |largest, x| f64::max(largest, x.abs()));
    check_close(what, &found, &wanted, tolerance * largest, 0.0);
}

#[test]
fn linear_layers_in_16_bits_equal_those_in_f32_but_for_rounding() {
    for (cpu, cuda, tolerance) in pairs() {
        let mut random = Random(1);
        for (index, activation) in ACTIVATIONS.into_iter().enumerate() {
            let (m, n, k) = (random.integer(1, 40), 8 + 16 * index, 32 + 24 * index);
            let [x, x_there] = both(&mut random, &cpu, &cuda, &[m, k]);
            let [w, w_there] = both(&mut random, &cpu, &cuda, &[n, k]);
            let [b, b_there] = both(&mut random, &cpu, &cuda, &[n]);
            let [r, r_there] = both(&mut random, &cpu, &cuda, &[m, n]);
            let (biased, added) = (index % 2 == 0, index % 3 == 0);
            let results = [
                (&cpu, x, w, b, r),
                (&cuda, x_there, w_there, b_there, r_there),
            ]
            .map(|(ctx, x, w, b, r)| {
                let (bias, residual) = (biased.then_some(&b), added.then_some(&r));
                ops::linear(ctx, &x, &w, bias, activation, residual)
            });
            let what = format!("{:?} {activation:?}", cuda.dtype);
            check(&what, results, 2.0 * tolerance);
        }
    }
}

#[test]
fn products_of_more_kinds_than_are_kept_are_computed_all_the_same() {
    let Some(device) = cuda_device() else {
        return;
    };
    let ctx = context(device, DType::F32);
    let mut random = Random(6);
    for k in 1..300 {
        let (x, xs) = random.tensor(&ctx, &[1, k]);
        let (w, ws) = random.tensor(&ctx, &[2, k]);
        let y = ops::linear(&ctx, &x, &w, None, Activation::Identity, None).unwrap();
        let wanted: Vec<f64> = ws
            .chunks_exact(k)
            .map(|row| {
                let products = row
                    .iter()
                    .zip(&xs)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b));
                products.sum()
            })
            .collect();
        check_close("a kind", &y.to_f32().unwrap(), &wanted, 1e-4, 0.0);
    }
}

#[test]
fn attention_in_16_bits_equals_that_in_f32_but_for_rounding() {
    for (cpu, cuda, tolerance) in pairs() {
        let mut random = Random(2);
        let layout = SequenceLayout::packed(&[0, 5, 6, 76], &[0, 0, 0]).unwrap();
        // Of these, tensor cores take all but the last.
        for head_dim in [32, 64, 80, 96, 128, 256, 24] {
            let options = AttentionOptions {
                heads: 4,
                kv_heads: 2,
                scale: 1.0 / (head_dim as f32).sqrt(),
                causal: head_dim == 64,
                window: (head_dim == 80).then_some(16),
            };
            let [here, there] = both(&mut random, &cpu, &cuda, &[76, 8 * head_dim]);
            let results = [(&cpu, here), (&cuda, there)].map(|(ctx, qkv)| {
                let input = AttentionInput::Fused(&qkv);
                ops::attention(ctx, input, &layout, None, &options)
            });
            check(
                &format!("{:?} head_dim {head_dim}", cuda.dtype),
                results,
                2.0 * tolerance,
            );
        }
    }
}

/// Batches with long sequences are computed by other kernels than those without.
#[test]
fn attention_in_16_bits_is_the_same_beside_a_long_sequence() {
    for (_, cuda, _) in pairs() {
        let mut random = Random(6);
        for head_dim in [32, 64, 80, 96, 128, 256] {
            let width = 3 * head_dim;
            let values = random.values(240 * width);
            let options = AttentionOptions {
                heads: 1,
                kv_heads: 1,
                scale: 1.0 / (head_dim as f32).sqrt(),
                causal: head_dim == 128,
                window: (head_dim == 96).then_some(16),
            };
            let attend = |rows: usize, ends: &[u32]| {
                let qkv = Tensor::from_f32(&cuda, &[rows, width], &values[..rows * width]).unwrap();
                let layout = SequenceLayout::packed(ends, &vec![0; ends.len() - 1]).unwrap();
                let input = AttentionInput::Fused(&qkv);
                let mixed = ops::attention(&cuda, input, &layout, None, &options).unwrap();
                mixed.to_f32().unwrap()
            };
            let alone = attend(100, &[0, 100]);
            let beside = attend(240, &[0, 100, 240]);
            let what = format!("{:?} head_dim {head_dim}", cuda.dtype);
            check_same_bits(&what, &beside[..alone.len()], &alone);
        }
    }
}

#[test]
fn other_operations_in_16_bits_equal_those_in_f32_but_for_rounding() {
    for (cpu, cuda, tolerance) in pairs() {
        let mut random = Random(3);
        let [x, x_there] = both(&mut random, &cpu, &cuda, &[9, 40]);
        let [y, y_there] = both(&mut random, &cpu, &cuda, &[9, 40]);
        let [w, w_there] = both(&mut random, &cpu, &cuda, &[40]);
        let [table, table_there] = both(&mut random, &cpu, &cuda, &[11, 40]);
        let on = [
            (&cpu, x, y, w, table),
            (&cuda, x_there, y_there, w_there, table_there),
        ];
        let layout = SequenceLayout::packed(&[0, 4, 9], &[0, 1]).unwrap();
        let ids = Indices::new(vec![3, 10, 0, 1, 1, 2, 9, 4, 5]);
        let positions = Indices::new((0..9).collect());
        type Op<'a> = &'a dyn Fn(&Context, [&Tensor; 4]) -> tenon_tensor::Result<Tensor>;
        let all: [(&str, Op); 11] = [
            ("embedding", &|ctx, [_, y, _, table]| {
                ops::embedding(ctx, table, &ids, Some(y))
            }),
            ("layer norm", &|ctx, [x, y, w, _]| {
                ops::layer_norm(ctx, x, Some(w), None, 1e-5, Some(y))
            }),
            ("rms norm", &|ctx, [x, _, w, _]| {
                ops::rms_norm(ctx, x, w, 1e-6, 1.0)
            }),
            ("add", &|ctx, [x, y, ..]| ops::add(ctx, x, y)),
            ("mul", &|ctx, [x, y, ..]| ops::mul(ctx, x, y)),
            ("gated", &|ctx, [x, ..]| ops::gated(ctx, x, ACTIVATIONS[5])),
            ("concat", &|ctx, [x, y, ..]| {
                let left = ops::slice(ctx, x, 1, 3, 20)?;
                ops::concat(ctx, &[&left, y], 1)
            }),
            ("rotary", &|ctx, [x, ..]| {
                let table = ops::rotary_table(ctx, &positions, &[1.0, 0.5, 0.25, 0.1], 1.0)?;
                ops::rotary(ctx, x, &table, 3, 10, None)
            }),
            ("rotary with norms", &|ctx, [x, _, w, _]| {
                let table = ops::rotary_table(ctx, &positions, &[0.5; 8], 1.0)?;
                let [query, key] = [0, 20].map(|start| ops::slice(ctx, w, 0, start, 16));
                let norms = HeadNorms {
                    query: &query?,
                    key: &key?,
                    query_heads: 1,
                    eps: 1e-6,
                    weight_offset: 1.0,
                };
                ops::rotary(ctx, x, &table, 2, 16, Some(&norms))
            }),
            ("rotary with norms of odd heads", &|ctx, [x, _, w, _]| {
                let table = ops::rotary_table(ctx, &positions, &[1.0, 0.5], 1.0)?;
                let [query, key] = [0, 7].map(|start| ops::slice(ctx, w, 0, start, 7));
                let norms = HeadNorms {
                    query: &query?,
                    key: &key?,
                    query_heads: 3,
                    eps: 1e-6,
                    weight_offset: 0.0,
                };
                ops::rotary(ctx, x, &table, 4, 7, Some(&norms))
            }),
            ("pooling", &|ctx, [x, ..]| {
                ops::segment_pool(ctx, x, &layout, PoolMode::Mean)
            }),
        ];
        for (what, op) in all {
            let results = on
                .each_ref()
                .map(|(ctx, x, y, w, table)| op(ctx, [x, y, w, table]));
            check(&format!("{:?} {what}", cuda.dtype), results, tolerance);
        }
    }
}

#[test]
fn copies_to_a_device_and_back_are_exact() {
    let Some(device) = cuda_device() else {
        return;
    };
    let ctx = context(device, DType::F32);
    let values = Random(4).values(3 * 7 * 5);
    let x = Tensor::from_f32(&ctx, &[3, 7, 5], &values).unwrap();
    check_same_bits("whole", &x.to_f32().unwrap(), &values);
    let view = ops::slice(&ctx, &ops::slice(&ctx, &x, 1, 2, 4).unwrap(), 2, 1, 3).unwrap();
    let wanted: Vec<f32> = (0..3)
        .flat_map(|i| (2..6).flat_map(move |j| (1..4).map(move |k| (i * 7 + j) * 5 + k)))
        .map(|index| values[index])
        .collect();
    check_same_bits("view", &view.to_f32().unwrap(), &wanted);
    let reshaped = ops::reshape(&ctx, &view, &[6, 6]).unwrap();
    check_same_bits("reshaped", &reshaped.to_f32().unwrap(), &wanted);
    // Everything goes back to the account.
    assert!(ctx.account.used_bytes() > 0);
    drop((x, view, reshaped));
    assert_eq!(ctx.account.used_bytes(), 0);
}

#[test]
fn tensors_of_another_device_are_refused() {
    let Some(device) = cuda_device() else {
        return;
    };
    let there = context(device, DType::F32);
    let here = context(Device::cpu(1).unwrap(), DType::F32);
    let on = |ctx| Tensor::from_f32(ctx, &[2, 2], &[1.0; 4]).unwrap();
    for (ctx, other) in [(&there, &here), (&here, &there)] {
        let refused = ops::add(ctx, &on(ctx), &on(other));
        assert!(
            matches!(refused, Err(Error::InvalidArgument(_))),
            "{refused:?}"
        );
    }
}

#[test]
fn quotas_hold_on_a_device() {
    let Some(device) = cuda_device() else {
        return;
    };
    let ctx = Context {
        account: Account::new(1000),
        ..context(device, DType::F32)
    };
    let x = Tensor::from_f32(&ctx, &[100], &[1.0; 100]).unwrap();
    let first = ops::scale(&ctx, &x, 2.0).unwrap();
    let over = ops::scale(&ctx, &x, 2.0);
    assert!(matches!(over, Err(Error::QuotaExceeded(_))), "{over:?}");
    drop(first);
    ops::scale(&ctx, &x, 2.0).unwrap();
}

#[test]
fn kernels_are_kept_and_a_damaged_cache_is_made_anew() {
    if cuda_device().is_none() {
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let open = || Device::cuda(0, Some(cache.path())).unwrap();
    let files = || -> Vec<_> {
        let entries = fs::read_dir(cache.path()).unwrap();
        let mut files: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (fs::read(&path).unwrap(), path))
            .collect();
        files.sort();
        files
    };
    drop(open());
    let kept = files();
    assert!(!kept.is_empty());
    fs::write(&kept[0].1, b"not code").unwrap();
    drop(open());
    assert_eq!(files(), kept);
}

/// Runs a test of this file that is ignored, with a device of its own that is emulated so; what
/// it wrote.
#[track_caller]
fn drill(test: &str, environment: &[(&str, &str)]) {
    match cuda_device() {
        Some(device) if device.name().contains("emulated") => {}
        Some(_) => return common::cuda::skip(test, "a real device does not fail on demand"),
        None => return,
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn rows_do_not_depend_on_which_algorithm_the_library_guesses() {
    drill(
        "rows_with_algorithms_that_round_otherwise",
        &[("EMULATED_CUBLASLT_ORDERS", "2")],
    );
}

#[test]
#[ignore = "for algorithms that round otherwise: run by rows_do_not_depend_on_which_algorithm_the_library_guesses"]
fn rows_with_algorithms_that_round_otherwise() {
    let ctx = context(cuda_device().unwrap(), DType::F32);
    let mut random = Random(5);
    let (n, k, rows) = (5, 37, 200);
    let (x, values) = random.tensor(&ctx, &[rows, k]);
    let (w, _) = random.tensor(&ctx, &[n, k]);
    let linear = |x: &Tensor| {
        let y = ops::linear(&ctx, x, &w, None, Activation::Identity, None);
        y.unwrap().to_f32().unwrap()
    };
    let all = linear(&x);
    for row in (0..rows).step_by(2) {
        let pair = Tensor::from_f32(&ctx, &[2, k], &values[row * k..][..2 * k]).unwrap();
        check_same_bits("a pair", &linear(&pair), &all[row * n..][..2 * n]);
    }
}

#[test]
fn a_lost_device_is_an_error_and_nothing_else() {
    drill(
        "operations_of_a_lost_device",
        &[("EMULATED_GPU_FAILS_AFTER", "3")],
    );
}

#[test]
#[ignore = "for a device that fails: run by a_lost_device_is_an_error_and_nothing_else"]
fn operations_of_a_lost_device() {
    let ctx = context(cuda_device().unwrap(), DType::F32);
    let x = Tensor::from_f32(&ctx, &[4, 8], &[1.0; 32]).unwrap();
    let first = ops::scale(&ctx, &x, 2.0).unwrap();
    assert_eq!(first.to_f32().unwrap(), [2.0; 32]);
    ops::scale(&ctx, &x, 2.0).unwrap();
    for _ in 0..2 {
        let lost = ops::scale(&ctx, &x, 2.0);
        assert!(matches!(lost, Err(Error::DeviceLost(_))), "{lost:?}");
        let lost = x.to_f32();
        assert!(matches!(lost, Err(Error::DeviceLost(_))), "{lost:?}");
    }
}

#[test]
fn memory_that_runs_out_is_an_error_of_one_operation() {
    // The products' workspace is 32 MiB.
    drill(
        "operations_without_memory",
        &[("EMULATED_GPU_MEMORY", "34000000")],
    );
}

#[test]
#[ignore = "for a small device: run by memory_that_runs_out_is_an_error_of_one_operation"]
fn operations_without_memory() {
    let ctx = context(cuda_device().unwrap(), DType::F32);
    let values = vec![1.0; 100_000];
    let x = Tensor::from_f32(&ctx, &[100, 1000], &values).unwrap();
    let refused = ops::scale(&ctx, &x, 2.0);
    let Err(Error::Other(text)) = refused else {
        panic!("{refused:?}");
    };
    assert!(text.contains("400000 bytes"), "{text}");
    assert_eq!(ctx.account.used_bytes(), 400_000);
    let part = ops::slice(&ctx, &x, 0, 0, 1).unwrap();
    assert_eq!(
        ops::scale(&ctx, &part, 2.0).unwrap().to_f32().unwrap(),
        [2.0; 1000]
    );
}
