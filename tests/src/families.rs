//! The tiny checkpoints of model families, with what the reference answers: see
//! families/make_checkpoints.py.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

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

/// One request with the reference's answer.
#[derive(Debug)]
pub struct Case {
    /// The chat template that renders it, if one does.
    pub template: Option<String>,
    /// What is asked, without the model's name.
    pub request: Value,
    /// Tokens after truncation, special tokens and prompt counted.
    pub tokens: u64,
    /// The vector in f32.
    pub vector: Vec<f32>,
}

impl Family {
    /// The same with those cases alone that this chat template renders.
    pub fn rendered_by(mut self, template: Option<&str>) -> Self {
        self.cases
            .retain(|case| case.template.as_deref() == template);
        self
    }
}

impl Case {
    /// The only input, where the request says nothing else.
    pub fn plain_input(&self) -> Option<&Value> {
        let request = self.request.as_object()?;
        let input = request.get("input").filter(|_| request.len() == 1)?;
        match input.as_array().map(Vec::as_slice) {
            Some([only]) => Some(only),
            Some(_) => None,
            None => Some(input),
        }
    }
}

/// Every family of the built-in components, by name.
pub fn all() -> Vec<Family> {
    below(".")
}

/// Every family in a folder below that of the families, by name.
pub fn below(folder: &str) -> Vec<Family> {
    let texts: Vec<String> = serde_json::from_value(json_file(&families().join("texts.json")))
        .expect("texts.json is a list of texts");
    let folder = families().join(folder);
    let entries = fs::read_dir(&folder).expect("a folder of families");
    let paths = entries.map(|entry| entry.expect("an entry of the folder").path());
    let mut directories: Vec<PathBuf> = paths
        .filter(|path| path.join("config.json").is_file())
        .collect();
    directories.sort();
    directories
        .into_iter()
        .map(|directory| family(directory, &texts))
        .collect()
}

/// The committed ones, or what `$TENON_FAMILIES` names: others that the same script made.
fn families() -> PathBuf {
    match std::env::var_os("TENON_FAMILIES") {
        Some(folder) => root().join(folder),
        None => root().join("tests/families"),
    }
}

fn family(directory: PathBuf, texts: &[String]) -> Family {
    let name = directory.file_name().and_then(|name| name.to_str());
    let name = name.expect("UTF-8 name").to_owned();
    let goldens = json_file(&directory.with_file_name(format!("{name}.json")));
    let cases = goldens["cases"].as_array().expect("cases");
    let cases = cases.iter().filter_map(|golden| case(golden, texts));
    Family {
        cases: cases.collect(),
        name,
        directory,
    }
}

/// A golden; none for a blank text, which has a vector in the reference and is refused by the
/// API.
fn case(golden: &Value, texts: &[String]) -> Option<Case> {
    let mut request = golden["request"].clone();
    if let Some(index) = golden["text"].as_u64() {
        request = json!({"input": texts[index as usize]});
    }
    for key in ["prompt_name", "dimensions"] {
        if !golden[key].is_null() {
            request[key] = golden[key].clone();
        }
    }
    let blank = |text: &str| text.trim().is_empty();
    (!request["input"].as_str().is_some_and(blank)).then(|| Case {
        template: golden["template"].as_str().map(str::to_owned),
        request,
        tokens: golden["tokens"].as_u64().expect("a count"),
        vector: vector(&golden["vector"]),
    })
}

fn json_file(path: &Path) -> Value {
    let read = fs::read(path).map(|bytes| serde_json::from_slice(&bytes));
    match read {
        Ok(Ok(value)) => value,
        failed => panic!("{}: {failed:?}", path.display()),
    }
}
