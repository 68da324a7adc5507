//! What is refused before it runs.

use crate::guests::{self, component, component_of, world};
use crate::setup::{self, Front, back, sandbox};

const PARSE: &str = r#"
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (unreachable))
  (func (export "tenon:embed/request-parser@0.1.0#parse") (param i32 i32 i32 i32) (result i32)
    (unreachable))"#;

fn compile_error(bytes: &[u8]) -> String {
    sandbox()
        .compile("x.wasm", bytes)
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

fn link_error(front: Front) -> String {
    front
        .load(&sandbox())
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default()
}

#[track_caller]
fn check(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}

#[test]
fn refuses_what_is_not_a_binary_component() {
    let component = guests::parser("(unreachable)");
    let precompiled = wasmtime::Engine::default()
        .precompile_component(&component)
        .unwrap();
    check(&compile_error(&precompiled), &["\"x.wasm\"", "precompiled"]);
    check(&compile_error(b" (component)"), &["text format"]);
    check(
        &compile_error(&wat::parse_str("(module)").unwrap()),
        &["core module"],
    );
    check(&compile_error(b""), &["not a WebAssembly component"]);
    check(&compile_error(b"MZ\x90"), &["not a WebAssembly component"]);
    check(&compile_error(b"\0asm\x0d\0\x01\0junk"), &["\"x.wasm\""]);
    assert_eq!(compile_error(&component), "");
}

#[test]
fn refuses_a_component_over_the_size_limit() {
    let mut limits = setup::limits();
    limits.max_component_bytes = 100;
    let sandbox = tenon::sandbox::Sandbox::new(limits).unwrap();
    let error = sandbox
        .compile("x.wasm", &guests::parser("(unreachable)"))
        .err()
        .unwrap();
    check(&error.to_string(), &["the limit is 100"]);
}

#[test]
fn refuses_imports_outside_of_the_role() {
    let wit = world("request-parser", &["tenon:embed/tensor@0.1.0"]);
    let import = r#"(import "tenon:embed/tensor@0.1.0" "[resource-drop]tensor"
        (func (param i32)))"#;
    let parser = component(&wit, &format!("(module {import} {PARSE})"));
    let error = link_error(Front {
        parser: Some(parser),
        ..Front::default()
    });
    check(
        &error,
        &[
            "bundle \"test-bundle\"",
            "role request-parser",
            "component \"parser.wasm\"",
            "tenon:embed/tensor@0.1.0",
            "offered are config",
        ],
    );
}

#[test]
fn refuses_sockets_and_strangers() {
    for (package, name) in [("wasi:sockets", "tcp"), ("evil:corp", "tcp")] {
        let wit = format!(
            "package test:guest; package {package}@0.2.0 {{ interface {name} {{ go: func(); }} }}
             world guest {{ include tenon:embed/request-parser-role@0.1.0;
             import {package}/{name}@0.2.0; }}"
        );
        let import = format!(r#"(import "{package}/{name}@0.2.0" "go" (func))"#);
        let parser = component(&wit, &format!("(module {import} {PARSE})"));
        let error = link_error(Front {
            parser: Some(parser),
            ..Front::default()
        });
        check(&error, &[package, "not offered"]);
    }
}

#[test]
fn refuses_a_component_of_another_role() {
    let parser = Some(guests::encoder(&[]));
    let error = link_error(Front {
        parser,
        ..Front::default()
    });
    check(
        &error,
        &[
            "tenon:embed/request-parser@0.1",
            "it exports tenon:embed/response-encoder@0.1.0",
        ],
    );
}

#[test]
fn refuses_a_function_of_another_type() {
    let wit = "package tenon:embed@0.1.0; interface request-parser { parse: func() -> u32; }
        world guest { export request-parser; }";
    let module = r#"(module (func (export "tenon:embed/request-parser@0.1.0#parse") (result i32)
        (i32.const 1)))"#;
    let parser = Some(component_of(wit, module));
    let error = link_error(Front {
        parser,
        ..Front::default()
    });
    check(
        &error,
        &["test-bundle", "request-parser", "parser.wasm", "parse"],
    );
}

#[test]
fn refuses_other_versions() {
    let wit = "package tenon:embed@0.2.0; interface request-parser { parse: func() -> u32; }
        world guest { export request-parser; }";
    let module = r#"(module (func (export "tenon:embed/request-parser@0.2.0#parse") (result i32)
        (i32.const 1)))"#;
    let parser = Some(component_of(wit, module));
    let error = link_error(Front {
        parser,
        ..Front::default()
    });
    check(
        &error,
        &[
            "request-parser@0.1",
            "it exports tenon:embed/request-parser@0.2.0",
        ],
    );
}

#[test]
fn refuses_a_component_over_the_pool_limits() {
    let memories: String = "(core instance (instantiate $m))".repeat(3);
    let bomb = format!("(component (core module $m (memory 1)) {memories})");
    check(&compile_error(&wat::parse_str(bomb).unwrap()), &["memor"]);
    let instances: String = "(core instance (instantiate $m))".repeat(1000);
    let bomb = format!("(component (core module $m) {instances})");
    check(
        &compile_error(&wat::parse_str(bomb).unwrap()),
        &["instances"],
    );
}

#[test]
fn names_what_load_says() {
    let says = r#"(i32.store8 (i32.const 1024) (i32.const 1))
        (i32.store offset=4 (i32.const 1024) (i32.const 16))
        (i32.store offset=8 (i32.const 1024) (i32.const 5))"#;
    let model = guests::model_with("", says);
    let error = back(&sandbox(), &model, &guests::pooling(""))
        .err()
        .unwrap()
        .to_string();
    check(
        &error,
        &["test-bundle", "role model", "model.wasm", ": table"],
    );
}

#[test]
fn a_loop_in_load_ends() {
    let model = guests::model_with("", "(loop $l (br $l))");
    let error = back(&sandbox(), &model, &guests::pooling(""))
        .err()
        .unwrap()
        .to_string();
    check(&error, &["role model", "longer than its limit"]);
}

#[test]
fn a_loop_in_start_ends() {
    let start = "(func $start (loop $l (br $l))) (start $start)";
    let parser = Some(guests::parser_with(start, guests::REALLOC, "(unreachable)"));
    let error = link_error(Front {
        parser,
        ..Front::default()
    });
    check(&error, &["role request-parser", "longer than its limit"]);
}
