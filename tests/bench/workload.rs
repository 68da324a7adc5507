//! What the load generator sends: texts of known token counts.

use bytes::Bytes;
use serde_json::json;
use tenon_tests::server::MINILM;

/// Floating-point operations a token of [`long`]: MiniLM-L6's products, and attention over 256.
pub const FLOP_PER_TOKEN_OF_LONG: f64 = 21.3e6 + 2.0 * 2.0 * 6.0 * 384.0 * 256.0;

/// Words that are one token each in BERT's vocabulary.
const WORDS: [&str; 16] = [
    "oak", "beam", "joint", "wood", "saw", "cut", "glue", "the", "house", "water", "river",
    "stone", "light", "winter", "garden", "paper",
];
/// Different requests of a workload.
const VARIETY: usize = 64;

/// Requests of one kind.
pub struct Workload {
    /// Its name in the report.
    pub name: &'static str,
    /// Bodies, sent in turn.
    pub bodies: Vec<Body>,
}

/// One request.
pub struct Body {
    /// JSON.
    pub json: Bytes,
    /// How many texts it holds.
    pub texts: usize,
    /// How many tokens they have, special tokens counted.
    pub tokens: usize,
}

/// Every workload with each number of clients it is measured with.
pub fn cells() -> Vec<(Workload, usize)> {
    let single = [1, 8, 32, 64];
    let mut cells = Vec::new();
    for clients in single {
        cells.push((uniform("16 tokens", 16, 1), clients));
    }
    for clients in single {
        cells.push((uniform("128 tokens", 128, 1), clients));
    }
    for clients in single {
        cells.push((mixed(), clients));
    }
    cells.push((uniform("16 tokens x 32", 16, 32), 8));
    cells
}

/// Requests of texts as long as the model takes: long packed batches. So few a request that
/// many requests end in each round, in whatever order a server answers.
pub fn long() -> Workload {
    uniform("256 tokens x 4", 256, 4)
}

fn uniform(name: &'static str, tokens: usize, texts: usize) -> Workload {
    let body = |seed| body(seed, &vec![tokens; texts]);
    Workload {
        name,
        bodies: (0..VARIETY).map(body).collect(),
    }
}

/// 5 to 250 tokens, 58 on average: many short texts and few long ones, in no order.
fn mixed() -> Workload {
    let tokens = |index: usize| {
        let position = (index * 37 % VARIETY) as f64 / (VARIETY - 1) as f64;
        5 + (245.0 * position.powf(3.7)).round() as usize
    };
    let bodies = (0..VARIETY)
        .map(|index| body(index, &[tokens(index)]))
        .collect();
    Workload {
        name: "mixed 5..250",
        bodies,
    }
}

fn body(seed: usize, tokens: &[usize]) -> Body {
    let text = |(position, tokens): (usize, &usize)| {
        // Two of the tokens are special.
        let words = (2..*tokens).map(|i| WORDS[(seed * 7 + position * 5 + i * 3 + i * i) % 16]);
        words.collect::<Vec<_>>().join(" ")
    };
    let texts: Vec<String> = tokens.iter().enumerate().map(text).collect();
    let input = if texts.len() == 1 {
        json!(texts[0])
    } else {
        json!(texts)
    };
    Body {
        // What the official clients ask for.
        json: json!({"model": MINILM, "input": input, "encoding_format": "base64"})
            .to_string()
            .into(),
        texts: tokens.len(),
        tokens: tokens.iter().sum(),
    }
}
