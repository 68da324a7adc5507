//! The tiny checkpoints of model families, with what the reference answers: see
//! families/make_checkpoints.py.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::server::vector;
use crate::tools::root;

/// A checkpoint directory and its goldens.
#[derive(Debug)]
pub struct Family {
    /// The directory's name, under which it is served.
    pub name: String,
    /// The directory.
    pub directory: PathBuf,
    /// What the reference answers.
    pub cases: Vec<Case>,
}

/// One input with the reference's answer.
#[derive(Debug)]
pub struct Case {
    /// The input.
    pub text: String,
    /// The prompt that the request names.
    pub prompt_name: Option<String>,
    /// Tokens after truncation, special tokens and prompt counted.
    pub tokens: u64,
    /// The vector in f32.
    pub vector: Vec<f32>,
}

/// Every family, by name.
pub fn all() -> Vec<Family> {
    let folder = root().join("tests/families");
    let texts: Vec<String> = serde_json::from_value(json(&folder.join("texts.json")))
        .expect("texts.json is a list of texts");
    let entries = fs::read_dir(&folder).expect("tests/families");
    let paths = entries.map(|entry| entry.expect("an entry of tests/families").path());
    let mut directories: Vec<PathBuf> = paths
        .filter(|path| path.join("config.json").is_file())
        .collect();
    directories.sort();
    directories
        .into_iter()
        .map(|directory| family(directory, &texts))
        .collect()
}

fn family(directory: PathBuf, texts: &[String]) -> Family {
    let name = directory.file_name().and_then(|name| name.to_str());
    let name = name.expect("UTF-8 name").to_owned();
    let goldens = json(&directory.with_file_name(format!("{name}.json")));
    let cases = goldens["cases"].as_array().expect("cases");
    let cases = cases.iter().map(|golden| case(golden, texts)).collect();
    Family {
        name,
        directory,
        cases,
    }
}

fn case(golden: &Value, texts: &[String]) -> Case {
    let index = golden["text"].as_u64().expect("index of a text") as usize;
    Case {
        text: texts[index].clone(),
        prompt_name: golden["prompt_name"].as_str().map(str::to_owned),
        tokens: golden["tokens"].as_u64().expect("a count"),
        vector: vector(&golden["vector"]),
    }
}

fn json(path: &Path) -> Value {
    let read = fs::read(path).map(|bytes| serde_json::from_slice(&bytes));
    match read {
        Ok(Ok(value)) => value,
        failed => panic!("{}: {failed:?}", path.display()),
    }
}
