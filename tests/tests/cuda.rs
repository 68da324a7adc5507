//! Every model family on a CUDA device, with the vectors of sentence-transformers. Where the
//! machine has no device, an emulated one runs the same kernels on the processor.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::json;
use tenon_tensor::Device;
use tenon_tests::families::{self, Family};
use tenon_tests::reference::{assert_batch_invariant, assert_equal, assert_near};
use tenon_tests::server::{Refusal, Server};
use tenon_tests::{cuda, multimodal};

/// Where the driver's libraries are: nowhere in particular with a real device. None where there
/// is neither a device nor an emulated one.
fn libraries() -> Option<PathBuf> {
    static LIBRARIES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || match Device::cuda_count() {
        Ok(1..) => Some(PathBuf::new()),
        found => {
            let required = std::env::var_os("TENON_REQUIRE_GPU").is_some_and(|value| value == "1");
            assert!(!required, "there is no CUDA device: {found:?}");
            cuda::emulated_driver()
                .inspect_err(|reason| cuda::skip("models on a CUDA device", reason))
                .ok()
        }
    };
    LIBRARIES.get_or_init(find).clone()
}

/// A server of these, with a device; none where there is none.
fn start(families: &[Family], dtype: &str) -> Option<Server> {
    start_in(families, dtype, &[])
}

/// As [`start`], with these variables in its environment.
fn start_in(families: &[Family], dtype: &str, more: &[(&str, &OsStr)]) -> Option<Server> {
    let libraries = libraries()?;
    let mut arguments = vec!["--device", "cuda", "--dtype", dtype];
    for family in families {
        let path = family.directory.to_str().expect("UTF-8 path");
        arguments.extend(["--model", path]);
    }
    let mut environment = vec![("LD_LIBRARY_PATH", libraries.as_os_str())];
    environment.extend(more);
    match Server::try_start_in(&environment, &arguments) {
        Ok(server) => Some(server),
        Err(Refusal { status, log }) => panic!("it did not start ({status:?}):\n{log}"),
    }
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

/// Kernels of the first batch, which a model is loaded with, and of some requests.
const LAUNCHES: &str = "150";
const MOST_REQUESTS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_lost_device_costs_no_answer_and_readiness_says_so() {
    if libraries().is_some_and(|libraries| libraries.as_os_str().is_empty()) {
        return cuda::skip("a lost device", "a real device does not fail on demand");
    }
    let family = families::all().remove(0);
    let fails = [("EMULATED_GPU_FAILS_AFTER", OsStr::new(LAUNCHES))];
    let Some(server) = start_in(std::slice::from_ref(&family), "f32", &fails) else {
        return;
    };
    let ask = || server.embeddings(&json!({"model": family.name, "input": "a tenon"}));
    let mut answers = (0..MOST_REQUESTS).map(|_| ask().status);
    let first_failure = answers.position(|status| status != 200);
    assert!(first_failure.is_some_and(|at| at > 0), "{first_failure:?}");
    // From then on every request gets an answer at once, and nobody sends more.
    let answer = ask();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.json()["error"]["message"].is_string());
    // The worker lets go of the device before it says that it is gone.
    let since = Instant::now();
    while server.is_ready() {
        assert!(since.elapsed() < PATIENCE, "ready without a device");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.get("/health").status, 200);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
