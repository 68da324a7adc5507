//! The front half: every way in which one request's components fail.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tenon::sandbox::{FrontBundle, FrontError, ResponseInfo, Sandbox};

use crate::guests;
use crate::setup::{Front, limits, sandbox};

const LOOP: &str = "(loop $l (br $l)) (unreachable)";

fn body() -> Bytes {
    Bytes::from_static(b"{}")
}

fn info() -> ResponseInfo {
    ResponseInfo {
        endpoint: "/v1/embeddings".into(),
        model: "m".into(),
        request_id: "r".into(),
        created_s: 0,
        prompt_tokens: vec![1],
        elapsed_ms: 1.0,
        state: vec![],
    }
}

fn reason<T>(result: Result<T, FrontError>) -> String {
    match result {
        Ok(_) => panic!("the component did not fail"),
        Err(error) => error.to_string(),
    }
}

async fn parse_error(parser: Vec<u8>) -> String {
    let sandbox = sandbox();
    let front = Front {
        parser: Some(parser),
        ..Front::default()
    }
    .load(&sandbox)
    .unwrap();
    let first = reason(front.parse("/v1/embeddings", body()).await);
    let second = reason(front.parse("/v1/embeddings", body()).await);
    assert_eq!(first, second, "a failure left something behind");
    healthy(&sandbox).await;
    first
}

/// Another bundle of the same sandbox answers.
async fn healthy(sandbox: &Sandbox) {
    let front = Front::default().load(sandbox).unwrap();
    answer(&front).await;
}

async fn answer(front: &FrontBundle) {
    let mut parsed = front.parse("/v1/embeddings", body()).await.unwrap();
    assert_eq!(front.render(&mut parsed, &[]).await.unwrap(), []);
    let encoded = front.encode(info(), vec![vec![1.0, 2.0]]).await.unwrap();
    assert_eq!(encoded.content_type, "text/plain");
}

#[track_caller]
fn check(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word:?} is not in {error:?}");
    }
}

#[tokio::test]
async fn parse_failures_are_the_components_own() {
    let overflow = r#"(func $f (param i32) (result i32)
        (i32.add (call $f (local.get 0)) (i32.const 1)))"#;
    let realloc = |body: &str| {
        format!(r#"(func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {body})"#)
    };
    let cases: [(&str, &str, Vec<u8>); 12] = [
        ("loop", "longer than its time limit", guests::parser(LOOP)),
        ("trap", "unreachable", guests::parser("(unreachable)")),
        (
            "realloc loop",
            "longer than",
            guests::parser_with("", &realloc(LOOP), LOOP),
        ),
        (
            "realloc out of bounds",
            "",
            guests::parser_with("", &realloc("(i32.const -4)"), LOOP),
        ),
        ("realloc unaligned", "", {
            let body = "(i32.add (call $alloc (local.get 3)) (i32.const 70000000))";
            guests::parser_with("", &realloc(body), LOOP)
        }),
        ("overflow", "stack", {
            guests::parser_with(overflow, &realloc("(call $alloc (local.get 3))"), {
                "(call $f (i32.const 0))"
            })
        }),
        (
            "result out of bounds",
            "",
            guests::parser("(i32.const 0x7fffff00)"),
        ),
        (
            "result unaligned",
            "align",
            guests::parser("(i32.const 1025)"),
        ),
        ("discriminant", "discriminant", {
            guests::parser("(i32.store8 (i32.const 1024) (i32.const 9)) (i32.const 1024)")
        }),
        ("utf-8", "utf-8", {
            // An error whose message is one byte 0xff.
            guests::parser(
                "(i32.store8 (i32.const 1024) (i32.const 1))
                 (i32.store8 (i32.const 3000) (i32.const 255))
                 (i32.store offset=16 (i32.const 1024) (i32.const 3000))
                 (i32.store offset=20 (i32.const 1024) (i32.const 1)) (i32.const 1024)",
            )
        }),
        ("list beyond memory", "", {
            guests::parser(
                "(i32.store offset=20 (i32.const 1024) (i32.const 0x7fffffff)) (i32.const 1024)",
            )
        }),
        ("memory", "unreachable", {
            // Grows until it is refused: the limit is 64 MiB.
            guests::parser(
                "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
                 (if (i32.gt_u (memory.size) (i32.const 1024)) (then (return (i32.const 1024))))
                 (unreachable)",
            )
        }),
    ];
    for (case, words, parser) in cases {
        let error = parse_error(parser).await;
        println!("{case}: {error}");
        check(
            &error,
            &["request-parser", "parser.wasm", "test-bundle", words],
        );
    }
}

#[tokio::test]
async fn a_result_over_the_copy_limit_is_refused() {
    // A million inputs of nothing in 12 MB of memory.
    let parser = guests::parser(
        "(drop (memory.grow (i32.const 200)))
         (i32.store offset=16 (i32.const 1024) (i32.const 65536))
         (i32.store offset=20 (i32.const 1024) (i32.const 1000000)) (i32.const 1024)",
    );
    check(&parse_error(parser).await, &["fuel"]);
}

#[tokio::test]
async fn render_failures_are_the_components_own() {
    for (code, words) in [(LOOP, "longer than"), ("(unreachable)", "unreachable")] {
        let sandbox = sandbox();
        let template = Some(guests::template(code));
        let front = Front {
            template,
            ..Front::default()
        }
        .load(&sandbox)
        .unwrap();
        let mut parsed = front.parse("/v1/embeddings", body()).await.unwrap();
        let error = reason(front.render(&mut parsed, &[]).await);
        check(&error, &["template", "template.wasm", words]);
        healthy(&sandbox).await;
    }
}

#[tokio::test]
async fn a_template_that_renders_another_number_of_inputs_fails() {
    let sandbox = sandbox();
    // One rendered input, all zero, at 4096.
    let template = guests::template(
        "(i32.store offset=4 (i32.const 1024) (i32.const 4096))
         (i32.store offset=8 (i32.const 1024) (i32.const 1)) (i32.const 1024)",
    );
    let front = Front {
        template: Some(template),
        ..Front::default()
    }
    .load(&sandbox)
    .unwrap();
    let mut parsed = front.parse("/v1/embeddings", body()).await.unwrap();
    check(
        &reason(front.render(&mut parsed, &[]).await),
        &["it rendered 1 of 0 inputs"],
    );
}

#[tokio::test]
async fn encode_failures_are_the_components_own() {
    let long = "(i32.store (i32.const 4096) (i32.const 65536))
        (i32.store (i32.const 4100) (i32.const 2000000))
        (drop (memory.grow (i32.const 64))) (i32.const 4096)";
    let cases: [(&[(&str, &str)], &str); 7] = [
        (&[("constructor", LOOP)], "longer than"),
        (&[("write", LOOP)], "longer than"),
        (&[("finish", "(unreachable)")], "unreachable"),
        (&[("constructor", "(i32.const 77)")], "unknown handle"),
        (&[("content-type", "(i32.const 40)")], "is no header"),
        (&[("content-type", "(i32.const 1024)")], "is no header"),
        (&[("write", long)], "over the limit of 1048576 bytes"),
    ];
    for (bodies, words) in cases {
        let sandbox = sandbox();
        let encoder = Some(guests::encoder(bodies));
        let front = Front {
            encoder,
            ..Front::default()
        }
        .load(&sandbox)
        .unwrap();
        let error = reason(front.encode(info(), vec![vec![1.0]]).await);
        check(&error, &["response-encoder", "encoder.wasm", words]);
        healthy(&sandbox).await;
    }
}

#[tokio::test]
async fn rows_of_different_lengths_are_not_encoded() {
    let front = Front::default().load(&sandbox()).unwrap();
    let error = reason(front.encode(info(), vec![vec![1.0], vec![1.0, 2.0]]).await);
    check(&error, &["different lengths"]);
}

#[tokio::test]
async fn an_api_error_is_clipped_and_its_status_checked() {
    // Status 200 and a message of 10,000 zero bytes.
    let parser = guests::parser(
        "(i32.store8 (i32.const 1024) (i32.const 1))
         (i32.store16 offset=4 (i32.const 1024) (i32.const 200))
         (i32.store offset=16 (i32.const 1024) (i32.const 4096))
         (i32.store offset=20 (i32.const 1024) (i32.const 10000)) (i32.const 1024)",
    );
    let front = Front {
        parser: Some(parser),
        ..Front::default()
    }
    .load(&sandbox())
    .unwrap();
    let Err(FrontError::Api(error)) = front.parse("/v1/embeddings", body()).await else {
        panic!("no API error");
    };
    assert_eq!(error.status, 500);
    assert!(error.message.len() <= 4100 && !error.message.contains('\0'));
}

#[tokio::test]
async fn a_loop_does_not_hold_up_others_on_its_thread() {
    let sandbox = sandbox();
    let looping = Front {
        parser: Some(guests::parser(LOOP)),
        ..Front::default()
    }
    .load(&sandbox)
    .unwrap();
    let front = Front::default().load(&sandbox).unwrap();
    let started = Instant::now();
    let (failed, answered) = tokio::join!(
        async {
            reason(looping.parse("/v1/embeddings", body()).await);
            started.elapsed()
        },
        async {
            for _ in 0..3 {
                answer(&front).await;
            }
            started.elapsed()
        }
    );
    assert!(
        answered < failed,
        "answered after {answered:?}, the loop ended after {failed:?}"
    );
}

#[tokio::test]
async fn requests_beyond_the_places_wait_and_are_told() {
    let sandbox = sandbox();
    let front = Front::default().load(&sandbox).unwrap();
    let mut held = Vec::new();
    for _ in 0..limits().max_front_stores {
        held.push(front.parse("/v1/embeddings", body()).await.unwrap());
    }
    let refused = front.parse("/v1/embeddings", body()).await;
    assert!(matches!(refused, Err(FrontError::Busy)));
    let (waited, ()) = tokio::join!(front.parse("/v1/embeddings", body()), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        held.pop();
    });
    waited.unwrap();
}

#[tokio::test]
async fn a_cancelled_request_gives_its_place_back() {
    let sandbox = sandbox();
    let looping = Front {
        parser: Some(guests::parser(LOOP)),
        ..Front::default()
    }
    .load(&sandbox)
    .unwrap();
    for _ in 0..3 * limits().max_front_stores {
        let call = looping.parse("/v1/embeddings", body());
        let cancelled = tokio::time::timeout(Duration::from_millis(5), call).await;
        assert!(cancelled.is_err(), "it ended by itself");
    }
    healthy(&sandbox).await;
}

#[tokio::test]
async fn nothing_of_a_request_is_left_for_the_next() {
    // Fails where it finds what it wrote before.
    let parser = guests::parser(
        "(if (i32.load (i32.const 200000)) (then (unreachable)))
         (i32.store (i32.const 200000) (i32.const 1)) (i32.const 1024)",
    );
    let front = Front {
        parser: Some(parser),
        ..Front::default()
    }
    .load(&sandbox())
    .unwrap();
    for _ in 0..20 {
        front.parse("/v1/embeddings", body()).await.unwrap();
    }
}

#[tokio::test]
async fn exit_is_a_failure_and_sleep_does_not_wait() {
    let wit = "package test:guest;
        package wasi:io@0.2.0 { interface poll {
          resource pollable { block: func(); }
        } }
        package wasi:clocks@0.2.0 { interface monotonic-clock {
          use wasi:io/poll@0.2.0.{pollable};
          subscribe-duration: func(when: u64) -> pollable;
        } }
        package wasi:cli@0.2.0 { interface exit { exit: func(status: result); } }
        world guest {
          include tenon:embed/request-parser-role@0.1.0;
          import wasi:clocks/monotonic-clock@0.2.0;
          import wasi:io/poll@0.2.0;
          import wasi:cli/exit@0.2.0;
        }";
    let module = r#"(module
      (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
        (func $subscribe (param i64) (result i32)))
      (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
      (import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))
      (memory (export "memory") 2)
      (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
      (func (export "tenon:embed/request-parser@0.1.0#parse")
        (param i32 i32 i32 i32) (result i32)
        (call $block (call $subscribe (i64.const 3600000000000)))
        (call $exit (i32.const 0))
        (unreachable)))"#;
    let sandbox = sandbox();
    let parser = Some(guests::component(wit, module));
    let front = Front {
        parser,
        ..Front::default()
    }
    .load(&sandbox)
    .unwrap();
    let started = Instant::now();
    check(
        &reason(front.parse("/v1/embeddings", body()).await),
        &["exit"],
    );
    assert!(started.elapsed() < Duration::from_secs(5));
}
