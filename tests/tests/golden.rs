//! The vectors are those of sentence-transformers, and so are the token counts.

use serde_json::{Value, json};
use tenon_tests::goldens::{self, Golden, cosine, max_abs_difference};
use tenon_tests::http::Connection;
use tenon_tests::server::{MINILM, Server, vectors};

/// The largest absolute difference to the reference in f32.
const F32_TOLERANCE: f32 = 2e-6;
/// The smallest cosine to the reference in bf16.
const BF16_COSINE: f64 = 0.9998;

fn embed(connection: &mut Connection, golden: &Golden) -> (Vec<f32>, Value) {
    let body = json!({
        "model": MINILM, "input": golden.text, "encoding_format": "base64",
        "truncate_prompt_tokens": -1,
    });
    let headers = [("content-type", "application/json")];
    let answer = connection.send(
        "POST",
        "/v1/embeddings",
        &headers,
        body.to_string().as_bytes(),
    );
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200, "{:?}: {}", golden.text, answer.text());
    let answer = answer.json();
    (vectors(&answer).remove(0), answer["usage"].clone())
}

#[test]
fn f32_vectors_and_token_counts_equal_the_reference() {
    let server = Server::minilm(&["--dtype", "f32"]);
    let goldens = goldens::all();
    assert!(goldens.len() >= 200, "{} goldens", goldens.len());
    let mut connection = server.connect();
    let mut worst = (0.0, "");
    let mut wrong = Vec::new();
    for golden in &goldens {
        let (vector, usage) = embed(&mut connection, golden);
        let difference = max_abs_difference(&vector, &golden.vector);
        if difference > worst.0 {
            worst = (difference, &golden.text);
        }
        let text: String = golden.text.chars().take(40).collect();
        if difference > F32_TOLERANCE || vector.iter().any(|value| !value.is_finite()) {
            wrong.push(format!("{text:?}: differs by {difference:e}"));
        }
        if usage["prompt_tokens"] != golden.tokens || usage["total_tokens"] != golden.tokens {
            wrong.push(format!(
                "{text:?}: usage {usage}, wanted {} tokens",
                golden.tokens
            ));
        }
    }
    println!(
        "{} texts, max abs difference {:e} at {:.40?}",
        goldens.len(),
        worst.0,
        worst.1
    );
    assert!(
        wrong.is_empty(),
        "{} of {}: {wrong:#?}",
        wrong.len(),
        goldens.len()
    );
    server.assert_log_is_clean();
}

#[test]
fn bf16_vectors_are_close_to_the_reference() {
    let server = Server::minilm(&["--dtype", "bf16"]);
    let mut connection = server.connect();
    let mut least = 1.0;
    for golden in &goldens::all() {
        let (vector, usage) = embed(&mut connection, golden);
        assert_eq!(usage["prompt_tokens"], golden.tokens, "{:?}", golden.text);
        let cosine = cosine(&vector, &golden.vector);
        assert!(cosine >= BF16_COSINE, "{:?}: cosine {cosine}", golden.text);
        least = f64::min(least, cosine);
    }
    println!("least cosine {least} (products in bf16 only where the CPU has AVX512_BF16)");
}
