//! Every model family on a CUDA device, with the vectors of sentence-transformers. Where the
//! machine has no device, an emulated one runs the same kernels on the processor.

use std::ffi::OsStr;

use serde_json::json;
use tenon_tests::families::{self, Family};
use tenon_tests::reference::{assert_batch_invariant, assert_equal, assert_near};
use tenon_tests::server::Server;
use tenon_tests::{gpu, multimodal};

/// A server of these, with a device; none where there is none.
fn start(families: &[Family], dtype: &str) -> Option<Server> {
    start_in(families, dtype, &[])
}

/// As [`start`], with these variables in its environment.
fn start_in(families: &[Family], dtype: &str, more: &[(&str, &OsStr)]) -> Option<Server> {
    let libraries = gpu::libraries()?;
    Some(gpu::start(
        libraries.as_os_str(),
        "cuda",
        dtype,
        families,
        more,
    ))
}

#[test]
fn vectors_of_texts_equal_the_reference() {
    let families = families::all();
    if let Some(server) = start(&families, "f32") {
        assert_equal(&server, &families);
        for family in &families {
            assert_batch_invariant(&server, family);
        }
    }
}

#[test]
fn vectors_of_texts_in_bf16_point_where_the_references_do() {
    let families = families::all();
    if let Some(server) = start(&families, "bf16") {
        assert_near(&server, &families);
    }
}

#[test]
fn vectors_of_images_equal_the_reference() {
    let models = multimodal::all();
    if let Some(server) = start(&models, "f32") {
        assert_equal(&server, &models);
    }
}

#[test]
fn vectors_of_images_in_bf16_point_where_the_references_do() {
    let models = multimodal::all();
    if let Some(server) = start(&models, "bf16") {
        assert_near(&server, &models);
    }
}

#[test]
fn short_batches_that_come_again_are_recorded_and_their_vectors_stay_the_same_to_the_bit() {
    let families: Vec<Family> = families::all()
        .into_iter()
        .filter(|family| ["bert", "mpnet", "qwen3"].contains(&family.name.as_str()))
        .collect();
    let log = [("TENON_LOG", OsStr::new("info,tenon=debug"))];
    let Some(server) = start_in(&families, "f32", &log) else {
        return;
    };
    for family in &families {
        let texts = ["a tenon", "a mortise joins it", "two planks of oak"];
        let first = server.embed(&family.name, json!(texts));
        for _ in 0..3 {
            assert!(
                server.embed(&family.name, json!(texts)) == first,
                "{}",
                family.name
            );
            for (text, vector) in texts.iter().zip(&first) {
                let alone = server.embed(&family.name, json!([text]));
                assert!(alone[0] == *vector, "{}: {text}", family.name);
            }
        }
        let recorded = format!("a pass is recorded bundle={}", family.name);
        let log = server.log();
        assert!(log.contains(&recorded), "{recorded}: {log}");
    }
}
