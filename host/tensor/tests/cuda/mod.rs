//! What the tests of CUDA share: where things are, running programs, knowing whether anything
//! changed since the last time, and the emulated driver.
#![allow(dead_code, unused_imports)]

mod driver;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use driver::{emulated_driver, load_emulated_driver};

/// The workspace's folder. More than one package has this file.
fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut found = package.filter(|folder| folder.join("Cargo.lock").exists());
    found.next().expect("a workspace")
}

/// The kernels' sources.
pub fn kernels() -> PathBuf {
    workspace().join("host/tensor/src/cuda/kernels")
}

/// The sources of these tests.
pub fn sources() -> PathBuf {
    workspace().join("host/tensor/tests/cuda")
}

/// Where these tests keep what they build.
pub fn built() -> PathBuf {
    workspace().join("target/cuda")
}

/// Says, past the test harness's capture, that a test did not run.
pub fn skip(test: &str, reason: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// Runs a command; its output, or what went wrong.
pub fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "{command:?} ended with {}:\n{stdout}{stderr}",
        output.status
    ))
}

/// The files of a folder whose names end with one of `endings`, by name.
pub fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.to_str().unwrap();
            endings.iter().any(|ending| name.ends_with(ending))
        })
        .collect();
    files.sort();
    files
}

/// A number that tells these texts from others.
pub fn fingerprint<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = DefaultHasher::new();
    for text in texts {
        text.hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}
