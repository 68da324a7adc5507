//! A CUDA device that is lost: its process is replaced, and nothing else is lost. The device is
//! emulated, since a real one does not fail on demand: for that see `cuda_drill.rs`.

use std::ffi::{OsStr, OsString};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tenon::observability::resident_bytes_of;
use tenon_tests::families::{self, Family};
use tenon_tests::gpu::{self, emulated, is_alive, workers};
use tenon_tests::server::Server;

const PATIENCE: Duration = Duration::from_secs(60);
/// More kernels than it takes to load the model, and fewer than the tests' requests take.
const LAUNCHES: &str = "300";
const CLIENTS: usize = 4;

fn family() -> Family {
    let mut families = families::all();
    families.retain(|family| family.name == "bert");
    families.remove(0)
}

fn start(libraries: &OsStr, device: &str, environment: &[(&str, &OsStr)]) -> Server {
    gpu::start(libraries, device, "f32", &[family()], environment)
}

/// Texts of which each client sends its own.
const TEXTS: [&str; CLIENTS] = ["a tenon", "a mortise joins it", "two planks of oak", "glue"];

fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(status.expect("kill").success(), "kill {signal} {pid}");
}

/// Waits until something is so.
#[track_caller]
fn until(server: &Server, what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "not {what}:\n{}", server.log());
        thread::sleep(Duration::from_millis(5));
    }
}

/// How often the processes of a device were replaced, as `/metrics` says.
fn restarts(server: &Server, device: &str) -> u64 {
    let text = server.get("/metrics").text();
    let name = format!("tenon_worker_restarts_total{{device=\"{device}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in {text}"))
        .parse()
        .expect("a number")
}

/// What is seen of a server while clients send requests, each of which must be answered with the
/// right vector.
struct Seen {
    answers: usize,
    was_unready: bool,
}

/// Sends requests from several clients until `done`, which is given the answers so far.
fn under_load(server: &Server, mut done: impl FnMut(usize) -> bool) -> Seen {
    let name = family().name;
    let expected: Vec<_> = TEXTS.map(|text| server.embed(&name, json!([text]))).into();
    let (answers, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut was_unready = false;
    thread::scope(|scope| {
        for (text, expected) in TEXTS.iter().zip(&expected) {
            let (answers, stop, name) = (&answers, &stop, &name);
            scope.spawn(move || {
                while !stop.load(SeqCst) {
                    let vector = server.embed(name, json!([text]));
                    assert!(vector == *expected, "another vector of {text:?}");
                    answers.fetch_add(1, SeqCst);
                }
            });
        }
        let since = Instant::now();
        while !done(answers.load(SeqCst)) && since.elapsed() < PATIENCE {
            was_unready |= !server.is_ready();
            thread::sleep(Duration::from_millis(2));
        }
        stop.store(true, SeqCst);
        assert!(since.elapsed() < PATIENCE, "never done:\n{}", server.log());
    });
    Seen {
        answers: answers.load(SeqCst),
        was_unready,
    }
}

/// Sends requests, does something to the server meanwhile, and goes on for a while after that has
/// had its effect.
fn load_around(server: &Server, act: impl FnOnce(), happened: impl Fn() -> bool) -> Seen {
    let (mut act, mut after) = (Some(act), None);
    under_load(server, |answers| {
        if answers < 3 {
            return false;
        }
        if let Some(act) = act.take() {
            act();
        }
        if !happened() {
            return false;
        }
        answers >= *after.get_or_insert(answers) + 3
    })
}

#[test]
fn a_lost_device_costs_no_answer_and_readiness_returns() {
    let Some(libraries) = emulated("a lost device") else {
        return;
    };
    let folder = tempfile::tempdir().expect("temporary folder");
    let mark = folder.path().join("failed");
    let fails = [
        ("EMULATED_GPU_FAILS_AFTER", OsStr::new(LAUNCHES)),
        ("EMULATED_GPU_FAILS_ONCE", mark.as_os_str()),
    ];
    let server = start(libraries.as_os_str(), "cuda", &fails);
    assert!(!mark.exists(), "it fails before it is asked for anything");
    let first = workers(server.id());
    assert_eq!(first.len(), 1, "{first:?}");
    let seen = load_around(
        &server,
        || {},
        || mark.exists() && restarts(&server, "cuda:0") == 1 && server.is_ready(),
    );
    assert!(seen.was_unready, "ready without a device");
    assert!(server.is_ready());
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(restarts(&server, "cuda:0"), 1);
    let second = workers(server.id());
    assert!(second.len() == 1 && second != first, "{second:?}");
    assert!(seen.answers > 0 && !server.log().contains("panicked"));
}

#[test]
fn a_killed_worker_costs_no_answer() {
    let Some(libraries) = emulated("a killed worker") else {
        return;
    };
    let server = start(libraries.as_os_str(), "cuda", &[]);
    let before = workers(server.id());
    let seen = load_around(
        &server,
        || kill(before[0].0, "-KILL"),
        || restarts(&server, "cuda:0") == 1 && server.is_ready(),
    );
    assert!(seen.was_unready, "ready without a worker");
    assert_eq!(workers(server.id()).len(), 1);
}

#[test]
fn a_device_that_is_always_lost_is_given_up_and_requests_get_503() {
    let Some(libraries) = emulated("a device that is always lost") else {
        return;
    };
    let fails = [("EMULATED_GPU_FAILS_AFTER", OsStr::new(LAUNCHES))];
    let server = start(libraries.as_os_str(), "cuda", &fails);
    let family = family();
    let ask = |words: usize| {
        let text = "oak ".repeat(words);
        server.embeddings(&json!({"model": family.name, "input": text}))
    };
    let since = Instant::now();
    // Of many lengths: a pass that is recorded launches nothing more.
    let mut lengths = (1..=20).cycle();
    let refused = loop {
        let answer = ask(lengths.next().unwrap_or(1));
        if answer.status != 200 {
            break answer;
        }
        assert!(since.elapsed() < 3 * PATIENCE, "{}", server.log());
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.json()["error"]["message"].is_string());
    assert_eq!(ask(1).status, 503);
    until(&server, "unready", || !server.is_ready());
    assert_eq!(server.get("/health").status, 200);
    assert_eq!(restarts(&server, "cuda:0"), 8);
    assert!(workers(server.id()).is_empty());
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn one_of_two_devices_is_lost_and_the_other_goes_on() {
    let Some(libraries) = emulated("two devices") else {
        return;
    };
    let two = [("EMULATED_GPUS", OsStr::new("2"))];
    let server = start(libraries.as_os_str(), "cuda:0,cuda:1", &two);
    let log = server.log();
    assert!(
        log.contains("cuda:0 (") && log.contains("cuda:1 ("),
        "{log}"
    );
    let before = workers(server.id());
    assert_eq!(before.len(), 2, "{before:?}");
    let seen = load_around(
        &server,
        || kill(before[1].0, "-KILL"),
        || restarts(&server, "cuda:1") == 1 && workers(server.id()).len() == 2,
    );
    assert!(!seen.was_unready, "one device is enough to be ready");
    assert_eq!(restarts(&server, "cuda:0"), 0);
    assert_eq!(workers(server.id())[0], before[0]);
}

#[test]
fn a_drain_answers_what_runs_and_leaves_no_process() {
    let Some(libraries) = emulated("a drain") else {
        return;
    };
    let mut server = start(libraries.as_os_str(), "cuda:all", &[]);
    let worker = workers(server.id())[0].0;
    // What a service's manager sends to every process of it.
    kill(worker, "-TERM");
    kill(worker, "-INT");
    let body = json!({"model": family().name, "input": vec!["a tenon"; 64]}).to_string();
    let address = server.address;
    let sent = Arc::new(AtomicBool::new(false));
    let client = thread::spawn({
        let sent = sent.clone();
        move || {
            let mut connection = tenon_tests::http::Connection::open(address).expect("connect");
            sent.store(true, SeqCst);
            let headers = [("content-type", "application/json")];
            connection.send("POST", "/v1/embeddings", &headers, body.as_bytes())
        }
    });
    until(&server, "sent", || sent.load(SeqCst));
    thread::sleep(Duration::from_millis(50));
    server.terminate();
    let answer = client.join().expect("client").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(server.wait(PATIENCE).success());
    assert!(!is_alive(worker));
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_worker_ends_with_its_server() {
    let Some(libraries) = emulated("a server that is killed") else {
        return;
    };
    let server = start(libraries.as_os_str(), "cuda", &[]);
    let worker = workers(server.id())[0].0;
    kill(server.id(), "-KILL");
    until(&server, "ended", || !is_alive(worker));
}

#[test]
fn a_checkpoint_is_refused_in_the_same_words_on_every_device() {
    let Some(libraries) = emulated("a refused checkpoint") else {
        return;
    };
    let folder = tempfile::tempdir().expect("temporary folder");
    let broken = folder.path().join("broken");
    copy(&family().directory, &broken);
    let config = std::fs::read_to_string(broken.join("config.json")).expect("config.json");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    config["vocab_size"] = json!(7);
    std::fs::write(broken.join("config.json"), config.to_string()).expect("write");
    let refusal = |device: &str| {
        let model = broken.to_str().expect("UTF-8 path");
        let arguments = ["--device", device, "--model", model];
        let environment = [("LD_LIBRARY_PATH", libraries.as_os_str())];
        let refused = Server::try_start_in(&environment, &arguments).expect_err("a refusal");
        let lines = refused.log.lines();
        let error: Vec<String> = lines
            .filter(|line| line.starts_with("error: "))
            .map(str::to_owned)
            .collect();
        assert_eq!(error.len(), 1, "{}", refused.log);
        error
    };
    assert_eq!(refusal("cuda"), refusal("cpu"));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).expect("folder");
    for entry in std::fs::read_dir(from).expect("folder").flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).expect("copy")),
        }
    }
}

#[test]
fn the_device_is_chosen_by_what_works_and_the_choice_is_said() {
    let Some(libraries) = emulated("a device that is chosen") else {
        return;
    };
    let server = start(libraries.as_os_str(), "auto", &[]);
    let log = server.log();
    let workers_of = workers(server.id());
    assert_eq!(workers_of.len(), 1, "{log}");
    assert!(log.contains("cuda:0 ("), "{log}");
    // The memory is that of both processes.
    let said: Vec<&str> = log.split(" MiB resident").collect();
    let said = said[0].rsplit(' ').next().and_then(|mib| mib.parse().ok());
    let said: u64 = said.unwrap_or_else(|| panic!("{log}"));
    let resident = |pid| resident_bytes_of(pid).expect("a process") >> 20;
    let (here, there) = (resident(server.id()), resident(workers_of[0].0));
    assert!(
        said > here.max(there) && said <= here + there + 16,
        "{said} of {here} and {there}"
    );
    drop(server);

    let nowhere = OsString::from("/nowhere");
    let said = |libraries: &OsStr, environment: &[(&str, &OsStr)], why: &str| {
        let server = start(libraries, "auto", environment);
        let log = server.log();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("computing on the CPU"))
            .collect();
        assert!(lines.len() == 1 && lines[0].contains(why), "{log}");
        assert!(log.contains("cpu ("), "{log}");
        assert!(workers(server.id()).is_empty());
    };
    said(&nowhere, &[], "there is no libcuda");
    let none = [("EMULATED_GPUS", OsStr::new("0"))];
    said(libraries.as_os_str(), &none, "no device");
    let refused = gpu::try_start(libraries.as_os_str(), "cuda:7", "f32", &[family()], &[]);
    let log = refused.expect_err("there is no eighth device").log;
    assert!(log.contains("cannot set up CUDA device 7"), "{log}");
}
