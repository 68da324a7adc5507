//! What the tests of CUDA share: where things are, running programs, knowing whether anything
//! changed since the last time, and the emulated driver.
#![allow(dead_code)]

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

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

/// How the emulated driver is compiled.
const DRIVER_OPTIONS: [&str; 4] = ["-std=c++17", "-O2", "-fPIC", "-fno-strict-aliasing"];

/// The driver and its libraries for a device that is emulated on the processor: a folder of
/// `libcuda.so`, `libcublasLt.so` and `libnvrtc.so`, built where anything changed since the last
/// time. Or why they cannot be built.
pub fn emulated_driver() -> Result<PathBuf, String> {
    let version = run(Command::new("c++").arg("--version"))?;
    let kernel_files = files(&kernels(), &[".cu", ".cuh"]);
    let shared = ["/block.h", "/check.h", "/intrinsics.cuh"];
    let emulator = files(&sources().join("emulator"), &shared);
    let driver = files(&sources().join("driver"), &[".h", ".cpp"]);
    // The emulator's files come later: its intrinsics replace the device's.
    let all: Vec<(&str, String)> = [&kernel_files, &emulator, &driver]
        .into_iter()
        .flatten()
        .map(|path| (name_of(path), fs::read_to_string(path).unwrap()))
        .collect();
    let texts = all.iter().map(|(_, text)| text.as_str());
    let print = fingerprint(texts.chain(DRIVER_OPTIONS).chain([version.as_str()]));
    let folder = built().join("driver").join(print);
    if folder.exists() {
        return Ok(folder);
    }
    // Whoever else builds it at the same time has a folder of its own.
    let scratch = folder.with_extension(std::process::id().to_string());
    fs::create_dir_all(&scratch).unwrap();
    for (name, text) in &all {
        fs::write(scratch.join(name), text).unwrap();
    }
    link_driver(&scratch, &kernel_files).unwrap_or_else(|error| panic!("{error}"));
    if fs::rename(&scratch, &folder).is_err() {
        // Another was faster, and its driver is the same.
        assert!(folder.exists());
        let _ = fs::remove_dir_all(&scratch);
    }
    Ok(folder)
}

fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn link_driver(folder: &Path, kernel_files: &[PathBuf]) -> Result<(), String> {
    let compiler = || {
        let mut command = Command::new("c++");
        command.args(DRIVER_OPTIONS).current_dir(folder);
        command
    };
    let mut objects = vec!["driver.cpp".to_owned()];
    let with_kernels = kernel_files.iter().map(|path| name_of(path));
    let with_kernels: Vec<&str> = with_kernels.filter(|name| name.ends_with(".cu")).collect();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(file) = with_kernels.get(next.fetch_add(1, Relaxed)) {
                    if let Err(error) = compile_kernels(folder, file, &compiler) {
                        failures.lock().unwrap().push(error);
                    }
                }
            });
        }
    });
    if let Some(error) = failures.into_inner().unwrap().pop() {
        return Err(error);
    }
    objects.extend(with_kernels.iter().map(|file| format!("{file}.o")));
    let shared = |library: &str| {
        let mut command = compiler();
        // Found by this name once it is loaded, wherever it lies.
        let name = format!("-Wl,-soname,{library}");
        command.args(["-shared", &name, "-Wl,-rpath,$ORIGIN", "-L.", "-o", library]);
        command
    };
    run(shared("libcuda.so").args(&objects))?;
    run(shared("libcublasLt.so").args(["cublaslt.cpp", "-lcuda"]))?;
    run(shared("libnvrtc.so").arg("nvrtc.cpp"))?;
    Ok(())
}

/// Compiles a file of kernels into an object that has them by name.
fn compile_kernels(
    folder: &Path,
    file: &str,
    compiler: &dyn Fn() -> Command,
) -> Result<(), String> {
    const MARK: &str = "__kernel__ void ";
    let marked = run(compiler().args(["-E", "-P", "-DKERNEL_MARK=__kernel__", file]))?;
    let marked = marked.split_whitespace().collect::<Vec<_>>().join(" ");
    let names = marked.split(MARK).skip(1);
    let entries = names.filter_map(|rest| rest.split_once('('));
    let entries: String = entries
        .map(|(name, _)| format!("ENTRY({})\n", name.trim()))
        .collect();
    assert!(!entries.is_empty(), "{file} has no kernels");
    fs::write(folder.join(format!("{file}.names")), entries).unwrap();
    let kernel_file = format!("-DKERNEL_FILE=\"{file}\"");
    let kernel_names = format!("-DKERNEL_NAMES=\"{file}.names\"");
    let object = format!("{file}.o");
    run(compiler().args([&kernel_file, &kernel_names, "-c", "kernels.cpp", "-o", &object]))?;
    Ok(())
}

/// Makes this process find the emulated driver instead of none.
#[allow(unsafe_code)]
pub fn load_emulated_driver() -> Result<(), String> {
    let folder = emulated_driver()?;
    for library in ["libcuda.so", "libcublasLt.so", "libnvrtc.so"] {
        // SAFETY: built from this repository; loading it runs the constructors of its lists.
        let loaded = unsafe { libloading::Library::new(folder.join(library)) };
        // Stays loaded: who asks the loader for the name gets this one.
        std::mem::forget(loaded.map_err(|error| error.to_string())?);
    }
    Ok(())
}
