//! Matryoshka: the shorter vectors that callers may ask for, by the checkpoint's own files or by
//! the operator.

use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::Bundle;

/// The lengths that callers may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matryoshka {
    /// Any up to the model's own.
    Any,
    /// These.
    Only(Vec<u32>),
}

impl Matryoshka {
    /// Reads `config.json`, where lengths that are listed say more than `is_matryoshka`. None:
    /// the checkpoint is not known to be trained for it.
    pub(super) fn read(config: &Map<String, Value>) -> Result<Option<Self>, String> {
        let listed = match config.get("matryoshka_dimensions") {
            None | Some(Value::Null) => Vec::new(),
            Some(listed) => serde_json::from_value(listed.clone())
                .map_err(|error| format!("matryoshka_dimensions: {error}"))?,
        };
        match config.get("is_matryoshka") {
            _ if !listed.is_empty() => Ok(Some(Self::Only(listed))),
            Some(Value::Bool(true)) => Ok(Some(Self::Any)),
            None | Some(Value::Bool(false) | Value::Null) => Ok(None),
            Some(other) => Err(format!("is_matryoshka is {other}, not true or false")),
        }
    }
}

impl FromStr for Matryoshka {
    type Err = String;

    /// Reads `any`, or lengths with commas between.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let lengths = text.split(',').map(|length| length.trim().parse());
        lengths
            .collect::<Result<_, _>>()
            .map(Self::Only)
            .map_err(|error| format!("neither `any` nor lengths with commas between: {error}"))
    }
}

impl Bundle {
    /// Lets callers ask for these lengths, whatever the checkpoint says.
    pub fn use_matryoshka(&mut self, matryoshka: &Matryoshka) {
        let listed: &[u32] = match matryoshka {
            Matryoshka::Any => &[],
            Matryoshka::Only(lengths) => lengths,
        };
        let settings = &mut self.role_config.pooling;
        settings["matryoshka"] = json!(true);
        settings["matryoshka_dimensions"] = json!(listed);
    }
}
