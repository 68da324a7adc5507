//! Conversations: what is taken, and what is refused.

use tenon_sdk::request_parser::MediaSource;
use tenon_sdk::types::{EmbedInput, Media, Part};

use super::{EMBEDDINGS, parse};

/// The conversation in a short notation: roles, and their parts in brackets.
fn written(messages: &str) -> String {
    let body = format!(r#"{{"model": "m", "messages": {messages}}}"#);
    let request = parse(EMBEDDINGS, body).unwrap_or_else(|error| panic!("{messages}: {error:?}"));
    let [EmbedInput::Messages(messages)] = &request.inputs[..] else {
        panic!("{:?}", request.inputs);
    };
    let source = |source: &MediaSource| match &source.media {
        Media::Url(url) => format!("<{url}> at {}", source.param),
        Media::Bytes(bytes) => format!("{bytes:?} at {}", source.param),
    };
    let part = |part: &Part| match part {
        Part::Text(text) => format!("{text:?}"),
        Part::Image(index) => source(&request.images[*index as usize]),
        Part::Video(index) => format!("video {}", source(&request.videos[*index as usize])),
    };
    let message = |message: &tenon_sdk::types::Message| {
        let parts: Vec<_> = message.parts.iter().map(part).collect();
        format!("{}({})", message.role, parts.join(" "))
    };
    messages.iter().map(message).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn refused(messages: &str, param: &str, words: &str) {
    let body = format!(r#"{{"model": "m", "messages": {messages}}}"#);
    let error = parse(EMBEDDINGS, body).unwrap_err();
    assert_eq!(error.param.as_deref(), Some(param), "{messages}: {error:?}");
    assert!(error.message.contains(words), "{messages}: {error:?}");
    assert_eq!(error.status, 400);
}

#[test]
fn takes_strings_and_parts() {
    let one = r#"[{"role": "user", "content": " a "}]"#;
    assert_eq!(written(one), r#"user(" a ")"#);
    let several = r#"[{"content": "s", "role": "system"}, {"role": "user", "content":
        [{"type": "text", "text": "a"}, {"text": "b", "type": "text"}]}]"#;
    assert_eq!(written(several), r#"system("s") user("a" "b")"#);
    let images = r#"[{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQID"}}]}]"#;
    assert_eq!(
        written(images),
        "user(<https://a/b.png> at messages[0].content[0] [1, 2, 3] at messages[0].content[1])"
    );
    let video = r#"[{"role": "user", "content": [
        {"type": "video_url", "video_url": {"url": "https://a/b.mp4"}}]}]"#;
    assert_eq!(
        written(video),
        "user(video <https://a/b.mp4> at messages[0].content[0])"
    );
}

#[test]
fn takes_input_or_messages() {
    let messages = r#"[{"role": "user", "content": "a"}]"#;
    let both = format!(r#"{{"model": "m", "input": "a", "messages": {messages}}}"#);
    let error = parse(EMBEDDINGS, both).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("messages"));
    assert_eq!(error.message, "messages: give input or messages, not both");
    let error = parse(EMBEDDINGS, r#"{"model": "m"}"#).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("input"));
    assert!(
        error.message.contains("give input or messages"),
        "{error:?}"
    );
    let null = format!(r#"{{"model": "m", "input": null, "messages": {messages}}}"#);
    assert_eq!(parse(EMBEDDINGS, null).unwrap().inputs.len(), 1);
}

#[test]
fn limits_lists_like_inputs() {
    let list = |item: &str, count: usize| format!("[{}]", vec![item; count].join(","));
    let message = r#"{"role": "user", "content": "a"}"#;
    assert!(written(&list(message, 2048)).starts_with("user"));
    let many = list(message, 2050);
    refused(&many, "messages", "the list has 2050 items, more than 2048");
    let parts = list(r#"{"type": "text", "text": "a"}"#, 2049);
    let message = format!(r#"[{{"role": "user", "content": {parts}}}]"#);
    refused(
        &message,
        "messages[0].content",
        "2049 items, more than 2048",
    );
}

#[test]
fn names_the_message_at_fault() {
    refused("[]", "messages", "the list is empty");
    refused(r#""a""#, "messages", "expected a list of messages");
    refused(
        r#"["a"]"#,
        "messages[0]",
        "expected an object with role and content",
    );
    let user = r#"{"role": "user", "content": "a"}"#;
    let second = |message: &str| format!("[{user}, {message}]");
    refused(
        &second(r#"{"content": "a"}"#),
        "messages[1]",
        "missing field `role`",
    );
    refused(
        &second(r#"{"role": "user"}"#),
        "messages[1]",
        "missing field `content`",
    );
    let unknown = r#"{"role": "user", "content": "a", "name": "b"}"#;
    refused(&second(unknown), "messages[1]", "unknown field `name`");
    let twice = r#"{"role": "user", "role": "user", "content": "a"}"#;
    refused(&second(twice), "messages[1]", "duplicate field `role`");
    refused(
        &second(r#"{"role": 1}"#),
        "messages[1].role",
        "expected a string",
    );
    refused(
        &second(r#"{"role": ""}"#),
        "messages[1].role",
        "the name of a role",
    );
    refused(
        r#"[{"role": "user", "content": " "}]"#,
        "messages[0].content",
        "only whitespace",
    );
}

#[test]
fn names_the_part_at_fault() {
    let refused = |content: &str, param: &str, words: &str| {
        refused(
            &format!(r#"[{{"role": "user", "content": {content}}}]"#),
            param,
            words,
        );
    };
    let content = "messages[0].content";
    refused("1", content, "expected a string or a list of parts");
    refused("null", content, "expected a string or a list of parts");
    refused("[]", content, "the list is empty");
    let second = |part: &str| format!(r#"[{{"type": "text", "text": "a"}}, {part}]"#);
    let check = |part: &str, words: &str| refused(&second(part), "messages[0].content[1]", words);
    check(r#""a""#, "invalid type: string");
    check(r#"{"text": "a"}"#, "missing field `type`");
    check(r#"{"type": "text"}"#, "has the field text only");
    check(
        r#"{"type": "text", "text": ""}"#,
        "empty or only whitespace",
    );
    check(
        r#"{"type": "text", "text": "a", "x": 1}"#,
        "unknown field `x`",
    );
    check(
        r#"{"type": "audio"}"#,
        "'audio' is not supported, give 'text' or 'image_url'",
    );
    check(r#"{"type": "image_url"}"#, "has the field image_url only");
    let image = |url: &str| format!(r#"{{"type": "image_url", "image_url": {{"url": "{url}"}}}}"#);
    check(&image("file:///a"), "neither a URL");
    check(&image(""), "neither a URL");
    check(&image("data:image/png,a"), "data:MEDIA-TYPE;base64,DATA");
    check(&image("data:image/png;base64,*"), "nor base64");
}
