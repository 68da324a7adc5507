//! Templates as checkpoints have them, and what goes wrong with them.

use serde_json::{Value, json};
use tenon_sdk::template::Segment;
use tenon_sdk::types::{Message, Part};

use super::*;

/// The format of Qwen2 and Qwen3, in its short form.
const CHATML: &str = "{% for message in messages %}\n\
    {% if loop.first and messages[0]['role'] != 'system' %}\n\
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\n\
    {%- endif %}\n\
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\n\
    {%- endfor %}\n\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}\n";

/// The format of Llama 2 and Mistral: strict about roles.
const INSTRUCT: &str = "{{ bos_token }}{% for message in messages %}\n\
    \x20   {% if (message.role == 'user') != (loop.index0 % 2 == 0) %}\n\
    \x20       {{ raise_exception('Conversation roles must alternate user/assistant') }}\n\
    \x20   {% endif %}\n\
    \x20   {%- if message.role == 'user' %}{{ '[INST] ' + message.content.strip() + ' [/INST]' }}\n\
    \x20   {%- else %}{{ message.content + eos_token }}{% endif %}\n\
    {%- endfor %}";

/// Content as a list only.
const LISTED: &str = "{% for message in messages %}{{ message.role }}:\
    {% for part in message.content %}{% if part.type == 'text' %} {{ part.text }}{% endif %}\
    {% endfor %};{% endfor %}";

fn text(text: &str) -> EmbedInput {
    EmbedInput::Parts(vec![Part::Text(text.to_owned())])
}

fn messages(messages: &[(&str, &str)]) -> EmbedInput {
    let message = |(role, text): &(&str, &str)| Message {
        role: (*role).to_owned(),
        parts: vec![Part::Text((*text).to_owned())],
    };
    EmbedInput::Messages(messages.iter().map(message).collect())
}

fn options(instruction: Option<&str>) -> RenderOptions {
    RenderOptions {
        prompt_name: None,
        input_type: None,
        instruction: instruction.map(str::to_owned),
        add_special_tokens: true,
    }
}

fn settings(template: &str, more: Value) -> Settings {
    let mut settings = more;
    settings["chat_template"] = json!(template);
    serde_json::from_value(settings).unwrap()
}

#[track_caller]
fn check(settings: &Settings, input: EmbedInput, instruction: Option<&str>, want: &str) {
    let rendered = settings.render(vec![input], &options(instruction)).unwrap();
    match &rendered[..] {
        [rendered] => match &rendered.segments[..] {
            [Segment::Text(text)] => {
                assert_eq!(text, want);
                assert!(!rendered.add_special_tokens);
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused(settings: &Settings, input: EmbedInput, param: Option<&str>, words: &[&str]) {
    let error = settings
        .render(vec![text("a"), input], &options(None))
        .unwrap_err();
    let status = if param.is_some() { 400 } else { 500 };
    assert_eq!(
        (error.status, error.param.as_deref()),
        (status, param),
        "{error:?}"
    );
    for word in words {
        assert!(error.message.contains(word), "{word:?} is not in {error:?}");
    }
}

#[test]
fn a_text_is_the_message_of_a_user() {
    let chatml = settings(CHATML, json!({}));
    let want = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n\
        <|im_start|>user\nA <b> & \"c\".<|im_end|>\n";
    check(&chatml, text("A <b> & \"c\"."), None, want);
    let want = "<|im_start|>system\nFind it.<|im_end|>\n<|im_start|>user\nA<|im_end|>\n";
    check(&chatml, text("A"), Some("Find it."), want);
}

#[test]
fn conversations_are_rendered_as_they_are() {
    let chatml = settings(CHATML, json!({"add_generation_prompt": true}));
    let input = messages(&[("system", "s"), ("user", "u"), ("assistant", "a")]);
    let want = "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n\
        <|im_start|>assistant\na<|im_end|>\n<|im_start|>assistant\n";
    check(&chatml, input, None, want);
    let instruct = settings(INSTRUCT, json!({"bos_token": "<s>", "eos_token": "</s>"}));
    let input = messages(&[("user", " u "), ("assistant", "a"), ("user", "v")]);
    check(
        &instruct,
        input,
        None,
        "<s>[INST] u [/INST]a</s>[INST] v [/INST]",
    );
}

#[test]
fn content_is_listed_for_templates_that_want_lists() {
    let listed = settings(LISTED, json!({}));
    check(
        &listed,
        messages(&[("user", "abc"), ("assistant", "d")]),
        None,
        "user: abc;assistant: d;",
    );
}

#[test]
fn token_ids_pass_through() {
    let chatml = settings(CHATML, json!({}));
    let inputs = vec![text("a"), EmbedInput::Tokens(vec![5])];
    let rendered = chatml.render(inputs, &options(None)).unwrap();
    assert!(rendered[1].add_special_tokens);
    assert!(matches!(&rendered[1].segments[..], [Segment::Tokens(ids)] if ids[..] == [5]));
}

#[test]
fn templates_find_what_transformers_gives_them() {
    let check = |template: &str, want: &str| {
        let template = format!("{template}|{{{{ messages[0].content }}}}");
        check(
            &settings(&template, json!({})),
            text("x"),
            None,
            &format!("{want}|x"),
        );
    };
    check(
        "{{ messages | tojson }}",
        r#"[{"role": "user", "content": "x"}]"#,
    );
    check(
        "{{ {'a': [1, 2.5, '<é>'], 'b': {}} | tojson }}",
        r#"{"a": [1, 2.5, "<é>"], "b": {}}"#,
    );
    check(
        "{{ {'a': [1]} | tojson(indent=2) }}",
        "{\n  \"a\": [\n    1\n  ]\n}",
    );
    check(
        "{% if tools is none and documents is none %}none{% endif %}",
        "none",
    );
    check(
        "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}2024{% endif %}",
        "2024",
    );
    check("{% if bos_token is defined %}bos{% endif %}", "");
    check(
        "{% set ns = namespace(n=0) %}{% for i in [1, 2, 3] %}{% if i == 3 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
        "3",
    );
    check(
        "{{ 'a-b'.split('-')[-1] }}{{ 'ab'.startswith('a') }}{{ {'k': 1}.items() | length }}",
        "bTrue1",
    );
    check("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('y') }}", "<y>");
    check("a\n    {% if true %}\nb\n    {% endif %}\nc", "a\nb\nc");
}

#[test]
fn errors_name_the_parameter_and_the_line_of_the_template() {
    let instruct = settings(INSTRUCT, json!({"bos_token": "<s>", "eos_token": "</s>"}));
    let words = ["chat_template line 3", "roles must alternate"];
    refused(
        &instruct,
        messages(&[("assistant", "a")]),
        Some("messages"),
        &words,
    );
    let picky = "{% for m in messages %}\n{% if m.content == 'bad' %}\n{{ m.x.y }}\n{% endif %}\
        {{ m.content }}{% endfor %}";
    let words = ["chat_template line 3", "undefined value"];
    refused(
        &settings(picky, json!({})),
        text("bad"),
        Some("input[1]"),
        &words,
    );
    let image = Part::Image(0);
    let image = EmbedInput::Messages(vec![Message {
        role: "user".to_owned(),
        parts: vec![image],
    }]);
    refused(
        &instruct,
        image,
        Some("messages[0].content[0]"),
        &["text only"],
    );
    let endless = "{% macro m() %}{{ m() }}{% endmacro %}{% if messages[0].content == 'b' %}\
        {{ m() }}{% endif %}{{ messages[0].content }}";
    refused(
        &settings(endless, json!({})),
        text("b"),
        Some("input[1]"),
        &["recursion"],
    );
}

#[test]
fn unusable_templates_are_the_operators_fault() {
    let broken = settings("a\n{% if %}", json!({}));
    refused(
        &broken,
        text("a"),
        None,
        &["chat_template line 2", "syntax error"],
    );
    let silent = settings("{{ bos_token }}", json!({}));
    refused(
        &silent,
        text("a"),
        None,
        &["chat_template does not write the content"],
    );
}

#[test]
fn unknown_settings_are_refused() {
    let parse = |settings: Value| serde_json::from_value::<Settings>(settings);
    assert!(parse(json!({"chat_template": "a", "prompts": {}})).is_err());
    assert!(parse(json!({"bos_token": "a"})).is_err());
    assert!(parse(json!({"chat_template": "a", "bos_token": null})).is_ok());
}
