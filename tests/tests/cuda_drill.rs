//! A real device that is lost, or has no memory left: drills with a library in front of the
//! driver's. Elsewhere they are skipped, and `cuda_recovery.rs` does what can be done.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tempfile::TempDir;
use tenon_tensor::Device;
use tenon_tests::families::{self, Family};
use tenon_tests::server::Server;
use tenon_tests::{cuda, gpu};

/// Kernels of some requests.
const LAUNCHES: &str = "300";
const MOST_REQUESTS: usize = 2000;

/// Lengths of texts in words, of up to three tokens each: the tiny model takes 64 tokens.
const LENGTHS: usize = 20;

/// In front of `libcuda.so.1`, which it needs and which therefore has all that this has not.
const SHIM: &str = r#"
#include <dlfcn.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <atomic>

typedef int Result;
typedef void* Handle;

static void* real(const char* name) {
    static void* driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    return driver ? dlsym(driver, name) : nullptr;
}

// Whether the time has come, in the first process that gets so far. Calls count from when the
// server is ready: how many there are before depends on how many algorithms are tried.
static bool once(const char* after, std::atomic<long>& calls) {
    const char* wanted = getenv(after);
    const char* mark = getenv("DRILL_MARK");
    const char* ready = getenv("DRILL_READY");
    if (!wanted || !mark || !ready || access(ready, F_OK) != 0) return false;
    if (++calls != atol(wanted)) return false;
    FILE* file = fopen(mark, "wx");
    if (!file) return false;
    fclose(file);
    fprintf(stderr, "drill: %s %s\n", after, wanted);
    return true;
}

extern "C" Result cuLaunchKernel(Handle function, unsigned gx, unsigned gy, unsigned gz,
                                 unsigned bx, unsigned by, unsigned bz, unsigned shared,
                                 Handle stream, void** arguments, void** extra) {
    using Launch = Result (*)(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                              unsigned, Handle, void**, void**);
    static Launch launch = Launch(real("cuLaunchKernel"));
    static std::atomic<long> calls{0};
    if (arguments && once("DRILL_WILD_LAUNCH", calls)) {
        // The first argument of every kernel is a pointer.
        static unsigned long long wild = 0x10;
        arguments[0] = &wild;
    }
    return launch(function, gx, gy, gz, bx, by, bz, shared, stream, arguments, extra);
}

extern "C" Result cuMemAllocAsync(unsigned long long* pointer, size_t bytes, Handle stream) {
    using Allocate = Result (*)(unsigned long long*, size_t, Handle);
    static Allocate allocate = Allocate(real("cuMemAllocAsync"));
    static std::atomic<long> calls{0};
    return once("DRILL_NO_MEMORY", calls) ? 2 : allocate(pointer, bytes, stream);
}
"#;

/// A server on a real device behind the shim; none where there is no device.
struct Drill {
    server: Server,
    family: Family,
    folder: TempDir,
}

fn start(test: &str, after: &str, count: &str) -> Option<Drill> {
    if !matches!(Device::cuda_count(), Ok(1..)) {
        cuda::skip(test, "it takes a real CUDA device");
        return None;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    if let Err(reason) = build(folder.path()) {
        cuda::skip(test, &reason);
        return None;
    }
    let family = families::all().remove(0);
    let mark = folder.path().join("mark");
    let ready = folder.path().join("ready");
    let environment = [
        ("DRILL_MARK", mark.as_os_str()),
        ("DRILL_READY", ready.as_os_str()),
        (after, count.as_ref()),
    ];
    // The shim first, then whatever the machine's driver is found by.
    let mut path = OsString::from(folder.path());
    if let Some(rest) = std::env::var_os("LD_LIBRARY_PATH") {
        path.push(":");
        path.push(rest);
    }
    let families = std::slice::from_ref(&family);
    let server = gpu::start(&path, "cuda", "f32", families, &environment);
    fs::write(&ready, "").expect("say that the server is ready");
    Some(Drill {
        server,
        family,
        folder,
    })
}

/// Compiles the shim.
fn build(folder: &Path) -> Result<(), String> {
    let source = folder.join("shim.cpp");
    fs::write(&source, SHIM).expect("write the shim");
    let library = folder.join("libcuda.so");
    let mut compiler = Command::new("c++");
    compiler
        .args(["-std=c++17", "-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        // Needed even though nothing of it is named: what this has not is found there.
        .args(["-Wl,--no-as-needed", "-l:libcuda.so.1", "-ldl"]);
    for folder in library_folders() {
        compiler.arg("-L").arg(folder);
    }
    cuda::run(&mut compiler).map(drop)
}

/// Where the driver's library may be, besides where the linker looks.
fn library_folders() -> Vec<String> {
    let listed = Command::new("sh")
        .args(["-c", "ldconfig -p || /sbin/ldconfig -p"])
        .output();
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let listed = listed.unwrap_or_default();
    let of_driver = listed.lines().filter(|line| line.contains("libcuda.so.1"));
    let paths = of_driver.filter_map(|line| line.split("=> ").nth(1));
    let folders = paths.filter_map(|path| Path::new(path.trim()).parent());
    let mut folders: Vec<String> = folders.map(|folder| folder.display().to_string()).collect();
    let more = std::env::var("LD_LIBRARY_PATH").unwrap_or_default();
    folders.extend(
        more.split(':')
            .filter(|it| !it.is_empty())
            .map(str::to_owned),
    );
    folders
}

impl Drill {
    fn has_happened(&self) -> bool {
        self.folder.path().join("mark").exists()
    }

    fn restarts(&self) -> u64 {
        let text = self.server.get("/metrics").text();
        let name = "tenon_worker_restarts_total{device=\"cuda:0\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|count| count.parse().ok()).expect("restarts")
    }
}

#[test]
fn an_illegal_access_on_a_real_device_costs_no_answer() {
    let Some(drill) = start("a device that is lost", "DRILL_WILD_LAUNCH", LAUNCHES) else {
        return;
    };
    let (server, name) = (&drill.server, &drill.family.name);
    assert!(!drill.has_happened(), "{}", server.log());
    // Each text is of another length: what is recorded makes no launches.
    let text = |number: usize| "oak ".repeat(1 + number % LENGTHS);
    let first: Vec<_> = (0..LENGTHS)
        .map(|n| server.embed(name, json!([text(n)])))
        .collect();
    let mut number = 0;
    while !drill.has_happened() || number % LENGTHS != 0 {
        assert!(number < MOST_REQUESTS, "never lost:\n{}", server.log());
        let vector = server.embed(name, json!([text(number)]));
        assert!(
            vector == first[number % LENGTHS],
            "another vector of text {number}"
        );
        number += 1;
    }
    assert_eq!(drill.restarts(), 1, "{}", server.log());
    assert!(server.is_ready());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn a_real_device_without_memory_costs_one_answer_at_the_most() {
    let Some(drill) = start("a device without memory", "DRILL_NO_MEMORY", LAUNCHES) else {
        return;
    };
    let (server, name) = (&drill.server, &drill.family.name);
    assert!(!drill.has_happened(), "{}", server.log());
    let mut failed = 0;
    for number in 0..MOST_REQUESTS {
        let text = "oak ".repeat(1 + number % LENGTHS);
        let answer = server.embeddings(&json!({"model": name, "input": text}));
        if answer.status != 200 {
            assert_eq!(answer.status, 500, "{}", answer.text());
            assert!(answer.json()["error"]["message"].is_string());
            failed += 1;
        } else if drill.has_happened() && number % LENGTHS == 0 {
            break;
        }
    }
    assert!(
        drill.has_happened(),
        "memory never ran out:\n{}",
        server.log()
    );
    assert!(failed <= 1, "{failed} requests failed:\n{}", server.log());
    assert_eq!(drill.restarts(), 0, "{}", server.log());
}
