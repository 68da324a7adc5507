//! The benchmark on a GPU runs from end to end, and where there is none it says so.

use std::process::{Command, Output};

use tenon_tensor::Device;
use tenon_tests::cuda;

fn bench(arguments: &[&str], libraries: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenon-bench"));
    command.arg("--device=cuda").args(arguments);
    command.env("LD_LIBRARY_PATH", libraries);
    command.output().expect("run the benchmark")
}

#[test]
fn without_a_device_it_says_so_in_one_line() {
    if matches!(Device::cuda_count(), Ok(1..)) {
        return cuda::skip("a benchmark without a device", "there is one");
    }
    let output = bench(&[], "");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.contains("no benchmark on a GPU: cuda: "), "{error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn all_but_torch_runs_on_an_emulated_device() {
    let driver = match cuda::emulated_driver() {
        Ok(driver) => driver,
        Err(reason) => return cuda::skip("the benchmark on an emulated device", &reason),
    };
    let arguments = ["--models=tiny", "--seconds=1", "--without=torch"];
    let output = bench(&arguments, driver.to_str().expect("UTF-8 path"));
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{error}");
    for model in ["bert", "qwen3"] {
        assert!(text.contains(&format!("{model}, 8/24 tokens")), "{text}");
    }
    let count = |what: &str| text.matches(what).count();
    assert_eq!(count("of the device "), 2, "{text}");
    assert_eq!(count("tokens alone"), 2, "{text}");
    assert_eq!(count("sandbox tax "), 2, "{text}");
    assert_eq!(count("FAILED") + count("SKIPPED"), 0, "{text}");
}
