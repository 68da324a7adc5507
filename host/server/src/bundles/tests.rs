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
    assert_eq!(pooling["matryoshka"], Value::Null);
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
    assert!(bundle.lowercase);
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

#[test]
fn shorter_vectors_are_those_of_the_checkpoint_or_of_the_operator() {
    let config = |keys: Value| {
        let mut config = json!({"model_type": "nomic_bert"});
        let keys = keys.as_object().unwrap().clone();
        config.as_object_mut().unwrap().extend(keys);
        pooling_of(&[("config.json", config)])
    };
    let check = |pooling: &Value, any, listed| {
        assert_eq!(pooling["matryoshka"], any, "{pooling}");
        assert_eq!(pooling["matryoshka_dimensions"], listed, "{pooling}");
        assert_eq!(pooling["matryoshka_layer_norm"], json!(true), "{pooling}");
    };
    let (yes, none) = (json!(true), Value::Null);
    check(&config(json!({})), none.clone(), none.clone());
    check(
        &config(json!({"is_matryoshka": false})),
        none.clone(),
        none.clone(),
    );
    check(
        &config(json!({"is_matryoshka": true})),
        yes.clone(),
        json!([]),
    );
    let listed = json!({"is_matryoshka": false, "matryoshka_dimensions": [4, 2]});
    check(&config(listed), yes.clone(), json!([4, 2]));
    check(
        &config(json!({"matryoshka_dimensions": []})),
        none.clone(),
        none,
    );

    let settings = json!({"truncate_dim": 5});
    let pooling = pooling_of(&[("config_sentence_transformers.json", settings)]);
    assert_eq!(pooling["truncate_dim"], json!(5));
    assert_eq!(pooling["matryoshka_layer_norm"], json!(false));

    let dir = folder(&[]);
    let mut bundle = from_directory(dir.path(), Some("m")).unwrap();
    bundle.use_matryoshka(&"8, 16".parse().unwrap());
    assert_eq!(bundle.role_config.pooling["matryoshka"], yes);
    assert_eq!(
        bundle.role_config.pooling["matryoshka_dimensions"],
        json!([8, 16])
    );
    bundle.use_matryoshka(&"any".parse().unwrap());
    assert_eq!(
        bundle.role_config.pooling["matryoshka_dimensions"],
        json!([])
    );
    let said = "8,all".parse::<Matryoshka>().unwrap_err();
    assert!(said.contains("`any`"), "{said}");
}

#[test]
fn a_model_that_a_manifest_names_may_compute_what_nobody_knows() {
    let unknown = json!({"architectures": ["NoSuchModel"], "model_type": "no-such"});
    let dir = folder(&[("config.json", unknown)]);
    let manifest = dir.path().join("bundle.toml");
    let open_with = |roles: &str| {
        let text = format!("name = \"n\"\nweights = \".\"\n[roles]\n{roles}\n");
        fs::write(&manifest, text).unwrap();
        open(&manifest).map_err(|error| error.to_string())
    };
    let bundle = open_with("model = \"./m.wasm\"").unwrap();
    let model = ComponentSource::File(dir.path().join("m.wasm"));
    assert_eq!(bundle.roles.model, model);
    assert_eq!(
        bundle.role_config.pooling["modules"],
        json!([{"type": "pooling", "modes": ["mean"]}])
    );
    let bundle = open_with("model = \"builtin:bert\"").unwrap();
    assert_eq!(bundle.roles.model, ComponentSource::Builtin("bert".into()));
    let said = open_with("pooling = \"./p.wasm\"").unwrap_err();
    assert!(said.contains("NoSuchModel"), "{said}");
    let said = open_with("model = \"builtin:plain\"").unwrap_err();
    for word in ["roles.model", "builtin:plain", "bert, clip"] {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
}

/// The settings of the template after `--chat-template NAME`, or what is wrong with it.
fn chat_template(files: &[(&str, Value)], name: &str) -> Result<(ComponentSource, Value), String> {
    let dir = folder(files);
    let mut bundle = from_directory(dir.path(), Some("m")).unwrap();
    ChatTemplate::named(name)
        .and_then(|template| bundle.use_chat_template(&template))
        .map_err(|error| error.to_string())?;
    Ok((bundle.roles.template, bundle.role_config.template))
}

#[test]
fn a_checkpoints_chat_template_is_read_where_it_is_asked_for() {
    let jinja = ComponentSource::Builtin("jinja".into());
    let config = |config: Value| [("tokenizer_config.json", config)];
    let one = json!({"chat_template": "t", "bos_token": {"content": "<s>", "special": true},
        "eos_token": "</s>", "pad_token": null});
    let want = json!({"chat_template": "t", "bos_token": "<s>", "eos_token": "</s>"});
    assert_eq!(chat_template(&config(one), "jinja").unwrap(), (jinja, want));
    let several = json!({"chat_template": [{"name": "tool_use", "template": "a"},
        {"name": "default", "template": "b"}], "bos_token": null});
    let (_, settings) = chat_template(&config(several), "jinja").unwrap();
    assert_eq!(
        settings,
        json!({"chat_template": "b", "bos_token": null, "eos_token": null})
    );

    // Nobody asked: what is wrong with it does not matter, and text is served as it is.
    let odd = config(json!({"chat_template": 5}));
    let (source, settings) = chat_template(&odd, "plain").unwrap();
    assert_eq!(source, ComponentSource::Builtin("plain".into()));
    assert_eq!(settings["prompts"], json!({}));
    let (source, settings) = chat_template(&odd, "gme-qwen2-vl").unwrap();
    assert_eq!(source, ComponentSource::Builtin("gme-qwen2-vl".into()));
    assert_eq!(settings, json!({}));
}

#[test]
fn a_template_in_a_file_wins_over_the_checkpoints() {
    let dir = folder(&[("tokenizer_config.json", json!({"chat_template": "old"}))]);
    fs::write(dir.path().join("chat_template.jinja"), "new\n").unwrap();
    let mut bundle = from_directory(dir.path(), Some("m")).unwrap();
    let jinja = ChatTemplate::named("jinja").unwrap();
    bundle.use_chat_template(&jinja).unwrap();
    assert_eq!(bundle.role_config.template["chat_template"], "new\n");

    let own = dir.path().join("own.txt");
    fs::write(&own, "own").unwrap();
    let own = ChatTemplate::named(own.to_str().unwrap()).unwrap();
    bundle.use_chat_template(&own).unwrap();
    assert_eq!(bundle.role_config.template["chat_template"], "own");
    assert_eq!(
        bundle.roles.template,
        ComponentSource::Builtin("jinja".into())
    );

    let wasm = dir.path().join("t.wasm");
    fs::write(&wasm, "").unwrap();
    let named = ChatTemplate::named(wasm.to_str().unwrap()).unwrap();
    assert_eq!(named, ChatTemplate::Component(ComponentSource::File(wasm)));
}

#[test]
fn a_chat_template_that_is_missing_or_odd_is_named() {
    let refused = |config: Value, name: &str, words: &[&str]| {
        let files = [("tokenizer_config.json", config)];
        let said = chat_template(&files, name).unwrap_err();
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said:?}");
        }
    };
    refused(
        json!({}),
        "no-such",
        &["no-such", "no such file", "gme-qwen2-vl, jinja, plain"],
    );
    refused(
        json!({}),
        "jinja",
        &[
            "chat_template.jinja",
            "tokenizer_config.json",
            "--chat-template",
        ],
    );
    refused(
        json!({"chat_template": 5}),
        "jinja",
        &["tokenizer_config.json", "chat_template", "neither a string"],
    );
    refused(
        json!({"chat_template": [{"name": "rag", "template": ""}]}),
        "jinja",
        &[
            "tokenizer_config.json",
            "chat_template",
            "\"default\"",
            "rag",
        ],
    );
    refused(
        json!({"chat_template": "", "eos_token": 5}),
        "jinja",
        &["tokenizer_config.json", "eos_token", "content"],
    );
}

#[test]
fn a_manifest_can_name_and_hold_a_chat_template() {
    let dir = folder(&[("tokenizer_config.json", json!({"eos_token": "</s>"}))]);
    let manifest = dir.path().join("bundle.toml");
    let head = "weights = \".\"\n[roles]\ntemplate = \"builtin:jinja\"\n";
    fs::write(&manifest, head).unwrap();
    let said = open(&manifest).unwrap_err().to_string();
    assert!(said.contains("config.template.chat_template"), "{said}");

    let own = format!("{head}[config.template]\nchat_template = \"t\"\n");
    fs::write(&manifest, own).unwrap();
    let bundle = open(&manifest).unwrap();
    assert_eq!(
        bundle.role_config.template,
        json!({"chat_template": "t", "bos_token": null, "eos_token": "</s>"})
    );
}
