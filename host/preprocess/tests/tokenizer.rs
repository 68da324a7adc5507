//! The tokenizer of a small checkpoint: special tokens, truncation, prompts, broken files.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use tenon_preprocess::{Encoded, Error, Segment, Side, TextTokenizer};

const CLS: u32 = 2;
const SEP: u32 = 3;

/// A tokenizer of whole words, which puts [CLS] before and [SEP] after a text.
fn tokenizer_json() -> Value {
    let vocab = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e"];
    let ids = (0..)
        .zip(vocab)
        .map(|(id, word): (u32, _)| (word.to_owned(), json!(id)));
    let special = |name: &str, id: u32| json!({"id": name, "ids": [id], "tokens": [name]});
    let added = |name: &str, id: u32| {
        json!({"id": id, "content": name, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true})
    };
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    json!({
        "version": "1.0",
        // What the file asks for is never the limit.
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 1, "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [added("[CLS]", CLS), added("[SEP]", SEP)],
        "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [token("[CLS]"), sequence("A"), token("[SEP]")],
            "pair": [sequence("A"), sequence("B")],
            "special_tokens": {"[CLS]": special("[CLS]", CLS), "[SEP]": special("[SEP]", SEP)},
        },
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": Value::Object(ids.collect()), "unk_token": "[UNK]"},
    })
}

fn checkpoint(tokenizer: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    dir
}

fn tokenizer() -> TextTokenizer {
    TextTokenizer::from_dir(checkpoint(&tokenizer_json()).path()).unwrap()
}

/// A tokenizer whose post-processor is this template, with these settings.
fn templated(single: Value, settings: Value) -> Result<TextTokenizer, Error> {
    let mut tokenizer = tokenizer_json();
    tokenizer["post_processor"]["single"] = single;
    let dir = checkpoint(&tokenizer);
    let file = dir.path().join("tokenizer_config.json");
    fs::write(file, settings.to_string()).unwrap();
    TextTokenizer::from_dir(dir.path())
}

fn ids(encoded: Result<Encoded, Error>) -> Vec<u32> {
    encoded.unwrap().token_ids
}

#[test]
fn special_tokens_are_added_once_and_only_to_text() {
    let tokenizer = tokenizer();
    let text = [Segment::Text("a b")];
    assert_eq!(ids(tokenizer.encode(&text, true, None)), [CLS, 4, 5, SEP]);
    assert_eq!(ids(tokenizer.encode(&text, false, None)), [4, 5]);
    let mixed = [
        Segment::Text("a"),
        Segment::Tokens(&[8]),
        Segment::Text("b"),
    ];
    assert_eq!(
        ids(tokenizer.encode(&mixed, true, None)),
        [CLS, 4, 8, 5, SEP]
    );
    assert_eq!(
        ids(tokenizer.encode(&[Segment::Tokens(&[8])], true, None)),
        [8]
    );
    // Written in a text, they are what they name.
    let written = [Segment::Text("a [SEP] b")];
    assert_eq!(ids(tokenizer.encode(&written, false, None)), [4, SEP, 5]);
    assert_eq!(
        ids(tokenizer.encode(&[Segment::Text("")], true, None)),
        [CLS, SEP]
    );
}

#[test]
fn lower_case_is_for_texts_and_not_for_special_tokens() {
    let tokenizer = tokenizer().lowercasing().unwrap();
    let written = [Segment::Text("A [SEP] B")];
    assert_eq!(ids(tokenizer.encode(&written, false, None)), [4, SEP, 5]);
}

#[test]
fn truncation_keeps_special_tokens_and_one_end_of_the_text() {
    let tokenizer = tokenizer();
    let text = [Segment::Text("a b c d e")];
    let right = tokenizer
        .encode(&text, true, Some((4, Side::Right)))
        .unwrap();
    assert_eq!(
        right,
        Encoded {
            token_ids: vec![CLS, 4, 5, SEP],
            untruncated_len: 7,
            image_starts: Vec::new(),
        }
    );
    let left = tokenizer.encode(&text, true, Some((4, Side::Left)));
    assert_eq!(ids(left), [CLS, 7, 8, SEP]);
    let bare = tokenizer.encode(&text, false, Some((2, Side::Left)));
    assert_eq!(ids(bare), [7, 8]);
    let roomy = tokenizer
        .encode(&text, true, Some((7, Side::Right)))
        .unwrap();
    assert_eq!(roomy.token_ids.len(), roomy.untruncated_len);
    let given = [Segment::Tokens(&[4, 5, 6])];
    assert_eq!(
        ids(tokenizer.encode(&given, true, Some((2, Side::Left)))),
        [5, 6]
    );
}

#[test]
fn placeholders_of_images_are_found_and_never_cut() {
    let tokenizer = tokenizer();
    let image = Segment::Image { token: 9, count: 2 };
    let segments = [Segment::Text("a b"), image, Segment::Tokens(&[3]), image];
    let encoded = tokenizer.encode(&segments, true, None).unwrap();
    assert_eq!(encoded.token_ids, [CLS, 4, 5, 9, 9, 3, 9, 9, SEP]);
    assert_eq!(encoded.image_starts, [3, 6]);
    let exact = tokenizer.encode(&segments, true, Some((9, Side::Right)));
    assert_eq!(exact.unwrap().image_starts, [3, 6]);
    let cut = tokenizer.encode(&segments, true, Some((8, Side::Left)));
    let error = cut.unwrap_err().to_string();
    assert!(error.contains("it has 9 tokens, the limit is 8"), "{error}");
    // Without text there is nothing to put special tokens around.
    let alone = tokenizer.encode(&[image], true, None).unwrap();
    assert_eq!((alone.token_ids, alone.image_starts), (vec![9, 9], vec![0]));
}

#[test]
fn an_eos_token_is_added_once_where_the_settings_ask_for_it() {
    let cls = json!({"SpecialToken": {"id": "[CLS]", "type_id": 0}});
    let sep = json!({"SpecialToken": {"id": "[SEP]", "type_id": 0}});
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let without = json!([cls, text]);
    let text_only = json!([text]);
    let with = json!([cls, text, sep]);
    let settings = |add: Value| json!({"add_eos_token": add, "eos_token": "[SEP]"});
    let check = |single: &Value, settings: Value, wanted: &[u32]| {
        let tokenizer = templated(single.clone(), settings).unwrap();
        let encoded = tokenizer.encode(&[Segment::Text("a b")], true, None);
        assert_eq!(ids(encoded), wanted);
    };
    check(&without, settings(json!(true)), &[CLS, 4, 5, SEP]);
    check(&text_only, settings(json!(true)), &[4, 5, SEP]);
    check(&with, settings(json!(true)), &[CLS, 4, 5, SEP]);
    check(&without, settings(json!(false)), &[CLS, 4, 5]);
    check(&without, settings(json!(null)), &[CLS, 4, 5]);
    check(&with, settings(json!(false)), &[CLS, 4, 5, SEP]);
    let object = json!({"content": "[SEP]", "lstrip": false, "__type": "AddedToken"});
    let as_object = json!({"add_eos_token": true, "eos_token": object});
    check(&without, as_object, &[CLS, 4, 5, SEP]);
}

#[test]
fn an_added_eos_token_is_special() {
    let cls = json!({"SpecialToken": {"id": "[CLS]", "type_id": 0}});
    let single = json!([cls, {"Sequence": {"id": "A", "type_id": 0}}]);
    let settings = json!({"add_eos_token": true, "eos_token": "[SEP]"});
    let tokenizer = templated(single, settings).unwrap();
    let text = [Segment::Text("a b c d")];
    let right = tokenizer
        .encode(&text, true, Some((4, Side::Right)))
        .unwrap();
    assert_eq!(right.token_ids, [CLS, 4, 5, SEP]);
    assert_eq!(right.untruncated_len, 6);
    assert_eq!(ids(tokenizer.encode(&text, false, None)), [4, 5, 6, 7]);
    let given = [Segment::Tokens(&[4, 5])];
    assert_eq!(ids(tokenizer.encode(&given, true, None)), [4, 5]);
    // It is left out of a prompt alone, as any special token at its end.
    assert_eq!(tokenizer.prompt_len("a b").unwrap(), 3);
}

#[test]
fn an_eos_token_that_is_unknown_is_refused() {
    let refused = |settings: Value| {
        let single = json!([{"Sequence": {"id": "A", "type_id": 0}}]);
        let Err(error) = templated(single, settings) else {
            panic!("accepted");
        };
        error.to_string()
    };
    let said = refused(json!({"add_eos_token": true}));
    assert!(said.contains("tokenizer_config.json"), "{said}");
    assert!(said.contains("eos_token is missing"), "{said}");
    let said = refused(json!({"add_eos_token": true, "eos_token": "</s>"}));
    assert!(said.contains("tokenizer_config.json"), "{said}");
    assert!(said.contains(r#"eos_token is "</s>""#), "{said}");
}

#[test]
fn truncation_that_leaves_nothing_of_the_text_is_refused() {
    let tokenizer = tokenizer();
    for limit in [0, 1, 2] {
        let refused = tokenizer.encode(&[Segment::Text("a b")], true, Some((limit, Side::Right)));
        let said = refused.unwrap_err().to_string();
        assert!(said.contains(&format!("to {limit} tokens")), "{said}");
        assert!(said.contains("2 special tokens"), "{said}");
    }
}

#[test]
fn a_prompt_counts_its_special_tokens_without_the_last() {
    // sentence-transformers leaves out of pooling: [CLS] and the prompt, not [SEP].
    assert_eq!(tokenizer().prompt_len("a b").unwrap(), 3);
}

#[test]
fn the_longest_input_is_read_where_it_is_one() {
    let max_length = |settings: Value| {
        let dir = checkpoint(&tokenizer_json());
        let file = dir.path().join("tokenizer_config.json");
        fs::write(file, settings.to_string()).unwrap();
        TextTokenizer::from_dir(dir.path())
            .unwrap()
            .model_max_length()
    };
    assert_eq!(max_length(json!({"model_max_length": 512})), Some(512));
    // What transformers writes for "no limit".
    assert_eq!(max_length(json!({"model_max_length": 1e30})), None);
    assert_eq!(max_length(json!({"model_max_length": null})), None);
    assert_eq!(max_length(json!({"model_max_length": -1})), None);
    assert_eq!(max_length(json!({})), None);
    assert_eq!(tokenizer().model_max_length(), None);
}

#[test]
fn tokens_have_ids() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.token_id("[CLS]"), Some(CLS));
    assert_eq!(tokenizer.token_id("nosuch"), None);
    assert_eq!(tokenizer.vocab_size(), 9);
}

#[test]
fn broken_files_are_named() {
    let refused = |dir: &Path, words: &[&str]| {
        let Err(error) = TextTokenizer::from_dir(dir) else {
            panic!("accepted, wanted {words:?}");
        };
        let said = error.to_string();
        for word in words {
            assert!(said.contains(word), "{word:?} is not in {said:?}");
        }
    };
    let empty = tempfile::tempdir().unwrap();
    refused(empty.path(), &["tokenizer.json"]);
    for text in ["", "{", "[]", "{\"version\": \"1.0\"}", "\u{0}"] {
        fs::write(empty.path().join("tokenizer.json"), text).unwrap();
        refused(empty.path(), &["tokenizer.json"]);
    }
    let dir = checkpoint(&tokenizer_json());
    fs::write(
        dir.path().join("tokenizer_config.json"),
        "{\"model_max_length\": \"x\"}",
    )
    .unwrap();
    refused(dir.path(), &["tokenizer_config.json", "model_max_length"]);

    // Special tokens inside of a text, which truncation could not keep.
    let mut foreign = tokenizer_json();
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    foreign["post_processor"]["single"] =
        json!([text, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, text]);
    let dir = checkpoint(&foreign);
    refused(dir.path(), &["tokenizer.json"]);
}
