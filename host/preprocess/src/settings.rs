//! The few settings of `tokenizer_config.json` that matter here.

use std::path::Path;

use serde::Deserialize;

use crate::Error;

/// A file beyond this size is no tokenizer; the largest known have some 35 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Values above this are the sentinel that transformers writes for "no limit" (1e30).
const MAX_LENGTH: f64 = 1e9;

/// What `tokenizer_config.json` says of lengths and of the token that ends a sequence.
#[derive(Debug, Default, Deserialize)]
pub struct Settings {
    /// The longest input, special tokens counted.
    model_max_length: Option<f64>,
    /// Whether sequences end with `eos_token`.
    add_eos_token: Option<bool>,
    eos_token: Option<Token>,
}

/// A token: its text, or an object that has it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

impl Settings {
    /// The file's name.
    pub const FILE: &str = "tokenizer_config.json";

    /// Reads the file, if there is one.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(Self::FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = read(&path)?;
        let json = &mut serde_json::Deserializer::from_slice(&text);
        serde_path_to_error::deserialize(json).map_err(|error| file_error(&path, error))
    }

    /// The longest input, if the file names one.
    pub fn max_length(&self) -> Option<usize> {
        let length = self.model_max_length?;
        (1.0..MAX_LENGTH)
            .contains(&length)
            .then_some(length as usize)
    }

    /// The token that sequences end with, if the file asks for one.
    pub fn added_eos(&self) -> Result<Option<&str>, String> {
        if self.add_eos_token != Some(true) {
            return Ok(None);
        }
        match &self.eos_token {
            Some(Token::Text(text) | Token::Object { content: text }) => Ok(Some(text)),
            None => Err("add_eos_token is true, but eos_token is missing".to_owned()),
        }
    }
}

/// The bytes of a file of sane size.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let size = std::fs::metadata(path)
        .map_err(|error| file_error(path, error))?
        .len();
    if size > MAX_FILE_BYTES {
        let what = format!("it has {size} bytes, the limit is {MAX_FILE_BYTES}");
        return Err(file_error(path, what));
    }
    std::fs::read(path).map_err(|error| file_error(path, error))
}

/// An error of this file.
pub fn file_error(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::File {
        file: path.display().to_string(),
        what: what.to_string(),
    }
}
