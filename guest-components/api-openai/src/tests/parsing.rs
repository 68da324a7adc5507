//! What the parser takes.

use tenon_sdk::types::{EmbedInput, InputType, Part, TruncationSide};

use super::{EMBEDDINGS, ENCODE, parse};
use crate::state::{State, VectorEncoding};

/// The inputs in a short notation: texts quoted, ids in brackets.
fn written(inputs: &[EmbedInput]) -> String {
    let write = |input: &EmbedInput| match input {
        EmbedInput::Tokens(ids) => format!("{ids:?}"),
        EmbedInput::Parts(parts) => match &parts[..] {
            [Part::Text(text)] => format!("{text:?}"),
            other => panic!("{other:?}"),
        },
        EmbedInput::Messages(messages) => panic!("{messages:?}"),
    };
    inputs.iter().map(write).collect::<Vec<_>>().join(" ")
}

#[test]
fn takes_every_form_of_input() {
    let check = |endpoint, body: &str, want: &str, single| {
        let request = parse(endpoint, body).unwrap_or_else(|error| panic!("{body}: {error:?}"));
        assert_eq!(written(&request.inputs), want, "{body}");
        assert_eq!(State::from_bytes(&request.state).single, single, "{body}");
    };
    check(
        EMBEDDINGS,
        r#"{"model": "m", "input": "a"}"#,
        r#""a""#,
        false,
    );
    check(
        EMBEDDINGS,
        r#"{"model": "m", "input": " a\n\u00e9\ud83d\ude00 "}"#,
        r#"" a\né😀 ""#,
        false,
    );
    check(
        EMBEDDINGS,
        r#"{"model": "m", "input": ["a", "b"]}"#,
        r#""a" "b""#,
        false,
    );
    check(
        EMBEDDINGS,
        r#"{"model": "m", "input": [1, 0, 4294967295]}"#,
        "[1, 0, 4294967295]",
        false,
    );
    check(
        EMBEDDINGS,
        r#"{"model": "m", "input": [[1, 2], [3]]}"#,
        "[1, 2] [3]",
        false,
    );
    check(
        EMBEDDINGS,
        r#"{"model": "m", "input": [{"text": "a"}, {"text": "b", "image": null}]}"#,
        r#""a" "b""#,
        false,
    );
    check(ENCODE, r#"{"text": "a"}"#, r#""a""#, true);
    check(ENCODE, r#"{"text": ["a"]}"#, r#""a""#, false);
    check(ENCODE, r#"{"input_ids": [1, 2]}"#, "[1, 2]", true);
    check(
        ENCODE,
        r#"{"input_ids": [[1], [2]], "text": null}"#,
        "[1] [2]",
        false,
    );
}

#[test]
fn takes_as_many_inputs_as_openai() {
    let body = |count: usize| {
        format!(
            r#"{{"model": "m", "input": [{}]}}"#,
            vec![r#""a""#; count].join(",")
        )
    };
    assert_eq!(parse(EMBEDDINGS, body(2048)).unwrap().inputs.len(), 2048);
    let error = parse(EMBEDDINGS, body(2049)).unwrap_err();
    assert_eq!(
        error.message,
        "input: the list has 2049 items, more than 2048"
    );
    // The ids of one input are limited by the model alone.
    let ids = format!(
        r#"{{"model": "m", "input": [{}]}}"#,
        vec!["1"; 9000].join(",")
    );
    assert_eq!(parse(EMBEDDINGS, ids).unwrap().inputs.len(), 1);
}

#[test]
fn has_openais_defaults() {
    let request = parse(EMBEDDINGS, r#"{"model": "m", "input": "a"}"#).unwrap();
    assert_eq!(request.model.as_deref(), Some("m"));
    assert_eq!((request.dimensions, request.priority), (None, 0));
    assert!(request.truncate.is_none() && request.add_special_tokens);
    assert!(request.prompt_name.is_none() && request.instruction.is_none());
    assert!(request.input_type.is_none());
    assert!(request.request_id.is_none());
    let state = State::from_bytes(&request.state);
    assert_eq!(state.encoding, VectorEncoding::Float);
    assert!(state.additional_data.is_none());
}

#[test]
fn takes_null_for_absent() {
    let body = r#"{"model": "m", "input": "a", "encoding_format": null, "dimensions": null,
        "user": null, "truncate_prompt_tokens": null, "truncation_side": null,
        "add_special_tokens": null, "additional_data": null, "priority": null, "rid": null,
        "request_id": null, "prompt_name": null, "lora_path": null, "messages": null}"#;
    let request = parse(EMBEDDINGS, body).unwrap();
    assert!(request.request_id.is_none() && request.truncate.is_none());
    assert!(State::from_bytes(&request.state).additional_data.is_none());
}

#[test]
fn takes_every_field() {
    let body = r#"{"model": "m", "input": "a", "encoding_format": "base64", "dimensions": 7,
        "user": "u", "truncate_prompt_tokens": 9, "truncation_side": "left",
        "add_special_tokens": false, "additional_data": {"b": [1.50, "x"], "a": 1},
        "priority": -3, "rid": "r-1", "prompt_name": "query", "embed_dtype": "float32",
        "input_type": "document", "instruction": "Find it",
        "endianness": "little"}"#;
    let request = parse(EMBEDDINGS, body).unwrap();
    assert_eq!((request.dimensions, request.priority), (Some(7), -3));
    let truncate = request.truncate.unwrap();
    assert_eq!(truncate.max_tokens, Some(9));
    assert!(matches!(truncate.side, TruncationSide::Left));
    assert!(!request.add_special_tokens);
    assert_eq!(request.request_id.as_deref(), Some("r-1"));
    assert_eq!(request.prompt_name.as_deref(), Some("query"));
    assert!(matches!(request.input_type, Some(InputType::Document)));
    assert_eq!(request.instruction.as_deref(), Some("Find it"));
    let state = State::from_bytes(&request.state);
    assert_eq!(state.encoding, VectorEncoding::Base64);
    assert_eq!(
        state.additional_data.unwrap().get(),
        r#"{"b": [1.50, "x"], "a": 1}"#
    );

    let request = parse(
        EMBEDDINGS,
        r#"{"model": "m", "input": "a", "truncate_prompt_tokens": -1}"#,
    )
    .unwrap();
    let truncate = request.truncate.unwrap();
    assert_eq!(truncate.max_tokens, None);
    assert!(matches!(truncate.side, TruncationSide::Right));
}

#[test]
fn takes_ids_of_one_or_all_inputs_of_encode() {
    let request = parse(ENCODE, r#"{"text": ["a", "b"], "rid": ["x", "y"]}"#).unwrap();
    assert_eq!(request.request_id, None);
    assert_eq!(State::from_bytes(&request.state).ids, ["x", "y"]);
    let request = parse(ENCODE, r#"{"text": "a", "rid": "x", "dimensions": 2}"#).unwrap();
    assert_eq!(
        (request.request_id.as_deref(), request.dimensions),
        (Some("x"), Some(2))
    );
}
