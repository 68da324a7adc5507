//! Whatever a client sends, it is told what is wrong, and the next request works.

use serde_json::{Value, json};
use tenon_tests::http::Response;
use tenon_tests::server::{MINILM, Server};

/// What is wrong with a body: its name, the body, the field named, words of the message.
type Case = (&'static str, Vec<u8>, Option<&'static str>, &'static str);

fn case(name: &'static str, body: Value, param: &'static str, words: &'static str) -> Case {
    (name, body.to_string().into_bytes(), Some(param), words)
}

fn raw(name: &'static str, body: impl Into<Vec<u8>>) -> Case {
    (name, body.into(), None, "")
}

/// A request with one field set.
fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"model": MINILM, "input": "oak"});
    body[field] = value;
    body
}

/// Fails the test unless the answer is a client error in OpenAI's shape; its `error` object.
#[track_caller]
fn assert_client_error(name: &str, answer: &Response) -> Value {
    let text = answer.text();
    assert!(
        (400..500).contains(&answer.status),
        "{name}: status {}: {text}",
        answer.status
    );
    let content_type = answer.header("content-type").unwrap_or_default();
    assert!(
        content_type.starts_with("application/json"),
        "{name}: {content_type}"
    );
    assert!(
        answer.header("x-request-id").is_some(),
        "{name}: no x-request-id"
    );
    let error = answer.json()["error"].clone();
    let keys = error
        .as_object()
        .unwrap_or_else(|| panic!("{name}: no error object: {text}"));
    let mut keys: Vec<&str> = keys.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["code", "message", "param", "type"], "{name}: {text}");
    assert!(
        error["message"].as_str().is_some_and(|m| !m.is_empty()),
        "{name}: {text}"
    );
    assert!(error["type"].is_string(), "{name}: {text}");
    for key in ["param", "code"] {
        assert!(
            error[key].is_string() || error[key].is_null(),
            "{name}: {text}"
        );
    }
    error
}

#[track_caller]
fn check(server: &Server, (name, body, param, words): Case) {
    let headers = [("content-type", "application/json")];
    let mut connection = server.connect();
    let answer = connection.send("POST", "/v1/embeddings", &headers, &body);
    let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
    let error = assert_client_error(name, &answer);
    assert_eq!(error["type"], "invalid_request_error", "{name}: {error}");
    if let Some(param) = param {
        let named = error["param"].as_str().unwrap_or_default();
        let named = named.trim_start_matches("$.");
        assert!(
            named.starts_with(param),
            "{name}: names {named:?}, wanted {param:?}: {error}"
        );
    }
    let message = error["message"].as_str().unwrap_or_default().to_lowercase();
    for word in words.split_whitespace() {
        assert!(message.contains(word), "{name}: {message:?} lacks {word:?}");
    }
    assert_eq!(
        server.embed(MINILM, "the next request works").len(),
        1,
        "{name}"
    );
}

fn cases() -> Vec<Case> {
    let many: Vec<&str> = vec!["oak"; 2049];
    let nested = format!("{}\"x\"{}", "[".repeat(100_000), "]".repeat(100_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000));
    let long = "oak ".repeat(2000);
    vec![
        // The body as a whole.
        raw("empty body", ""),
        raw("not JSON", "input=oak"),
        raw(
            "truncated JSON",
            &b"{\"model\": \"m\", \"input\": [\"oak\""[..],
        ),
        raw("truncated string", &b"{\"input\": \"oa"[..]),
        raw(
            "trailing text",
            format!("{} x", with("input", json!("oak"))),
        ),
        raw("an array", "[1, 2]"),
        raw("null", "null"),
        raw(
            "not UTF-8",
            &b"{\"model\": \"all-MiniLM-L6-v2\", \"input\": \"\xff\xfe\"}"[..],
        ),
        raw(
            "overlong UTF-8",
            &b"{\"model\": \"all-MiniLM-L6-v2\", \"input\": \"\xc0\xaf\"}"[..],
        ),
        raw(
            "lone high surrogate",
            r#"{"model": "all-MiniLM-L6-v2", "input": "\ud800"}"#,
        ),
        raw(
            "lone low surrogate",
            r#"{"model": "all-MiniLM-L6-v2", "input": ["a", "\udc00x"]}"#,
        ),
        raw("deep nesting of arrays", format!("{{\"input\": {nested}}}")),
        raw(
            "deep nesting of objects",
            format!("{{\"input\": \"a\", \"user\": {objects}}}"),
        ),
        raw(
            "deep nesting of an unknown field",
            format!("{{\"input\": \"a\", \"zzz\": {nested}}}"),
        ),
        raw(
            "a number that is none",
            r#"{"model": "all-MiniLM-L6-v2", "input": NaN}"#,
        ),
        // Input.
        case("no input", json!({"model": MINILM}), "input", "input"),
        case("input null", with("input", json!(null)), "input", "input"),
        case("input a number", with("input", json!(7)), "input", "input"),
        case("input a bool", with("input", json!(true)), "input", "input"),
        case(
            "input an object",
            with("input", json!({"text": 3})),
            "input",
            "input",
        ),
        case("empty string", with("input", json!("")), "input", "empty"),
        case(
            "whitespace",
            with("input", json!(" \t\n\u{a0}\u{3000}")),
            "input",
            "empty",
        ),
        case(
            "empty string in a list",
            with("input", json!(["a", "b", ""])),
            "input[2]",
            "empty",
        ),
        case(
            "whitespace in a list",
            with("input", json!(["a", "  "])),
            "input[1]",
            "empty",
        ),
        case("empty list", with("input", json!([])), "input", "empty"),
        case(
            "too many items",
            with("input", json!(many)),
            "input",
            "2048 2049",
        ),
        case(
            "mixed strings and ids",
            with("input", json!(["a", 3])),
            "input",
            "input",
        ),
        case(
            "mixed ids and lists",
            with("input", json!([3, [4]])),
            "input",
            "input",
        ),
        case(
            "mixed lists and strings",
            with("input", json!([[4], "a"])),
            "input",
            "input",
        ),
        case(
            "null in a list",
            with("input", json!(["a", null])),
            "input",
            "input",
        ),
        case(
            "empty list of ids",
            with("input", json!([[5], []])),
            "input[1]",
            "empty",
        ),
        case(
            "lists too deep",
            with("input", json!([[[5]]])),
            "input",
            "input",
        ),
        case(
            "negative id",
            with("input", json!([101, -1, 102])),
            "input",
            "-1",
        ),
        case(
            "negative id in a list",
            with("input", json!([[101], [7, -5]])),
            "input[1]",
            "-5",
        ),
        case(
            "fractional id",
            with("input", json!([101, 1.5])),
            "input",
            "input",
        ),
        case(
            "id beyond 32 bits",
            with("input", json!([101, 4_294_967_296_u64])),
            "input",
            "4294967296",
        ),
        case(
            "id beyond 64 bits",
            with("input", json!([1e30])),
            "input",
            "input",
        ),
        case(
            "id beyond the vocabulary",
            with("input", json!([101, 30522])),
            "input",
            "30522",
        ),
        case(
            "id of cl100k",
            with("input", json!([[101, 102], [9906, 100_256]])),
            "input[1]",
            "100256 30522",
        ),
        case(
            "over the model's limit",
            with("input", json!(long)),
            "input",
            "maximum context length 256 2002",
        ),
        case(
            "second over the limit",
            with("input", json!(["a", long])),
            "input[1]",
            "256 2002",
        ),
        case(
            "ids over the limit",
            with("input", json!(vec![101; 257])),
            "input",
            "256 257",
        ),
        // Other fields.
        case("no model", json!({"input": "oak"}), "model", "model"),
        case("model a number", with("model", json!(5)), "model", "model"),
        case(
            "unknown encoding",
            with("encoding_format", json!("hex")),
            "encoding_format",
            "float base64",
        ),
        case(
            "encoding a number",
            with("encoding_format", json!(1)),
            "encoding_format",
            "",
        ),
        case(
            "dimensions 0",
            with("dimensions", json!(0)),
            "dimensions",
            "",
        ),
        case(
            "dimensions negative",
            with("dimensions", json!(-1)),
            "dimensions",
            "",
        ),
        case(
            "dimensions a fraction",
            with("dimensions", json!(1.5)),
            "dimensions",
            "",
        ),
        case(
            "dimensions a string",
            with("dimensions", json!("128")),
            "dimensions",
            "",
        ),
        case(
            "dimensions too large",
            with("dimensions", json!(385)),
            "dimensions",
            "",
        ),
        case(
            "dimensions huge",
            with("dimensions", json!(1_u64 << 40)),
            "dimensions",
            "",
        ),
        case(
            "dimensions not supported",
            with("dimensions", json!(128)),
            "dimensions",
            "support dimensions",
        ),
        case("user a number", with("user", json!(5)), "user", ""),
        case(
            "truncation below -1",
            with("truncate_prompt_tokens", json!(-2)),
            "truncate_prompt_tokens",
            "-1",
        ),
        case(
            "truncation to 0",
            with("truncate_prompt_tokens", json!(0)),
            "truncate_prompt_tokens",
            "",
        ),
        case(
            "truncation over the limit",
            with("truncate_prompt_tokens", json!(257)),
            "truncate_prompt_tokens",
            "256 257",
        ),
        case(
            "truncation a string",
            with("truncate_prompt_tokens", json!("9")),
            "truncate_prompt_tokens",
            "",
        ),
        case(
            "unknown side",
            with("truncation_side", json!("middle")),
            "truncation_side",
            "left right",
        ),
        case(
            "special tokens a string",
            with("add_special_tokens", json!("yes")),
            "add_special_tokens",
            "",
        ),
        case(
            "priority a string",
            with("priority", json!("high")),
            "priority",
            "",
        ),
        case(
            "priority beyond 32 bits",
            with("priority", json!(1_u64 << 40)),
            "priority",
            "",
        ),
        case("rid a number", with("rid", json!(17)), "rid", ""),
        case(
            "unknown prompt",
            with("prompt_name", json!("nosuch")),
            "prompt_name",
            "nosuch",
        ),
    ]
}

#[test]
fn bad_bodies_are_refused_and_the_next_request_works() {
    let server = Server::minilm(&[]);
    for case in cases() {
        check(&server, case);
    }
    server.assert_log_is_clean();
}

#[test]
fn an_unknown_model_is_404_with_its_code() {
    let server = Server::shared_minilm();
    let answer = server.embeddings(&with("model", json!("nosuch")));
    assert_eq!(answer.status, 404, "{}", answer.text());
    let error = assert_client_error("unknown model", &answer);
    assert_eq!(error["code"], "model_not_found");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| message.contains("nosuch"))
    );
}

#[test]
fn a_wrong_content_type_is_refused() {
    let server = Server::shared_minilm();
    let body = with("input", json!("oak")).to_string();
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let headers = [("content-type", content_type)];
        let answer = server.send("POST", "/v1/embeddings", &headers, body.as_bytes());
        assert_client_error(content_type, &answer);
    }
    for content_type in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
    ] {
        let headers = [("content-type", content_type)];
        let answer = server.send("POST", "/v1/embeddings", &headers, body.as_bytes());
        assert_eq!(answer.status, 200, "{content_type}: {}", answer.text());
    }
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let server = Server::shared_minilm();
    let mut connection = server.connect();
    let head = "POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 107374182400\r\n\r\n";
    connection.write(head.as_bytes()).expect("send the head");
    let answer = connection.read_response().expect("an answer");
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_client_error("body over the limit", &answer);
    assert_eq!(server.embed(MINILM, "the next request works").len(), 1);
}

#[test]
fn headers_over_the_limit_are_refused() {
    let server = Server::shared_minilm();
    let mut connection = server.connect();
    let head = format!(
        "GET /health HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n",
        "a".repeat(1 << 20)
    );
    // The server may close while the head is still being sent.
    let sent = connection.write(head.as_bytes());
    let answer = connection.read_response();
    match answer {
        Ok(answer) => assert!(
            [400, 413, 431].contains(&answer.status),
            "{}",
            answer.status
        ),
        Err(error) => println!("closed without an answer: {error}, {sent:?}"),
    }
    assert_eq!(server.embed(MINILM, "the next request works").len(), 1);
}

#[test]
fn a_closed_connection_costs_nobody_else() {
    let server = Server::shared_minilm();
    let body = json!({"model": MINILM, "input": vec!["oak beam ".repeat(100); 200]}).to_string();
    for cut in [body.len() / 2, body.len()] {
        let mut connection = server.connect();
        let headers = [("content-type", "application/json")];
        let request = connection.request("POST", "/v1/embeddings", &headers, body.as_bytes());
        let head = request.len() - body.len();
        connection.write(&request[..head + cut]).expect("send");
        drop(connection);
    }
    assert_eq!(server.embed(MINILM, "the next request works").len(), 1);
    server.assert_log_is_clean();
}
