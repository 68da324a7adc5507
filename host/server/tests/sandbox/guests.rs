//! Components made of core modules in the text format, one function a role.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Memory, and an allocator that never frees. Bytes 1024 to 65535 are zero: a result that
/// lies there is an empty one.
const PRELUDE: &str = r#"
  (memory (export "memory") 4)
  (global $top (mut i32) (i32.const 65536))
  (func $alloc (param $size i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (global.get $top) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.add (i32.const 1)
        (i32.shr_u (local.get $size) (i32.const 16)))))))
    (local.get $at))
"#;

/// `cabi_realloc` on that allocator.
pub const REALLOC: &str = r#"
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (call $alloc (local.get 3)))
"#;

/// Encodes a core module as a component of the world that `wit` ends with, whose package
/// may use `tenon:embed`.
pub fn component(wit: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve
        .push_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit"))
        .unwrap();
    encode(resolve, wit, module)
}

/// As [`component`], without `tenon:embed`: `wit` defines it.
pub fn component_of(wit: &str, module: &str) -> Vec<u8> {
    encode(Resolve::default(), wit, module)
}

fn encode(mut resolve: Resolve, wit: &str, module: &str) -> Vec<u8> {
    let package = resolve.push_str("test.wit", wit).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .unwrap()
        .encode()
        .unwrap()
}

/// The WIT of a component that exports `role` and imports what the role may, and `imports`.
pub fn world(role: &str, imports: &[&str]) -> String {
    let imports: String = imports
        .iter()
        .map(|name| format!("import {name};\n"))
        .collect();
    format!(
        "package test:guest;\nworld guest {{ include tenon:embed/{role}-role@0.1.0;\n{imports} }}"
    )
}

/// A request-parser whose `parse` has this body. `$endpoint_len` is a parameter.
pub fn parser(body: &str) -> Vec<u8> {
    parser_with("", REALLOC, body)
}

/// The same with further fields of the module, and its allocator.
pub fn parser_with(fields: &str, realloc: &str, body: &str) -> Vec<u8> {
    let module = format!(
        r#"(module {fields} {PRELUDE} {realloc}
  (func (export "tenon:embed/request-parser@0.1.0#parse")
    (param $endpoint i32) (param $endpoint_len i32) (param $body i32) (param $body_len i32)
    (result i32) (local $i i32) {body}))"#
    );
    component(&world("request-parser", &[]), &module)
}

/// A template whose `render` has this body.
pub fn template(body: &str) -> Vec<u8> {
    let module = format!(
        r#"(module {PRELUDE} {REALLOC}
  (func (export "tenon:embed/template@0.1.0#render")
    (param $inputs i32) (param $inputs_len i32)
    (param $images i32) (param $images_len i32) (param i32 i32 i32) (param i32 i32) (param i32 i32 i32) (param i32)
    (result i32) (local $i i32) {body}))"#
    );
    component(&world("template", &[]), &module)
}

/// A response-encoder of which some functions have other bodies than those that write
/// `text/plain` with nothing in it.
pub fn encoder(bodies: &[(&str, &str)]) -> Vec<u8> {
    let body = |name: &str, otherwise: &'static str| -> String {
        let found = bodies.iter().find(|(key, _)| *key == name);
        found.map_or(otherwise, |(_, body)| body).to_owned()
    };
    let empty = "(i32.const 1024)";
    let module = format!(
        r#"(module
  (import "[export]tenon:embed/response-encoder@0.1.0" "[resource-new]encoding"
    (func $new (param i32) (result i32)))
  {PRELUDE} {REALLOC}
  (data (i32.const 16) "text/plain\n")
  (data (i32.const 32) "\10\00\00\00\0a\00\00\00")
  (data (i32.const 40) "\10\00\00\00\0b\00\00\00")
  (func (export "tenon:embed/response-encoder@0.1.0#[constructor]encoding")
    (param i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 f64 i32 i32) (result i32) {constructor})
  (func (export "tenon:embed/response-encoder@0.1.0#[method]encoding.content-type")
    (param i32) (result i32) {content_type})
  (func (export "tenon:embed/response-encoder@0.1.0#[method]encoding.write")
    (param i32 i32 i32 i32) (result i32) {write})
  (func (export "tenon:embed/response-encoder@0.1.0#[method]encoding.finish")
    (param i32) (result i32) {finish})
  (func (export "tenon:embed/response-encoder@0.1.0#encode-error")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {error}))"#,
        constructor = body("constructor", "(call $new (i32.const 1))"),
        content_type = body("content-type", "(i32.const 32)"),
        write = body("write", empty),
        finish = body("finish", empty),
        error = body("encode-error", empty),
    );
    component(&world("response-encoder", &[]), &module)
}

/// A model whose hidden states are rows of the weight `table` `[8, 4]`. `before` runs at
/// the start of `forward`, which has the parameter `$batch` and the local `$ids`.
pub fn model(before: &str) -> Vec<u8> {
    model_with(
        before,
        "(i32.store offset=4 (i32.const 1024) (i32.const 4))",
    )
}

/// The same with `info`, which writes what `load` says to address 1024.
pub fn model_with(before: &str, info: &str) -> Vec<u8> {
    let module = format!(
        r#"(module
  (import "tenon:embed/weights@0.1.0" "get" (func $get (param i32 i32 i32 i32 i32)))
  (import "tenon:embed/batches@0.1.0" "[method]batch.token-ids"
    (func $token_ids (param i32) (result i32)))
  (import "tenon:embed/batches@0.1.0" "[resource-drop]batch" (func $drop_batch (param i32)))
  (import "tenon:embed/tensor@0.1.0" "[resource-drop]indices"
    (func $drop_indices (param i32)))
  (import "tenon:embed/tensor@0.1.0" "[resource-drop]tensor" (func $drop_tensor (param i32)))
  (import "tenon:embed/tensor@0.1.0" "embedding"
    (func $embedding (param i32 i32 i32 i32 i32)))
  {PRELUDE} {REALLOC}
  (global $table (mut i32) (i32.const 0))
  (global $calls (mut i32) (i32.const 0))
  (data (i32.const 16) "table")
  (data (i32.const 32) "\08\00\00\00\04\00\00\00")
  (func (export "tenon:embed/model@0.1.0#load") (result i32)
    (call $get (i32.const 16) (i32.const 5) (i32.const 32) (i32.const 2) (i32.const 64))
    (if (i32.load8_u (i32.const 64)) (then (unreachable)))
    (global.set $table (i32.load (i32.const 68)))
    (i32.store offset=16 (i32.const 1024) (i32.const 8))
    {info}
    (i32.const 1024))
  (func $recurse (param i32) (result i32)
    (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func (export "tenon:embed/model@0.1.0#forward") (param $batch i32) (result i32)
    (local $ids i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
    {before}
    (local.set $ids (call $token_ids (local.get $batch)))
    (call $drop_batch (local.get $batch))
    (call $embedding (global.get $table) (local.get $ids) (i32.const 0) (i32.const 0)
      (i32.const 2048))
    (call $drop_indices (local.get $ids))
    (i32.const 2048)))"#
    );
    component(&world("model", &[]), &module)
}

/// Mean pooling to 4 dimensions or fewer. `before` runs at the start of `pool`, which has
/// the parameters `$hidden` and `$layout`.
pub fn pooling(before: &str) -> Vec<u8> {
    let module = format!(
        r#"(module
  (import "tenon:embed/tensor@0.1.0" "[resource-drop]tensor" (func $drop_tensor (param i32)))
  (import "tenon:embed/tensor@0.1.0" "[resource-drop]layout" (func $drop_layout (param i32)))
  (import "tenon:embed/tensor@0.1.0" "segment-pool"
    (func $segment_pool (param i32 i32 i32 i32)))
  (import "tenon:embed/tensor@0.1.0" "slice" (func $slice (param i32 i32 i32 i32 i32)))
  {PRELUDE} {REALLOC}
  (func (export "tenon:embed/pooling@0.1.0#load") (param i32) (result i32)
    (i32.store offset=4 (i32.const 1024) (i32.const 4))
    (i32.store8 offset=8 (i32.const 1024) (i32.const 1))
    (i32.const 1024))
  (func (export "tenon:embed/pooling@0.1.0#pool")
    (param $hidden i32) (param $layout i32) (param $some i32) (param $dimensions i32)
    (result i32) (local $vectors i32)
    {before}
    (call $segment_pool (local.get $hidden) (local.get $layout) (i32.const 2)
      (i32.const 2048))
    (call $drop_tensor (local.get $hidden))
    (call $drop_layout (local.get $layout))
    (if (i32.or (i32.load8_u (i32.const 2048)) (i32.eqz (local.get $some)))
      (then (return (i32.const 2048))))
    (local.set $vectors (i32.load (i32.const 2052)))
    (call $slice (local.get $vectors) (i32.const 1) (i32.const 0) (local.get $dimensions)
      (i32.const 3072))
    (call $drop_tensor (local.get $vectors))
    (i32.const 3072)))"#
    );
    component(&world("pooling", &[]), &module)
}
