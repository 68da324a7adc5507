//! Every field and route does what its documentation says.

use serde_json::{Value, json};
use tenon_tests::checkpoint::{Checkpoint, HIDDEN, MAX_TOKENS, token_id};
use tenon_tests::server::{MINILM, Server, vectors};

const TEXT: &str = "The tenon fits the mortise.";

#[track_caller]
fn ok(server: &Server, body: Value) -> Value {
    let answer = server.embeddings(&body);
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()
}

/// A request for one text with one more field.
fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"model": MINILM, "input": TEXT});
    body[field] = value;
    body
}

#[test]
fn an_answer_has_the_shape_of_openai() {
    let server = Server::shared_minilm();
    let answer = ok(
        server,
        json!({"model": MINILM, "input": [TEXT, "oak"], "user": "someone"}),
    );
    assert_eq!(answer["object"], "list");
    assert_eq!(answer["model"], MINILM);
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 13, "total_tokens": 13})
    );
    let data = answer["data"].as_array().expect("data");
    assert_eq!(data.len(), 2);
    for (index, item) in data.iter().enumerate() {
        assert_eq!(item["object"], "embedding");
        assert_eq!(item["index"], index);
        assert_eq!(item["embedding"].as_array().map(Vec::len), Some(384));
    }
}

#[test]
fn both_encodings_hold_the_same_bits() {
    let server = Server::shared_minilm();
    let default = ok(server, json!({"model": MINILM, "input": TEXT}));
    let float = ok(server, with("encoding_format", json!("float")));
    let base64 = ok(server, with("encoding_format", json!("base64")));
    assert!(
        default["data"][0]["embedding"].is_array(),
        "float is the default"
    );
    assert!(base64["data"][0]["embedding"].is_string());
    assert_eq!(vectors(&float), vectors(&base64));
    assert_eq!(vectors(&float), vectors(&default));
}

#[test]
fn every_form_of_input_is_read() {
    let server = Server::shared_minilm();
    let text = server.embed(MINILM, "oak");
    let ids = json!([101, 6116, 102]);
    assert_eq!(server.embed(MINILM, json!(["oak"])), text);
    assert_eq!(
        server.embed(MINILM, ids.clone()),
        text,
        "token ids are taken as they are"
    );
    assert_eq!(
        server.embed(MINILM, json!([ids, ids])),
        [text.clone(), text].concat()
    );
}

#[test]
fn a_large_request_is_split_and_answered_in_order() {
    let server = Server::shared_minilm();
    let texts: Vec<String> = (0..2048).map(|i| format!("item {}", i % 16)).collect();
    let vectors = server.embed(MINILM, texts);
    assert_eq!(vectors.len(), 2048);
    for (index, vector) in vectors.iter().enumerate() {
        assert!(*vector == vectors[index % 16], "vector {index}");
    }
}

#[test]
fn long_inputs_are_truncated_on_request() {
    let server = Server::shared_minilm();
    let words: Vec<String> = (0..400)
        .map(|i| ["oak", "beam", "joint"][i % 3].to_owned())
        .collect();
    let embed = |field: Value, side: &str| {
        let answer = ok(
            server,
            json!({
                "model": MINILM, "input": words.join(" "), "truncate_prompt_tokens": field,
                "truncation_side": side,
            }),
        );
        (vectors(&answer), answer["usage"]["prompt_tokens"].clone())
    };
    let (right, tokens) = embed(json!(-1), "right");
    assert_eq!(tokens, 256);
    assert_eq!(right, server.embed(MINILM, words[..254].join(" ")));
    let (right, tokens) = embed(json!(12), "right");
    assert_eq!(tokens, 12);
    assert_eq!(right, server.embed(MINILM, words[..10].join(" ")));
    let (left, tokens) = embed(json!(12), "left");
    assert_eq!(tokens, 12);
    assert_eq!(left, server.embed(MINILM, words[390..].join(" ")));
}

#[test]
fn special_tokens_can_be_left_out() {
    let server = Server::shared_minilm();
    let bare = ok(
        server,
        json!({"model": MINILM, "input": "oak", "add_special_tokens": false}),
    );
    assert_eq!(bare["usage"]["prompt_tokens"], 1);
    assert_eq!(vectors(&bare), server.embed(MINILM, json!([6116])));
}

#[test]
fn additional_data_is_returned_unchanged() {
    let server = Server::shared_minilm();
    let data = json!("any text \u{1f980} \"quoted\"");
    let answer = ok(server, with("additional_data", data.clone()));
    assert_eq!(answer["additional_data"], data);
}

#[test]
fn priorities_are_accepted_and_null_is_absent() {
    let server = Server::shared_minilm();
    let wanted = server.embed(MINILM, TEXT);
    for priority in [-5, 0, 5] {
        assert_eq!(
            vectors(&ok(server, with("priority", json!(priority)))),
            wanted
        );
    }
    for field in [
        "user",
        "encoding_format",
        "dimensions",
        "rid",
        "truncate_prompt_tokens",
    ] {
        assert_eq!(
            vectors(&ok(server, with(field, json!(null)))),
            wanted,
            "{field}: null is absent"
        );
    }
}

#[test]
fn the_callers_id_comes_back() {
    let server = Server::shared_minilm();
    for field in ["rid", "request_id"] {
        let answer = server.embeddings(&with(field, json!("my-request-7")));
        assert_eq!(
            answer.header("x-request-id"),
            Some("my-request-7"),
            "{field}"
        );
    }
    let headers = [
        ("content-type", "application/json"),
        ("x-request-id", "from-header-9"),
    ];
    let body = json!({"model": MINILM, "input": TEXT}).to_string();
    let answer = server.send("POST", "/v1/embeddings", &headers, body.as_bytes());
    assert_eq!(answer.header("x-request-id"), Some("from-header-9"));
    let made = server.embeddings(&json!({"model": MINILM, "input": TEXT}));
    let other = server.embeddings(&json!({"model": MINILM, "input": TEXT}));
    assert!(made.header("x-request-id").is_some_and(|id| id.len() >= 8));
    assert_ne!(made.header("x-request-id"), other.header("x-request-id"));
}

#[test]
fn models_are_listed_and_described() {
    let server = Server::shared_minilm();
    let list = server.get("/v1/models").json();
    assert_eq!(list["object"], "list");
    let card = &list["data"][0];
    assert_eq!(card["id"], MINILM);
    assert_eq!(card["object"], "model");
    assert!(card["created"].is_u64(), "{card}");
    assert!(card["owned_by"].is_string(), "{card}");
    assert_eq!(
        server.get(&format!("/v1/models/{MINILM}")).json()["id"],
        MINILM
    );
    let unknown = server.get("/v1/models/nosuch");
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["error"]["code"], "model_not_found");
    for path in ["/model_info", "/get_model_info"] {
        let info = server.get(path);
        assert_eq!(info.status, 200, "{path}: {}", info.text());
        assert!(
            info.json()["model_path"].is_string(),
            "{path}: {}",
            info.text()
        );
    }
}

#[test]
fn encode_answers_as_sglang_does() {
    let server = Server::shared_minilm();
    let wanted = server.embed(MINILM, TEXT);
    let one = server.post(
        "/encode",
        &json!({"text": TEXT, "model": MINILM}).to_string(),
    );
    assert_eq!(one.status, 200, "{}", one.text());
    let one = one.json();
    assert_eq!(vec![tenon_tests::server::vector(&one["embedding"])], wanted);
    assert!(one["meta_info"]["prompt_tokens"].is_u64(), "{one}");
    let many = server
        .post("/encode", &json!({"text": [TEXT, "oak"]}).to_string())
        .json();
    assert_eq!(many.as_array().map(Vec::len), Some(2), "{many}");
}

#[test]
fn health_readiness_and_metrics_are_served() {
    let server = Server::shared_minilm();
    server.embed(MINILM, TEXT);
    for path in ["/health", "/ready"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let metrics = server.get("/metrics");
    assert_eq!(metrics.status, 200);
    let text = metrics.text();
    assert!(
        text.lines().any(|line| line.starts_with("# TYPE tenon_")),
        "{text}"
    );
    assert!(
        text.contains(MINILM),
        "metrics are told apart by model: {text}"
    );
    for role in ["request-parser", "response-encoder", "template"] {
        assert!(text.contains(role), "no metric of {role}: {text}");
    }
}

#[test]
fn unknown_routes_and_methods_answer_in_json() {
    let server = Server::shared_minilm();
    for (method, path, status) in [
        ("GET", "/nosuch", 404),
        ("POST", "/v1/nosuch", 404),
        ("GET", "/v1/embeddings", 405),
        ("DELETE", "/v1/models", 405),
        ("PUT", "/health", 405),
    ] {
        let answer = server.send(method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(
            answer.json()["error"]["message"].is_string(),
            "{method} {path}"
        );
        assert!(answer.header("x-request-id").is_some(), "{method} {path}");
    }
}

#[test]
fn prompts_of_the_checkpoint_are_put_before_the_text() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut checkpoint = Checkpoint::default();
    checkpoint.files.insert(
        "config_sentence_transformers.json".into(),
        json!({"prompts": {"query": "the oak ", "none": ""}, "default_prompt_name": null}),
    );
    checkpoint.write(directory.path());
    let path = directory.path().to_str().expect("UTF-8 path");
    let server = Server::start(&["--model", path, "--served-model-name", "tiny"]);
    let named = |prompt: &str| {
        vectors(&ok(
            &server,
            json!({"model": "tiny", "input": "beam", "prompt_name": prompt}),
        ))
    };
    assert_eq!(named("query"), server.embed("tiny", "the oak beam"));
    assert_eq!(named("none"), server.embed("tiny", "beam"));
    let info = server.get("/v1/models").json();
    assert_eq!(info["data"][0]["max_model_len"], MAX_TOKENS, "{info}");
    assert_eq!(
        server.embed("tiny", json!([token_id("oak")]))[0].len(),
        HIDDEN
    );
}
