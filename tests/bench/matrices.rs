//! The matrices of a checkpoint that every token is multiplied with.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use tenon_tensor::DType;

/// What the names of tensors have in them that no token, or not every token, is multiplied
/// with: tables, what follows pooling, and the part for images.
const NOT_EVERY_TOKEN: [&str; 5] = ["embed", "pooler", "projection.", "vision_model.", "visual."];

/// What a checkpoint's file says of its matrices.
pub struct Matrices {
    /// The dtype to serve it in: bf16 where it is stored so.
    pub dtype: &'static str,
    /// Twice the elements of all matrices that every token is multiplied with.
    pub flop_per_token: f64,
}

impl Matrices {
    /// The dtype of products with them.
    pub fn products(&self) -> DType {
        match self.dtype {
            "bf16" => DType::BF16,
            _ => DType::F32,
        }
    }

    /// Reads the head of a safetensors file.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length))
            .read_to_end(&mut header)?;
        let header: BTreeMap<String, Value> = serde_json::from_slice(&header)?;
        let mut matrices = Self {
            dtype: "f32",
            flop_per_token: 0.0,
        };
        for (name, tensor) in &header {
            let shape: Vec<f64> = match tensor["shape"].as_array() {
                Some(shape) => shape.iter().filter_map(Value::as_f64).collect(),
                None => continue,
            };
            if shape.len() == 2 && !NOT_EVERY_TOKEN.iter().any(|part| name.contains(part)) {
                matrices.flop_per_token += 2.0 * shape[0] * shape[1];
            }
            if tensor["dtype"] == "BF16" {
                matrices.dtype = "bf16";
            }
        }
        Ok(matrices)
    }
}
