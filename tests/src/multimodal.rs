//! The tiny checkpoints of models that see, with what the reference answers: see
//! multimodal/make_checkpoints.py.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use crate::families::{Case, Family};
use crate::server::{Server, vector};
use crate::tools::root;

/// A checkpoint of GME on Qwen2-VL, as on the hub.
pub const GME: &str = "gme-qwen2-vl";
/// A checkpoint of CLIP, as on the hub.
pub const CLIP: &str = "clip";
/// What the files of lossy images end in. Decoders differ there.
const LOSSY: &str = ".jpg";

/// The folder of all of them.
pub fn folder() -> PathBuf {
    root().join("tests/multimodal")
}

/// Every checkpoint, by name; each case as an input and as a conversation.
pub fn all() -> Vec<Family> {
    read(|images| !images.iter().any(|image| image.ends_with(LOSSY)))
}

/// The same with the cases of lossy images alone.
pub fn lossy() -> Vec<Family> {
    read(|images| images.iter().any(|image| image.ends_with(LOSSY)))
}

/// Every checkpoint with those cases whose images are `wanted`.
fn read(wanted: impl Fn(&[&str]) -> bool + Copy) -> Vec<Family> {
    let entries = fs::read_dir(folder()).expect("tests/multimodal");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut goldens: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .collect();
    goldens.sort();
    let family = |path| family(path, wanted);
    goldens.into_iter().map(family).collect()
}

/// Starts a server of all checkpoints.
#[track_caller]
pub fn serve(dtype: &str) -> Server {
    let mut arguments = vec!["--dtype", dtype];
    let checkpoints = all();
    for checkpoint in &checkpoints {
        let path = checkpoint.directory.to_str().expect("UTF-8 path");
        arguments.extend(["--model", path]);
    }
    Server::start(&arguments)
}

fn family(path: PathBuf, wanted: impl Fn(&[&str]) -> bool) -> Family {
    let text = fs::read_to_string(&path).expect("goldens");
    let goldens: Value = serde_json::from_str(&text).expect("JSON");
    let directory = path.with_extension("");
    let name = directory.file_name().and_then(|name| name.to_str());
    let cases = goldens["cases"].as_array().expect("cases").iter();
    Family {
        name: name.expect("UTF-8 name").to_owned(),
        cases: cases.flat_map(|golden| cases_of(golden, &wanted)).collect(),
        directory,
    }
}

fn cases_of(golden: &Value, wanted: impl Fn(&[&str]) -> bool) -> Vec<Case> {
    let images = golden["images"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = images.iter().filter_map(Value::as_str).collect();
    if !wanted(&names) {
        return Vec::new();
    }
    let text = golden["text"].as_str();
    let input = input(text, &names).map(|input| ("input", json!([input])));
    let conversation = ("messages", messages(text, &names));
    let case = |(key, value): (&str, Value)| {
        let mut request = Map::from_iter([(key.to_owned(), value)]);
        if let Some(instruction) = golden["instruction"].as_str() {
            request.insert("instruction".to_owned(), json!(instruction));
        }
        Case {
            template: None,
            request: request.into(),
            tokens: golden["tokens"].as_u64().expect("a count"),
            vector: vector(&golden["vector"]),
        }
    };
    input.into_iter().chain([conversation]).map(case).collect()
}

/// An input of its own; none where only a conversation can say it.
fn input(text: Option<&str>, images: &[&str]) -> Option<Value> {
    let mut input = json!({});
    if let Some(text) = text {
        input["text"] = json!(text);
    }
    match images {
        [] => {}
        [image] => input["image"] = json!(data_uri(image)),
        _ => return None,
    }
    Some(input)
}

fn messages(text: Option<&str>, images: &[&str]) -> Value {
    let image = |name: &&str| {
        let url = data_uri(name);
        json!({"type": "image_url", "image_url": {"url": url}})
    };
    let mut content: Vec<Value> = images.iter().map(image).collect();
    content.extend(text.map(|text| json!({"type": "text", "text": text})));
    json!([{"role": "user", "content": content}])
}

/// An image of the goldens as a data URI.
pub fn data_uri(name: &str) -> String {
    let kind = if name.ends_with(LOSSY) { "jpeg" } else { "png" };
    format!("data:image/{kind};base64,{}", base64(name))
}

/// An image of the goldens in base64.
pub fn base64(name: &str) -> String {
    BASE64_STANDARD.encode(bytes(name))
}

/// The file of an image of the goldens.
pub fn bytes(name: &str) -> Vec<u8> {
    fs::read(folder().join("images").join(name)).expect("an image of the goldens")
}
