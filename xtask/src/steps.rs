//! Commands run as named steps, and where cargo puts what it builds.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// What guest components are compiled for.
pub const GUEST_TARGET: &str = "wasm32-wasip2";

/// A command to be run from the repository's root.
pub struct Step {
    command: Command,
}

/// `cargo` with arguments.
pub fn cargo<S: AsRef<OsStr>>(arguments: &[S]) -> Step {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    step(&cargo, arguments)
}

/// A program with arguments.
pub fn step<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: &[S]) -> Step {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    Step { command }
}

impl Step {
    /// With an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it; an error unless it succeeds.
    pub fn run(mut self) -> Result<()> {
        let status = self.command.status().with_context(|| self.name())?;
        self.check(status)
    }

    /// Runs it and shows `see` each line of its standard output, which is printed too.
    pub fn run_watched(mut self, mut see: impl FnMut(&str)) -> Result<()> {
        let child = self.command.stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| self.name())?;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                let line = line?;
                println!("{line}");
                see(&line);
            }
        }
        let status = child.wait()?;
        self.check(status)
    }

    /// Whether it runs and succeeds, with nothing printed.
    pub fn succeeds(mut self) -> bool {
        let quiet = self.command.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    fn check(&self, status: std::process::ExitStatus) -> Result<()> {
        if !status.success() {
            bail!("{} ended with {status}", self.name());
        }
        Ok(())
    }

    fn name(&self) -> String {
        let words = std::iter::once(self.command.get_program()).chain(self.command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
        format!("`{}`", words.join(" "))
    }
}

/// Installs the target of the guest components where rustup has not yet.
pub fn guest_target() -> Result<()> {
    let installed = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", GUEST_TARGET])
        .current_dir(root())
        .output()
        .context("rustc")?;
    let folder = String::from_utf8_lossy(&installed.stdout);
    if installed.status.success() && Path::new(folder.trim()).is_dir() {
        return Ok(());
    }
    step("rustup", &["target", "add", GUEST_TARGET]).run()
}

/// Becomes another program.
pub fn replace_with<S: AsRef<OsStr>>(program: &Path, arguments: &[S]) -> Result<()> {
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| program.display().to_string())
}

/// A binary that `cargo build --release` made.
pub fn binary(name: impl Display) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root().join(target).join(format!("release/{name}"))
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}
