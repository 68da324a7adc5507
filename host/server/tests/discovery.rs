//! What the build script finds in guest-components/, and what it refuses.

#[path = "../build/guests.rs"]
mod guests;

use std::fs;

use tempfile::TempDir;

/// A folder of components with the SDK beside them; each has this metadata.
fn folder(components: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, metadata) in [&[("sdk", "")], components].concat() {
        fs::create_dir(dir.path().join(name)).unwrap();
        let manifest = format!("[package]\nname = \"{name}\"\n{metadata}");
        fs::write(dir.path().join(name).join("Cargo.toml"), manifest).unwrap();
    }
    dir
}

fn model(keys: &str) -> String {
    format!("[package.metadata.tenon]\n{keys}\n")
}

#[track_caller]
fn refused(components: &[(&str, &str)], words: &[&str]) {
    let dir = folder(components);
    let said = guests::find(dir.path()).unwrap_err();
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
}

#[test]
fn every_folder_but_the_sdk_is_a_component_with_what_its_manifest_says() {
    let all = "architectures = [\"AModel\", \"AForCausalLM\"]\nmodel-types = [\"a\"]\n\
        template = \"two-words\"\npooling = \"lasttoken\"\nnormalize = true\n\
        matryoshka-layer-norm = true";
    let dir = folder(&[
        ("template-two-words", ""),
        ("model-a", &model(all)),
        ("api-b", ""),
    ]);
    let found = guests::find(dir.path()).unwrap();
    let packages: Vec<_> = found.iter().map(|guest| guest.package.as_str()).collect();
    assert_eq!(packages, ["api-b", "model-a", "template-two-words"]);
    assert_eq!(found[2].file(), "template_two_words.wasm");
    let table = guests::table(&found);
    for part in [
        "name: \"two-words\", roles: &[Role::Template], wasm: include_bytes!(\"template_two_words.wasm\")",
        "name: \"b\", roles: &[Role::RequestParser, Role::ResponseEncoder]",
        "architectures: &[\"AModel\", \"AForCausalLM\"], model_types: &[\"a\"], \
         template: Some(\"two-words\"), pooling: Some(\"lasttoken\"), normalize: true, \
         matryoshka_layer_norm: true",
        "architectures: &[], model_types: &[], template: None, pooling: None, normalize: false",
    ] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
}

#[test]
fn what_a_manifest_gets_wrong_is_named_with_its_file() {
    refused(
        &[("model-a", &model("architecture = [\"AModel\"]"))],
        &["model-a/Cargo.toml", "architecture", "architectures"],
    );
    refused(
        &[("model-a", &model("normalize = 1"))],
        &["model-a/Cargo.toml", "normalize"],
    );
    refused(
        &[("pooling-a", &model("architectures = [\"AModel\"]"))],
        &["pooling-a/Cargo.toml", "package.metadata.tenon"],
    );
    refused(
        &[("tokenizer-a", "")],
        &["tokenizer-a/Cargo.toml", "model-, pooling-, template-"],
    );
    refused(
        &[("model-a", &model("template = \"chat\""))],
        &["model-a", "\"chat\"", "template-chat"],
    );
    let dir = folder(&[("model-a", "")]);
    fs::rename(dir.path().join("model-a"), dir.path().join("model-b")).unwrap();
    let said = guests::find(dir.path()).unwrap_err();
    assert!(
        said.contains("model-b") && said.contains("\"model-a\""),
        "{said}"
    );
}

#[test]
fn two_components_cannot_claim_the_same() {
    let architectures = model("architectures = [\"AModel\"]");
    refused(
        &[("model-a", &architectures), ("model-b", &architectures)],
        &["architecture \"AModel\"", "twice", "model-a", "model-b"],
    );
    let types = model("model-types = [\"t\"]");
    refused(
        &[("model-a", &types), ("model-b", &types)],
        &["model type \"t\"", "twice", "model-a", "model-b"],
    );
    refused(
        &[("model-a", ""), ("template-a", "")],
        &["name \"a\"", "twice", "model-a", "template-a"],
    );
}
