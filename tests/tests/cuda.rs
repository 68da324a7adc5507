//! Every model family on a CUDA device, with the vectors of sentence-transformers. Where the
//! machine has no device, an emulated one runs the same kernels on the processor.

use std::ffi::OsStr;

use serde_json::json;
use tenon_tensor::{DType, Device};
use tenon_tests::families::{self, Family};
use tenon_tests::reference::{assert_batch_invariant, assert_equal, assert_near, cosines_between};
use tenon_tests::server::{Refusal, Server};
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

/// The least cosine to bf16 of a vector whose linear layers were in fp8. Tiny checkpoints with
/// random weights are harsh: their sums are short, and nothing was trained to be robust. The least
/// that an H200 gave is 0.948, of Mistral.
const LEAST_FP8_COSINE: f64 = 0.9;

/// Serves models in fp8 and in bf16, and wants their vectors to point the same way; prints how
/// near they come.
fn compare_fp8(models: &[Family]) {
    if gpu::libraries().is_some_and(|libraries| libraries.as_os_str().is_empty())
        && !Device::cuda(0, None).is_ok_and(|device| device.supports(DType::FP8))
    {
        return tenon_tests::cuda::skip("fp8", "the device is older than compute capability 8.9");
    }
    let (Some(fp8), Some(bf16)) = (start(models, "fp8"), start(models, "bf16")) else {
        return;
    };
    let mut wrong = Vec::new();
    for family in models {
        let (least, average) = cosines_between(&fp8, &bf16, family);
        let name = &family.name;
        println!("{name}: fp8 to bf16, least cosine {least:.5}, average {average:.5}");
        if least.is_nan() || least < LEAST_FP8_COSINE {
            wrong.push(format!("{name}: {least}"));
        }
        assert_batch_invariant(&fp8, family);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    fp8.assert_log_is_clean();
}

#[test]
fn vectors_of_texts_in_fp8_point_where_those_in_bf16_do() {
    compare_fp8(&families::all());
}

#[test]
fn vectors_of_images_in_fp8_point_where_those_in_bf16_do() {
    compare_fp8(&multimodal::all());
}

#[test]
fn a_processor_refuses_fp8_at_the_start() {
    let family = families::all().remove(0);
    let path = family.directory.to_str().expect("UTF-8 path");
    let arguments = ["--device", "cpu", "--dtype", "fp8", "--model", path];
    let Err(Refusal { status, log }) = Server::try_start(&arguments) else {
        panic!("it started");
    };
    assert!(status.is_some_and(|status| !status.success()), "{status:?}");
    assert!(
        log.contains("fp8 is for CUDA devices, not for cpu"),
        "{log}"
    );
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
