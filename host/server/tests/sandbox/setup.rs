//! Sandboxes, bundles and checkpoints for tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tenon::batch::{PackedBatch, Sequence};
use tenon::sandbox::{
    BackHalf, FrontBundle, FrontRoles, LoadError, ModelInfo, PoolingInfo, RoleConfig, Sandbox,
    SandboxLimits,
};
use tenon_preprocess::TextTokenizer;
use tenon_tensor::{DType, Device, Weights};

use crate::guests;

const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null,
  "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
  "decoder": null,
  "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"}}"#;

/// Limits that a test reaches quickly.
pub fn limits() -> SandboxLimits {
    SandboxLimits {
        tick: Duration::from_millis(2),
        front_time: Duration::from_millis(60),
        back_guest_time: Duration::from_millis(60),
        front_store_wait: Duration::from_millis(200),
        max_front_stores: 4,
        max_back_stores: 2,
        store_memory_bytes: 64 << 20,
        call_bytes: 8 << 20,
        max_handles: 64,
        max_response_bytes: 1 << 20,
        device_bytes: 1 << 20,
        rebuild_backoff: Duration::from_millis(100),
        max_rebuild_backoff: Duration::from_millis(400),
        ..SandboxLimits::default()
    }
}

pub fn sandbox() -> Sandbox {
    Sandbox::new(limits()).unwrap()
}

pub fn config() -> RoleConfig {
    RoleConfig {
        checkpoint: "{}".into(),
        role: "{}".into(),
    }
}

pub fn tokenizer() -> Arc<TextTokenizer> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), TOKENIZER).unwrap();
    Arc::new(TextTokenizer::from_dir(dir.path()).unwrap())
}

/// A front half of these components; those left out are well behaved.
#[derive(Default)]
pub struct Front {
    pub parser: Option<Vec<u8>>,
    pub template: Option<Vec<u8>>,
    pub encoder: Option<Vec<u8>>,
}

impl Front {
    pub fn load(self, sandbox: &Sandbox) -> Result<FrontBundle, LoadError> {
        let part = |name: &str, bytes: Option<Vec<u8>>, otherwise: fn() -> Vec<u8>| {
            let component = sandbox.compile(name, &bytes.unwrap_or_else(otherwise))?;
            Ok::<_, LoadError>((component, config()))
        };
        let roles = FrontRoles {
            parser: part("parser.wasm", self.parser, || {
                guests::parser("(i32.const 1024)")
            })?,
            template: part("template.wasm", self.template, || {
                guests::template("(i32.const 1024)")
            })?,
            encoder: part("encoder.wasm", self.encoder, || guests::encoder(&[]))?,
        };
        FrontBundle::new(sandbox, "test-bundle", roles, tokenizer())
    }
}

/// Writes a checkpoint with the weight `table` `[8, 4]`: row i is all i, row 7 is NaN.
fn checkpoint(dir: &Path) {
    let header = r#"{"table":{"dtype":"F32","shape":[8,4],"data_offsets":[0,128]}}"#;
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    for row in 0..8 {
        let value = if row == 7 { f32::NAN } else { row as f32 };
        for _ in 0..4 {
            file.extend_from_slice(&value.to_le_bytes());
        }
    }
    std::fs::write(dir.join("model.safetensors"), file).unwrap();
}

/// A back half of a model and a pooling component.
pub fn back(
    sandbox: &Sandbox,
    model: &[u8],
    pooling: &[u8],
) -> Result<(BackHalf, ModelInfo, PoolingInfo), LoadError> {
    let dir = tempfile::tempdir().unwrap();
    checkpoint(dir.path());
    let device = Device::cpu(1).unwrap();
    let weights = Weights::open(&device, dir.path(), DType::F32).unwrap();
    let model = (sandbox.compile("model.wasm", model)?, config());
    let pooling = (sandbox.compile("pooling.wasm", pooling)?, config());
    BackHalf::new(sandbox, "test-bundle", model, pooling, weights, device)
}

/// A batch of sequences, each with the length of vector that is asked for.
pub fn batch(sequences: &[(&[u32], Option<u32>)]) -> PackedBatch {
    let sequences: Vec<Sequence> = sequences
        .iter()
        .map(|(ids, dimensions)| Sequence {
            token_ids: ids.to_vec(),
            dimensions: *dimensions,
            ..Sequence::default()
        })
        .collect();
    PackedBatch::pack(&sequences)
}
