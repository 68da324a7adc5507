//! What operations refuse, and what they charge.

mod common;

use tenon_tensor::{
    Account, Activation, AttentionInput, AttentionOptions, Context, DType, Device, Error,
    HeadNorms, Indices, PoolMode, SequenceLayout, Tensor, ops,
};

fn context(limit_bytes: u64) -> Context {
    Context {
        device: Device::cpu(2).unwrap(),
        account: Account::new(limit_bytes),
        dtype: DType::F32,
    }
}

fn tensor(ctx: &Context, shape: &[usize]) -> Tensor {
    Tensor::from_f32(ctx, shape, &vec![1.0; shape.iter().product()]).unwrap()
}

/// Checks the variant and that the text names what it should.
#[track_caller]
fn check<T>(result: Result<T, Error>, variant: fn(String) -> Error, mentions: &[&str]) {
    let Err(error) = result else {
        panic!("accepted, wanted {mentions:?}")
    };
    let text = error.to_string();
    assert_eq!(error, variant(text.clone()));
    for mention in mentions {
        assert!(
            text.contains(mention),
            "{text:?} does not mention {mention:?}"
        );
    }
}

#[test]
fn refuses_bad_shapes() {
    let ctx = context(1 << 30);
    let from = |shape: &[usize]| Tensor::from_f32(&ctx, shape, &[0.0]);
    check(from(&[]), Error::InvalidArgument, &["tensor", "rank 0"]);
    check(from(&[1; 9]), Error::InvalidArgument, &["rank 9"]);
    check(from(&[3, 0]), Error::InvalidArgument, &["[3, 0]"]);
    check(
        from(&[usize::MAX, 2]),
        Error::InvalidArgument,
        &["elements"],
    );
    check(
        from(&[1 << 40, 1 << 40]),
        Error::InvalidArgument,
        &["elements"],
    );
    check(from(&[2]), Error::ShapeMismatch, &["1 values", "[2]"]);
}

#[test]
fn refuses_bad_linear() {
    let ctx = context(1 << 30);
    let x = tensor(&ctx, &[2, 3]);
    let linear = |w: &[usize], b: Option<&[usize]>, r: Option<&[usize]>| {
        let (w, b, r) = (
            tensor(&ctx, w),
            b.map(|b| tensor(&ctx, b)),
            r.map(|r| tensor(&ctx, r)),
        );
        ops::linear(&ctx, &x, &w, b.as_ref(), Activation::Relu, r.as_ref())
    };
    check(
        linear(&[4, 2], None, None),
        Error::ShapeMismatch,
        &["linear", "[2, 3]", "[4, 2]"],
    );
    check(linear(&[3], None, None), Error::ShapeMismatch, &["[3]"]);
    check(
        linear(&[4, 3], Some(&[3]), None),
        Error::ShapeMismatch,
        &["bias", "[3]", "[4]"],
    );
    check(
        linear(&[4, 3], None, Some(&[2, 3])),
        Error::ShapeMismatch,
        &["residual", "[2, 4]"],
    );
    assert!(linear(&[4, 3], Some(&[4]), Some(&[2, 4])).is_ok());
}

#[test]
fn refuses_bad_parameters() {
    let ctx = context(1 << 30);
    let x = tensor(&ctx, &[2, 4]);
    for eps in [-1e-6, f32::NAN, f32::INFINITY] {
        check(
            ops::layer_norm(&ctx, &x, None, None, eps, None),
            Error::InvalidArgument,
            &["eps"],
        );
        check(
            ops::l2_normalize(&ctx, &x, eps),
            Error::InvalidArgument,
            &["l2-normalize", "eps"],
        );
        let w = tensor(&ctx, &[4]);
        check(
            ops::rms_norm(&ctx, &x, &w, eps, 0.0),
            Error::InvalidArgument,
            &["rms-norm"],
        );
    }
    check(
        ops::scale(&ctx, &x, f32::NAN),
        Error::InvalidArgument,
        &["scale", "NaN"],
    );
    check(
        ops::add(&ctx, &x, &tensor(&ctx, &[4, 2])),
        Error::ShapeMismatch,
        &["add"],
    );
    check(
        ops::mul(&ctx, &x, &tensor(&ctx, &[8])),
        Error::ShapeMismatch,
        &["mul"],
    );
    check(
        ops::slice(&ctx, &x, 2, 0, 1),
        Error::InvalidArgument,
        &["axis 2", "rank 2"],
    );
    check(
        ops::slice(&ctx, &x, 1, 3, 2),
        Error::InvalidArgument,
        &["2 entries from 3", "4"],
    );
    check(
        ops::slice(&ctx, &x, 1, 0, 0),
        Error::InvalidArgument,
        &["0 entries"],
    );
    check(
        ops::slice(&ctx, &x, 1, usize::MAX, 2),
        Error::InvalidArgument,
        &["slice"],
    );
    check(
        ops::concat(&ctx, &[], 0),
        Error::InvalidArgument,
        &["0 tensors"],
    );
    check(
        ops::concat(&ctx, &vec![&x; 65], 0),
        Error::InvalidArgument,
        &["65 tensors", "64"],
    );
    check(
        ops::concat(&ctx, &[&x], 2),
        Error::InvalidArgument,
        &["axis 2"],
    );
    let other = tensor(&ctx, &[3, 5]);
    check(
        ops::concat(&ctx, &[&x, &other], 0),
        Error::ShapeMismatch,
        &["[2, 4]", "[3, 5]"],
    );
    let ids = Indices::new(vec![0, 2]);
    check(
        ops::embedding(&ctx, &x, &ids, None),
        Error::InvalidArgument,
        &["id 2", "2 rows"],
    );
    let none = Indices::new(vec![]);
    check(
        ops::embedding(&ctx, &x, &none, None),
        Error::InvalidArgument,
        &["embedding"],
    );
}

#[test]
fn refuses_bad_attention() {
    let ctx = context(1 << 30);
    let layout = SequenceLayout::packed(&[0, 2, 5], &[0, 0]).unwrap();
    let run = |q: &[usize], k: &[usize], heads, kv_heads, scale| {
        let (q, k) = (tensor(&ctx, q), tensor(&ctx, k));
        let options = AttentionOptions {
            heads,
            kv_heads,
            scale,
            causal: false,
            window: None,
        };
        ops::attention(
            &ctx,
            AttentionInput::Separate(&q, &k, &k),
            &layout,
            None,
            &options,
        )
    };
    assert!(run(&[5, 8], &[5, 4], 2, 1, 1.0).is_ok());
    check(
        run(&[5, 8], &[5, 8], 0, 1, 1.0),
        Error::InvalidArgument,
        &["0 heads"],
    );
    check(
        run(&[5, 8], &[5, 8], 2, 0, 1.0),
        Error::InvalidArgument,
        &["0 kv-heads"],
    );
    check(
        run(&[5, 8], &[5, 8], 3, 2, 1.0),
        Error::InvalidArgument,
        &["3 heads"],
    );
    check(
        run(&[5, 8], &[5, 8], 3, 3, 1.0),
        Error::ShapeMismatch,
        &["[5, 8]", "3 heads"],
    );
    check(
        run(&[5, 8], &[5, 8], 2, 1, 1.0),
        Error::ShapeMismatch,
        &["k is [5, 8]", "[5, 4]"],
    );
    check(
        run(&[4, 8], &[4, 8], 2, 2, 1.0),
        Error::ShapeMismatch,
        &["layout", "5 rows", "4"],
    );
    check(
        run(&[5, 257], &[5, 257], 1, 1, 1.0),
        Error::Unsupported,
        &["257", "256"],
    );
    for scale in [0.0, -1.0, f32::NAN] {
        check(
            run(&[5, 8], &[5, 8], 2, 2, scale),
            Error::InvalidArgument,
            &["scale"],
        );
    }
}

#[test]
fn refuses_bad_biases_of_attention() {
    let ctx = context(1 << 30);
    let layout = SequenceLayout::packed(&[0, 2, 6], &[0, 0]).unwrap();
    let q = tensor(&ctx, &[6, 8]);
    let run = |bias: &[usize], window| {
        let options = AttentionOptions {
            heads: 2,
            kv_heads: 2,
            scale: 1.0,
            causal: false,
            window,
        };
        let input = AttentionInput::Separate(&q, &q, &q);
        ops::attention(&ctx, input, &layout, Some(&tensor(&ctx, bias)), &options)
    };
    assert!(run(&[2, 7], None).is_ok());
    assert!(run(&[2, 9], None).is_ok(), "a longer reach");
    assert!(run(&[2, 3], Some(1)).is_ok(), "the window's reach");
    assert!(run(&[2, 7], Some(usize::MAX)).is_ok());
    for shape in [&[1, 7][..], &[7, 2], &[2, 6], &[14], &[1, 2, 7]] {
        check(
            run(shape, None),
            Error::ShapeMismatch,
            &["bias", &format!("{shape:?}"), "[2, 2 * reach + 1]"],
        );
    }
    for window in [None, Some(3), Some(9)] {
        check(
            run(&[2, 5], window),
            Error::ShapeMismatch,
            &["[2, 5]", "reaches 2", "3 away"],
        );
    }
    check(
        run(&[2, 1], Some(1)),
        Error::ShapeMismatch,
        &["reaches 0", "1 away"],
    );
}

#[test]
fn refuses_bad_norms_of_heads() {
    let ctx = context(1 << 30);
    let (x, table) = (tensor(&ctx, &[2, 20]), tensor(&ctx, &[2, 4]));
    let run = |query: &[usize], key: &[usize], query_heads, eps, weight_offset| {
        let norms = HeadNorms {
            query: &tensor(&ctx, query),
            key: &tensor(&ctx, key),
            query_heads,
            eps,
            weight_offset,
        };
        ops::rotary(&ctx, &x, &table, 3, 4, Some(&norms))
    };
    for query_heads in [0, 2, 3] {
        assert!(run(&[4], &[4], query_heads, 0.0, 1.0).is_ok());
    }
    for shape in [&[5][..], &[1], &[12], &[1, 4]] {
        let wanted = ["rotary", &format!("{shape:?}"), "[4]"];
        check(
            run(shape, &[4], 2, 1e-6, 0.0),
            Error::ShapeMismatch,
            &wanted,
        );
        check(
            run(&[4], shape, 2, 1e-6, 0.0),
            Error::ShapeMismatch,
            &wanted,
        );
    }
    for query_heads in [4, usize::MAX] {
        check(
            run(&[4], &[4], query_heads, 1e-6, 0.0),
            Error::InvalidArgument,
            &["query heads", "3"],
        );
    }
    for eps in [-1e-6, f32::NAN, f32::INFINITY] {
        check(
            run(&[4], &[4], 2, eps, 0.0),
            Error::InvalidArgument,
            &["rotary", "eps"],
        );
    }
    check(
        run(&[4], &[4], 2, 1e-6, f32::NAN),
        Error::InvalidArgument,
        &["weight-offset", "NaN"],
    );
    let (wide, angles, weight) = (
        tensor(&ctx, &[1, 257]),
        tensor(&ctx, &[1, 2]),
        tensor(&ctx, &[257]),
    );
    let norms = HeadNorms {
        query: &weight,
        key: &weight,
        query_heads: 1,
        eps: 1e-6,
        weight_offset: 0.0,
    };
    check(
        ops::rotary(&ctx, &wide, &angles, 1, 257, Some(&norms)),
        Error::Unsupported,
        &["rotary", "257", "256"],
    );
    // Two for each element, and two more for each that is normalised.
    ctx.account.start_batch(2 * 40 + 2 * 24);
    assert!(run(&[4], &[4], 2, 1e-6, 0.0).is_ok());
    check(
        ops::add(&ctx, &x, &x),
        Error::QuotaExceeded,
        &["add", "128"],
    );
}

#[test]
fn charges_the_bias_of_attention() {
    let ctx = context(1 << 20);
    let layout = SequenceLayout::packed(&[0, 2], &[0]).unwrap();
    let (q, bias) = (tensor(&ctx, &[2, 8]), tensor(&ctx, &[2, 101]));
    let options = AttentionOptions {
        heads: 2,
        kv_heads: 2,
        scale: 1.0,
        causal: false,
        window: None,
    };
    let input = AttentionInput::Separate(&q, &q, &q);
    ctx.account.start_batch(1000);
    let run = |bias| ops::attention(&ctx, input, &layout, bias, &options);
    assert!(run(None).is_ok());
    let without = ctx.account.op_cost();
    assert!(run(Some(&bias)).is_ok());
    assert_eq!(ctx.account.op_cost() - without, without + 2 * 4 + 202);
}

#[test]
fn refuses_bad_layouts() {
    let packed = SequenceLayout::packed;
    check(packed(&[0], &[]), Error::InvalidArgument, &["1 offsets"]);
    check(
        packed(&[1, 2], &[0]),
        Error::InvalidArgument,
        &["first offset is 1"],
    );
    check(
        packed(&[0, 2, 2], &[0, 0]),
        Error::InvalidArgument,
        &["sequence 1"],
    );
    check(
        packed(&[0, 3, 2], &[0, 0]),
        Error::InvalidArgument,
        &["from 3 to 2"],
    );
    check(
        packed(&[0, 3], &[]),
        Error::ShapeMismatch,
        &["0 excluded", "1 sequences"],
    );
    check(
        packed(&[0, 3], &[3]),
        Error::InvalidArgument,
        &["3 rows", "excludes 3"],
    );
    let layout = packed(&[0, 3, 4], &[0, 0]).unwrap();
    check(layout.select(&[]), Error::InvalidArgument, &["0 of 2"]);
    check(layout.select(&[2]), Error::InvalidArgument, &["sequence 2"]);
    let ctx = context(1 << 20);
    let x = tensor(&ctx, &[3, 4]);
    let pooled = ops::segment_pool(&ctx, &x, &layout, PoolMode::Mean);
    check(
        pooled,
        Error::ShapeMismatch,
        &["segment-pool", "row 4 of 3"],
    );
}

#[test]
fn charges_bytes_until_the_last_view_is_dropped() {
    let ctx = context(1000);
    let x = tensor(&ctx, &[8, 8]);
    assert_eq!(ctx.account.used_bytes(), 256);
    let view = ops::slice(&ctx, &x, 0, 0, 1).unwrap();
    drop(x);
    assert_eq!(ctx.account.used_bytes(), 256);
    drop(view);
    assert_eq!(
        (ctx.account.used_bytes(), ctx.account.peak_bytes()),
        (0, 256)
    );
    check(
        Tensor::from_f32(&ctx, &[300], &[0.0; 300]),
        Error::QuotaExceeded,
        &["tensor", "1216 bytes", "1000"],
    );
    assert_eq!(ctx.account.used_bytes(), 0);
}

#[test]
fn charges_cost_to_the_batch() {
    let ctx = context(1 << 20);
    let x = tensor(&ctx, &[4, 4]);
    ctx.account.start_batch(40);
    assert!(ops::activate(&ctx, &x, Activation::Relu).is_ok());
    assert!(ops::add(&ctx, &x, &x).is_ok());
    check(
        ops::add(&ctx, &x, &x),
        Error::QuotaExceeded,
        &["add", "cost 16", "32", "40"],
    );
    ctx.account.start_batch(1000);
    assert!(ops::add(&ctx, &x, &x).is_ok());
    let used = ctx.account.used_bytes();
    ctx.account.start_batch(0);
    assert!(ops::linear(&ctx, &x, &x, None, Activation::Relu, None).is_err());
    assert_eq!(ctx.account.used_bytes(), used);
}

#[test]
fn refuses_bad_devices() {
    check(
        Device::cpu(0).map(|_| ()),
        Error::InvalidArgument,
        &["0 threads"],
    );
    check(
        Device::cpu(1_000_000).map(|_| ()),
        Error::InvalidArgument,
        &["1000000 threads"],
    );
    assert!(tenon_tensor::available_cpus() >= 1);
}
