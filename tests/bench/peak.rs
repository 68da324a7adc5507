//! The machine's peak of matrix products, as `cargo bench -p tenon-tensor` measures it.

use std::process::Command;

use tenon_tests::tools::{root, run, skip};

/// GFLOP/s of f32 multiply-adds in registers, all threads together. bf16 products have twice as
/// many: `vdpbf16ps` does two multiply-adds where an FMA does one.
pub fn f32_gflops(threads: usize) -> Option<f64> {
    let threads = threads.to_string();
    let mut command = Command::new("cargo");
    let bench = [
        "bench",
        "--quiet",
        "-p",
        "tenon-tensor",
        "--bench",
        "ops",
        "--",
        &threads,
    ];
    match run(command.args(bench).current_dir(root())) {
        Ok(output) => output.lines().filter_map(peak).reduce(f64::max),
        Err(reason) => {
            skip("peak", &reason);
            None
        }
    }
}

/// The peak beside which a line of the benchmark was measured, from its rate and its share:
/// `linear 512x384x1536   2649.1 us   222.0 GFLOP/s  97.4 %`.
fn peak(line: &str) -> Option<f64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "GFLOP/s")?;
    let rate: f64 = words.get(unit.checked_sub(1)?)?.parse().ok()?;
    let share: f64 = words.get(unit + 1)?.parse().ok()?;
    (share > 0.0).then_some(100.0 * rate / share)
}
