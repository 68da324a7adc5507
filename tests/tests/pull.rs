//! `tenon pull` against a local hub: what is fetched, resumed, refused and kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tenon_tests::checkpoint::Checkpoint;
use tenon_tests::hub::{Hub, TOKEN, Transfer};
use tenon_tests::server::{Server, tenon};

const ID: &str = "organisation/tiny";
const WEIGHTS: &str = "model.safetensors";
/// Where a transfer is cut: inside the weights of the tiny checkpoint.
const CUT: usize = 5000;

/// A hub with the tiny checkpoint, and an empty cache.
fn hub(gated: bool) -> (Hub, TempDir) {
    let source = tempfile::tempdir().expect("temporary directory");
    Checkpoint::default().write(source.path());
    fs::write(source.path().join("pytorch_model.bin"), "not wanted").expect("a file");
    let hub = Hub::start(ID, source.path(), gated);
    (hub, tempfile::tempdir().expect("temporary directory"))
}

fn pull(hub: &Hub, cache: &Path, id: &str) -> Command {
    let mut command = tenon();
    command
        .args(["pull", id])
        .env("HF_ENDPOINT", format!("http://{}", hub.address))
        .env("HF_HOME", cache)
        .env_remove("HF_TOKEN")
        .env_remove("HF_HUB_OFFLINE")
        .env("NO_PROXY", "127.0.0.1")
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy")
        .env_remove("ALL_PROXY");
    command
}

#[track_caller]
fn pulled(command: &mut Command) -> PathBuf {
    let output = command.output().expect("run tenon pull");
    assert!(output.status.success(), "{}", said(&output));
    let stdout = String::from_utf8_lossy(&output.stdout);
    PathBuf::from(stdout.lines().last().expect("a line with the folder"))
}

#[track_caller]
fn refused(command: &mut Command, words: &[&str]) {
    let output = command.output().expect("run tenon pull");
    let said = said(&output);
    assert!(!output.status.success(), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
}

fn said(output: &Output) -> String {
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(&[stdout.as_slice(), stderr.as_slice()].concat()).into_owned()
}

#[test]
fn a_pulled_model_is_whole_and_is_served() {
    let (hub, cache) = hub(false);
    let folder = pulled(&mut pull(&hub, cache.path(), ID));
    for file in [
        "config.json",
        "tokenizer.json",
        "1_Pooling/config.json",
        WEIGHTS,
    ] {
        let fetched = fs::read(folder.join(file)).expect(file);
        assert_eq!(fetched, hub.contents(file), "{file}");
    }
    assert!(!folder.join("pytorch_model.bin").exists());

    let first = hub.downloads().len();
    assert_eq!(pulled(&mut pull(&hub, cache.path(), ID)), folder);
    assert_eq!(
        hub.downloads().len(),
        first,
        "what is there is not fetched again"
    );
    let mut offline = pull(&hub, cache.path(), ID);
    assert_eq!(pulled(offline.env("HF_HUB_OFFLINE", "1")), folder);

    let path = folder.to_str().expect("UTF-8 path");
    let server = Server::start(&["--model", path, "--served-model-name", "tiny"]);
    server.embed("tiny", "oak beam");
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_ended() {
    let (hub, cache) = hub(false);
    hub.set_transfer(Transfer::BreaksOff(CUT));
    let folder = pulled(&mut pull(&hub, cache.path(), ID));
    assert_eq!(
        fs::read(folder.join(WEIGHTS)).expect("weights"),
        hub.contents(WEIGHTS)
    );
    assert_eq!(starts(&hub), [0, CUT]);
}

#[test]
fn a_pull_that_was_killed_is_resumed_by_the_next() {
    let (hub, cache) = hub(false);
    hub.set_transfer(Transfer::Stalls(CUT));
    let mut command = pull(&hub, cache.path(), ID);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("run tenon pull");
    let started = Instant::now();
    while part_bytes(cache.path()) < CUT as u64 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "nothing was fetched"
        );
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("kill");
    child.wait().expect("end");
    let folder = pulled(&mut pull(&hub, cache.path(), ID));
    assert_eq!(
        fs::read(folder.join(WEIGHTS)).expect("weights"),
        hub.contents(WEIGHTS)
    );
    assert_eq!(starts(&hub), [0, CUT]);
}

/// From where the weights were asked for, each time.
fn starts(hub: &Hub) -> Vec<usize> {
    let downloads = hub.downloads().into_iter();
    downloads
        .filter(|d| d.file == WEIGHTS)
        .map(|d| d.from)
        .collect()
}

/// The size of the largest unfinished file in the cache.
fn part_bytes(cache: &Path) -> u64 {
    let blobs = cache.join("hub/models--organisation--tiny/blobs");
    let entries = fs::read_dir(blobs).into_iter().flatten().flatten();
    let parts = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "part"));
    let sizes = parts
        .filter_map(|entry| entry.metadata().ok())
        .map(|data| data.len());
    sizes.max().unwrap_or(0)
}

#[test]
fn weights_of_another_digest_are_refused_and_fetched_again() {
    let (hub, cache) = hub(false);
    hub.set_transfer(Transfer::Corrupt);
    refused(&mut pull(&hub, cache.path(), ID), &[WEIGHTS, "SHA-256"]);
    let folder = pulled(&mut pull(&hub, cache.path(), ID));
    assert_eq!(
        fs::read(folder.join(WEIGHTS)).expect("weights"),
        hub.contents(WEIGHTS)
    );
}

#[test]
fn what_the_hub_refuses_is_explained() {
    let (open, cache) = hub(false);
    refused(
        &mut pull(&open, cache.path(), "organisation/nosuch"),
        &["organisation/nosuch", "404"],
    );
    refused(
        &mut pull(&open, cache.path(), "../tiny"),
        &["../tiny", "not a model id"],
    );
    let (gated, cache) = hub(true);
    refused(&mut pull(&gated, cache.path(), ID), &[ID, "HF_TOKEN"]);
    pulled(pull(&gated, cache.path(), ID).env("HF_TOKEN", TOKEN));
}

#[test]
fn a_hub_out_of_reach_is_told_in_seconds() {
    let (hub, cache) = hub(false);
    let mut offline = pull(&hub, cache.path(), ID);
    refused(offline.env("HF_HUB_OFFLINE", "1"), &["HF_HUB_OFFLINE"]);
    let mut nowhere = pull(&hub, cache.path(), ID);
    refused(
        nowhere.env("HF_ENDPOINT", "http://127.0.0.1:1"),
        &["127.0.0.1:1"],
    );
}
