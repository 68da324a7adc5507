//! An architecture that the host has never heard of is served from a component's file.

use std::fs;

use tempfile::TempDir;
use tenon_tests::families::{self, Family};
use tenon_tests::reference::{assert_batch_invariant, assert_equal};
use tenon_tests::server::Server;
use tenon_tests::tools::guest_component;

/// The families that no built-in component computes, and a server for them: each has a
/// manifest that names the component of the package `model-NAME`.
fn serve() -> (Server, Vec<Family>, TempDir) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let families = families::below("third-party");
    let mut arguments = vec!["--dtype".to_owned(), "f32".to_owned()];
    for family in &families {
        let Family {
            name,
            directory: weights,
            ..
        } = family;
        let component = guest_component(&format!("model-{name}"));
        let manifest =
            format!("name = {name:?}\nweights = {weights:?}\n[roles]\nmodel = {component:?}\n");
        let path = directory.path().join(format!("{name}.toml"));
        fs::write(&path, manifest).expect("manifest");
        let path = path.to_str().expect("UTF-8 path").to_owned();
        arguments.extend(["--bundle".to_owned(), path]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    (Server::start(&arguments), families, directory)
}

#[test]
fn its_vectors_equal_the_reference_and_do_not_depend_on_the_batch() {
    let (server, families, _directory) = serve();
    assert!(!families.is_empty(), "no family");
    assert_equal(&server, &families);
    for family in &families {
        assert_batch_invariant(&server, family);
    }
}

#[test]
fn without_a_component_it_is_refused_by_its_name() {
    for family in families::below("third-party") {
        let path = family.directory.to_str().expect("UTF-8 path");
        let refusal = Server::try_start(&["--model", path]).expect_err("a refusal");
        for word in ["config.json", "GPTNeoXForCausalLM", "supported are"] {
            assert!(refusal.log.contains(word), "{word}: {}", refusal.log);
        }
    }
}
