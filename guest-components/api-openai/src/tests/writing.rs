//! The bodies that the encoder writes, to the byte.

use tenon_sdk::response_encoder::{Guest, GuestEncoding, ResponseInfo, Vectors};
use tenon_sdk::types::ApiError;

use crate::OpenAi;
use crate::response::Encoding;
use crate::state::{State, VectorEncoding};

fn info(endpoint: &str, count: u32, state: &State) -> ResponseInfo {
    ResponseInfo {
        endpoint: endpoint.to_owned(),
        model: "m\"1".to_owned(),
        request_id: "abc".to_owned(),
        created_s: 1_700_000_000,
        count,
        prompt_tokens: vec![3; count as usize],
        elapsed_ms: 12.5,
        state: state.to_bytes(),
    }
}

/// The body of an answer whose vectors arrive in these chunks.
fn body(info: ResponseInfo, chunks: &[&[[f32; 2]]]) -> String {
    let encoding = Encoding::new(info);
    assert_eq!(encoding.content_type(), "application/json");
    let mut body = Vec::new();
    for chunk in chunks {
        let rows = Vectors {
            dimensions: 2,
            values: chunk.as_flattened().to_vec(),
        };
        body.extend(encoding.write(rows));
    }
    body.extend(encoding.finish());
    let body = String::from_utf8(body).unwrap();
    serde_json::from_str::<serde_json::Value>(&body).unwrap();
    body
}

#[test]
fn writes_openais_list_of_floats() {
    let info = info("/v1/embeddings", 3, &State::default());
    let chunks: &[&[[f32; 2]]] = &[
        &[[0.1, -1.0], [1e-12, 3.4e38]],
        &[[f32::MIN_POSITIVE, 0.333_333_34]],
    ];
    assert_eq!(
        body(info, chunks),
        concat!(
            r#"{"object":"list","data":["#,
            r#"{"object":"embedding","index":0,"embedding":[0.1,-1.0]},"#,
            r#"{"object":"embedding","index":1,"embedding":[1e-12,3.4e+38]},"#,
            r#"{"object":"embedding","index":2,"embedding":[1.1754944e-38,0.33333334]}],"#,
            r#""model":"m\"1","usage":{"prompt_tokens":9,"total_tokens":9},"#,
            r#""id":"embd-abc","created":1700000000}"#
        )
    );
}

#[test]
fn writes_base64_and_the_callers_data() {
    let state = State {
        encoding: VectorEncoding::Base64,
        additional_data: serde_json::value::RawValue::from_string("[1.50, {}]".to_owned()).ok(),
        ..State::default()
    };
    let info = ResponseInfo {
        request_id: "embd-x".to_owned(),
        ..info("/v1/embeddings", 1, &state)
    };
    assert_eq!(
        body(info, &[&[[1.0, -2.5]]]),
        concat!(
            r#"{"object":"list","data":["#,
            r#"{"object":"embedding","index":0,"embedding":"AACAPwAAIMA="}],"#,
            r#""model":"m\"1","usage":{"prompt_tokens":3,"total_tokens":3},"#,
            r#""id":"embd-x","created":1700000000,"additional_data":[1.50, {}]}"#
        )
    );
}

#[test]
fn writes_sglangs_shapes() {
    let single = State {
        single: true,
        ..State::default()
    };
    assert_eq!(
        body(info("/encode", 1, &single), &[&[[0.5, 2.0]]]),
        concat!(
            r#"{"embedding":[0.5,2.0],"#,
            r#""meta_info":{"id":"abc","prompt_tokens":3,"e2e_latency":0.0125}}"#
        )
    );
    assert_eq!(
        body(
            info("/encode", 2, &State::default()),
            &[&[[0.5, 2.0]], &[[1.0, 0.0]]]
        ),
        concat!(
            r#"[{"embedding":[0.5,2.0],"#,
            r#""meta_info":{"id":"abc_0","prompt_tokens":3,"e2e_latency":0.0125}},"#,
            r#"{"embedding":[1.0,0.0],"#,
            r#""meta_info":{"id":"abc_1","prompt_tokens":3,"e2e_latency":0.0125}}]"#
        )
    );
    let named = State {
        ids: vec!["x".to_owned()],
        ..State::default()
    };
    assert!(body(info("/encode", 1, &named), &[&[[0.0, 1.0]]]).contains(r#""id":"x""#));
}

#[test]
fn takes_another_dialects_state_for_none() {
    let info = ResponseInfo {
        state: vec![0xff],
        ..info("/v1/embeddings", 1, &State::default())
    };
    assert!(body(info, &[&[[1.0, 2.0]]]).contains(r#""embedding":[1.0,2.0]"#));
}

#[test]
fn writes_errors_with_all_four_keys() {
    let error = ApiError {
        status: 400,
        kind: "invalid_request_error".to_owned(),
        message: "say \"a\"\n".to_owned(),
        param: Some("input[3]".to_owned()),
        code: None,
    };
    let body = OpenAi::encode_error("/v1/embeddings".to_owned(), error);
    assert_eq!(
        String::from_utf8(body).unwrap(),
        concat!(
            r#"{"error":{"message":"say \"a\"\n","type":"invalid_request_error","#,
            r#""param":"input[3]","code":null}}"#
        )
    );
}
