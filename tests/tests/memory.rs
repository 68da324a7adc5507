//! Memory under load is bounded by the weights, and does not grow with the requests served.

use std::fs;
use std::thread;

use serde_json::json;
use tenon_tests::server::{MINILM, Server, default_model};

/// What the server may hold beyond the weights in the served dtype, in MB.
const BEYOND_WEIGHTS_MB: u64 = 150;
/// How often the resident size is looked at. One look is 20 MB off either way: it depends on
/// the batch that was at hand. Hence means of many are compared.
const LOOKS: usize = 16;
/// How much the means of two halves may differ, in MB: three times their scatter.
const NOISE_MB: u64 = 20;

/// A line of /proc/PID/status, in MB.
fn status_mb(server: &Server, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("status");
    let line = status
        .lines()
        .find(|line| line.starts_with(key))
        .expect("the key");
    let kb = line
        .split_whitespace()
        .nth(1)
        .and_then(|value| value.parse::<u64>().ok());
    kb.expect("a number") * 1024 / 1_000_000
}

/// Sends `requests` of mixed lengths, many short and few long, from eight clients.
fn load(server: &Server, requests: usize) {
    let bodies: Vec<String> = (0..32)
        .map(|i| {
            let words = 1 + (i * 7 % 32usize).pow(3) / 500;
            let text = "oak beam joint ".repeat(words);
            json!({"model": MINILM, "input": text, "encoding_format": "base64"}).to_string()
        })
        .collect();
    thread::scope(|scope| {
        for client in 0..8 {
            let bodies = &bodies;
            scope.spawn(move || {
                let mut connection = server.connect();
                let headers = [("content-type", "application/json")];
                for i in 0..requests / 8 {
                    let body = bodies[(i * 5 + client) % bodies.len()].as_bytes();
                    let answer = connection.send("POST", "/v1/embeddings", &headers, body);
                    assert_eq!(answer.expect("an answer").status, 200);
                }
            });
        }
    });
}

fn check(requests: usize) {
    if !cfg!(target_os = "linux") {
        return tenon_tests::tools::skip("memory", "reads /proc, which is Linux's");
    }
    let weights = fs::metadata(default_model().join("model.safetensors"))
        .expect("weights")
        .len();
    let limit = weights / 1_000_000 + BEYOND_WEIGHTS_MB;
    let server = Server::minilm(&["--dtype", "f32"]);
    let looks: Vec<u64> = (0..LOOKS)
        .map(|_| {
            load(&server, requests / LOOKS);
            status_mb(&server, "VmRSS:")
        })
        .collect();
    let mean = |looks: &[u64]| looks.iter().sum::<u64>() / looks.len() as u64;
    let (early, late) = (mean(&looks[..LOOKS / 2]), mean(&looks[LOOKS / 2..]));
    let peak = status_mb(&server, "VmHWM:");
    println!("{requests} requests: {looks:?} MB; peak {peak} MB, limit {limit} MB");
    assert!(peak <= limit, "peak {peak} MB, limit {limit} MB");
    assert!(
        late <= early + NOISE_MB,
        "grew from {early} MB to {late} MB"
    );
}

#[test]
fn memory_is_bounded_and_flat_over_2000_requests() {
    check(2000);
}

#[test]
#[ignore = "takes about a quarter of an hour; `cargo test --release -p tenon-tests -- --ignored`"]
fn memory_is_bounded_and_flat_over_100000_requests() {
    check(100_000);
}
