//! Hostile components, one for each role: core modules in the text format, made components with
//! the project's own WIT package.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::checkpoint::{HIDDEN, MAX_TOKENS, vocabulary};

/// How many rows the batch has that the host runs before it serves.
const PROBE_ROWS: usize = 2;
/// The weight that the faulty model looks tokens up in.
const EMBEDDING: &str = "embeddings.word_embeddings.weight";

/// A role of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads requests.
    RequestParser,
    /// Renders inputs.
    Template,
    /// Computes hidden states.
    Model,
    /// Makes vectors of hidden states.
    Pooling,
    /// Writes answers.
    ResponseEncoder,
}

/// Every role.
pub const ROLES: [Role; 5] = [
    Role::RequestParser,
    Role::Template,
    Role::Model,
    Role::Pooling,
    Role::ResponseEncoder,
];

impl Role {
    /// Its name in manifests and errors.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestParser => "request-parser",
            Self::Template => "template",
            Self::Model => "model",
            Self::Pooling => "pooling",
            Self::ResponseEncoder => "response-encoder",
        }
    }

    /// The built-in component that plays it.
    pub fn builtin(self) -> &'static str {
        match self {
            Self::RequestParser | Self::ResponseEncoder => "builtin:openai",
            Self::Template => "builtin:plain",
            Self::Model => "builtin:bert",
            Self::Pooling => "builtin:standard",
        }
    }

    /// The core module's imports: what a model and a pooling policy need to work as long as
    /// a batch has no more rows than the one that is run at start.
    fn imports(self) -> &'static str {
        match self {
            Self::RequestParser | Self::Template | Self::ResponseEncoder => "",
            Self::Model => {
                r#"(import "tenon:embed/weights@0.1.0" "get"
                     (func $get (param i32 i32 i32 i32 i32)))
                   (import "tenon:embed/batches@0.1.0" "[method]batch.token-ids"
                     (func $token_ids (param i32) (result i32)))
                   (import "tenon:embed/batches@0.1.0" "[resource-drop]batch"
                     (func $drop_batch (param i32)))
                   (import "tenon:embed/tensor@0.1.0" "[method]indices.len"
                     (func $len (param i32) (result i32)))
                   (import "tenon:embed/tensor@0.1.0" "[resource-drop]indices"
                     (func $drop_indices (param i32)))
                   (import "tenon:embed/tensor@0.1.0" "embedding"
                     (func $embedding (param i32 i32 i32 i32 i32)))"#
            }
            Self::Pooling => {
                r#"(import "tenon:embed/tensor@0.1.0" "[method]layout.rows"
                     (func $rows (param i32) (result i32)))
                   (import "tenon:embed/tensor@0.1.0" "[resource-drop]tensor"
                     (func $drop_tensor (param i32)))
                   (import "tenon:embed/tensor@0.1.0" "[resource-drop]layout"
                     (func $drop_layout (param i32)))
                   (import "tenon:embed/tensor@0.1.0" "segment-pool"
                     (func $segment_pool (param i32 i32 i32 i32)))"#
            }
        }
    }

    /// The core module's exports, each with `fault` as the body of what a request runs.
    fn exports(self, fault: &str) -> String {
        match self {
            Self::RequestParser => format!(
                r#"(func (export "tenon:embed/request-parser@0.1.0#parse")
                     (param i32 i32 i32 i32) (result i32) {fault})"#
            ),
            Self::Template => format!(
                r#"(func (export "tenon:embed/template@0.1.0#render")
                     (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                     {fault})"#
            ),
            Self::Model => format!(
                r#"(global $table (mut i32) (i32.const 0))
                   (data (i32.const 64) "{info}")
                   (data (i32.const 128) "{EMBEDDING}")
                   (data (i32.const 256) "{shape}")
                   (func (export "tenon:embed/model@0.1.0#load") (result i32)
                     (call $get (i32.const 128) (i32.const {name_len}) (i32.const 256)
                       (i32.const 2) (i32.const 512))
                     (if (i32.load8_u (i32.const 512)) (then (unreachable)))
                     (global.set $table (i32.load (i32.const 516)))
                     (i32.const 64))
                   (func (export "tenon:embed/model@0.1.0#forward") (param $batch i32) (result i32)
                     (local $ids i32)
                     (local.set $ids (call $token_ids (local.get $batch)))
                     (call $drop_batch (local.get $batch))
                     (if (i32.gt_u (call $len (local.get $ids)) (i32.const {PROBE_ROWS}))
                       (then (return {fault})))
                     (call $embedding (global.get $table) (local.get $ids) (i32.const 0)
                       (i32.const 0) (i32.const 512))
                     (call $drop_indices (local.get $ids))
                     (i32.const 512))"#,
                info = words(&[0, HIDDEN, 1, MAX_TOKENS, vocabulary()]),
                shape = words(&[vocabulary(), HIDDEN]),
                name_len = EMBEDDING.len(),
            ),
            Self::Pooling => format!(
                r#"(data (i32.const 64) "{}")
                   (func (export "tenon:embed/pooling@0.1.0#load") (param i32) (result i32)
                     (i32.const 64))
                   (func (export "tenon:embed/pooling@0.1.0#pool")
                     (param $hidden i32) (param $layout i32) (param i32 i32) (result i32)
                     (if (i32.gt_u (call $rows (local.get $layout)) (i32.const {PROBE_ROWS}))
                       (then (return {fault})))
                     (call $segment_pool (local.get $hidden) (local.get $layout) (i32.const 0)
                       (i32.const 512))
                     (call $drop_tensor (local.get $hidden))
                     (call $drop_layout (local.get $layout))
                     (i32.const 512))"#,
                words(&[0, HIDDEN, 0, 0, 0])
            ),
            Self::ResponseEncoder => format!(
                r#"(func (export "tenon:embed/response-encoder@0.1.0#[constructor]encoding")
                     (param i32 i32 i32 i32 i32 i32 i64 i32 i32 i32 f64 i32 i32) (result i32) {fault})
                   (func (export "tenon:embed/response-encoder@0.1.0#[method]encoding.content-type")
                     (param i32) (result i32) {fault})
                   (func (export "tenon:embed/response-encoder@0.1.0#[method]encoding.write")
                     (param i32 i32 i32 i32) (result i32) {fault})
                   (func (export "tenon:embed/response-encoder@0.1.0#[method]encoding.finish")
                     (param i32) (result i32) {fault})
                   (func (export "tenon:embed/response-encoder@0.1.0#encode-error")
                     (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {fault})"#
            ),
        }
    }
}

/// What a component does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Executes `unreachable`.
    Trap,
    /// Never returns.
    Loop,
    /// Grows its memory until it is refused, then traps.
    OverAllocate,
    /// Calls itself without end.
    Recurse,
    /// Returns a pointer outside its memory.
    WildPointer,
}

/// Every fault.
pub const FAULTS: [Fault; 5] = [
    Fault::Trap,
    Fault::Loop,
    Fault::OverAllocate,
    Fault::Recurse,
    Fault::WildPointer,
];

impl Fault {
    fn body(self) -> &'static str {
        match self {
            Self::Trap => "(unreachable)",
            Self::Loop => "(block (result i32) (loop $again (br $again)) unreachable)",
            Self::OverAllocate => {
                "(block (result i32)
                   (loop $again
                     (br_if $again (i32.ne (memory.grow (i32.const 256)) (i32.const -1))))
                   unreachable)"
            }
            Self::Recurse => "(call $recurse (i32.const 0))",
            Self::WildPointer => "(i32.const 0x7ffffff0)",
        }
    }
}

/// Writes the component that commits `fault` in `role`.
pub fn write_faulty(role: Role, fault: Fault, path: &Path) {
    let text = format!(
        r#"(module
             {}
             (memory (export "memory") 1)
             (global $free (mut i32) (i32.const 4096))
             (func $recurse (param i32) (result i32)
               (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
             (func (export "cabi_realloc") (param $old i32) (param $old_size i32)
                 (param $align i32) (param $size i32) (result i32)
               (local $start i32)
               (local.set $start (i32.and
                 (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
               (global.set $free (i32.add (local.get $start) (local.get $size)))
               (local.get $start))
             {})"#,
        role.imports(),
        role.exports(fault.body())
    );
    let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve.push_dir(&wit).expect("the WIT package");
    let world = format!("{}-role", role.name());
    let world = resolve
        .select_world(&[package], Some(&world))
        .expect("the role's world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("metadata of the world");
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&module).expect("module");
    let component = encoder
        .encode()
        .unwrap_or_else(|error| panic!("{role:?}: {error:#}"));
    std::fs::write(path, component).expect("component file");
}

/// 32-bit words as the text format's data strings.
fn words(values: &[usize]) -> String {
    let bytes = values
        .iter()
        .flat_map(|value| (*value as u32).to_le_bytes());
    bytes.map(|byte| format!("\\{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_in_every_role_is_a_valid_component() {
        let directory = tempfile::tempdir().unwrap();
        for role in ROLES {
            for fault in FAULTS {
                write_faulty(role, fault, &directory.path().join("faulty.wasm"));
            }
        }
    }
}
