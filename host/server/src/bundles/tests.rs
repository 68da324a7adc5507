//! What folders and manifests say, and what they get wrong.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A folder with these files, besides a `config.json`.
fn folder(files: &[(&str, Value)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = json!({"architectures": ["BertModel"], "model_type": "bert"});
    write(dir.path(), "config.json", &config);
    for (name, value) in files {
        write(dir.path(), name, value);
    }
    dir
}

fn write(dir: &Path, name: &str, value: &Value) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

fn module(index: usize, path: &str, kind: &str) -> Value {
    json!({"idx": index, "name": index.to_string(), "path": path, "type": kind})
}

fn transformer() -> Value {
    module(0, "", "sentence_transformers.models.Transformer")
}

fn pooling_of(files: &[(&str, Value)]) -> Value {
    let dir = folder(files);
    from_directory(dir.path(), Some("m"))
        .unwrap()
        .role_config
        .pooling
}

#[track_caller]
fn refused(files: &[(&str, Value)], words: &[&str]) {
    let dir = folder(files);
    let said = match from_directory(dir.path(), Some("m")) {
        Ok(_) => panic!("accepted, wanted {words:?}"),
        Err(error) => error.to_string(),
    };
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
}

#[test]
fn a_folder_without_modules_is_pooled_to_the_mean() {
    let pooling = pooling_of(&[]);
    assert_eq!(
        pooling["modules"],
        json!([{"type": "pooling", "modes": ["mean"]}])
    );
    assert_eq!(pooling["matryoshka"], json!(false));
}

#[test]
fn all_spellings_of_modules_are_read_in_order() {
    let modules = json!([
        transformer(),
        module(
            1,
            "1_Pooling",
            "sentence_transformers.base.modules.pooling.Pooling"
        ),
        module(
            2,
            "2_Dense",
            "sentence_transformers.sentence_transformer.modules.dense.Dense"
        ),
        module(3, "3_Normalize", "sentence_transformers.models.Normalize"),
    ]);
    let pooling = pooling_of(&[
        ("modules.json", modules),
        (
            "1_Pooling/config.json",
            json!({"embedding_dimension": 8, "pooling_mode": "cls"}),
        ),
        (
            "2_Dense/config.json",
            json!({"in_features": 8, "out_features": 4, "bias": false,
            "activation_function": "torch.nn.modules.linear.Identity"}),
        ),
    ]);
    assert_eq!(
        pooling["modules"],
        json!([
            {"type": "pooling", "modes": ["cls"], "in_features": 8},
            {"type": "dense", "path": "2_Dense", "in_features": 8, "out_features": 4,
             "bias": false, "activation": "identity"},
            {"type": "normalize"},
        ])
    );
}

#[test]
fn old_booleans_have_a_fixed_order_and_new_lists_their_own() {
    let modes = |config: Value| {
        let modules = json!([
            transformer(),
            module(1, "1_Pooling", "sentence_transformers.models.Pooling"),
        ]);
        let files = [("modules.json", modules), ("1_Pooling/config.json", config)];
        pooling_of(&files)["modules"][0]["modes"].clone()
    };
    let old = json!({"word_embedding_dimension": 8, "pooling_mode_lasttoken": true,
        "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true,
        "pooling_mode_max_tokens": false});
    assert_eq!(modes(old), json!(["cls", "mean", "lasttoken"]));
    let listed = json!({"embedding_dimension": 8, "pooling_mode": ["lasttoken", "max", "cls"]});
    assert_eq!(modes(listed), json!(["lasttoken", "max", "cls"]));
    assert_eq!(
        modes(json!({"word_embedding_dimension": 8})),
        json!(["mean"])
    );
}

#[test]
fn prompts_and_lengths_reach_the_template() {
    let dir = folder(&[
        (
            "config_sentence_transformers.json",
            json!({"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": "query",
                "similarity_fn_name": "cosine", "__version__": {"torch": "2"}}),
        ),
        (
            "sentence_bert_config.json",
            json!({"max_seq_length": 77, "do_lower_case": true}),
        ),
    ]);
    let bundle = from_directory(dir.path(), Some("m")).unwrap();
    assert_eq!(bundle.max_tokens, Some(77));
    let template = &bundle.role_config.template;
    assert_eq!(template["prompts"], json!({"query": "q: ", "document": ""}));
    assert_eq!(template["default_prompt_name"], "query");
    assert_eq!(template["lowercase"], true);
}

#[test]
fn what_a_folder_gets_wrong_is_named_with_its_file() {
    let modules = |kind: &str, path: &str| json!([transformer(), module(1, path, kind)]);
    let pooling = "sentence_transformers.models.Pooling";
    let with = |config: Value| {
        [
            ("modules.json", modules(pooling, "1_Pooling")),
            ("1_Pooling/config.json", config),
        ]
    };
    refused(
        &[(
            "modules.json",
            modules("sentence_transformers.models.LSTM", "1_LSTM"),
        )],
        &["modules.json", "module 1", "LSTM", "Dense"],
    );
    refused(
        &[("modules.json", modules("other.Pooling", "1_Pooling"))],
        &["modules.json", "other.Pooling"],
    );
    refused(
        &[("modules.json", modules(pooling, "../1_Pooling"))],
        &["modules.json", "../1_Pooling"],
    );
    refused(
        &[("modules.json", json!([transformer()]))],
        &["modules.json", "Pooling"],
    );
    refused(&[("modules.json", json!({"a": 1}))], &["modules.json"]);
    refused(
        &with(json!({"pooling_mode": "median"})),
        &["1_Pooling/config.json", "median", "weightedmean"],
    );
    refused(
        &with(json!({"pooling_mode_median_tokens": true})),
        &["1_Pooling/config.json", "pooling_mode_median_tokens"],
    );
    refused(
        &[("sentence_bert_config.json", json!({"max_length": 5}))],
        &["sentence_bert_config.json", "max_length"],
    );
    refused(
        &[("sentence_bert_config.json", json!({"max_seq_length": "5"}))],
        &["sentence_bert_config.json", "max_seq_length"],
    );
    refused(
        &[(
            "config_sentence_transformers.json",
            json!({"prompts": {}, "default_prompt_name": "query"}),
        )],
        &["config_sentence_transformers.json", "query"],
    );
    refused(
        &[("config.json", json!({"architectures": ["NoSuchModel"]}))],
        &["config.json", "NoSuchModel", "BertModel"],
    );
    refused(
        &[("config.json", json!({}))],
        &["config.json", "model_type"],
    );
    refused(
        &[(
            "config.json",
            json!({"model_type": "bert", "is_matryoshka": "yes"}),
        )],
        &["config.json", "is_matryoshka"],
    );
}

#[test]
fn a_manifest_replaces_what_it_names() {
    let dir = folder(&[]);
    let manifest = dir.path().join("bundle.toml");
    let text = r#"
        name = "n"
        aliases = ["a"]
        weights = "."
        dtype = "bf16"
        [roles]
        pooling = "./p.wasm"
        [config.pooling]
        matryoshka = true
    "#;
    fs::write(&manifest, text).unwrap();
    let bundle = open(&manifest).unwrap();
    assert_eq!(
        (bundle.name.as_str(), &bundle.aliases[..]),
        ("n", &["a".to_owned()][..])
    );
    assert_eq!(bundle.dtype, ServedDtype::Bf16);
    assert_eq!(
        bundle.roles.pooling,
        ComponentSource::File(dir.path().join("p.wasm"))
    );
    assert_eq!(bundle.roles.model, ComponentSource::Builtin("bert".into()));
    assert_eq!(bundle.role_config.pooling["matryoshka"], true);
    assert_eq!(bundle.role_config.pooling["modules"][0]["type"], "pooling");
}
