//! Contexts on every available level, random values, and references in f64.
#![allow(dead_code)]

use std::sync::OnceLock;

use tenon_tensor::{Account, Activation, Context, DType, Device, Level, Tensor};

#[path = "../cuda/mod.rs"]
pub mod cuda;

/// A context on each level that this processor has, with 1 and with 3 threads, and on a CUDA
/// device.
pub fn contexts() -> Vec<Context> {
    let mut contexts = Vec::new();
    for level in Level::ALL {
        if !level.is_available() {
            println!("skipped: this processor has no {}", level.name());
            continue;
        }
        for threads in [1, 3] {
            let device = Device::cpu_with_level(threads, level).unwrap();
            contexts.push(context(device));
        }
    }
    contexts.extend(cuda_device().map(context));
    contexts
}

/// Contexts that serve bfloat16, on each level that has products of it, with 1 and with 3 threads.
pub fn bf16_contexts() -> Vec<Context> {
    let mut contexts = Vec::new();
    for level in Level::ALL.into_iter().filter(|it| it.has_bf16_products()) {
        if !level.is_available() {
            println!("skipped in bf16: this processor has no {}", level.name());
            continue;
        }
        contexts.extend([1, 3].map(|threads| Context {
            dtype: DType::BF16,
            ..context(Device::cpu_with_level(threads, level).unwrap())
        }));
    }
    contexts
}

fn context(device: Device) -> Context {
    Context {
        device,
        account: Account::new(1 << 32),
        dtype: DType::F32,
    }
}

/// The machine's CUDA device; where it has none, an emulated one. None where that cannot be
/// built either, or may not be: with `TENON_REQUIRE_GPU=1`.
pub fn cuda_device() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let open = || {
        let found = Device::cuda_count();
        if !matches!(found, Ok(1..)) {
            let required = std::env::var_os("TENON_REQUIRE_GPU").is_some_and(|value| value == "1");
            assert!(!required, "there is no CUDA device: {found:?}");
            if let Err(reason) = cuda::load_emulated_driver() {
                cuda::skip("operations on a CUDA device", &reason);
                return None;
            }
        }
        Some(Device::cuda(0, None).unwrap())
    };
    DEVICE.get_or_init(open).clone()
}

/// A small generator (splitmix64): tests need no more.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// An integer in `low..=high`.
    pub fn integer(&mut self, low: usize, high: usize) -> usize {
        low + (self.bits() % (high - low + 1) as u64) as usize
    }
    /// A number in -1..1.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
    }
    pub fn tensor(&mut self, ctx: &Context, shape: &[usize]) -> (Tensor, Vec<f32>) {
        let values = self.values(shape.iter().product());
        (Tensor::from_f32(ctx, shape, &values).unwrap(), values)
    }
}

/// Compares with a reference within an absolute and a relative tolerance.
#[track_caller]
pub fn check_close(what: &str, found: &[f32], wanted: &[f64], absolute: f64, relative: f64) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    for (index, (&found, &wanted)) in found.iter().zip(wanted).enumerate() {
        let error = (f64::from(found) - wanted).abs();
        assert!(
            error <= absolute + relative * wanted.abs(),
            "{what}: element {index} is {found}, wanted {wanted}"
        );
    }
}

#[track_caller]
pub fn check_same_bits(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (index, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!(
            a.to_bits(),
            b.to_bits(),
            "{what}: element {index}: {a} and {b}"
        );
    }
}

/// erf by its Taylor series, and beyond 3 by the continued fraction of erfc.
pub fn erf(x: f64) -> f64 {
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let z = x.abs();
    let mut fraction = 0.0;
    for n in (1..60).rev() {
        fraction = n as f64 / 2.0 / (z + fraction);
    }
    let erfc = (-z * z).exp() / std::f64::consts::PI.sqrt() / (z + fraction);
    x.signum() * (1.0 - erfc)
}

pub const ACTIVATIONS: [Activation; 7] = [
    Activation::Identity,
    Activation::Relu,
    Activation::GeluErf,
    Activation::GeluTanh,
    Activation::GeluQuick,
    Activation::Silu,
    Activation::Tanh,
];

pub fn activate(activation: Activation, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::GeluErf => x / 2.0 * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
            x / 2.0 * (1.0 + inner.tanh())
        }
        Activation::GeluQuick => x * sigmoid(1.702 * x),
        Activation::Silu => x * sigmoid(x),
        Activation::Tanh => x.tanh(),
    }
}

/// A safetensors file of tensors: name, dtype, shape, bytes.
pub fn file(tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> Vec<u8> {
    let mut header = Vec::new();
    let mut bytes = Vec::new();
    for (name, dtype, shape, data) in tensors {
        let start = bytes.len();
        bytes.extend_from_slice(data);
        header.push(format!(
            r#""{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{}]}}"#,
            bytes.len()
        ));
    }
    let header = format!("{{{}}}", header.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(&bytes);
    file
}

pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}
