//! Fetches a model from the Hugging Face hub, or a server that speaks its protocol.

use std::ffi::OsStr;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use hf_hub::api::sync::{ApiBuilder, ApiError};

use super::digest;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// How long the hub may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Tries of a file that breaks off; each goes on where the last one ended.
const RETRIES: usize = 5;

/// Hexadecimal digits of a SHA-256.
const SHA256_HEX_LEN: usize = 64;

/// Files in the model's folder that serving needs, besides its weights.
const CONFIG_FILES: [&str; 9] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "preprocessor_config.json",
];

/// The hub is out of reach, as opposed to refusing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unreachable(String);

/// Whether a failure means that the hub cannot be reached at all.
pub fn is_unreachable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Unreachable>())
}

/// Fetches what serving needs of a model, and returns its folder in the hub's cache.
/// Honours `HF_ENDPOINT`, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE`.
pub fn pull(id: &str) -> anyhow::Result<PathBuf> {
    if let Err(error) = reach() {
        // Another tool may have left a part of a model there: only the hub can tell, so it
        // is asked where it can be.
        return match cached(id) {
            Some(dir) if is_unreachable(&error) => Ok(dir),
            _ => Err(error),
        };
    }
    let mut builder = ApiBuilder::from_env()
        .with_progress(true)
        .with_retries(RETRIES);
    if let Ok(token) = std::env::var("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    let repo = builder
        .build()
        .context("cannot set up the hub's client")?
        .model(id.to_owned());
    let info = repo.info().map_err(|error| explain(id, error))?;
    let names: Vec<&str> = info
        .siblings
        .iter()
        .map(|file| file.rfilename.as_str())
        .collect();
    let wanted: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| is_wanted(name, &names))
        .collect();
    anyhow::ensure!(
        wanted.iter().any(|name| name.ends_with(".safetensors")),
        "the model {id} has no weights in safetensors format"
    );
    let cache = hf_hub::Cache::from_env().model(id.to_owned());
    let mut dir = None;
    for name in wanted {
        let path = match cache.get(name) {
            Some(path) => path,
            None => {
                let path = repo.download(name).map_err(|error| explain(id, error))?;
                verify_blob(&path).with_context(|| format!("{id}: {name}"))?;
                path
            }
        };
        if name == "config.json" {
            dir = path.parent().map(PathBuf::from);
        }
    }
    dir.with_context(|| format!("the model {id} has no config.json"))
}

/// The folder of a model that was fetched before.
fn cached(id: &str) -> Option<PathBuf> {
    let repo = hf_hub::Cache::from_env().model(id.to_owned());
    Some(repo.get("config.json")?.parent()?.to_owned())
}

/// The hub names the contents of a large file by their SHA-256: checks them against it.
fn verify_blob(path: &Path) -> anyhow::Result<()> {
    let blob = path.canonicalize()?;
    let name = blob.file_name().and_then(OsStr::to_str).unwrap_or_default();
    if name.len() != SHA256_HEX_LEN || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    digest::verify(&blob, name).inspect_err(|_| {
        // Else the next pull would take it for whole. What cannot be removed is named by
        // the error just the same.
        let _ = std::fs::remove_file(path);
        let _ = std::fs::remove_file(&blob);
    })
}

/// Configuration, weights, and the folders of modules such as `1_Pooling`.
fn is_wanted(name: &str, all: &[&str]) -> bool {
    let (folder, file) = name.split_once('/').unwrap_or(("", name));
    if folder.is_empty() {
        let sharded = all.contains(&"model.safetensors.index.json");
        return CONFIG_FILES.contains(&file)
            || file == "model.safetensors"
            || file == "model.safetensors.index.json"
            || (sharded && file.starts_with("model-") && file.ends_with(".safetensors"));
    }
    let is_module = folder.split_once('_').is_some_and(|(number, _)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    is_module && (file == "config.json" || file == "model.safetensors")
}

/// Connects to the hub once, so that one out of reach is told in seconds.
fn reach() -> anyhow::Result<()> {
    if std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| !matches!(value.as_str(), "" | "0")) {
        return Err(Unreachable("HF_HUB_OFFLINE is set".into()).into());
    }
    let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| DEFAULT_ENDPOINT.into());
    if ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"]
        .iter()
        .any(|name| std::env::var(name).is_ok())
    {
        return Ok(()); // Only the proxy knows the way.
    }
    let (scheme, rest) = endpoint
        .split_once("://")
        .with_context(|| format!("HF_ENDPOINT is {endpoint:?}, not an address with a scheme"))?;
    let host = rest.split('/').next().unwrap_or(rest);
    let address = match (host.contains(':'), scheme) {
        (true, _) => host.to_owned(),
        (false, "http") => format!("{host}:80"),
        (false, _) => format!("{host}:443"),
    };
    let unreachable = |error: std::io::Error| Unreachable(format!("{host}: {error}"));
    let mut last = Unreachable(format!("{host}: it has no address"));
    for address in address.to_socket_addrs().map_err(unreachable)? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(()),
            Err(error) => last = unreachable(error),
        }
    }
    Err(last.into())
}

fn explain(id: &str, error: ApiError) -> anyhow::Error {
    let text = error.to_string();
    let said = |status: &str| text.contains(status);
    if said("404") {
        anyhow::anyhow!("the hub has no model {id}: {text}")
    } else if said("401") || said("403") {
        anyhow::anyhow!("the hub gives {id} only to accounts with access; set HF_TOKEN: {text}")
    } else {
        anyhow::anyhow!("cannot fetch {id} from the hub: {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::is_wanted;

    #[test]
    fn wants_what_serving_needs_and_nothing_else() {
        let single = ["model.safetensors"];
        let sharded = [
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
        ];
        for name in [
            "config.json",
            "model.safetensors",
            "1_Pooling/config.json",
            "modules.json",
        ] {
            assert!(is_wanted(name, &single), "{name}");
        }
        assert!(is_wanted("2_Dense/model.safetensors", &single));
        assert!(is_wanted("model-00001-of-00002.safetensors", &sharded));
        assert!(!is_wanted("model-00001-of-00002.safetensors", &single));
        for name in [
            "pytorch_model.bin",
            "onnx/model.onnx",
            "README.md",
            "openvino/config.json",
        ] {
            assert!(!is_wanted(name, &single), "{name}");
        }
    }
}
