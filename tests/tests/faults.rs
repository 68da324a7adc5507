//! A component that traps, loops or over-allocates loses its own request, and nothing else.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tenon_tests::checkpoint::Checkpoint;
use tenon_tests::components::{FAULTS, Fault, ROLES, Role, write_faulty};
use tenon_tests::server::Server;

/// How long a faulty component may keep its own caller waiting.
const PATIENCE: Duration = Duration::from_secs(60);

/// The manifest of a bundle, with one role played by a file.
fn manifest(name: &str, faulty: Option<(Role, &str)>) -> String {
    let roles = ROLES.map(|role| {
        let source = match faulty {
            Some((faulty, file)) if faulty == role => file,
            _ => role.builtin(),
        };
        format!("{} = \"{source}\"\n", role.name())
    });
    format!(
        "name = \"{name}\"\nweights = \"./model\"\ndtype = \"f32\"\n\n[roles]\n{}",
        roles.concat()
    )
}

/// One server with a healthy bundle and one bundle for each fault in `role`.
fn start(directory: &Path, role: Role) -> Server {
    let model = directory.join("model");
    fs::create_dir(&model).expect("folder");
    Checkpoint::default().write(&model);
    let mut arguments = Vec::new();
    let mut bundle = |name: &str, faulty: Option<(Role, &str)>| {
        let path = directory.join(format!("{name}.toml"));
        fs::write(&path, manifest(name, faulty)).expect("manifest");
        arguments.extend([
            "--bundle".to_owned(),
            path.to_str().expect("UTF-8 path").to_owned(),
        ]);
    };
    bundle("healthy", None);
    for fault in FAULTS {
        let name = bundle_name(fault);
        let file = format!("./{name}.wasm");
        write_faulty(role, fault, &directory.join(&file));
        bundle(&name, Some((role, &file)));
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Server::start(&arguments)
}

fn bundle_name(fault: Fault) -> String {
    format!("{fault:?}").to_lowercase()
}

#[track_caller]
fn check(role: Role) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let server = start(directory.path(), role);
    let wanted = server.embed("healthy", "oak beam");
    for fault in FAULTS {
        let name = bundle_name(fault);
        // More than once: a back half is replaced after its trap, a front half is fresh.
        for round in 0..3 {
            std::thread::scope(|scope| {
                let faulty = scope.spawn(|| {
                    let started = Instant::now();
                    let answer = server.embeddings(&json!({"model": name, "input": "oak beam"}));
                    assert!(
                        started.elapsed() < PATIENCE,
                        "{role:?} {fault:?}: no end in sight"
                    );
                    answer
                });
                for _ in 0..4 {
                    assert_eq!(
                        server.embed("healthy", "oak beam"),
                        wanted,
                        "{role:?} {fault:?}"
                    );
                }
                let answer = faulty.join().expect("a client");
                assert!(
                    (500..600).contains(&answer.status),
                    "{role:?} {fault:?} {round}: {}",
                    answer.text()
                );
                assert!(
                    answer.json()["error"]["message"].is_string(),
                    "{}",
                    answer.text()
                );
            });
        }
        let log = server.log();
        let named = log
            .lines()
            .any(|line| line.contains(&name) && line.contains(role.name()));
        assert!(
            named,
            "the log names neither {name} nor {}:\n{log}",
            role.name()
        );
        assert!(!log.contains("panicked"), "{log}");
    }
    assert_eq!(server.get("/health").status, 200);
    assert!(server.is_ready());
    let metrics = server.get("/metrics").text();
    let counted = metrics.lines().any(|line| {
        line.starts_with("tenon_traps_total") && line.contains(role.name()) && !line.ends_with(" 0")
    });
    assert!(counted, "no trap of {} counted:\n{metrics}", role.name());
}

#[test]
fn a_faulty_request_parser_loses_its_own_request_only() {
    check(Role::RequestParser);
}

#[test]
fn a_faulty_template_loses_its_own_request_only() {
    check(Role::Template);
}

#[test]
fn a_faulty_model_loses_its_own_request_only() {
    check(Role::Model);
}

#[test]
fn a_faulty_pooling_loses_its_own_request_only() {
    check(Role::Pooling);
}

#[test]
fn a_faulty_response_encoder_loses_its_own_request_only() {
    check(Role::ResponseEncoder);
}

/// Starts a bundle whose `role` is played by `component` and wants a refusal with `words`.
#[track_caller]
fn refused(role: Role, component: &[u8], words: &[&str]) {
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::create_dir(directory.path().join("model")).expect("folder");
    Checkpoint::default().write(&directory.path().join("model"));
    fs::write(directory.path().join("odd.wasm"), component).expect("component");
    let path = directory.path().join("odd.toml");
    fs::write(&path, manifest("odd", Some((role, "./odd.wasm")))).expect("manifest");
    let refusal = Server::try_start(&["--bundle", path.to_str().expect("UTF-8 path")]);
    let refusal = refusal.expect_err("a refusal");
    assert!(
        refusal.status.is_some_and(|s| !s.success()),
        "{:?}\n{}",
        refusal.status,
        refusal.log
    );
    assert!(!refusal.log.contains("panicked"), "{}", refusal.log);
    for word in words {
        assert!(
            refusal.log.contains(word),
            "{word:?} is not in:\n{}",
            refusal.log
        );
    }
}

#[test]
fn what_is_no_component_for_its_role_is_refused_at_start() {
    refused(Role::Pooling, b"not wasm", &["odd", "pooling"]);
    let module = wat::parse_str("(module)").expect("a module");
    refused(Role::Pooling, &module, &["odd", "pooling"]);
    let empty = wat::parse_str("(component)").expect("a component");
    refused(Role::Model, &empty, &["odd", "model"]);
    let greedy = r#"(component (import "tenon:embed/tensor@9.0.0" (instance)))"#;
    let greedy = wat::parse_str(greedy).expect("a component");
    refused(
        Role::Template,
        &greedy,
        &["odd", "template", "tenon:embed/tensor"],
    );
    let scratch = tempfile::tempdir().expect("temporary directory");
    let parser = scratch.path().join("parser.wasm");
    write_faulty(Role::RequestParser, Fault::Trap, &parser);
    let parser = fs::read(parser).expect("component");
    refused(Role::ResponseEncoder, &parser, &["odd", "response-encoder"]);
}
