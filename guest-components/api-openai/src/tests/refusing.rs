//! What the parser refuses, and how it says so.

use super::{EMBEDDINGS, ENCODE, parse};

/// Refused with this message, which names this parameter.
fn check(endpoint: &str, body: impl AsRef<[u8]>, param: Option<&str>, message: &str) {
    let shown = String::from_utf8_lossy(body.as_ref()).into_owned();
    let error = match parse(endpoint, body) {
        Ok(request) => panic!("{shown} gave {request:?}"),
        Err(error) => error,
    };
    assert_eq!(error.param.as_deref(), param, "{shown}: {error:?}");
    assert!(error.message.contains(message), "{shown}: {error:?}");
    assert_eq!((error.status, &*error.kind), (400, "invalid_request_error"));
}

#[test]
fn refuses_what_is_not_json() {
    let check = |body: &[u8], message| check(EMBEDDINGS, body, None, message);
    check(
        b"",
        "not valid JSON: EOF while parsing a value at line 1 column 0",
    );
    check(
        b"{\"input\": \"a\"",
        "EOF while parsing an object at line 1 column 13",
    );
    check(
        b"{\"input\": \"a",
        "EOF while parsing a string at line 1 column 12",
    );
    check(
        b"{\"input\": \"a\"} x",
        "trailing characters at line 1 column 16",
    );
    check(b"{\"input\": \"a\",}", "trailing comma at line 1 column 15");
    check(b"{\"input\": NaN}", "expected value at line 1 column 11");
    check(b"{\"input\": [01]}", "invalid number");
    check(
        b"{\"input\": [1e400]}",
        "number out of range at line 1 column 16",
    );
    check(b"{\"input\": \"\\ud800\"}", "not valid JSON");
    check(b"{\"input\": \"\\udc00 a\"}", "lone");
    check(b"{\"input\": \"\\q\"}", "invalid escape");
    check(b"{\"input\": \"\n\"}", "control character");
    check(
        b"{\"input\": \"\xff\"}",
        "not valid UTF-8: see the byte at offset 11",
    );
    check(b"\xef\xbb\xbf{\"input\": \"a\"}", "byte order mark");
    check(b"[1]", "invalid type: sequence, expected a JSON object");
    check(b"\"a\"", "expected a JSON object");
    check(b"null", "expected a JSON object");
}

#[test]
fn refuses_deep_nesting() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let body = |field: &str, depth| {
        format!(
            r#"{{"model": "m", "input": "a", "{field}": {}}}"#,
            nested(depth)
        )
    };
    assert!(parse(EMBEDDINGS, body("additional_data", 100)).is_ok());
    let deep = 100_000;
    let data = Some("additional_data");
    check(
        EMBEDDINGS,
        body("additional_data", deep),
        data,
        "nested deeper than 128 levels",
    );
    check(
        EMBEDDINGS,
        body("messages", deep),
        Some("messages[0]"),
        "invalid type: sequence",
    );
    check(
        EMBEDDINGS,
        body("user", deep),
        Some("user"),
        "expected a string",
    );
    let input = format!(r#"{{"input": {}}}"#, nested(deep));
    check(
        EMBEDDINGS,
        input,
        Some("input[0][0]"),
        "invalid type: sequence, expected a token id",
    );
    let body = format!(r#"{{"text": "a", "rid": {}}}"#, nested(deep));
    check(ENCODE, body, None, "recursion limit exceeded");
}

#[test]
fn names_the_input_at_fault() {
    let check = |input: &str, param, message| {
        check(
            EMBEDDINGS,
            format!(r#"{{"input": {input}}}"#),
            Some(param),
            message,
        );
    };
    check("null", "input", "required, but missing");
    check(
        "1",
        "input",
        "invalid type: integer `1`, expected a string, a list of strings",
    );
    check("true", "input", "invalid type: boolean");
    check(r#"{"text": "a"}"#, "input", "invalid type: map");
    check(r#""""#, "input", "the text is empty or only whitespace");
    check(
        r#"" \t\n\u3000""#,
        "input",
        "the text is empty or only whitespace",
    );
    check("[]", "input", "the list is empty");
    check(
        r#"["a", "b", ""]"#,
        "input[2]",
        "the text is empty or only whitespace",
    );
    check(
        r#"["a", " "]"#,
        "input[1]",
        "the text is empty or only whitespace",
    );
    check(
        r#"["a", 1]"#,
        "input[1]",
        "integer `1`, expected a string like the items before it",
    );
    check(
        r#"["a", null]"#,
        "input[1]",
        "null, expected a string like the items before it",
    );
    check(
        r#"["a", ["b"]]"#,
        "input[1]",
        "sequence, expected a string like",
    );
    check(
        r#"[1, "a"]"#,
        "input[1]",
        r#"string "a", expected a token id"#,
    );
    check(
        "[1, 2, -3]",
        "input[2]",
        "integer `-3`, expected a token id from 0 to 4294967295",
    );
    check("[-1]", "input[0]", "integer `-1`, expected a token id");
    check(
        "[1.5]",
        "input[0]",
        "floating point `1.5`, expected a string, a token id",
    );
    check(
        "[1, 2.0]",
        "input[1]",
        "floating point `2.0`, expected a token id",
    );
    check(
        "[4294967296]",
        "input[0]",
        "integer `4294967296`, expected a token id",
    );
    check("[1, 18446744073709551616]", "input[1]", "floating point");
    check("[true]", "input[0]", "boolean `true`");
    check("[[]]", "input[0]", "the list of token ids is empty");
    check("[[1], []]", "input[1]", "the list of token ids is empty");
    check(
        "[[1], [2, -1]]",
        "input[1][1]",
        "integer `-1`, expected a token id",
    );
    check(r#"[["a"]]"#, "input[0][0]", "expected a token id");
    check(
        "[[1], 2]",
        "input[1]",
        "expected a list of token ids like the items before it",
    );
    check(
        r#"[[1], "a"]"#,
        "input[1]",
        "expected a list of token ids like",
    );
    check(
        r#"[{"text": "a"}, "b"]"#,
        "input[1]",
        "expected an object like the items before it",
    );
    check(
        r#"[{"text": "a"}, {"text": " "}]"#,
        "input[1]",
        "empty or only whitespace",
    );
    check("[{}]", "input[0]", "the object has neither text nor image");
    check(
        r#"[{"text": "a", "image": "x"}]"#,
        "input[0].image",
        "neither a URL (https://, http://, data:) nor base64",
    );
    check(r#"[{"txt": "a"}]"#, "input[0]", "unknown field `txt`");
    check(
        r#"[{"text": "a", "text": "b"}]"#,
        "input[0]",
        "duplicate field `text`",
    );
}

#[test]
fn requires_a_model() {
    let message = "required, but missing";
    check(EMBEDDINGS, r#"{"input": "a"}"#, Some("model"), message);
    let null = r#"{"input": "a", "model": null}"#;
    check(EMBEDDINGS, null, Some("model"), message);
}

#[test]
fn names_the_field_at_fault() {
    let check = |field: &str, param, message| {
        check(
            EMBEDDINGS,
            format!(r#"{{"input": "a", {field}}}"#),
            param,
            message,
        );
    };
    check(
        r#""x": 1"#,
        None,
        "Unrecognized request argument supplied: x",
    );
    check(r#""input": "b""#, Some("input"), "given twice");
    check(
        r#""model": 5"#,
        Some("model"),
        "integer `5`, expected a string",
    );
    let format = Some("encoding_format");
    check(
        r#""encoding_format": "hex""#,
        format,
        "'hex' is not supported, give 'float' or 'base64'",
    );
    check(
        r#""encoding_format": "Float""#,
        format,
        "'Float' is not supported",
    );
    check(r#""encoding_format": 1"#, format, "expected a string");
    let dimensions = Some("dimensions");
    check(
        r#""dimensions": 0"#,
        dimensions,
        "integer `0`, expected an integer from 1 to 4294967295",
    );
    check(
        r#""dimensions": -1"#,
        dimensions,
        "integer `-1`, expected an integer from 1",
    );
    check(
        r#""dimensions": 2.0"#,
        dimensions,
        "floating point `2.0`, expected an integer",
    );
    check(
        r#""dimensions": "2""#,
        dimensions,
        "string \"2\", expected an integer",
    );
    check(
        r#""dimensions": 4294967296"#,
        dimensions,
        "integer `4294967296`",
    );
    check(
        r#""dimensions": 18446744073709551615"#,
        dimensions,
        "18446744073709551615",
    );
    check(r#""user": 1"#, Some("user"), "expected a string");
    let truncate = Some("truncate_prompt_tokens");
    check(
        r#""truncate_prompt_tokens": 0"#,
        truncate,
        "0 would keep nothing",
    );
    check(
        r#""truncate_prompt_tokens": -2"#,
        truncate,
        "expected an integer from -1",
    );
    check(
        r#""truncate_prompt_tokens": true"#,
        truncate,
        "expected an integer",
    );
    check(
        r#""truncation_side": "middle""#,
        Some("truncation_side"),
        "give 'left' or 'right'",
    );
    check(
        r#""add_special_tokens": 1"#,
        Some("add_special_tokens"),
        "expected a boolean",
    );
    check(
        r#""priority": 2147483648"#,
        Some("priority"),
        "expected an integer from -2147483648",
    );
    check(r#""rid": ["x"]"#, Some("rid"), "expected a string");
    check(
        r#""rid": """#,
        Some("rid"),
        "an id is 1 to 256 visible ASCII characters",
    );
    check(r#""rid": "a\r\nb: c""#, Some("rid"), "visible ASCII");
    check(
        r#""rid": "a", "request_id": "b""#,
        Some("request_id"),
        "another name",
    );
    check(
        r#""prompt_name": {}"#,
        Some("prompt_name"),
        "expected a string",
    );
    check(
        r#""embed_dtype": "float16""#,
        Some("embed_dtype"),
        "give 'float32'",
    );
    check(
        r#""endianness": "big""#,
        Some("endianness"),
        "give 'native' or 'little'",
    );
    check(
        r#""lora_path": "x""#,
        Some("lora_path"),
        "not supported by this server",
    );
    check(
        r#""chat_template": "{{ messages }}""#,
        Some("chat_template"),
        "not supported by this server",
    );
}

#[test]
fn refuses_what_encode_does_not_take() {
    let check = |body: &str, param, message| check(ENCODE, body, param, message);
    check("{}", None, "text or input_ids is required");
    check(
        r#"{"text": "a", "input_ids": [1]}"#,
        Some("input_ids"),
        "not both",
    );
    check(
        r#"{"text": [1]}"#,
        Some("text[0]"),
        "integer `1`, expected a string",
    );
    check(
        r#"{"text": ["a", "  "]}"#,
        Some("text[1]"),
        "empty or only whitespace",
    );
    check(
        r#"{"text": [["a"]]}"#,
        Some("text[0]"),
        "sequence, expected a string",
    );
    check(
        r#"{"input_ids": "a"}"#,
        Some("input_ids"),
        "expected a list of token ids",
    );
    check(
        r#"{"input_ids": ["a"]}"#,
        Some("input_ids[0]"),
        "expected a token id or a list",
    );
    check(
        r#"{"input": "a"}"#,
        None,
        "Unrecognized request argument supplied: input",
    );
    check(
        r#"{"text": "a", "rid": ["x"]}"#,
        Some("rid"),
        "a list of 1 ids for 1 inputs",
    );
    check(
        r#"{"text": ["a"], "rid": ["x", "y"]}"#,
        Some("rid"),
        "a list of 2 ids for 1 inputs",
    );
    check(
        r#"{"text": ["a"], "rid": ["x y"]}"#,
        Some("rid"),
        "visible ASCII",
    );
    check(
        r#"{"text": "a", "rid": 1}"#,
        Some("rid"),
        "expected a string or a list of strings",
    );
    check(
        r#"{"text": "a", "image_data": "x"}"#,
        Some("image_data"),
        "not supported",
    );
}

#[test]
fn keeps_messages_short() {
    let body = format!(r#"{{"input": "a", "{}": 1}}"#, "é".repeat(10_000));
    let error = parse(EMBEDDINGS, body).unwrap_err();
    assert!(
        error.message.len() < 600 && error.message.ends_with("..."),
        "{error:?}"
    );
}
