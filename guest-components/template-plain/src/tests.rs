//! What plain rendering does with prompts, case and inputs that are no text.

use tenon_sdk::types::Message;

use super::*;

const PROMPTS: &str = r#""prompts": {"query": "Query: ", "doc": "", "Ä": "ÄÖ "}"#;

fn settings(rest: &str) -> Settings {
    serde_json::from_str(&format!("{{{PROMPTS}{rest}}}")).unwrap()
}

fn text(text: &str) -> EmbedInput {
    EmbedInput::Parts(vec![Part::Text(text.to_owned())])
}

fn options(prompt_name: Option<&str>) -> RenderOptions {
    RenderOptions {
        prompt_name: prompt_name.map(str::to_owned),
        input_type: None,
        instruction: None,
        add_special_tokens: true,
    }
}

/// The text that an input is rendered to, and the excluded prompt.
fn check(rest: &str, prompt: Option<&str>, input: EmbedInput, want: &str, excluded: Option<&str>) {
    let rendered = settings(rest)
        .render(vec![input], &options(prompt))
        .unwrap();
    let [
        Rendered {
            segments,
            add_special_tokens: true,
            excluded_prompt,
        },
    ] = &rendered[..]
    else {
        panic!("{rendered:?}");
    };
    match &segments[..] {
        [Segment::Text(text)] => assert_eq!(text, want),
        [Segment::Tokens(ids)] => assert_eq!(format!("{ids:?}"), want),
        other => panic!("{other:?}"),
    }
    assert_eq!(excluded_prompt.as_deref(), excluded);
}

#[test]
fn puts_the_prompt_before_text() {
    check("", None, text("Hello"), "Hello", None);
    check("", Some("query"), text("Hello"), "Query: Hello", None);
    check("", Some("doc"), text("Hello"), "Hello", None);
    let default = r#", "default_prompt_name": "query""#;
    check(default, None, text("Hello"), "Query: Hello", None);
    check(default, Some("doc"), text("Hello"), "Hello", None);
    check(
        default,
        None,
        EmbedInput::Tokens(vec![1, 2]),
        "[1, 2]",
        None,
    );
    check(
        r#", "default_prompt_name": null"#,
        None,
        text(" x "),
        " x ",
        None,
    );
}

#[test]
fn names_the_prompt_that_pooling_leaves_out() {
    let exclude = r#", "include_prompt": false"#;
    check(
        exclude,
        Some("query"),
        text("Hello"),
        "Query: Hello",
        Some("Query: "),
    );
    check(exclude, Some("doc"), text("Hello"), "Hello", None);
    check(exclude, None, text("Hello"), "Hello", None);
}

#[test]
fn joins_the_parts_of_an_input() {
    let parts = ["a", "b ", "c"]
        .map(|text| Part::Text(text.to_owned()))
        .to_vec();
    check(
        "",
        Some("query"),
        EmbedInput::Parts(parts),
        "Query: ab c",
        None,
    );
}

#[test]
fn keeps_the_order_of_inputs() {
    let inputs = vec![text("a"), EmbedInput::Tokens(vec![7]), text("b")];
    let rendered = settings("").render(inputs, &options(None)).unwrap();
    assert_eq!(rendered.len(), 3);
    assert!(matches!(&rendered[1].segments[..], [Segment::Tokens(ids)] if ids[..] == [7]));
}

#[test]
fn refuses_what_it_cannot_render() {
    let check = |input, options: &RenderOptions, param: &str, part: &str| {
        let error = settings("")
            .render(vec![text("a"), input], options)
            .unwrap_err();
        assert_eq!(
            (error.status, error.param.as_deref()),
            (400, Some(param)),
            "{error:?}"
        );
        assert!(error.message.contains(part), "{error:?}");
    };
    let known = r#"no prompt "x": this model has "doc", "query", "Ä""#;
    check(text("b"), &options(Some("x")), "prompt_name", known);
    let image = EmbedInput::Parts(vec![Part::Image(0)]);
    check(
        image,
        &options(None),
        "input[1]",
        "this model takes text only",
    );
    let message = Message {
        role: "user".to_owned(),
        parts: Vec::new(),
    };
    check(
        EmbedInput::Messages(vec![message]),
        &options(None),
        "messages",
        "without a chat template",
    );
    let ids = EmbedInput::Tokens(vec![1]);
    check(
        ids,
        &options(Some("query")),
        "prompt_name",
        "before token ids",
    );
    let instruct = RenderOptions {
        instruction: Some("find".to_owned()),
        ..options(None)
    };
    check(text("b"), &instruct, "instruction", "Instruct: ");
}

#[test]
fn chooses_a_prompt_by_what_the_inputs_are() {
    let prompts = r#"{"prompts": {"query": "Instruct: a\nQuery:", "passage": "P: ",
        "corpus": "C: "}, "default_prompt_name": "corpus"}"#;
    let settings: Settings = serde_json::from_str(prompts).unwrap();
    let prompt = |prompt_name: Option<&str>, input_type, instruction: Option<&str>| {
        let options = RenderOptions {
            prompt_name: prompt_name.map(str::to_owned),
            input_type,
            instruction: instruction.map(str::to_owned),
            add_special_tokens: true,
        };
        settings.prompt(&options).map(Cow::into_owned).unwrap()
    };
    let (query, document) = (Some(InputType::Query), Some(InputType::Document));
    assert_eq!(prompt(None, query, None), "Instruct: a\nQuery:");
    assert_eq!(prompt(None, document, None), "P: ");
    assert_eq!(prompt(None, None, None), "C: ");
    assert_eq!(prompt(Some("corpus"), query, None), "C: ");
    assert_eq!(prompt(None, None, Some("b")), "Instruct: b\nQuery:");
    assert_eq!(prompt(None, query, Some("b")), "Instruct: b\nQuery:");

    let none: Settings = serde_json::from_str("{}").unwrap();
    let options = RenderOptions {
        input_type: query,
        ..options(None)
    };
    assert_eq!(none.prompt(&options).unwrap(), "");
}

#[test]
fn refuses_settings_it_does_not_know() {
    assert!(serde_json::from_str::<Settings>(r#"{"prompt": {}}"#).is_err());
    assert!(serde_json::from_str::<Settings>("{}").is_ok());
}
