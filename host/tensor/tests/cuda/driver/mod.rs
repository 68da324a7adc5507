//! An emulated CUDA driver, cuBLASLt and NVRTC: shared libraries that run the kernels on the
//! processor, so that a CUDA backend can be tested without a GPU.
//!
//! Of the environment: `EMULATED_GPUS` is how many devices there are, `EMULATED_GPU_MEMORY` how
//! many bytes each has, `EMULATED_GPU_CAPABILITY` its compute capability without the point (90), and
//! with `EMULATED_GPU_FAILS_AFTER=n` the n-th launch loses the device: of every process, or with
//! `EMULATED_GPU_FAILS_ONCE=file` of none that starts after a first loss, which makes that file.
#![allow(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::thread;

use super::{built, files, fingerprint, kernels, run, sources};

/// In the order in which they need each other.
const LIBRARIES: [Library; 3] = [
    Library {
        name: "libcuda.so",
        sources: &["copies", "graph", "memory", "module", "state", "stream"],
        needs: &[],
    },
    Library {
        name: "libcublasLt.so",
        sources: &["cublaslt"],
        needs: &["-L.", "-l:libcuda.so", "-Wl,-rpath,$ORIGIN"],
    },
    Library {
        name: "libnvrtc.so",
        sources: &["nvrtc"],
        needs: &[],
    },
];

/// A library, and the sources that are its own.
struct Library {
    name: &'static str,
    sources: &'static [&'static str],
    needs: &'static [&'static str],
}

/// How all are compiled. Contracted products would differ from one place to the next.
const OPTIONS: [&str; 8] = [
    "-std=c++17",
    "-fPIC",
    "-O2",
    "-fvisibility=hidden",
    // Which takes a jump to another stack for a mistake.
    "-U_FORTIFY_SOURCE",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-Wno-psabi",
];

/// The folder of the libraries, built where anything changed since the last time; or why there
/// can be none.
pub fn emulated_driver() -> Result<PathBuf, String> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER.get_or_init(build_changed).clone()
}

/// Loads the libraries, so that whoever then loads them by name finds these.
pub fn load_emulated_driver() -> Result<(), String> {
    let folder = emulated_driver()?;
    for library in LIBRARIES {
        let path = folder.join(library.name);
        // SAFETY: loading runs initialisers that register kernels and nothing else.
        let loaded = unsafe { libloading::Library::new(&path) };
        std::mem::forget(loaded.map_err(|error| format!("{}: {error}", path.display()))?);
    }
    Ok(())
}

fn build_changed() -> Result<PathBuf, String> {
    let compiler = run(Command::new("c++").arg("--version"))?;
    let kernels = files(&kernels(), &[".cu", ".cuh"]);
    // The emulator's intrinsics come after the device's, which they replace.
    let emulator = ["block.h", "check.h", "intrinsics.cuh"];
    let emulator = emulator.map(|name| sources().join("emulator").join(name));
    let driver = files(&sources().join("driver"), &[".h", ".cpp", "/mod.rs"]);
    let all: Vec<(PathBuf, String)> = kernels
        .into_iter()
        .chain(emulator)
        .chain(driver)
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, text)
        })
        .collect();
    let texts = all.iter().map(|(_, text)| text.as_str());
    let print = fingerprint(texts.chain([compiler.as_str()]));

    let folder = built().join("driver").join(&print);
    if !folder.exists() {
        // Another process may be doing the same: whoever is done first wins.
        let unfinished = folder.with_extension(std::process::id().to_string());
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir_all(&unfinished).unwrap();
        for (path, text) in &all {
            fs::write(unfinished.join(path.file_name().unwrap()), text).unwrap();
        }
        build(&unfinished);
        if fs::rename(&unfinished, &folder).is_err() {
            fs::remove_dir_all(&unfinished).unwrap();
        }
    }
    folder.canonicalize().map_err(|error| error.to_string())
}

/// Compiles and links what lies in a folder.
fn build(folder: &Path) {
    let mut objects: Vec<Command> = Vec::new();
    for name in LIBRARIES.iter().flat_map(|library| library.sources) {
        let mut compiler = compiler(folder);
        compiler.args(["-c", &format!("{name}.cpp")]);
        objects.push(compiler);
    }
    let mut kernels = Vec::new();
    for path in files(folder, &[".cu"]) {
        let file = path.file_name().unwrap().to_str().unwrap();
        fs::write(path.with_extension("names"), kernel_names(folder, file)).unwrap();
        let object = format!("kernels_{file}.o");
        let mut compiler = compiler(folder);
        compiler.arg(format!("-DKERNEL_FILE=\"{file}\""));
        compiler.arg(format!(
            "-DKERNEL_NAMES=\"{}\"",
            file.replace(".cu", ".names")
        ));
        compiler.args(["-c", "kernel_file.cpp", "-o", &object]);
        objects.push(compiler);
        kernels.push(object);
    }
    run_all(objects);
    for library in LIBRARIES {
        let mut linker = compiler(folder);
        linker.args(["-shared", "-Wl,--no-undefined", "-o", library.name]);
        linker.arg(format!("-Wl,-soname,{}", library.name));
        linker.args(library.sources.iter().map(|name| format!("{name}.o")));
        if library.name == "libcuda.so" {
            linker.args(&kernels);
        }
        linker.args(library.needs);
        run(&mut linker).unwrap_or_else(|error| panic!("{error}"));
    }
}

fn compiler(folder: &Path) -> Command {
    let mut compiler = Command::new("c++");
    compiler.current_dir(folder).args(OPTIONS);
    compiler
}

/// Lists the kernels of a file for the compiler.
fn kernel_names(folder: &Path, file: &str) -> String {
    let mut preprocessor = compiler(folder);
    preprocessor.args(["-E", "-P", "-x", "c++", "-include", "kernel_names.h", file]);
    let text = run(&mut preprocessor).unwrap_or_else(|error| panic!("{error}"));
    let mut names = String::new();
    for kernel in text.split("EMULATED_KERNEL").skip(1) {
        let (threads, rest) = kernel.split_once("EMULATED_NAME").unwrap();
        let (name, _) = rest.split_once('(').unwrap();
        names += &format!("REGISTER({}, {})\n", threads.trim(), name.trim());
    }
    assert!(!names.is_empty(), "{file} has no kernels");
    names
}

/// Runs commands that do not need each other, as many at a time as there are processors.
fn run_all(commands: Vec<Command>) {
    let commands: Vec<_> = commands.into_iter().map(Mutex::new).collect();
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(command) = commands.get(next.fetch_add(1, Relaxed)) {
                    let mut command = command.lock().unwrap();
                    run(&mut command).unwrap_or_else(|error| panic!("{error}"));
                }
            });
        }
    });
}
