//! The command line: manifests are checked, settings come from flags or the environment.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::json;
use tenon_tests::checkpoint::Checkpoint;
use tenon_tests::server::{Server, tenon};

const MANIFEST: &str = r#"
name = "tiny"
aliases = ["organisation/tiny"]
weights = "./model"
dtype = "f32"

[roles]
request-parser = "builtin:openai"
template = "builtin:plain"
model = "builtin:bert"
pooling = "builtin:standard"
response-encoder = "builtin:openai"
"#;

/// A directory with a checkpoint and a manifest for it.
fn bundle(manifest: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::create_dir(directory.path().join("model")).expect("folder");
    Checkpoint::default().write(&directory.path().join("model"));
    fs::write(directory.path().join("bundle.toml"), manifest).expect("manifest");
    directory
}

fn check(directory: &Path) -> Output {
    let path = directory.join("bundle.toml");
    tenon()
        .arg("check")
        .arg(path)
        .output()
        .expect("run tenon check")
}

fn said(output: &Output) -> String {
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(&[stdout.as_slice(), stderr.as_slice()].concat()).into_owned()
}

#[track_caller]
fn refused(change: (&str, &str), words: &[&str]) {
    let (from, to) = change;
    assert!(MANIFEST.contains(from), "{from:?} is in the manifest");
    let output = check(bundle(&MANIFEST.replacen(from, to, 1)).path());
    let said = said(&output);
    assert!(!output.status.success(), "{to:?} was accepted: {said}");
    assert!(!said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "{to:?}: {word:?} is not in: {said}");
    }
}

#[test]
fn a_good_manifest_is_accepted() {
    let output = check(bundle(MANIFEST).path());
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn what_a_manifest_gets_wrong_is_named() {
    let file = "bundle.toml";
    refused(("weights", "wieghts"), &[file, "wieghts"]);
    refused(("template =", "tmeplate ="), &[file, "tmeplate"]);
    refused(("dtype = \"f32\"", "dtype = \"f31\""), &[file, "f31"]);
    refused(("name = \"tiny\"", "name = 5"), &[file, "name"]);
    refused(("name = \"tiny\"", "name ="), &[file]);
    refused(("./model", "./nosuch"), &["nosuch"]);
    refused(
        ("builtin:bert", "builtin:nosuch"),
        &["model", "builtin:nosuch"],
    );
    refused(("builtin:bert", "./nosuch.wasm"), &["model", "nosuch.wasm"]);
    refused(("builtin:standard", "builtin:plain"), &["pooling"]);
}

#[test]
fn a_bundle_is_served_under_its_name_and_aliases() {
    let directory = bundle(MANIFEST);
    let path = directory.path().join("bundle.toml");
    let server = Server::start(&["--bundle", path.to_str().expect("UTF-8 path")]);
    let wanted = server.embed("tiny", "oak");
    assert_eq!(server.embed("organisation/tiny", "oak"), wanted);
    let answer = server.embeddings(&json!({"model": "tiny", "input": "oak"}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let log = server.log();
    let ready = log
        .lines()
        .find(|line| line.contains(&server.address.to_string()));
    let ready = ready.unwrap_or_else(|| panic!("no line with the URL:\n{log}"));
    for word in ["tiny", "f32"] {
        assert!(ready.contains(word), "{word:?} is not in {ready:?}");
    }
}

#[test]
fn a_flag_can_be_an_environment_variable() {
    let directory = bundle(MANIFEST);
    let bundle = directory.path().join("bundle.toml");
    let output = tenon()
        .args(["serve", "--bundle"])
        .arg(bundle)
        .env("TENON_PORT", "not-a-port")
        .output();
    let output = output.expect("run tenon serve");
    assert!(!output.status.success());
    assert!(said(&output).contains("not-a-port"), "{}", said(&output));
}

#[test]
fn help_names_the_commands_and_nonsense_is_refused() {
    let help = tenon().arg("--help").output().expect("run tenon --help");
    assert!(help.status.success());
    for command in ["serve", "pull", "check"] {
        assert!(said(&help).contains(command), "{}", said(&help));
    }
    for nonsense in [&["frobnicate"][..], &["serve", "--nosuch"], &["check"]] {
        let output = tenon().args(nonsense).output().expect("run tenon");
        assert!(!output.status.success(), "{nonsense:?}: {}", said(&output));
    }
}

#[test]
fn a_device_that_is_none_is_refused() {
    let serve = |device: &str| {
        let output = tenon()
            .args(["serve", "--port", "0", "--device", device])
            .output();
        output.expect("run tenon serve")
    };
    let output = serve("tpu");
    assert!(!output.status.success());
    assert!(said(&output).contains("cuda:N"), "{}", said(&output));
    if tenon_tensor::Device::cuda_count().is_ok() {
        return tenon_tests::cuda::skip("--device without CUDA", "this machine has CUDA");
    }
    let output = serve("cuda");
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("there is no libcuda"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}
