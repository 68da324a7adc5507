//! The machine's peak of matrix products, as `cargo bench -p tenon-tensor` measures it.

use std::process::Command;

use tenon_tests::tools::{root, run, skip};

/// (dtype, GFLOP/s) of all threads together, from lines such as `peak f32 228.1 GFLOP/s`.
pub fn gflops() -> Vec<(String, f64)> {
    let mut command = Command::new("cargo");
    command
        .args(["bench", "-p", "tenon-tensor", "--", "peak"])
        .current_dir(root());
    match run(&mut command) {
        Ok(output) => output.lines().filter_map(parse).collect(),
        Err(reason) => {
            skip("peak", &reason);
            Vec::new()
        }
    }
}

fn parse(line: &str) -> Option<(String, f64)> {
    let mut words = line.strip_prefix("peak ")?.split_whitespace();
    let dtype = words.next()?.to_owned();
    let gflops = words.next()?.parse().ok()?;
    (words.next() == Some("GFLOP/s")).then_some((dtype, gflops))
}
