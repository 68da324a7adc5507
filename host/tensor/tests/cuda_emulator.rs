//! The CUDA kernels compute what they should, in an emulated block on the processor: see
//! `cuda/emulator`. Mutants of the kernels show that mistakes are caught.

mod cuda;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cuda::{built, files, fingerprint, kernels, run, skip, sources};

/// How the programs are compiled: every access and every conversion is watched.
const OPTIONS: [&str; 9] = [
    "-std=c++17",
    "-O1",
    "-g1",
    "-Wall",
    "-Wno-unknown-pragmas",
    "-Wno-sign-compare",
    "-fno-strict-aliasing",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
];

/// One replacement in the source of a kernel.
struct Mutation {
    file: &'static str,
    find: &'static str,
    replace: &'static str,
}

/// Compiles a program with the kernels, or with mutants of them, where anything changed since the
/// last time; or says why it cannot.
fn build(program: &str, name: &str, mutation: Option<&Mutation>) -> Result<PathBuf, String> {
    run(Command::new("c++").arg("--version"))?;
    // The emulator's files come last: its intrinsics replace the device's.
    let emulator = sources().join("emulator");
    let kernels = files(&kernels(), &[".cu", ".cuh"]);
    let emulator = files(&emulator, &[".h", ".cuh", &format!("/{program}.cpp")]);
    let folder = built().join("emulator").join(name);
    let mut texts = vec![OPTIONS.concat()];
    fs::create_dir_all(&folder).unwrap();
    for path in kernels.iter().chain(&emulator) {
        let file = path.file_name().unwrap().to_str().unwrap();
        let mut text = fs::read_to_string(path).unwrap();
        if let Some(mutation) = mutation.filter(|mutation| mutation.file == file) {
            let count = text.matches(mutation.find).count();
            assert_eq!(count, 1, "{name}: {file} has {:?} so often", mutation.find);
            text = text.replace(mutation.find, mutation.replace);
        }
        write_changed(&folder.join(file), &text);
        texts.push(text);
    }
    let print = fingerprint(texts.iter().map(String::as_str));
    let executable = folder.join(format!("{program}.{print}"));
    if !executable.exists() {
        let source = folder.join(format!("{program}.cpp"));
        let mut compiler = Command::new("c++");
        let compiled = run(compiler
            .args(OPTIONS)
            .arg(source)
            .arg("-o")
            .arg(&executable));
        compiled.unwrap_or_else(|error| panic!("{error}"));
    }
    Ok(executable)
}

fn write_changed(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    fs::write(path, text).unwrap();
}

/// Runs a program; what it printed, or how it failed.
fn execute(executable: &Path) -> Result<String, String> {
    // Fibers confuse what looks for memory that nobody frees and for returned-from frames.
    let options = "detect_leaks=0:detect_stack_use_after_return=0";
    run(Command::new(executable).env("ASAN_OPTIONS", options))
}

#[track_caller]
fn passes(program: &str) {
    match build(program, program, None) {
        Ok(executable) => match execute(&executable) {
            Ok(report) => println!("{report}"),
            Err(error) => panic!("{error}"),
        },
        Err(reason) => skip(program, &reason),
    }
}

#[track_caller]
fn fails(name: &str, program: &str, mutation: Mutation) {
    match build(program, name, Some(&mutation)) {
        Ok(executable) => match execute(&executable) {
            Ok(report) => panic!("nobody noticed {name}:\n{report}"),
            Err(error) => println!("{error}"),
        },
        Err(reason) => skip(name, &reason),
    }
}

#[test]
fn embeddings_match_reference() {
    passes("embedding");
}

#[test]
fn norms_match_reference() {
    passes("norm");
}

#[test]
fn a_sum_over_half_of_the_lanes_is_noticed() {
    fails(
        "half_of_the_lanes",
        "norm",
        Mutation {
            file: "norm.cu",
            find: "int distance = lanes / 2;",
            replace: "int distance = lanes / 4;",
        },
    );
}
