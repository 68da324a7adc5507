//! A checkpoint that is spoilt is refused at start, saying what was found and what was wanted.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};
use tenon_tests::checkpoint::{Checkpoint, HIDDEN, Stored, WORD_EMBEDDINGS, vocabulary};
use tenon_tests::goldens::cosine;
use tenon_tests::server::Server;

const QUERY: &str = "encoder.layer.1.attention.self.query.weight";

fn start(directory: &Path) -> Result<Server, tenon_tests::server::Refusal> {
    let path = directory.to_str().expect("UTF-8 path");
    Server::try_start(&["--model", path, "--served-model-name", "tiny"])
}

/// Spoils a good checkpoint's files and wants the start to fail with each of `words`.
#[track_caller]
fn refused(
    name: &str,
    spoil: impl FnOnce(&mut Checkpoint),
    files: impl FnOnce(&Path),
    words: &[&str],
) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut checkpoint = Checkpoint::default();
    spoil(&mut checkpoint);
    checkpoint.write(directory.path());
    files(directory.path());
    let Err(refusal) = start(directory.path()) else {
        panic!("{name}: served");
    };
    let (status, log) = (refusal.status, refusal.log);
    let code = status.and_then(|status| status.code());
    assert!(
        code.is_some_and(|code| code != 0),
        "{name}: ended with {status:?}:\n{log}"
    );
    assert!(!log.contains("panicked"), "{name}: {log}");
    for word in words {
        assert!(log.contains(word), "{name}: {word:?} is not in:\n{log}");
    }
}

fn tensor(name: &str, spoil: impl FnOnce(&mut Checkpoint), words: &[&str]) {
    refused(name, spoil, |_| (), words);
}

fn file(name: &str, files: impl FnOnce(&Path), words: &[&str]) {
    refused(name, |_| (), files, words);
}

fn config(name: &str, file: &str, key: &str, value: Value, words: &[&str]) {
    tensor(
        name,
        |checkpoint| checkpoint.json(file, "")[key] = value,
        words,
    );
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    tensor(
        "missing tensor",
        |c| drop(c.tensors.remove(QUERY)),
        &[QUERY],
    );
    tensor(
        "wrong shape",
        |c| {
            c.tensors
                .insert(QUERY.into(), Stored::f32(&[HIDDEN, 8], &[0.0; HIDDEN * 8]));
        },
        &[QUERY, "32", "8"],
    );
    tensor(
        "wrong rank",
        |c| {
            c.tensors.insert(
                QUERY.into(),
                Stored::f32(&[HIDDEN * HIDDEN], &[0.0; HIDDEN * HIDDEN]),
            );
        },
        &[QUERY, "1024", "32"],
    );
    tensor(
        "unknown dtype",
        |c| {
            let bytes = vec![0; HIDDEN * HIDDEN * 8];
            let stored = Stored {
                dtype: Dtype::I64,
                shape: vec![HIDDEN, HIDDEN],
                bytes,
            };
            c.tensors.insert(QUERY.into(), stored);
        },
        &[QUERY, "model.safetensors", "64"],
    );
    tensor(
        "short vocabulary",
        |c| {
            let rows = vocabulary() - 1;
            let table = Stored::f32(&[rows, HIDDEN], &vec![0.1; rows * HIDDEN]);
            c.tensors.insert(WORD_EMBEDDINGS.into(), table);
        },
        &[WORD_EMBEDDINGS, "20", "21"],
    );
    tensor("no tensors", |c| c.tensors.clear(), &["embeddings"]);
}

#[test]
fn damaged_weight_files_are_refused() {
    let weights = |directory: &Path| directory.join("model.safetensors");
    let rewrite = |directory: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(weights(directory)).expect("weights");
        change(&mut bytes);
        fs::write(weights(directory), bytes).expect("weights");
    };
    let named = ["model.safetensors"];
    file(
        "absent",
        |d| fs::remove_file(weights(d)).expect("remove"),
        &named,
    );
    file("empty", |d| rewrite(d, &Vec::clear), &named);
    file("six bytes", |d| rewrite(d, &|b| b.truncate(6)), &named);
    file("header cut", |d| rewrite(d, &|b| b.truncate(100)), &named);
    file(
        "data cut",
        |d| rewrite(d, &|b| b.truncate(b.len() - 4)),
        &named,
    );
    file("data added", |d| rewrite(d, &|b| b.extend([0; 9])), &named);
    file(
        "endless header",
        |d| rewrite(d, &|b| b[..8].fill(0xff)),
        &named,
    );
    file(
        "header of noise",
        |d| rewrite(d, &|b| b[8..40].fill(0x7b)),
        &named,
    );
    file(
        "a web page",
        |d| rewrite(d, &|b| *b = b"<!DOCTYPE html>".to_vec()),
        &named,
    );
    file(
        "a dtype nobody knows",
        |d| {
            rewrite(d, &|b| {
                let at = b.windows(5).position(|w| w == b"\"F32\"").expect("a dtype");
                b[at..at + 5].copy_from_slice(b"\"Q77\"");
            });
        },
        &named,
    );
    file(
        "index without its shards",
        |d| {
            fs::remove_file(weights(d)).expect("remove");
            let index = json!({"weight_map": {QUERY: "model-00001-of-00002.safetensors"}});
            fs::write(d.join("model.safetensors.index.json"), index.to_string()).expect("index");
        },
        &["model-00001-of-00002.safetensors"],
    );
    file(
        "index that leaves the directory",
        |d| {
            fs::remove_file(weights(d)).expect("remove");
            let index = json!({"weight_map": {QUERY: "../../etc/passwd"}});
            fs::write(d.join("model.safetensors.index.json"), index.to_string()).expect("index");
        },
        &["../../etc/passwd"],
    );
}

#[test]
fn configurations_not_understood_are_refused() {
    let garbage =
        |name: &'static str| move |d: &Path| fs::write(d.join(name), "{\"a\": ").expect("write");
    for name in [
        "config.json",
        "tokenizer.json",
        "modules.json",
        "1_Pooling/config.json",
    ] {
        file(name, garbage(name), &[name]);
    }
    for name in ["config.json", "tokenizer.json"] {
        let remove = |d: &Path| fs::remove_file(d.join(name)).expect("remove");
        file(name, remove, &[name]);
    }
    config(
        "tokenizer model",
        "tokenizer.json",
        "model",
        json!({"type": "Runes"}),
        &["tokenizer.json"],
    );
    config(
        "architecture",
        "config.json",
        "architectures",
        json!(["FooModel"]),
        &["FooModel"],
    );
    config(
        "activation",
        "config.json",
        "hidden_act",
        json!("sparkle"),
        &["hidden_act", "sparkle"],
    );
    config(
        "width",
        "config.json",
        "hidden_size",
        json!(48),
        &["48", "32"],
    );
    config(
        "heads",
        "config.json",
        "num_attention_heads",
        json!(5),
        &["num_attention_heads", "5"],
    );
    config(
        "no heads",
        "config.json",
        "num_attention_heads",
        json!(0),
        &["num_attention_heads"],
    );
    config(
        "layers",
        "config.json",
        "num_hidden_layers",
        json!(3),
        &["encoder.layer.2."],
    );
    config(
        "negative",
        "config.json",
        "hidden_size",
        json!(-32),
        &["hidden_size"],
    );
    config(
        "a word",
        "config.json",
        "hidden_size",
        json!("wide"),
        &["hidden_size"],
    );
    config(
        "relative positions",
        "config.json",
        "position_embedding_type",
        json!("relative_key"),
        &["position_embedding_type", "relative_key"],
    );
    config(
        "pooling mode",
        "1_Pooling/config.json",
        "pooling_mode_median_tokens",
        json!(true),
        &["1_Pooling/config.json", "pooling_mode_median_tokens"],
    );
    config(
        "pooling width",
        "1_Pooling/config.json",
        "word_embedding_dimension",
        json!(31),
        &["31", "32"],
    );
    tensor(
        "module",
        |c| {
            *c.json("modules.json", "/2/type") = json!("sentence_transformers.models.Sprinkle");
        },
        &["modules.json", "Sprinkle"],
    );
    tensor(
        "Dense without weights",
        |c| {
            let dense = json!({"in_features": HIDDEN, "out_features": 8, "bias": true,
            "activation_function": "torch.nn.modules.activation.Tanh"});
            c.files.insert("2_Dense/config.json".into(), dense);
            *c.json("modules.json", "/2") = json!({"idx": 2, "name": "2", "path": "2_Dense",
            "type": "sentence_transformers.models.Dense"});
        },
        &["2_Dense"],
    );
}

#[test]
fn a_directory_that_is_none_is_refused() {
    let Err(refusal) = start(Path::new("/nonexistent/model")) else {
        panic!("served");
    };
    assert!(
        refusal.log.contains("/nonexistent/model"),
        "{}",
        refusal.log
    );
    assert!(!refusal.log.contains("panicked"), "{}", refusal.log);
}

#[test]
fn shards_and_half_precision_files_are_read() {
    let plain = Checkpoint::default();
    let mut half = plain.clone();
    let mut bfloat = plain.clone();
    for (name, stored) in &plain.tensors {
        let values = stored.values();
        let upper = values
            .iter()
            .flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes())
            .collect();
        let shape = stored.shape.clone();
        bfloat.tensors.insert(
            name.clone(),
            Stored {
                dtype: Dtype::BF16,
                shape,
                bytes: upper,
            },
        );
        let small = values
            .iter()
            .flat_map(|v| f16_bits(*v).to_le_bytes())
            .collect();
        let shape = stored.shape.clone();
        half.tensors.insert(
            name.clone(),
            Stored {
                dtype: Dtype::F16,
                shape,
                bytes: small,
            },
        );
    }
    let embed = |write: &dyn Fn(&Path)| {
        let directory = tempfile::tempdir().expect("temporary directory");
        write(directory.path());
        let path = directory.path().to_str().expect("UTF-8 path");
        let server = Server::start(&[
            "--model",
            path,
            "--served-model-name",
            "tiny",
            "--dtype",
            "f32",
        ]);
        server.embed("tiny", "oak beam joint").remove(0)
    };
    let wanted = embed(&|directory| plain.write(directory));
    assert_eq!(embed(&|directory| plain.write_sharded(directory)), wanted);
    assert!(cosine(&embed(&|directory| half.write(directory)), &wanted) > 0.99999);
    assert!(cosine(&embed(&|directory| bfloat.write(directory)), &wanted) > 0.999);
}

#[test]
fn what_is_no_number_is_an_error_of_its_own_request() {
    for poison in [f32::NAN, f32::INFINITY] {
        poisoned(poison);
    }
}

/// Serves a checkpoint in which one word's embedding is `poison`.
fn poisoned(poison: f32) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut checkpoint = Checkpoint::default();
    let table = &checkpoint.tensors[WORD_EMBEDDINGS];
    let mut values = table.values();
    let row = tenon_tests::checkpoint::token_id("poison") * HIDDEN;
    values[row..row + HIDDEN].fill(poison);
    let table = Stored::f32(&table.shape.clone(), &values);
    checkpoint.tensors.insert(WORD_EMBEDDINGS.into(), table);
    checkpoint.write(directory.path());
    let server = start(directory.path()).expect("a server");
    let wanted = server.embed("tiny", "oak");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let poisoned =
                    server.embeddings(&json!({"model": "tiny", "input": ["oak", "poison"]}));
                assert!(poisoned.status >= 400, "{}", poisoned.text());
                let error = poisoned.json()["error"].to_string();
                assert!(
                    error.contains("input[1]") || error.contains("input 1"),
                    "{error}"
                );
            });
            scope.spawn(|| assert_eq!(server.embed("tiny", "oak"), wanted));
        }
    });
}

/// IEEE binary16 of a normal value, the lower bits cut off.
fn f16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    let exponent = ((bits >> 23) & 0xff) as i32 - 127 + 15;
    if exponent <= 0 {
        return sign;
    }
    sign | (exponent as u16) << 10 | (bits >> 13) as u16 & 0x3ff
}
