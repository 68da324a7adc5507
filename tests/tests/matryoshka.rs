//! Shorter vectors: who may be asked for them, for which lengths, and what is said otherwise.
//! Their values are held against the reference by families.rs.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tenon_tests::checkpoint::{Checkpoint, HIDDEN};
use tenon_tests::goldens::max_abs_difference;
use tenon_tests::server::{Server, vectors};

/// A tiny checkpoint with more keys in its config.json.
fn write(directory: &Path, keys: Value) {
    let mut checkpoint = Checkpoint::default();
    let config = checkpoint.json("config.json", "");
    for (key, value) in keys.as_object().expect("an object") {
        config[key] = value.clone();
    }
    fs::create_dir_all(directory).expect("folder");
    checkpoint.write(directory);
}

fn ask(server: &Server, model: &str, dimensions: Value) -> Value {
    let request = json!({"model": model, "input": "oak beam", "dimensions": dimensions});
    server.embeddings(&request).json()
}

/// Wants vectors of these lengths: the first elements of the whole one, of length 1.
#[track_caller]
fn shortened(server: &Server, model: &str, lengths: &[usize]) {
    let full = server.embed(model, "oak beam").remove(0);
    for &length in lengths {
        let short = vectors(&ask(server, model, json!(length))).remove(0);
        let part = &full[..length];
        let norm = part.iter().map(|x| x * x).sum::<f32>().sqrt();
        let wanted: Vec<f32> = part.iter().map(|x| x / norm).collect();
        let difference = max_abs_difference(&short, &wanted);
        assert!(difference < 1e-6, "{model}, {length}: {difference:e}");
    }
}

#[track_caller]
fn refused(server: &Server, model: &str, dimensions: Value, words: &str) {
    let answer = ask(server, model, dimensions);
    let error = &answer["error"];
    assert_eq!(error["param"], "dimensions", "{answer}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains(words), "{words:?} is not in {message:?}");
}

#[test]
fn callers_may_ask_for_what_the_checkpoint_was_trained_for() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let models = [
        ("none", json!({})),
        ("any", json!({"is_matryoshka": true})),
        ("listed", json!({"matryoshka_dimensions": [8, 16]})),
    ];
    let mut arguments = Vec::new();
    for (name, keys) in models {
        let path = directory.path().join(name);
        write(&path, keys);
        let path = path.to_str().expect("UTF-8 path").to_owned();
        arguments.extend(["--model".to_owned(), path]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Server::start(&arguments);
    shortened(&server, "any", &[1, 7, HIDDEN]);
    shortened(&server, "listed", &[8, 16]);

    let unsupported = "does not support specifying dimensions";
    refused(&server, "none", json!(8), unsupported);
    refused(&server, "none", json!(HIDDEN), unsupported);
    for model in ["any", "listed"] {
        refused(&server, model, json!(0), "dimensions");
        refused(&server, model, json!(HIDDEN + 1), "1 to 32");
    }
    refused(&server, "listed", json!(9), "one of [8, 16]");
    assert_eq!(server.get("/health").status, 200);
    server.assert_log_is_clean();
}

#[test]
fn the_operator_has_the_last_word() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let model = directory.path().join("flag");
    write(&model, json!({"matryoshka_dimensions": [8]}));
    let bundle = |name: &str, settings: &str| {
        let path = directory.path().join(format!("{name}.toml"));
        let text = format!("name = \"{name}\"\nweights = \"flag\"\n[config.pooling]\n{settings}\n");
        fs::write(&path, text).expect("manifest");
        path.to_str().expect("UTF-8 path").to_owned()
    };
    let off = bundle("off", "matryoshka = false");
    let listed = bundle("listed", "matryoshka_dimensions = [5, 6]");
    let cut = bundle("cut", "truncate_dim = 20");
    let model = model.to_str().expect("UTF-8 path");
    let arguments = [
        "--model",
        model,
        "--matryoshka-dimensions",
        "4, 12",
        "--bundle",
        &off,
        "--bundle",
        &listed,
        "--bundle",
        &cut,
    ];
    let server = Server::start(&arguments);
    shortened(&server, "flag", &[4, 12]);
    refused(&server, "flag", json!(8), "one of [4, 12]");
    refused(
        &server,
        "off",
        json!(8),
        "does not support specifying dimensions",
    );
    shortened(&server, "listed", &[5, 6]);
    refused(&server, "listed", json!(8), "one of [5, 6]");

    let full = server.embed("flag", "oak beam").remove(0);
    assert_eq!(server.embed("cut", "oak beam").remove(0), full[..20]);
    shortened(&server, "cut", &[8]);
    refused(&server, "cut", json!(21), "1 to 20");

    let wrong = ["--model", model, "--matryoshka-dimensions", "4,33"];
    let refusal = Server::try_start(&wrong).expect_err("a refusal");
    for word in ["matryoshka_dimensions", "33", "between 1 and 32"] {
        assert!(refusal.log.contains(word), "{word}: {}", refusal.log);
    }
}
