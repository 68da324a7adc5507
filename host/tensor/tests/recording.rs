//! Recorded passes: what they compute for other batches, and what cannot be recorded.

mod common;

use common::{Random, check_same_bits, cuda_device};
use tenon_tensor::{
    Account, Activation, AttentionInput, AttentionOptions, Batch, Context, DType, Device, Error,
    HeadNorms, Indices, PoolMode, RecordedPass, Tensor, ops,
};

const VOCABULARY: usize = 50;
const WIDTH: usize = 64;
const POSITIONS: usize = 40;

/// An encoder of one layer.
struct Model {
    ctx: Context,
    words: Tensor,
    positions: Tensor,
    qkv: Tensor,
    bias: Tensor,
    head_norm: Tensor,
    norm: Tensor,
}

impl Model {
    fn new(device: Device) -> Self {
        let ctx = Context {
            device,
            account: Account::new(1 << 30),
            dtype: DType::BF16,
        };
        let mut random = Random(7);
        let mut tensor = |shape: &[usize]| random.tensor(&ctx, shape).0;
        Self {
            words: tensor(&[VOCABULARY, WIDTH]),
            positions: tensor(&[POSITIONS, WIDTH]),
            qkv: tensor(&[3 * WIDTH, WIDTH]),
            bias: tensor(&[3 * WIDTH]),
            head_norm: tensor(&[WIDTH / 2]),
            norm: tensor(&[WIDTH]),
            ctx,
        }
    }

    fn forward(&self, device: Device, batch: &Batch) -> tenon_tensor::Result<Tensor> {
        let ctx = &Context {
            device,
            ..self.ctx.clone()
        };
        let x = ops::embedding(ctx, &self.words, &batch.token_ids(), None)?;
        let x = ops::embedding(ctx, &self.positions, &batch.position_ids(1), Some(&x))?;
        let table = ops::rotary_table(ctx, &batch.position_ids(0), &[1.0, 0.1], 1.0)?;
        let qkv = ops::linear(
            ctx,
            &x,
            &self.qkv,
            Some(&self.bias),
            Activation::Identity,
            None,
        )?;
        let norms = HeadNorms {
            query: &self.head_norm,
            key: &self.head_norm,
            query_heads: 2,
            eps: 1e-6,
            weight_offset: 1.0,
        };
        let qkv = ops::rotary(ctx, &qkv, &table, 4, 32, Some(&norms))?;
        let options = AttentionOptions {
            heads: 2,
            kv_heads: 2,
            scale: 0.2,
            causal: false,
            window: None,
        };
        let input = AttentionInput::Fused(&qkv);
        let x = ops::attention(ctx, input, batch.layout(), None, &options)?;
        let x = ops::layer_norm(ctx, &x, Some(&self.norm), None, 1e-5, Some(&x))?;
        let x = ops::segment_pool(ctx, &x, batch.layout(), PoolMode::Mean)?;
        ops::l2_normalize(ctx, &x, 1e-12)
    }

    fn record(&self, batch: &Batch) -> RecordedPass {
        let recording = self.ctx.device.record(batch).unwrap();
        let result = self.forward(recording.device(), batch).unwrap();
        recording.finish(&result).unwrap()
    }

    fn vectors(&self, batch: &Batch) -> Vec<f32> {
        let result = self.forward(self.ctx.device.clone(), batch);
        result.unwrap().to_f32().unwrap()
    }
}

/// Sequences of these lengths with tokens that `seed` decides.
fn batch(seed: u64, lengths: &[u32]) -> Batch {
    let mut random = Random(seed);
    let mut offsets = vec![0];
    for length in lengths {
        offsets.push(offsets[offsets.len() - 1] + length);
    }
    let tokens = offsets[lengths.len()];
    let ids = (0..tokens).map(|_| random.integer(0, VOCABULARY - 1) as u32);
    let excluded: Vec<u32> = lengths
        .iter()
        .map(|length| u32::from(*length > 5))
        .collect();
    Batch::packed(ids.collect(), offsets, &excluded, Vec::new()).unwrap()
}

#[test]
fn a_recorded_pass_computes_other_batches_to_the_bit() {
    let Some(device) = cuda_device() else {
        return;
    };
    let model = Model::new(device);
    let first = batch(1, &[7, 20, 3]).with_max_rows(32);
    let mut pass = model.record(&first);
    for (seed, lengths) in [
        (1, [7, 20, 3]),
        (2, [7, 20, 3]),
        (3, [1, 1, 28]),
        (4, [10, 10, 10]),
    ] {
        let batch = batch(seed, &lengths);
        let again = pass.run(&batch).unwrap().unwrap();
        check_same_bits(&format!("{lengths:?}"), &again, &model.vectors(&batch));
    }
    drop(pass);
    // Passes share memory, which each overwrites before it reads it.
    let mut short = model.record(&batch(5, &[4, 4]).with_max_rows(8));
    let mut long = model.record(&batch(6, &[30, 30]));
    for seed in 7..10 {
        let (a, b) = (batch(seed, &[2, 6]), batch(seed, &[30, 30]));
        let again = long.run(&b).unwrap().unwrap();
        check_same_bits("long", &again, &model.vectors(&b));
        let again = short.run(&a).unwrap().unwrap();
        check_same_bits("short", &again, &model.vectors(&a));
    }
}

#[test]
fn batches_that_a_recorded_pass_does_not_fit_are_left_to_others() {
    let Some(device) = cuda_device() else {
        return;
    };
    let model = Model::new(device);
    let mut pass = model.record(&batch(1, &[8, 8]).with_max_rows(16));
    assert_eq!(pass.run(&batch(2, &[8, 9])).unwrap(), None, "more tokens");
    assert_eq!(pass.run(&batch(2, &[16])).unwrap(), None, "fewer sequences");
    assert_eq!(
        pass.run(&batch(2, &[5, 5, 6])).unwrap(),
        None,
        "more sequences"
    );
    let beyond = Batch::packed(
        vec![VOCABULARY as u32; 16],
        vec![0, 8, 16],
        &[0, 0],
        Vec::new(),
    );
    assert_eq!(
        pass.run(&beyond.unwrap()).unwrap(),
        None,
        "an id of no word"
    );
    let fits = batch(3, &[1, 15]);
    let again = pass.run(&fits).unwrap().unwrap();
    check_same_bits("after them", &again, &model.vectors(&fits));
}

#[test]
fn what_does_not_come_from_the_batch_cannot_be_recorded() {
    let Some(device) = cuda_device() else {
        return;
    };
    let model = Model::new(device.clone());
    let batch = batch(1, &[3, 4]);
    let used = model.ctx.account.used_bytes();
    let recording = device.record(&batch).unwrap();
    let ctx = Context {
        device: recording.device(),
        ..model.ctx.clone()
    };
    let list = Indices::new(vec![1, 2, 3]);
    let refused = ops::embedding(&ctx, &model.words, &list, None);
    assert!(
        matches!(refused, Err(Error::Unsupported(_))),
        "{:?}",
        refused.err()
    );
    let some = batch.layout().select(&[1]).unwrap();
    let x = ops::embedding(&ctx, &model.words, &batch.token_ids(), None).unwrap();
    let refused = ops::segment_pool(&ctx, &x, &some, PoolMode::First);
    assert!(
        matches!(refused, Err(Error::Unsupported(_))),
        "{:?}",
        refused.err()
    );
    drop((x, ctx, recording));
    assert_eq!(model.ctx.account.used_bytes(), used);
    let processor = Device::cpu(1).unwrap();
    assert!(!processor.records());
    assert!(matches!(
        processor.record(&batch),
        Err(Error::Unsupported(_))
    ));
}
