//! The project's commands: serve, build, test, bench, fmt.

mod steps;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};

use steps::{cargo, guest_target, replace_with, step};

const HELP: &str = "\
usage: cargo xtask COMMAND

  serve [ARGUMENTS]   build, then run `tenon serve` (without arguments: the default model)
  build               build the binary with its guest components
  test                every check and test
  bench [--peers]     measure; with --peers, beside ONNX Runtime and sentence-transformers
  bench --families    measure each model family
  bench --device=cuda measure models on a GPU, beside torch
  fmt                 format every crate";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match dispatch(&command, &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &str, rest: &[String]) -> Result<()> {
    if !matches!(command, "serve" | "bench") && !rest.is_empty() {
        bail!("{command} takes no arguments, got {rest:?}");
    }
    match command {
        "serve" => serve(rest),
        "build" => build(),
        "test" => test::run(),
        "bench" => bench(rest),
        "fmt" => cargo(&["fmt", "--all"]).run(),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        _ => bail!("unknown command {command:?}\n\n{HELP}"),
    }
}

/// Builds the binary; its build script builds and embeds the guest components.
fn build() -> Result<()> {
    guest_target()?;
    cargo(&["build", "--release", "-p", "tenon"]).run()
}

fn serve(arguments: &[String]) -> Result<()> {
    build()?;
    replace_with(
        &steps::binary("tenon"),
        &[&["serve".to_owned()], arguments].concat(),
    )
}

fn bench(arguments: &[String]) -> Result<()> {
    build()?;
    let programs = ["tenon-bench", "tenon-sandbox-tax"];
    let mut build = vec!["build", "--release", "-p", "tenon-tests"];
    build.extend(programs.iter().flat_map(|program| ["--bin", program]));
    cargo(&build).run()?;
    let [load, tax] = programs.map(steps::binary);
    step(load, arguments).run()?;
    // Those measure what they ask for, and nothing on the processor.
    let others = ["--families", "--device=cuda"];
    if arguments
        .iter()
        .any(|argument| others.contains(&argument.as_str()))
    {
        return Ok(());
    }
    step(tax, &[""; 0]).run()
}
