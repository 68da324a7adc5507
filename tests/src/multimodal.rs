//! The tiny checkpoints of models that see, with what the reference answers: see
//! multimodal/make_checkpoints.py.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::server::vector;
use crate::tools::root;

/// A checkpoint directory and its goldens.
#[derive(Debug)]
pub struct Checkpoint {
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
    /// The text, if there is one.
    pub text: Option<String>,
    /// Names of images.
    pub images: Vec<String>,
    /// What the request is to say of the inputs.
    pub instruction: Option<String>,
    /// Tokens, placeholders counted.
    pub tokens: u64,
    /// The vector in f32.
    pub vector: Vec<f32>,
}

/// The folder of all of them.
pub fn folder() -> PathBuf {
    root().join("tests/multimodal")
}

/// Every checkpoint, by name.
pub fn all() -> Vec<Checkpoint> {
    let entries = fs::read_dir(folder()).expect("tests/multimodal");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut goldens: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .collect();
    goldens.sort();
    goldens.into_iter().map(checkpoint).collect()
}

fn checkpoint(golden: PathBuf) -> Checkpoint {
    let text = fs::read_to_string(&golden).expect("goldens");
    let golden_values: Value = serde_json::from_str(&text).expect("JSON");
    let directory = golden.with_extension("");
    let name = directory.file_name().and_then(|name| name.to_str());
    Checkpoint {
        name: name.expect("UTF-8 name").to_owned(),
        cases: golden_values["cases"]
            .as_array()
            .expect("cases")
            .iter()
            .map(case)
            .collect(),
        directory,
    }
}

fn case(golden: &Value) -> Case {
    let text = |key: &str| golden[key].as_str().map(str::to_owned);
    let images = golden["images"].as_array().cloned().unwrap_or_default();
    let names = images.iter().map(|name| name.as_str().expect("a name"));
    Case {
        text: text("text"),
        images: names.map(str::to_owned).collect(),
        instruction: text("instruction"),
        tokens: golden["tokens"].as_u64().expect("a count"),
        vector: vector(&golden["vector"]),
    }
}

/// An image of the goldens as a data URI.
pub fn data_uri(name: &str) -> String {
    format!("data:image/png;base64,{}", base64(name))
}

/// An image of the goldens in base64.
pub fn base64(name: &str) -> String {
    BASE64_STANDARD.encode(bytes(name))
}

/// The file of an image of the goldens.
pub fn bytes(name: &str) -> Vec<u8> {
    fs::read(folder().join("images").join(name)).expect("an image of the goldens")
}

impl Case {
    /// The case as an input of its own; none where only a conversation can say it.
    pub fn input(&self) -> Option<Value> {
        let mut input = json!({});
        if let Some(text) = &self.text {
            input["text"] = json!(text);
        }
        match &self.images[..] {
            [] => {}
            [image] => input["image"] = json!(data_uri(image)),
            _ => return None,
        }
        Some(input)
    }

    /// The case as a conversation.
    pub fn messages(&self) -> Value {
        let image = |name: &String| {
            let url = data_uri(name);
            json!({"type": "image_url", "image_url": {"url": url}})
        };
        let mut content: Vec<Value> = self.images.iter().map(image).collect();
        content.extend(
            self.text
                .iter()
                .map(|text| json!({"type": "text", "text": text})),
        );
        json!([{"role": "user", "content": content}])
    }
}
