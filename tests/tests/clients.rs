//! The clients that people use, unchanged, against the server.

use std::process::Command;

use serde_json::Value;
use tenon_tests::server::{MINILM, Server, vectors};
use tenon_tests::tools::{node_clients, python, root, run, skip};

/// What every client is asked to embed; the scripts print the vectors as JSON.
const TEXTS: [&str; 3] = [
    "The tenon fits the mortise.",
    "oak",
    "Bäume \u{1f333} und Holz",
];

/// Runs a client and compares the vectors it prints with those of a plain request.
#[track_caller]
fn check(command: &mut Command) {
    let server = Server::shared_minilm();
    let texts = Value::from(TEXTS.to_vec());
    command
        .env("TENON_URL", format!("http://{}/v1", server.address))
        .env("TENON_MODEL", MINILM)
        .env("TENON_TEXTS", texts.to_string());
    let output = run(command).unwrap_or_else(|error| panic!("{error}\n{}", server.log()));
    for line in output.lines().filter(|line| line.starts_with("note: ")) {
        skip("clients", line);
    }
    let line = output.lines().last().expect("a line of vectors");
    let printed: Value = serde_json::from_str(line).expect("JSON");
    let wanted = server.embed(MINILM, texts);
    let printed = printed
        .as_array()
        .expect("vectors")
        .iter()
        .map(tenon_tests::server::vector);
    let printed: Vec<Vec<f32>> = printed.collect();
    assert_eq!(printed.len(), wanted.len());
    for (printed, wanted) in printed.iter().zip(&wanted) {
        let difference = tenon_tests::goldens::max_abs_difference(printed, wanted);
        assert!(difference < 1e-6, "differs by {difference}");
    }
    server.assert_log_is_clean();
}

#[track_caller]
fn check_python(script: &str) {
    match python("venv", "requirements.txt") {
        Ok(python) => check(Command::new(python).arg(root().join("tests/clients").join(script))),
        Err(reason) => skip(script, &reason),
    }
}

#[test]
fn the_openai_python_client_works() {
    check_python("openai_client.py");
}

#[test]
fn langchain_works_with_and_without_its_length_check() {
    check_python("langchain_client.py");
}

#[test]
fn requests_works() {
    check_python("requests_client.py");
}

#[test]
fn the_openai_npm_client_works() {
    match node_clients() {
        Ok(folder) => check(
            Command::new("node")
                .arg("openai_client.mjs")
                .current_dir(folder),
        ),
        Err(reason) => skip("openai_client.mjs", &reason),
    }
}

#[test]
fn curl_works() {
    let about = match run(Command::new("curl").arg("--version")) {
        Ok(about) => about,
        Err(reason) => return skip("curl_works", &reason),
    };
    let mut versions = vec!["--http1.1"];
    if about.contains("HTTP2") {
        versions.push("--http2-prior-knowledge");
    } else {
        skip("curl_works", "this curl has no HTTP/2");
    }
    let server = Server::shared_minilm();
    let url = format!("http://{}/v1/embeddings", server.address);
    let body = format!(r#"{{"model": "{MINILM}", "input": "oak"}}"#);
    for version in versions {
        let output = run(Command::new("curl").args([
            "--silent",
            "--show-error",
            "--fail",
            version,
            &url,
            "-H",
            "content-type: application/json",
            "-d",
            &body,
        ]));
        let output = output.unwrap_or_else(|error| panic!("{version}: {error}"));
        let answer: Value = serde_json::from_str(&output).expect("JSON");
        assert_eq!(vectors(&answer), server.embed(MINILM, "oak"), "{version}");
    }
}
