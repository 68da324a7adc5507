//! What the reference implementation answers: see goldens/make_goldens.py.

use serde_json::Value;

/// A text with the reference's answer.
#[derive(Debug)]
pub struct Golden {
    /// The input.
    pub text: String,
    /// Its tokens after truncation, special tokens counted.
    pub tokens: u64,
    /// Its vector in f32.
    pub vector: Vec<f32>,
}

/// Every golden.
pub fn all() -> Vec<Golden> {
    let texts: Vec<String> =
        serde_json::from_str(include_str!("../goldens/texts.json")).expect("texts.json");
    let about: Value =
        serde_json::from_str(include_str!("../goldens/goldens.json")).expect("goldens.json");
    let bytes: &[u8] = include_bytes!("../goldens/vectors.f32");
    let dimensions = about["dimensions"].as_u64().expect("dimensions") as usize;
    let tokens = about["prompt_tokens"].as_array().expect("prompt_tokens");
    assert_eq!(
        bytes.len(),
        texts.len() * dimensions * 4,
        "vectors.f32 fits texts.json"
    );
    assert_eq!(tokens.len(), texts.len(), "goldens.json fits texts.json");
    let rows = bytes.chunks_exact(dimensions * 4).map(|row| {
        let values = row.chunks_exact(4);
        values
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    });
    let rows = texts.into_iter().zip(tokens).zip(rows);
    rows.map(|((text, tokens), vector)| Golden {
        text,
        tokens: tokens.as_u64().expect("a count"),
        vector,
    })
    .collect()
}

/// The largest absolute difference of two vectors.
pub fn max_abs_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of one length");
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// The cosine of two vectors, in f64.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
