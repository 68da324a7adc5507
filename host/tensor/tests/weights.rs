//! Checkpoints: what is read from them, and what is refused.

mod common;

use std::fs;
use std::path::Path;

use common::{Random, check_close, contexts, f32_bytes, file};
use tenon_tensor::{
    Account, Activation, Context, DType, Device, Error, Indices, Tensor, Weights, ops,
};

/// A safetensors file of named tensors: element type, shape and bytes.
fn bf16_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|&x| half::bf16::from_f32(x).to_le_bytes())
        .collect()
}

fn f16_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|&x| half::f16::from_f32(x).to_le_bytes())
        .collect()
}

fn open(dir: &Path) -> Result<Weights, Error> {
    Weights::open(&Device::cpu(1)?, dir, DType::F32)
}

#[track_caller]
fn check<T>(result: Result<T, Error>, mentions: &[&str]) {
    let Err(error) = result else {
        panic!("accepted, wanted {mentions:?}")
    };
    let text = error.to_string();
    for mention in mentions {
        assert!(
            text.contains(mention),
            "{text:?} does not mention {mention:?}"
        );
    }
}

#[test]
fn linear_and_embedding_with_every_stored_and_served_dtype() {
    for ctx in contexts() {
        let mut random = Random(21);
        let (n, k) = (45, 67);
        let (ws, bs) = (random.values(n * k), random.values(n));
        let stored: [(&str, Vec<u8>, Vec<u8>); 3] = [
            ("F32", f32_bytes(&ws), f32_bytes(&bs)),
            ("F16", f16_bytes(&ws), f16_bytes(&bs)),
            ("BF16", bf16_bytes(&ws), bf16_bytes(&bs)),
        ];
        for (dtype, w, b) in stored {
            for served in [DType::F32, DType::BF16] {
                let dir = tempfile::tempdir().unwrap();
                let bytes = file(&[
                    ("w", dtype, &[n, k], w.clone()),
                    ("b", dtype, &[n], b.clone()),
                ]);
                fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
                let weights = Weights::open(&ctx.device, dir.path(), served).unwrap();
                assert_eq!(weights.names(), ["b", "w"]);
                let weight = weights.get("w", &[n, k]).unwrap();
                let bias = weights.get("b", &[n]).unwrap();
                assert_eq!((weight.dtype(), bias.dtype()), (served, DType::F32));
                let rounds = served == DType::BF16 || dtype == "BF16";
                let tolerance = if rounds { 0.05 } else { 5e-3 };
                let (x, xs) = random.tensor(&ctx, &[9, k]);
                let y = ops::linear(&ctx, &x, &weight, Some(&bias), Activation::Identity, None);
                let mut wanted = Vec::new();
                for i in 0..9 {
                    for j in 0..n {
                        let products = (0..k).map(|l| xs[i * k + l] as f64 * ws[j * k + l] as f64);
                        wanted.push(products.sum::<f64>() + bs[j] as f64);
                    }
                }
                let what = format!("{:?} {dtype} as {served}", ctx.device);
                check_close(
                    &what,
                    &y.unwrap().to_f32().unwrap(),
                    &wanted,
                    tolerance,
                    1e-3,
                );

                let rows = ops::embedding(&ctx, &weight, &Indices::new(vec![3, 44, 0]), None);
                let wanted: Vec<f64> = [3, 44, 0]
                    .iter()
                    .flat_map(|row| ws[row * k..][..k].iter().map(|&x| x as f64))
                    .collect();
                let rows = rows.unwrap().to_f32().unwrap();
                check_close(&what, &rows, &wanted, if rounds { 4e-3 } else { 5e-4 }, 0.0);
                assert!(weights.resident_bytes() > 0);
            }
        }
    }
}

/// `m` rows of `k` elements, `stride` apart, times a weight of `n`: sums that are exact in every
/// order, so that no part of a product may be another's.
fn check_exact(ctx: &Context, random: &mut Random, [m, n, k, stride]: [usize; 4]) {
    let mut eighths = |count: usize, most: usize| -> Vec<f32> {
        let eighth = |_| random.integer(0, most) as f32 / 8.0 - most as f32 / 16.0;
        (0..count).map(eighth).collect()
    };
    let (xs, ws) = (eighths(m * stride, 16), eighths(n * k, 4));
    let x = Tensor::from_f32(ctx, &[m, stride], &xs).unwrap();
    let x = ops::slice(ctx, &x, 1, 0, k).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let bytes = file(&[("w", "F32", &[n, k], f32_bytes(&ws))]);
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let mut wanted = Vec::with_capacity(m * n);
    for x in xs.chunks(stride) {
        for w in ws.chunks(k) {
            wanted.push(x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>());
        }
    }
    for served in [DType::F32, DType::BF16] {
        let weights = Weights::open(&ctx.device, dir.path(), served).unwrap();
        let weight = weights.get("w", &[n, k]).unwrap();
        let y = ops::linear(ctx, &x, &weight, None, Activation::Identity, None).unwrap();
        let what = format!("{:?} {m}x{n}x{k} {served}", ctx.device);
        assert!(y.to_f32().unwrap() == wanted, "{what}");
    }
}

#[test]
fn large_products_are_exact_in_all_blocks() {
    for ctx in contexts() {
        let mut random = Random(23);
        // Rows of several blocks; k of one, two and more slices, those of a matrix unit too; rows
        // 1024 apart, which are copied in f32 too.
        check_exact(&ctx, &mut random, [300, 200, 101, 101]);
        check_exact(&ctx, &mut random, [305, 90, 700, 1024]);
        check_exact(&ctx, &mut random, [310, 130, 1024, 1024]);
        check_exact(&ctx, &mut random, [299, 100, 1501, 1501]);
        check_exact(&ctx, &mut random, [150, 70, 2001, 2001]);
        check_exact(&ctx, &mut random, [330, 70, 2081, 2081]);
        check_exact(&ctx, &mut random, [150, 70, 4129, 4129]);
    }
}

/// Of every height of a tile, and with every rest of k that a matrix unit has.
#[test]
fn small_products_are_exact_in_all_shapes() {
    for ctx in contexts() {
        let mut random = Random(24);
        for m in 1..=66 {
            let k = 1 + (m * 7 + 3) % 97;
            check_exact(&ctx, &mut random, [m, 1 + m * 5 % 71, k, k]);
        }
    }
}

#[test]
fn bf16_weights_are_rounded_to_nearest_even() {
    for ctx in contexts() {
        let mut random = Random(22);
        // x is exact in bf16, so that every level has the same products.
        let (n, k) = (70, 33);
        let ws = random.values(n * k);
        let xs: Vec<f32> = (0..5 * k)
            .map(|_| random.integer(0, 16) as f32 / 8.0)
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let bytes = file(&[("w", "F32", &[n, k], f32_bytes(&ws))]);
        fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
        let weights = Weights::open(&ctx.device, dir.path(), DType::BF16).unwrap();
        let weight = weights.get("w", &[n, k]).unwrap();
        let x = tenon_tensor::Tensor::from_f32(&ctx, &[5, k], &xs).unwrap();
        let y = ops::linear(&ctx, &x, &weight, None, Activation::Identity, None).unwrap();
        let mut wanted = Vec::new();
        for i in 0..5 {
            for j in 0..n {
                let rounded = |l: usize| half::bf16::from_f32(ws[j * k + l]).to_f64();
                wanted.push((0..k).map(|l| xs[i * k + l] as f64 * rounded(l)).sum());
            }
        }
        check_close("bf16", &y.to_f32().unwrap(), &wanted, 1e-5, 1e-6);
    }
}

#[test]
fn fuses_and_shares_weights() {
    let dir = tempfile::tempdir().unwrap();
    let tensors: [(&str, &str, &[usize], Vec<u8>); 4] = [
        (
            "q",
            "F32",
            &[2, 3],
            f32_bytes(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ),
        ("k", "BF16", &[1, 3], bf16_bytes(&[7.0, 8.0, 9.0])),
        ("qb", "F32", &[2], f32_bytes(&[1.0, 2.0])),
        ("kb", "F16", &[1], f16_bytes(&[3.0])),
    ];
    fs::write(dir.path().join("model.safetensors"), file(&tensors)).unwrap();
    let weights = open(dir.path()).unwrap();
    let fused = weights.concat(&["q", "k", "q"], &[5, 3]).unwrap();
    let wanted = [1., 2., 3., 4., 5., 6., 7., 8., 9., 1., 2., 3., 4., 5., 6.];
    assert_eq!(fused.to_f32().unwrap(), wanted);
    let bias = weights.concat(&["qb", "kb"], &[3]).unwrap();
    assert_eq!(bias.to_f32().unwrap(), [1.0, 2.0, 3.0]);
    let ctx = Context {
        device: Device::cpu(1).unwrap(),
        account: Account::new(1 << 20),
        dtype: DType::F32,
    };
    let view = ops::slice(&ctx, &fused, 0, 1, 2).unwrap();
    assert_eq!(view.to_f32().unwrap(), [4., 5., 6., 7., 8., 9.]);
    let view = ops::slice(&ctx, &view, 1, 1, 2).unwrap();
    assert_eq!(view.to_f32().unwrap(), [5., 6., 8., 9.]);
    assert_eq!(
        ops::scale(&ctx, &view, 2.0).unwrap().to_f32().unwrap(),
        [10., 12., 16., 18.]
    );

    let before = weights.resident_bytes();
    let x = tenon_tensor::Tensor::from_f32(&ctx, &[1, 3], &[1.0, 0.0, 0.0]).unwrap();
    for _ in 0..3 {
        let again = weights.concat(&["q", "k", "q"], &[5, 3]).unwrap();
        let y = ops::linear(&ctx, &x, &again, None, Activation::Identity, None).unwrap();
        assert_eq!(y.to_f32().unwrap(), [1., 4., 7., 1., 4.]);
    }
    let y = ops::linear(
        &ctx,
        &x,
        &weights.clone().get("q", &[2, 3]).unwrap(),
        None,
        Activation::Identity,
        None,
    );
    assert_eq!(y.unwrap().to_f32().unwrap(), [1., 4.]);
    assert!(weights.resident_bytes() > before);

    check(
        weights.get("q", &[3, 2]),
        &["\"q\"", "[2, 3]", "[3, 2]", "model.safetensors"],
    );
    check(weights.get("q", &[6]), &["\"q\"", "[2, 3]", "[6]"]);
    check(weights.get("z", &[6]), &["\"z\"", "[6]"]);
    check(
        weights.concat(&["q", "k"], &[4, 3]),
        &["q + k", "3 rows", "[4, 3]"],
    );
    check(
        weights.concat(&["q", "kb"], &[3, 3]),
        &["\"kb\"", "[1]", "[3, 3]"],
    );
    check(weights.concat(&["q"], &[2, 3]), &["1 names"]);
    check(weights.concat(&["q"; 9], &[18, 3]), &["9 names", "8"]);
    assert!(weights.has("q") && !weights.has("z") && !weights.has("x/q"));
}

#[test]
fn takes_convolutions_and_vectors_as_matrices() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..24).map(|value| value as f32).collect();
    let tensors = [
        ("conv", "F32", &[2_usize, 3, 2, 2][..], f32_bytes(&values)),
        ("vector", "F32", &[3], f32_bytes(&values[..3])),
    ];
    fs::write(dir.path().join("model.safetensors"), file(&tensors)).unwrap();
    let weights = open(dir.path()).unwrap();
    let taken = |name: &str, shape: &[usize]| weights.get(name, shape).unwrap().to_f32().unwrap();
    assert_eq!(taken("conv", &[2, 12]), values);
    assert_eq!(taken("conv", &[2, 3, 2, 2]), values);
    assert_eq!(taken("vector", &[1, 3]), values[..3]);
    for (name, shape) in [
        ("conv", &[12_usize, 2][..]),
        ("conv", &[2, 11]),
        ("conv", &[2, 3, 4]),
        ("vector", &[3, 1]),
        ("vector", &[1, 2]),
    ] {
        check(weights.get(name, shape), &[name]);
    }
}

#[test]
fn reads_shards_and_module_folders() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(
        path("a.safetensors"),
        file(&[("x", "F32", &[1], f32_bytes(&[1.0]))]),
    )
    .unwrap();
    fs::write(
        path("b.safetensors"),
        file(&[("y", "F32", &[1], f32_bytes(&[2.0]))]),
    )
    .unwrap();
    let index = r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#;
    fs::write(path("model.safetensors.index.json"), index).unwrap();
    fs::create_dir(path("2_Dense")).unwrap();
    let dense = file(&[("linear.bias", "F32", &[1], f32_bytes(&[3.0]))]);
    fs::write(path("2_Dense/model.safetensors"), dense).unwrap();
    let weights = open(dir.path()).unwrap();
    assert_eq!(weights.checkpoint_bytes(), 8);
    for (name, value) in [("x", 1.0), ("y", 2.0), ("2_Dense/linear.bias", 3.0)] {
        assert!(weights.has(name), "{name}");
        assert_eq!(weights.get(name, &[1]).unwrap().to_f32().unwrap(), [value]);
    }
    assert_eq!(weights.checkpoint_bytes(), 12);
    for name in [
        "../x",
        "/etc/x",
        "2_Dense/../x",
        "./x",
        "a\\b/x",
        "",
        "/",
        "2_Dense/",
        "\0/x",
    ] {
        assert!(!weights.has(name), "{name:?}");
        check(weights.get(name, &[1]), &["weights"]);
    }
}

#[test]
fn refuses_malformed_checkpoints() {
    let good = file(&[("w", "F32", &[2, 2], f32_bytes(&[1.0; 4]))]);
    let with_header = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        let header =
            format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#);
        with_header(&header, 16)
    };
    let mut cases = vec![
        Vec::new(),
        vec![1, 2, 3],
        good[..good.len() - 1].to_vec(),
        [good.clone(), vec![0]].concat(),
        u64::MAX.to_le_bytes().to_vec(),
        with_header("{", 0),
        with_header("[1]", 0),
        entry("F32", "[2,2]", "[0,99]"),
        entry("F32", "[2,2]", "[16,0]"),
        entry("F32", "[2,3]", "[0,16]"),
        entry("F99", "[2,2]", "[0,16]"),
        entry("F32", "[18446744073709551615,2]", "[0,16]"),
        entry("F32", "[-1]", "[0,16]"),
    ];
    for end in 0..good.len() {
        cases.push(good[..end].to_vec());
    }
    for case in cases {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("model.safetensors"), case).unwrap();
        check(open(dir.path()), &["weights", "model.safetensors"]);
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), &good).unwrap();
    assert!(open(dir.path()).is_ok());
    let unsupported = Weights::open(&Device::cpu(1).unwrap(), dir.path(), DType::F16);
    check(unsupported, &["f16"]);
    let integers = file(&[
        ("w", "I64", &[1], vec![0; 8]),
        ("e", "F32", &[0, 3], vec![]),
    ]);
    fs::write(dir.path().join("model.safetensors"), integers).unwrap();
    let weights = open(dir.path()).unwrap();
    check(
        weights.get("w", &[1]),
        &["\"w\"", "I64", "model.safetensors"],
    );
    check(weights.get("e", &[0, 3]), &["[0, 3]"]);
}

#[test]
fn refuses_missing_shards_and_links_out() {
    let dir = tempfile::tempdir().unwrap();
    check(open(&dir.path().join("absent")), &["absent"]);
    check(open(dir.path()), &["model.safetensors"]);
    let good = file(&[("w", "F32", &[1], f32_bytes(&[1.0]))]);
    fs::write(dir.path().join("a.safetensors"), &good).unwrap();
    for (index, mentions) in [
        ("{", vec!["index.json"]),
        ("{}", vec!["weight_map"]),
        (r#"{"weight_map": {"w": 1}}"#, vec!["\"w\""]),
        (
            r#"{"weight_map": {"w": "gone.safetensors"}}"#,
            vec!["gone.safetensors", "\"w\""],
        ),
        (
            r#"{"weight_map": {"v": "a.safetensors"}}"#,
            vec!["a.safetensors", "\"v\""],
        ),
        (
            r#"{"weight_map": {"w": "../a.safetensors"}}"#,
            vec!["../a.safetensors"],
        ),
        (
            r#"{"weight_map": {"w": "/etc/passwd"}}"#,
            vec!["/etc/passwd"],
        ),
    ] {
        fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
        check(open(dir.path()), &mentions);
    }
    #[cfg(unix)]
    {
        let model = dir.path().join("m");
        fs::create_dir(&model).unwrap();
        let link = model.join("model.safetensors");
        std::os::unix::fs::symlink(dir.path().join("a.safetensors"), &link).unwrap();
        check(open(&model), &["model.safetensors", "outside"]);

        // The cache of the hub links from snapshots to blobs.
        let (blobs, snapshot) = (dir.path().join("blobs"), dir.path().join("snapshots/1"));
        fs::create_dir_all(&blobs).unwrap();
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(blobs.join("abc"), &good).unwrap();
        let link = snapshot.join("model.safetensors");
        std::os::unix::fs::symlink("../../blobs/abc", link).unwrap();
        assert!(open(&snapshot).unwrap().has("w"));
    }
}
