//! Operations on a CUDA device against its own limits: `cargo bench -p tenon-tensor --bench cuda`.
//!
//! Calls are queued one after the other and waited for together, as a forward pass does it. The
//! limits are a large matrix product, measured in this run ([`Device::measure_flops`]), and the
//! bytes that an addition of large tensors moves in a second. The shapes are those of layers of
//! bge-large, Qwen3-Embedding-0.6B and gte-Qwen2-1.5B over `ROWS` tokens.

use std::time::Instant;

use tenon_tensor::{
    Account, Activation, AttentionInput, AttentionOptions, Context, DType, Device, HeadNorms,
    Indices, SequenceLayout, Tensor, ops,
};

/// Tokens of a batch.
const ROWS: usize = 16_384;

/// Calls that are timed together, and how often that is done; the best counts.
const CALLS: usize = 20;
const REPEATS: usize = 5;

type Result = tenon_tensor::Result<Tensor>;

fn main() {
    let device = match Device::cuda(0, None) {
        Ok(device) => device,
        Err(error) => return println!("SKIPPED operations on a CUDA device: {error}"),
    };
    println!("{}", device.name());
    let dtype = DType::BF16;
    let peak = device.measure_flops(dtype).unwrap();
    println!("products: {:.0} TFLOP/s", peak / 1e12);
    let bench = Bench {
        ctx: Context {
            device,
            account: Account::new(64 << 30),
            dtype,
        },
        peak,
    };
    bench.elementwise();
    bench.linear();
    bench.attention();
    bench.small();
}

struct Bench {
    ctx: Context,
    /// Floating-point operations a second of large products.
    peak: f64,
}

impl Bench {
    fn tensor(&self, shape: &[usize]) -> Tensor {
        let mut state = 1u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| next()).collect();
        Tensor::from_f32(&self.ctx, shape, &values).unwrap()
    }

    /// Seconds of a call, and of queueing it.
    fn time(&self, op: impl Fn() -> Result) -> (f64, f64) {
        let wait = |out: &Tensor| {
            let mut corner = out.clone();
            for axis in 0..out.shape().len() {
                corner = ops::slice(&self.ctx, &corner, axis, 0, 1).unwrap();
            }
            corner.to_f32().unwrap();
        };
        wait(&op().unwrap());
        let (mut seconds, mut queueing) = (f64::MAX, f64::MAX);
        for _ in 0..REPEATS {
            let started = Instant::now();
            let mut last = op().unwrap();
            for _ in 1..CALLS {
                last = op().unwrap();
            }
            let queued = started.elapsed().as_secs_f64();
            wait(&last);
            let all = started.elapsed().as_secs_f64();
            seconds = seconds.min(all / CALLS as f64);
            queueing = queueing.min(queued / CALLS as f64);
        }
        (seconds, queueing)
    }

    fn products(&self, what: &str, flops: f64, op: impl Fn() -> Result) {
        let (seconds, queueing) = self.time(op);
        let rate = flops / seconds;
        println!(
            "{what:48} {:8.1} us {:6.0} TFLOP/s {:4.0} % (queued in {:.1} us)",
            seconds * 1e6,
            rate / 1e12,
            100.0 * rate / self.peak,
            queueing * 1e6
        );
    }

    /// Operations that are bound by memory: `elements` are read and written.
    fn bytes(&self, what: &str, elements: usize, op: impl Fn() -> Result) {
        let (seconds, queueing) = self.time(op);
        println!(
            "{what:48} {:8.1} us {:6.0} GB/s (queued in {:.1} us)",
            seconds * 1e6,
            (elements * 2) as f64 / seconds / 1e9,
            queueing * 1e6
        );
    }

    fn elementwise(&self) {
        let ctx = &self.ctx;
        for width in [1024, 3072, 8192] {
            let (a, b) = (self.tensor(&[ROWS, width]), self.tensor(&[ROWS, width]));
            let (w, v) = (self.tensor(&[width]), self.tensor(&[width]));
            let all = ROWS * width;
            let named = |what: &str| format!("{what} {ROWS} x {width}");
            self.bytes(&named("add"), 3 * all, || ops::add(ctx, &a, &b));
            self.bytes(&named("layer-norm with residual"), 3 * all, || {
                ops::layer_norm(ctx, &a, Some(&w), Some(&v), 1e-5, Some(&b))
            });
            self.bytes(&named("rms-norm"), 2 * all, || {
                ops::rms_norm(ctx, &a, &w, 1e-6, 0.0)
            });
            self.bytes(&named("gelu-erf"), 2 * all, || {
                ops::activate(ctx, &a, Activation::GeluErf)
            });
            self.bytes(&named("gated silu, halves of"), 3 * all / 2, || {
                ops::gated(ctx, &a, Activation::Silu)
            });
        }
        let heads = self.tensor(&[ROWS, 4096]);
        let w = self.tensor(&[128]);
        let positions = Indices::new((0..ROWS as u32).map(|row| row % 512).collect());
        let frequencies: Vec<f32> = (0..64).map(|i| 0.8_f32.powi(i)).collect();
        let table = ops::rotary_table(ctx, &positions, &frequencies, 1.0).unwrap();
        let all = 2 * ROWS * 4096;
        self.bytes("rms-norm of heads 16384 x 4096", all, || {
            ops::rms_norm(ctx, &heads, &w, 1e-6, 0.0)
        });
        self.bytes("rotary 16384 x 4096, 24 of 32 heads", all, || {
            ops::rotary(ctx, &heads, &table, 24, 128, None)
        });
        let norms = HeadNorms {
            query: &w,
            key: &w,
            query_heads: 16,
            eps: 1e-6,
            weight_offset: 0.0,
        };
        self.bytes("rotary with norms of the same", all, || {
            ops::rotary(ctx, &heads, &table, 24, 128, Some(&norms))
        });
    }

    fn linear(&self) {
        let ctx = &self.ctx;
        let widths = [
            ("bge-large qkv", 3072, 1024),
            ("bge-large out", 1024, 1024),
            ("bge-large up", 4096, 1024),
            ("bge-large down", 1024, 4096),
            ("Qwen3-0.6B qkv", 4096, 1024),
            ("Qwen3-0.6B out", 1024, 2048),
            ("Qwen3-0.6B gate, up", 6144, 1024),
            ("Qwen3-0.6B down", 1024, 3072),
            ("gte-1.5B qkv", 2048, 1536),
            ("gte-1.5B out", 1536, 1536),
            ("gte-1.5B gate, up", 17_920, 1536),
            ("gte-1.5B down", 1536, 8960),
        ];
        for (name, n, k) in widths {
            let (x, w) = (self.tensor(&[ROWS, k]), self.tensor(&[n, k]));
            let (bias, residual) = (self.tensor(&[n]), self.tensor(&[ROWS, n]));
            let flops = 2.0 * (ROWS * n * k) as f64;
            let linear = |bias: Option<&Tensor>, activation, residual: Option<&Tensor>| {
                ops::linear(ctx, &x, &w, bias, activation, residual)
            };
            let what = |more: &str| format!("{name} {n} x {k}{more}");
            let plain = Activation::Identity;
            self.products(&what(""), flops, || linear(None, plain, None));
            self.products(&what(" bias"), flops, || linear(Some(&bias), plain, None));
            self.products(&what(" residual"), flops, || {
                linear(None, plain, Some(&residual))
            });
            self.products(&what(" bias residual"), flops, || {
                linear(Some(&bias), plain, Some(&residual))
            });
            self.products(&what(" bias gelu"), flops, || {
                linear(Some(&bias), Activation::GeluErf, None)
            });
        }
    }

    fn attention(&self) {
        let kinds = [
            ("bge-large", 16, 16, 64, false),
            ("Qwen3-0.6B", 16, 8, 128, true),
            ("gte-1.5B", 12, 2, 128, true),
            ("MiniLM", 12, 12, 32, false),
            ("Gemma", 3, 1, 256, false),
        ];
        for (name, heads, kv_heads, head_dim, causal) in kinds {
            for length in [32, 128, 512, 2048, 8192] {
                let width = (heads + 2 * kv_heads) * head_dim;
                let qkv = self.tensor(&[ROWS, width]);
                let cu: Vec<u32> = (0..=ROWS / length).map(|i| (i * length) as u32).collect();
                let layout = SequenceLayout::packed(&cu, &vec![0; ROWS / length]).unwrap();
                let options = AttentionOptions {
                    heads,
                    kv_heads,
                    scale: 1.0 / (head_dim as f32).sqrt(),
                    causal,
                    window: None,
                };
                let pairs = ROWS * length / if causal { 2 } else { 1 };
                let flops = 4.0 * (pairs * heads * head_dim) as f64;
                self.products(&format!("attention {name} of {length}"), flops, || {
                    let input = AttentionInput::Fused(&qkv);
                    ops::attention(&self.ctx, input, &layout, None, &options)
                });
            }
        }
    }

    /// What one short text waits for.
    fn small(&self) {
        let ctx = &self.ctx;
        for rows in [1, 16, 128, 512] {
            for (n, k) in [(1024, 1024), (4096, 1024), (1024, 4096)] {
                let (x, w) = (self.tensor(&[rows, k]), self.tensor(&[n, k]));
                let flops = 2.0 * (rows * n * k) as f64;
                self.products(&format!("linear {rows} x {n} x {k}"), flops, || {
                    ops::linear(ctx, &x, &w, None, Activation::Identity, None)
                });
            }
            let x = self.tensor(&[rows, 1024]);
            let w = self.tensor(&[1024]);
            self.bytes(&format!("rms-norm {rows} x 1024"), 2 * rows * 1024, || {
                ops::rms_norm(ctx, &x, &w, 1e-6, 0.0)
            });
        }
    }
}
