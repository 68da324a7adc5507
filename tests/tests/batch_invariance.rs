//! A text's vector is the same to the bit, whatever else is computed with it.

use std::collections::HashMap;
use std::thread;

use tenon_tests::goldens;
use tenon_tests::server::{MINILM, Server};

/// Texts of many lengths, none over the model's limit.
fn texts() -> Vec<String> {
    let goldens = goldens::all()
        .into_iter()
        .filter(|golden| golden.tokens < 256);
    goldens.map(|golden| golden.text).collect()
}

/// An order that mixes short and long texts, the same on every run.
fn shuffled(texts: &[String], step: usize) -> Vec<String> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|index| (index * step) % 1009);
    order
        .into_iter()
        .map(|index| texts[index].clone())
        .collect()
}

fn bits(vector: &[f32]) -> Vec<u32> {
    vector.iter().map(|value| value.to_bits()).collect()
}

fn alone(server: &Server, texts: &[String]) -> HashMap<String, Vec<u32>> {
    let vector = |text: &String| {
        let vectors = server.embed(MINILM, text.as_str());
        (text.clone(), bits(&vectors[0]))
    };
    texts.iter().map(vector).collect()
}

#[track_caller]
fn check(server: &Server, texts: &[String], wanted: &HashMap<String, Vec<u32>>) {
    let vectors = server.embed(MINILM, texts.to_vec());
    assert_eq!(vectors.len(), texts.len());
    for (text, vector) in texts.iter().zip(&vectors) {
        assert!(bits(vector) == wanted[text], "differs in company: {text:?}");
    }
}

#[test]
fn a_vector_is_the_same_to_the_bit_alone_batched_and_shuffled() {
    let server = Server::shared_minilm();
    let texts = texts();
    let wanted = alone(server, &texts);
    check(server, &texts, &wanted);
    for step in [7, 113, 499] {
        check(server, &shuffled(&texts, step), &wanted);
    }
    for few in texts.chunks(3) {
        check(server, few, &wanted);
    }
}

#[test]
fn a_vector_is_the_same_to_the_bit_under_concurrency() {
    let server = Server::shared_minilm();
    let texts = texts();
    let wanted = alone(server, &texts);
    thread::scope(|scope| {
        for client in 0..8 {
            let (texts, wanted) = (&texts, &wanted);
            scope.spawn(move || {
                for some in shuffled(texts, 31 + 2 * client).chunks(1 + client) {
                    check(server, some, wanted);
                }
            });
        }
    });
}
