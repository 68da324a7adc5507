//! Every check and test, in the order in which mistakes are cheapest to find.

use std::time::Instant;

use anyhow::{Context, Result};

use crate::steps::{GUEST_TARGET, binary, cargo, guest_target, root, step};

/// The hub id of the default model.
const DEFAULT_MODEL: &str = "sentence-transformers/all-MiniLM-L6-v2";

/// Runs everything; stops at the first failure.
pub fn run() -> Result<()> {
    let started = Instant::now();
    let mut counts = Counts::default();
    named("wasm target", guest_target)?;
    named("format", || cargo(&["fmt", "--all", "--check"]).run())?;
    named("clippy, host", || {
        let lint = [
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        cargo(&lint).run()
    })?;
    named("clippy, guests", || {
        let guests = guests()?;
        let packages = guests.iter().flat_map(|guest| ["-p", guest]);
        let mut arguments = vec!["clippy", "--target", GUEST_TARGET, "--profile", "guest"];
        arguments.extend(packages.chain(["--", "-D", "warnings"]));
        cargo(&arguments).run()
    })?;
    named("build", || {
        cargo(&["build", "--release", "-p", "tenon"]).run()
    })?;
    named("default model", || {
        step(binary("tenon"), &["pull", DEFAULT_MODEL]).run()
    })?;
    named("tests", || {
        let test = ["test", "--release", "--workspace", "--no-fail-fast"];
        cargo(&test).run_watched(|line| counts.see(line))
    })
    .with_context(|| counts.summary())?;
    named("documentation", || {
        let doc = ["doc", "--workspace", "--no-deps"];
        cargo(&doc).env("RUSTDOCFLAGS", "-D warnings").run()
    })?;
    named("licences and sources", deny)?;
    println!(
        "\nall checks passed in {} s: {}",
        started.elapsed().as_secs(),
        counts.summary()
    );
    Ok(())
}

/// The crates that are compiled to components: the folders in guest-components/, besides the
/// SDK that they are written with.
fn guests() -> Result<Vec<String>> {
    let mut guests = Vec::new();
    for entry in std::fs::read_dir(root().join("guest-components"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name != "sdk" {
            guests.push(name);
        }
    }
    guests.sort();
    Ok(guests)
}

/// `cargo deny`, where it is installed: advisories need the network and are left out.
fn deny() -> Result<()> {
    if !cargo(&["deny", "--version"]).succeeds() {
        println!("SKIPPED cargo deny: it is not installed (`cargo install --locked cargo-deny`)");
        return Ok(());
    }
    let offline = ["deny", "--offline", "check", "licenses", "bans", "sources"];
    cargo(&offline)
        .run()
        .with_context(|| format!("see {}", root().join("deny.toml").display()))
}

/// Runs a step under a headline with its time.
fn named(name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("\n== {name}");
    let started = Instant::now();
    let result = step().with_context(|| format!("{name} failed"));
    println!("== {name}: {:.1} s", started.elapsed().as_secs_f64());
    result
}

/// Tests counted over all binaries.
#[derive(Default)]
struct Counts {
    passed: usize,
    ignored: usize,
    failed: Vec<String>,
}

impl Counts {
    /// Reads a line of the test harness.
    fn see(&mut self, line: &str) {
        if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|l| l.strip_suffix(" ... FAILED"))
        {
            self.failed.push(name.to_owned());
        }
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |what: &str| {
            let part = result
                .split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(what));
            part.and_then(|part| part.trim().parse().ok()).unwrap_or(0)
        };
        self.passed += count(" passed");
        self.ignored += count(" ignored");
    }

    fn summary(&self) -> String {
        let Self {
            passed,
            ignored,
            failed,
        } = self;
        let mut summary = format!(
            "{passed} tests passed, {} failed, {ignored} ignored",
            failed.len()
        );
        for name in failed {
            summary.push_str(&format!("\n  failed: {name}"));
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn counts_are_summed_over_binaries() {
        let mut counts = Counts::default();
        counts.see("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        counts.see("test a::b ... FAILED");
        counts.see("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured");
        assert_eq!(
            counts.summary(),
            "5 tests passed, 1 failed, 1 ignored\n  failed: a::b"
        );
    }
}
