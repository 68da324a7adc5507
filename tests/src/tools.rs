//! What other languages' tests need, installed under target/ by the tests themselves.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Held while something is installed, since tests run side by side and pip does not.
static INSTALL: Mutex<()> = Mutex::new(());

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new(""))
}

/// Says, past the test harness's capture, that a test did not run.
pub fn skip(test: &str, reason: &str) {
    // A closed stderr leaves nobody to tell.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// The Python of a private environment with the packages of `requirements` (a path below tests/),
/// made in target/`name` where it is not there yet; or why there is none.
pub fn python(name: &str, requirements: &str) -> Result<PathBuf, String> {
    let _alone = INSTALL.lock().unwrap_or_else(PoisonError::into_inner);
    let environment = root().join("target").join(name);
    let python = environment.join("bin/python");
    let requirements = root().join("tests").join(requirements);
    let wanted = read(&requirements)?;
    let stamp = environment.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))?;
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "-r",
    ];
    run(Command::new(&python).args(install).arg(&requirements))?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}

/// The folder with the npm packages of tests/clients/package.json and the scripts that use them,
/// made in target/clients; or why there is none.
pub fn node_clients() -> Result<PathBuf, String> {
    let _alone = INSTALL.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = root().join("target/clients");
    let source = root().join("tests/clients");
    run(Command::new("node").arg("--version"))?;
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for file in ["package.json", "package-lock.json", "openai_client.mjs"] {
        let copied = fs::copy(source.join(file), folder.join(file));
        copied.map_err(|error| format!("{file}: {error}"))?;
    }
    let wanted = read(&folder.join("package-lock.json"))?;
    let stamp = folder.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    let install = ["ci", "--no-audit", "--no-fund", "--silent"];
    run(Command::new("npm").args(install).current_dir(&folder))?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(folder)
}

/// The component that a package of this workspace is compiled to.
#[track_caller]
pub fn guest_component(package: &str) -> PathBuf {
    const TARGET: &str = "wasm32-wasip2";
    // Where the build script of the server compiles the built-in ones.
    let target = root().join("target/guests");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .current_dir(root())
        .args(["build", "--locked", "--quiet", "--profile", "guest"])
        .args(["--target", TARGET, "--package", package])
        .arg("--target-dir")
        .arg(&target);
    run(&mut build).unwrap_or_else(|error| panic!("{error}"));
    let file = format!("{}.wasm", package.replace('-', "_"));
    target.join(TARGET).join("guest").join(file)
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

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
