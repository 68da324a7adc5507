//! What the parser tells the encoder of a request.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Carried by the host, unread.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// How a vector is written.
    pub encoding: VectorEncoding,
    /// `/encode`: whether one answer is wanted instead of a list of answers.
    pub single: bool,
    /// `/encode`: the caller's ids of the inputs; otherwise made from the request's id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Returned to the caller as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub additional_data: Option<Box<RawValue>>,
}

/// How a vector is written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VectorEncoding {
    /// A list of numbers.
    #[default]
    Float,
    /// Base64 of little-endian f32.
    Base64,
}

impl State {
    /// The bytes for the host.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The state that a parser left. One of another dialect says nothing here: floats.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }
}
