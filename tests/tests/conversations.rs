//! Conversations are rendered by a chat template and get the vectors that transformers gives the
//! same text.

use serde_json::json;
use tenon_tests::families::{self, Family};
use tenon_tests::reference::{assert_batch_invariant, assert_equal};
use tenon_tests::server::Server;

/// The checkpoints with a chat template, and those of their cases that `template` renders.
fn families(template: Option<&str>) -> Vec<Family> {
    let families = families::below("conversations").into_iter();
    let families: Vec<_> = families
        .map(|family| family.rendered_by(template))
        .collect();
    let cases = families.iter().map(|family| family.cases.len());
    assert!(cases.clone().min() > Some(0), "{template:?}: {cases:?}");
    families
}

/// A server of them all, with `--chat-template` or without.
fn serve(families: &[Family], template: Option<&str>) -> Server {
    let mut arguments = vec!["--dtype", "f32"];
    for family in families {
        let path = family.directory.to_str().expect("UTF-8 path");
        arguments.extend(["--model", path]);
    }
    if let Some(template) = template {
        arguments.extend(["--chat-template", template]);
    }
    Server::start(&arguments)
}

#[track_caller]
fn check(template: &str) {
    let families = families(Some(template));
    assert_equal(&serve(&families, Some(template)), &families);
}

#[test]
fn the_checkpoints_own_template_renders_them() {
    check("jinja");
}

#[test]
fn the_template_of_gme_renders_them() {
    check("gme-qwen2-vl");
}

#[test]
fn without_a_template_texts_stay_as_they_are_and_conversations_are_refused() {
    let families = families(None);
    let server = serve(&families, None);
    assert_equal(&server, &families);
    for family in &families {
        assert_batch_invariant(&server, family);
        let messages = json!([{"role": "user", "content": "a"}]);
        let answer = server.embeddings(&json!({"model": family.name, "messages": messages}));
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert_eq!(answer.json()["error"]["param"], "messages");
    }
}
