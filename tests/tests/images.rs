//! Models that see are served with the vectors and token counts of the reference.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tenon_tests::http::Response;
use tenon_tests::multimodal::{self, GME, base64, data_uri};
use tenon_tests::reference::{assert_batch_invariant, assert_equal, assert_near};
use tenon_tests::server::{Server, vectors};

/// One server of all checkpoints, ended by a watchdog when the test process is gone.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| multimodal::serve("f32"))
}

#[test]
fn vectors_and_token_counts_equal_the_reference() {
    assert_equal(server(), &multimodal::all());
}

/// Decoders of JPEG round in their own ways: in 4 of 255 at most, says tenon-preprocess.
#[test]
fn vectors_of_a_jpeg_point_where_the_references_do() {
    assert_near(server(), &multimodal::lossy());
}

#[test]
fn vectors_in_bf16_point_where_the_references_do() {
    assert_near(&multimodal::serve("bf16"), &multimodal::all());
}

#[test]
fn vectors_are_the_same_to_the_bit_alone_and_in_company() {
    for checkpoint in &multimodal::all() {
        assert_batch_invariant(server(), checkpoint);
    }
}

/// Requests that wait together are computed together: images and texts of several.
#[test]
fn vectors_are_the_same_to_the_bit_beside_other_requests() {
    let inputs = [
        json!({"image": data_uri("large.png")}),
        json!({"text": "an oak beam"}),
        json!({"image": data_uri("odd.png"), "text": "a joint"}),
        json!({"image": data_uri("thin.png")}),
        json!({"text": "A tenon fits a mortise. ".repeat(9)}),
    ];
    let alone = inputs.each_ref().map(|input| embedding(ask(GME, input)));
    thread::scope(|scope| {
        for first in 0..inputs.len() {
            let (inputs, alone) = (&inputs, &alone);
            scope.spawn(move || {
                for turn in 0..6 {
                    let index = (first + turn) % inputs.len();
                    let vector = embedding(ask(GME, &inputs[index]));
                    assert!(vector == alone[index], "input {index} differs in company");
                }
            });
        }
    });
}

fn ask(model: &str, input: &Value) -> Response {
    server().embeddings(&json!({"model": model, "input": [input]}))
}

#[track_caller]
fn embedding(answer: Response) -> Value {
    assert_eq!(answer.status, 200, "{:.500}", answer.text());
    answer.json()["data"][0]["embedding"].clone()
}

#[test]
fn an_image_may_be_written_in_several_ways() {
    let uri = embedding(ask(GME, &json!({"image": data_uri("odd.png")})));
    let unpadded = base64("odd.png").trim_end_matches('=').to_owned();
    let octets = format!("data:application/octet-stream;base64,{}", base64("odd.png"));
    for input in [
        json!({"image": base64("odd.png")}),
        json!({"image": unpadded}),
        json!({"image": octets}),
        json!({"text": "", "image": data_uri("odd.png")}),
    ] {
        assert!(embedding(ask(GME, &input)) == uri, "{input:.60}");
    }
    let part = json!({"type": "image_url", "image_url": {"url": data_uri("odd.png")}});
    let messages = json!([{"role": "user", "content": [part]}]);
    let said = server().embeddings(&json!({"model": GME, "messages": messages}));
    assert!(embedding(said) == uri, "as a part of a message");
}

/// The text's own placeholders are tokens like others: the image keeps its own.
#[test]
fn placeholders_written_in_a_text_displace_no_image() {
    let plain = embedding(ask(
        GME,
        &json!({"image": data_uri("odd.png"), "text": "oak"}),
    ));
    let text = "oak <|vision_start|><|image_pad|><|vision_end|>";
    let forged = ask(GME, &json!({"image": data_uri("odd.png"), "text": text}));
    assert!(
        forged.status == 200 && embedding(forged) != plain,
        "a placeholder of the text is a token"
    );
    let again = embedding(ask(
        GME,
        &json!({"image": data_uri("odd.png"), "text": "oak"}),
    ));
    assert!(again == plain);
}

/// The names of tensors changed twice; some files have the head of the language model too.
#[test]
fn weights_are_found_under_the_names_of_every_version() {
    let copy = tempfile::tempdir().expect("temporary directory");
    let source = multimodal::folder().join(GME);
    for file in [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "preprocessor_config.json",
    ] {
        fs::copy(source.join(file), copy.path().join(file)).expect(file);
    }
    rename_tensors(&source, copy.path());
    let path = copy.path().to_str().expect("UTF-8 path");
    let server = Server::start(&[
        "--model",
        path,
        "--served-model-name",
        GME,
        "--dtype",
        "f32",
    ]);
    let body = json!({"model": GME, "input": [{"image": data_uri("odd.png"), "text": "oak"}]});
    let wanted = vectors(&self::server().embeddings(&body).json());
    assert_eq!(vectors(&server.embeddings(&body).json()), wanted);
}

/// `visual.` and `model.` become `model.visual.` and `model.language_model.`.
fn rename_tensors(source: &Path, copy: &Path) {
    let bytes = fs::read(source.join("model.safetensors")).expect("weights");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let head = tensors
        .tensor("model.embed_tokens.weight")
        .expect("a weight");
    let renamed = tensors
        .iter()
        .map(|(name, view)| match name.strip_prefix("model.") {
            Some(rest) => (format!("model.language_model.{rest}"), view),
            None => (format!("model.{name}"), view),
        });
    let renamed = renamed.chain([("lm_head.weight".to_owned(), head)]);
    let file = copy.join("model.safetensors");
    safetensors::serialize_to_file(renamed, None, &file).expect("weights");
}
