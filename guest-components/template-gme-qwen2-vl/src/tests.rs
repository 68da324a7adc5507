//! The exact texts, and what has none.

use tenon_sdk::template::Segment;
use tenon_sdk::types::{Message, Part};

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
    let writer = Writer {
        images: vec![ImageSize {
            width: 60,
            height: 120,
        }],
        placeholder: Some(7),
        resizer: Some(Resizer::new(&serde_json::from_str("{}").unwrap()).unwrap()),
    };
    let write = |conversation: Conversation| writer.write(&conversation);
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
fn other_conversations_and_videos_are_refused() {
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
    let video = || Part::Video(0);
    check(
        EmbedInput::Parts(vec![video()]),
        None,
        "input[0]",
        "videos are not supported",
    );
    let mut pictured = user();
    pictured.parts.push(video());
    check(
        messages(vec![pictured]),
        None,
        "messages[0].content[1]",
        "videos are not supported",
    );
    let pictured = Message {
        role: "system".to_owned(),
        parts: vec![Part::Image(0)],
    };
    check(
        messages(vec![pictured, user()]),
        None,
        "messages[0].content[0]",
        "text only",
    );
}

#[test]
fn images_stand_before_the_text() {
    let parts = vec![Part::Text("A cat.".to_owned()), Part::Image(0)];
    let rendered = render(EmbedInput::Parts(parts), None).unwrap();
    let [
        Segment::Text(before),
        Segment::Image(run),
        Segment::Text(after),
    ] = &rendered.segments[..]
    else {
        panic!("{:?}", rendered.segments);
    };
    assert!(
        before.ends_with("<|im_start|>user\n<|vision_start|>"),
        "{before}"
    );
    assert!(
        after.starts_with("<|vision_end|>A cat.<|im_end|>\n"),
        "{after}"
    );
    assert_eq!((run.image, run.token, run.rows, run.columns), (0, 7, 4, 2));
    assert_eq!((run.resize.width, run.resize.height), (56, 112));
    assert_eq!((run.crop.size.width, run.crop.size.height), (56, 112));
}
