//! The exact texts, and what has none.

use tenon_sdk::template::Segment;
use tenon_sdk::types::{Media, Message, Part};

use super::*;

fn text(text: &str) -> EmbedInput {
    EmbedInput::Parts(vec![Part::Text(text.to_owned())])
}

fn message(role: &str, text: &str) -> Message {
    Message {
        role: role.to_owned(),
        parts: vec![Part::Text(text.to_owned())],
    }
}

fn render(input: EmbedInput, instruction: Option<&str>) -> Result<Rendered, ApiError> {
    let options = RenderOptions {
        prompt_name: None,
        input_type: None,
        instruction: instruction.map(str::to_owned),
        add_special_tokens: true,
    };
    let mut rendered = render_conversations(vec![input], &options, write)?;
    assert_eq!(rendered.len(), 1);
    Ok(rendered.remove(0))
}

#[track_caller]
fn check(input: EmbedInput, instruction: Option<&str>, want: &str) {
    let rendered = render(input, instruction).unwrap();
    assert!(!rendered.add_special_tokens && rendered.excluded_prompt.is_none());
    match &rendered.segments[..] {
        [Segment::Text(text)] => assert_eq!(text, want),
        other => panic!("{other:?}"),
    }
}

#[test]
fn text_is_the_message_of_a_user() {
    let want = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n\
        A cat.<|im_end|>\n<|im_start|>assistant\n<|endoftext|>";
    check(text("A cat."), None, want);
    check(
        EmbedInput::Messages(vec![message("user", "A cat.")]),
        None,
        want,
    );
}

#[test]
fn an_instruction_or_a_system_message_replaces_the_sentence() {
    let want = "<|im_start|>system\nFind an image that matches the given text.<|im_end|>\n\
        <|im_start|>user\nA cat.<|im_end|>\n<|im_start|>assistant\n<|endoftext|>";
    let instruction = "Find an image that matches the given text.";
    check(text("A cat."), Some(instruction), want);
    let user = message("user", "A cat.");
    check(
        EmbedInput::Messages(vec![user.clone()]),
        Some(instruction),
        want,
    );
    check(
        EmbedInput::Messages(vec![message("system", instruction), user]),
        None,
        want,
    );
}

#[test]
fn token_ids_pass_through() {
    let rendered = render(EmbedInput::Tokens(vec![3, 1]), None).unwrap();
    assert!(rendered.add_special_tokens);
    assert!(matches!(&rendered.segments[..], [Segment::Tokens(ids)] if ids[..] == [3, 1]));
}

#[test]
fn other_conversations_and_images_are_refused() {
    let check = |input, instruction, param: &str, words: &str| {
        let error = render(input, instruction).unwrap_err();
        assert_eq!((error.status, error.param.as_deref()), (400, Some(param)));
        assert!(error.message.contains(words), "{error:?}");
    };
    let user = || message("user", "a");
    let messages = EmbedInput::Messages;
    check(messages(vec![]), None, "messages", "role \"user\"");
    check(
        messages(vec![user(), user()]),
        None,
        "messages",
        "role \"user\"",
    );
    check(
        messages(vec![message("assistant", "a")]),
        None,
        "messages",
        "role \"user\"",
    );
    let two = vec![message("system", "a"), user()];
    check(
        messages(two),
        Some("b"),
        "instruction",
        "system message already",
    );
    let image = || Part::Image(Media::Url("http://a".to_owned()));
    check(
        EmbedInput::Parts(vec![image()]),
        None,
        "input[0]",
        "text only",
    );
    let mut pictured = user();
    pictured.parts.push(image());
    check(
        messages(vec![pictured]),
        None,
        "messages[0].content[1]",
        "text only",
    );
}
