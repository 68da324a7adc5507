//! Linear layers in 8 bits: against a reference that quantises the same way, and how far they are
//! from layers that do not.

mod common;

use std::path::Path;
use std::process::Command;

use common::{ACTIVATIONS, Random, activate, check_close, check_same_bits, cuda_device};
use half::bf16;
use tenon_tensor::{
    Account, Activation, Context, DType, Device, Error, Indices, Tensor, Weights, ops,
};

/// A checkpoint with one weight, in bf16, and its numbers.
struct Checkpoint {
    folder: tempfile::TempDir,
    shape: [usize; 2],
    values: Vec<f32>,
}

impl Checkpoint {
    fn new(shape: [usize; 2], values: &[f32]) -> Self {
        let values: Vec<bf16> = values.iter().map(|&x| bf16::from_f32(x)).collect();
        let header = format!(
            r#"{{"w":{{"dtype":"BF16","shape":{shape:?},"data_offsets":[0,{}]}}}}"#,
            2 * values.len()
        );
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(header.as_bytes());
        file.extend(values.iter().flat_map(|x| x.to_le_bytes()));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
        Self {
            folder,
            shape,
            values: values.iter().map(|x| x.to_f32()).collect(),
        }
    }

    fn random(random: &mut Random, shape: [usize; 2]) -> Self {
        Self::new(shape, &random.values(shape[0] * shape[1]))
    }

    fn weights(&self, device: &Device, dtype: DType) -> Weights {
        Weights::open(device, self.folder.path(), dtype).unwrap()
    }

    fn tensor(&self, ctx: &Context) -> Tensor {
        let weights = self.weights(&ctx.device, ctx.dtype);
        weights.get("w", &self.shape).unwrap()
    }
}

fn context(device: &Device, dtype: DType) -> Context {
    Context {
        device: device.clone(),
        account: Account::new(1 << 30),
        dtype,
    }
}

/// A context that multiplies in 8 bits; none where no device does.
fn fp8() -> Option<Context> {
    let device = cuda_device()?;
    if !device.supports(DType::FP8) {
        common::cuda::skip(
            "linear layers in 8 bits",
            &format!("{} has no fp8", device.name()),
        );
        return None;
    }
    Some(context(&device, DType::FP8))
}

/// The nearest number of e4m3, of two as near the one with the even fraction.
fn rounded_to_e4m3(x: f32) -> f64 {
    let size = f64::from(x.abs()).min(448.0);
    let exponent = size.max(2f64.powi(-6)).log2().floor() as i32;
    let unit = 2f64.powi(exponent - 3);
    f64::from(x.signum()) * (size / unit).round_ties_even() * unit
}

/// A row as it is multiplied: its numbers in 8 bits, and its scale.
fn quantized(row: &[f32]) -> (Vec<f64>, f64) {
    let largest = row.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    let scale = (largest / 448.0).max(1e-30);
    let factor = 1.0 / scale;
    let numbers = row.iter().map(|x| rounded_to_e4m3(x * factor)).collect();
    (numbers, f64::from(scale))
}

/// A layer's operands as the device has them.
struct Layer<'a> {
    x: &'a [f32],
    weight: &'a Checkpoint,
    bias: Option<&'a [f32]>,
    activation: Activation,
    residual: Option<&'a [f32]>,
}

impl Layer<'_> {
    /// The layer in f64, from rows that `of_rows` turned into what is multiplied.
    fn reference(&self, of_rows: fn(&[f32]) -> (Vec<f64>, f64)) -> Vec<f64> {
        let [n, k] = self.weight.shape;
        let weight: Vec<_> = self.weight.values.chunks_exact(k).map(of_rows).collect();
        let mut out = Vec::new();
        for row in self.x.chunks_exact(k).map(of_rows) {
            for (column, weight) in weight.iter().enumerate() {
                let products = row.0.iter().zip(&weight.0).map(|(x, w)| x * w);
                let sum = products.sum::<f64>() * row.1 * weight.1;
                let biased = sum + self.bias.map_or(0.0, |bias| f64::from(bias[column]));
                let residual = self.residual.map_or(0.0, |it| f64::from(it[out.len()]));
                out.push(activate(self.activation, biased) + residual);
            }
        }
        assert_eq!(out.len(), self.x.len() / k * n);
        out
    }
}

fn unquantized(row: &[f32]) -> (Vec<f64>, f64) {
    (row.iter().map(|&x| f64::from(x)).collect(), 1.0)
}

/// The least cosine to a layer that is not quantised. Three bits of fraction are off by 2.6 % on
/// average in each operand, which as noise of a sum is as much of the sum.
const LEAST_COSINE: f64 = 0.998;

fn cosine(a: &[f32], b: &[f64]) -> f64 {
    let a: Vec<f64> = a.iter().map(|&x| f64::from(x)).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(&a, b) / (dot(&a, &a) * dot(b, b)).sqrt()
}

fn on_device(ctx: &Context, shape: &[usize], values: &[f32]) -> (Tensor, Vec<f32>) {
    let tensor = Tensor::from_f32(ctx, shape, values).unwrap();
    let stored = tensor.to_f32().unwrap();
    (tensor, stored)
}

/// Random layers with every activation, with and without bias and residual: exact but for
/// rounding to bf16, and how far from what is not quantised.
fn check_layers() {
    let Some(ctx) = fp8() else { return };
    let mut random = Random(1);
    for (index, activation) in ACTIVATIONS.into_iter().enumerate() {
        for (biased, added) in [(false, false), (true, false), (false, true), (true, true)] {
            let (m, n, k) = (random.integer(1, 40), 16 + 16 * index, 32 + 240 * index);
            let weight = Checkpoint::random(&mut random, [n, k]);
            let (x, xs) = on_device(&ctx, &[m, k], &random.values(m * k));
            let (bias, biases) = on_device(&ctx, &[n], &random.values(n));
            // A product adds a bias in 16 bits.
            let biases: Vec<f32> = match activation {
                Activation::Identity => {
                    biases.iter().map(|&b| bf16::from_f32(b).to_f32()).collect()
                }
                _ => biases,
            };
            let (residual, residuals) = on_device(&ctx, &[m, n], &random.values(m * n));
            let (bias, residual) = (biased.then_some(&bias), added.then_some(&residual));
            let y = ops::linear(&ctx, &x, &weight.tensor(&ctx), bias, activation, residual);
            let y = y.unwrap();
            assert_eq!(y.dtype(), DType::BF16);
            let found = y.to_f32().unwrap();
            let layer = Layer {
                x: &xs,
                weight: &weight,
                bias: biased.then_some(&biases),
                activation,
                residual: added.then_some(&residuals),
            };
            let wanted = layer.reference(quantized);
            let largest = |of: &[f64]| of.iter().fold(0.0, |a: f64, x| a.max(x.abs()));
            let what = format!("{activation:?} {m}x{n}x{k} bias {biased} residual {added}");
            // Rounded once as a product, and perhaps once more after what follows it.
            check_close(&what, &found, &wanted, largest(&wanted) / 128.0, 0.0);
            // Of sums far from zero that leaves their signs alone.
            if activation == Activation::Tanh {
                continue;
            }
            let cosine = cosine(&found, &layer.reference(unquantized));
            assert!(cosine >= LEAST_COSINE, "{what}: {cosine}");
        }
    }
}

#[test]
fn layers_equal_a_reference_that_quantises_the_same_way() {
    check_layers();
}

/// Every number of e4m3 and every tie between two, through a weight that is the identity.
#[test]
fn elements_are_rounded_to_the_nearest_and_ties_to_even() {
    let Some(ctx) = fp8() else { return };
    const K: usize = 32;
    let identity: Vec<f32> = (0..K * K)
        .map(|i| f32::from(u8::from(i / K == i % K)))
        .collect();
    let weight = Checkpoint::new([K, K], &identity).tensor(&ctx);
    let mut codes: Vec<f64> = (0..0x7f_u32)
        .map(|code| match (code >> 3, f64::from(code & 7)) {
            (0, fraction) => fraction / 512.0,
            (exponent, fraction) => (8.0 + fraction) * 2f64.powi(exponent as i32 - 10),
        })
        .collect();
    codes.extend(
        codes
            .clone()
            .windows(2)
            .map(|pair| (pair[0] + pair[1]) / 2.0),
    );
    let numbers: Vec<f32> = codes.iter().flat_map(|&x| [x as f32, -x as f32]).collect();
    // The first of each row makes its scale 1.
    let rows: Vec<f32> = numbers
        .chunks(K - 1)
        .flat_map(|part| {
            let mut row = vec![448.0];
            row.extend_from_slice(part);
            row.resize(K, 0.0);
            row
        })
        .collect();
    let (x, stored) = on_device(&ctx, &[rows.len() / K, K], &rows);
    assert_eq!(stored, rows, "all are numbers of bf16");
    let y = ops::linear(&ctx, &x, &weight, None, Activation::Identity, None).unwrap();
    for (&found, &x) in y.to_f32().unwrap().iter().zip(&rows) {
        assert_eq!(f64::from(found), rounded_to_e4m3(x), "{x}");
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    let Some(ctx) = fp8() else { return };
    let mut random = Random(2);
    let (m, n, k) = (70, 48, 1280);
    let weight = Checkpoint::random(&mut random, [n, k]).tensor(&ctx);
    let (x, values) = random.tensor(&ctx, &[m, k]);
    let linear = |x: &Tensor| {
        let y = ops::linear(&ctx, x, &weight, None, Activation::Identity, None);
        y.unwrap().to_f32().unwrap()
    };
    let all = linear(&x);
    for row in 0..m {
        let alone = Tensor::from_f32(&ctx, &[1, k], &values[row * k..][..k]).unwrap();
        check_same_bits("alone", &linear(&alone), &all[row * n..][..n]);
    }
}

#[test]
fn a_poisoned_row_fails_alone_and_a_row_of_zeros_stays_one() {
    let Some(ctx) = fp8() else { return };
    let mut random = Random(3);
    for k in [32, 2048] {
        let (m, n) = (6, 32);
        let weight = Checkpoint::random(&mut random, [n, k]).tensor(&ctx);
        let clean = random.values(m * k);
        let mut values = clean.clone();
        values[k + 1] = f32::NAN;
        values[2 * k + k - 1] = f32::INFINITY;
        values[3 * k + k / 2] = f32::NEG_INFINITY;
        values[4 * k..][..k].fill(0.0);
        let linear = |values: &[f32], activation| {
            let x = Tensor::from_f32(&ctx, &[m, k], values).unwrap();
            let y = ops::linear(&ctx, &x, &weight, None, activation, None);
            y.unwrap().to_f32().unwrap()
        };
        for activation in [Activation::Identity, Activation::GeluErf] {
            let (clean, found) = (linear(&clean, activation), linear(&values, activation));
            for row in [1, 2, 3] {
                assert!(
                    found[row * n..][..n].iter().all(|x| x.is_nan()),
                    "row {row}"
                );
            }
            assert!(found[4 * n..][..n].iter().all(|&x| x == 0.0), "{k}");
            for row in [0, 5] {
                check_same_bits("clean", &found[row * n..][..n], &clean[row * n..][..n]);
            }
        }
    }
}

#[test]
fn layers_of_odd_shapes_are_multiplied_in_bf16() {
    let Some(ctx) = fp8() else { return };
    let plain = context(&ctx.device, DType::BF16);
    let mut random = Random(4);
    for (n, k) in [(17, 32), (32, 40), (24, 64), (5, 7)] {
        let weight = Checkpoint::random(&mut random, [n, k]);
        let values = random.values(9 * k);
        let linear = |ctx: &Context| {
            let x = Tensor::from_f32(ctx, &[9, k], &values).unwrap();
            let weight = weight.tensor(ctx);
            let y = ops::linear(ctx, &x, &weight, None, Activation::Identity, None);
            y.unwrap().to_f32().unwrap()
        };
        check_same_bits("odd", &linear(&ctx), &linear(&plain));
    }
}

#[test]
fn a_weight_is_kept_in_8_bits_and_an_embedding_in_16() {
    let Some(ctx) = fp8() else { return };
    let mut random = Random(5);
    let [n, k] = [64, 256];
    let checkpoint = Checkpoint::random(&mut random, [n, k]);
    let weights = checkpoint.weights(&ctx.device, DType::FP8);
    let weight = weights.get("w", &[n, k]).unwrap();
    assert_eq!(weight.dtype(), DType::BF16);
    let (x, _) = random.tensor(&ctx, &[3, k]);
    ops::linear(&ctx, &x, &weight, None, Activation::Identity, None).unwrap();
    assert_eq!(weights.resident_bytes(), (n * k + 4 * n) as u64);
    let rows = ops::embedding(&ctx, &weight, &Indices::new(vec![63, 0]), None).unwrap();
    let rows = rows.to_f32().unwrap();
    check_same_bits("embedding", &rows[..k], &checkpoint.values[63 * k..]);
    assert_eq!(weights.resident_bytes(), (n * k + 4 * n + 2 * n * k) as u64);
}

#[test]
fn a_processor_refuses_to_serve_in_8_bits() {
    let refused = Weights::open(&Device::cpu(1).unwrap(), Path::new("."), DType::FP8);
    let Err(Error::Unsupported(text)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        text.contains("fp8 is for CUDA devices, not for cpu"),
        "{text}"
    );
}

/// Runs a test of this file that is ignored, with a device of its own that is emulated so.
#[track_caller]
fn emulated(test: &str, environment: &[(&str, &str)]) {
    match cuda_device() {
        Some(device) if device.name().contains("emulated") => {}
        Some(_) => return common::cuda::skip(test, "a real device is what it is"),
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
fn scales_are_multiplied_in_afterwards_where_the_library_does_not() {
    emulated(
        "layers_that_are_scaled_afterwards",
        &[("EMULATED_CUBLASLT_FP8", "unscaled")],
    );
}

#[test]
#[ignore = "for a library without scales of rows: run by scales_are_multiplied_in_afterwards_where_the_library_does_not"]
fn layers_that_are_scaled_afterwards() {
    check_layers();
    a_poisoned_row_fails_alone_and_a_row_of_zeros_stays_one();
    a_row_does_not_depend_on_its_batch();
}

#[test]
fn layers_are_multiplied_in_bf16_where_the_library_has_no_products_in_8_bits() {
    emulated(
        "layers_of_a_library_without_fp8",
        &[("EMULATED_CUBLASLT_FP8", "none")],
    );
}

#[test]
#[ignore = "for a library without e4m3: run by layers_are_multiplied_in_bf16_where_the_library_has_no_products_in_8_bits"]
fn layers_of_a_library_without_fp8() {
    let ctx = fp8().unwrap();
    let mut random = Random(6);
    let (n, k) = (32, 64);
    let weight = Checkpoint::random(&mut random, [n, k]);
    let values = random.values(5 * k);
    let linear = |ctx: &Context| {
        let x = Tensor::from_f32(ctx, &[5, k], &values).unwrap();
        let weight = weight.tensor(ctx);
        let y = ops::linear(ctx, &x, &weight, None, Activation::Silu, None);
        y.unwrap().to_f32().unwrap()
    };
    check_same_bits(
        "bf16",
        &linear(&ctx),
        &linear(&context(&ctx.device, DType::BF16)),
    );
}

#[test]
fn an_older_device_refuses_and_says_what_it_is() {
    emulated(
        "weights_on_an_older_device",
        &[("EMULATED_GPU_CAPABILITY", "86")],
    );
}

#[test]
#[ignore = "for an older device: run by an_older_device_refuses_and_says_what_it_is"]
fn weights_on_an_older_device() {
    let device = cuda_device().unwrap();
    let refused = Weights::open(&device, Path::new("."), DType::FP8);
    let Err(Error::Unsupported(text)) = refused else {
        panic!("{refused:?}");
    };
    assert!(
        text.contains("fp8 needs compute capability 8.9") && text.contains("has 8.6"),
        "{text}"
    );
}

#[test]
fn rows_do_not_depend_on_which_algorithm_the_library_guesses() {
    emulated(
        "rows_with_algorithms_that_round_otherwise",
        &[("EMULATED_CUBLASLT_ORDERS", "2")],
    );
}

#[test]
#[ignore = "for algorithms that round otherwise: run by rows_do_not_depend_on_which_algorithm_the_library_guesses"]
fn rows_with_algorithms_that_round_otherwise() {
    a_row_does_not_depend_on_its_batch();
}
