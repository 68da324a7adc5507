//! Compiles the guest components, which the binary embeds.

use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";

/// Packages of the workspace. A component's built-in name is its package's without the role.
const COMPONENTS: [&str; 12] = [
    "api-openai",
    "template-plain",
    "template-clip",
    "template-jinja",
    "template-gme-qwen2-vl",
    "model-bert",
    "model-nomic",
    "model-modernbert",
    "model-decoder",
    "model-clip",
    "model-qwen2-vl",
    "pooling-standard",
];

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let Some(workspace) = manifest.ancestors().nth(2) else {
        fail("the package does not lie in its workspace");
    };
    for path in ["guest-components", "wit", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    // A target folder of its own: the outer cargo holds the lock of the common one.
    let target = guest_target_dir(&out);
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--profile", "guest"]);
    cargo
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(&target);
    for package in COMPONENTS {
        cargo.args(["--package", package]);
    }
    // What the outer build sets for its own target does not hold for this one.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_outer_build = text.starts_with("CARGO_FEATURE")
            || text.starts_with("CARGO_CFG")
            || text == "CARGO_ENCODED_RUSTFLAGS"
            || text == "RUSTC_WORKSPACE_WRAPPER"
            || text == "RUSTC_WRAPPER";
        if of_outer_build {
            cargo.env_remove(&name);
        }
    }
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(_) => fail(&format!(
            "the guest components did not compile; if the target is missing: \
             rustup target add {TARGET}"
        )),
        Err(error) => fail(&format!(
            "cannot run cargo for the guest components: {error}"
        )),
    }
    let mut table = String::from("[");
    for package in COMPONENTS {
        let file = format!("{}.wasm", package.replace('-', "_"));
        let from = target.join(TARGET).join("guest").join(&file);
        if let Err(error) = std::fs::copy(&from, out.join(&file)) {
            fail(&format!("cannot copy {}: {error}", from.display()));
        }
        let name = package.split_once('-').map_or(package, |(_, name)| name);
        table.push_str(&format!("({name:?}, include_bytes!({file:?}).as_slice()),"));
    }
    table.push(']');
    if let Err(error) = std::fs::write(out.join("components.rs"), table) {
        fail(&format!("cannot write the table of components: {error}"));
    }
}

/// `OUT_DIR` is `<target>/<profile>/build/<package>/out`; the guests' folder lies beside
/// the profiles, so that all of them share it.
fn guest_target_dir(out: &Path) -> PathBuf {
    match out.ancestors().nth(4) {
        Some(target) => target.join("guests"),
        None => out.join("guests"),
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn fail(what: &str) -> ! {
    eprintln!("error: {what}");
    std::process::exit(1)
}
