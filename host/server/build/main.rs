//! Compiles the guest components, which the binary embeds.

mod guests;

use std::path::{Path, PathBuf};
use std::process::Command;

use guests::Guest;

const TARGET: &str = "wasm32-wasip2";

fn main() {
    if let Err(what) = build() {
        eprintln!("error: {what}");
        std::process::exit(1)
    }
}

fn build() -> Result<(), String> {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let workspace = manifest
        .ancestors()
        .nth(2)
        .ok_or("the package does not lie in its workspace")?;
    for path in ["guest-components", "wit", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let guests = guests::find(&workspace.join("guest-components"))?;
    // A target folder of its own: the outer cargo holds the lock of the common one.
    let target = guest_target_dir(&out);
    compile(&guests, workspace, &target)?;
    for guest in &guests {
        let from = target.join(TARGET).join("guest").join(guest.file());
        std::fs::copy(&from, out.join(guest.file()))
            .map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
    }
    std::fs::write(out.join("components.rs"), guests::table(&guests))
        .map_err(|error| format!("cannot write the table of components: {error}"))
}

fn compile(guests: &[Guest], workspace: &Path, target: &Path) -> Result<(), String> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--profile", "guest"]);
    cargo
        .args(["--target", TARGET])
        .arg("--target-dir")
        .arg(target);
    for guest in guests {
        cargo.args(["--package", &guest.package]);
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
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!(
            "the guest components did not compile; if the target is missing: \
             rustup target add {TARGET}"
        )),
        Err(error) => Err(format!(
            "cannot run cargo for the guest components: {error}"
        )),
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

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("cargo did not set {name}"))
}
