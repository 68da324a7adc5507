//! The safetensors files of one folder: a single one, or shards named by an index.

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::file::{Entry, TensorFile};
use crate::error::{Error, Result, bail};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The largest index that is read.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// What files must lie in: a model's folder, with all links followed.
pub(super) struct Root {
    allowed: Vec<PathBuf>,
    path: PathBuf,
}

impl Root {
    /// The model's folder.
    pub fn new(dir: &Path) -> Result<Self> {
        let path = fs::canonicalize(dir)
            .map_err(|error| Error::Other(format!("weights: {}: {error}", dir.display())))?;
        let mut allowed = vec![path.clone()];
        // A snapshot in the cache of Hugging Face's hub is a folder of links into the
        // `blobs` beside `snapshots`.
        if let Some(snapshots) = path.parent().filter(|parent| parent.ends_with("snapshots")) {
            allowed.extend(snapshots.parent().map(|model| model.join("blobs")));
        }
        Ok(Self { allowed, path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The real path of a file under the folder; none where there is none.
    fn resolve(&self, relative: &Path) -> Result<Option<PathBuf>> {
        let plain = |component| matches!(component, Component::Normal(_));
        let text = relative.to_string_lossy();
        if text.is_empty() || text.contains(['\\', '\0']) || !relative.components().all(plain) {
            bail!(
                InvalidArgument,
                "weights: {text:?} is not a path inside of the model's folder"
            );
        }
        let path = self.path.join(relative);
        let real = match fs::canonicalize(&path) {
            Ok(real) => real,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => bail!(Other, "weights: {}: {error}", path.display()),
        };
        if !self.allowed.iter().any(|allowed| real.starts_with(allowed)) {
            bail!(
                InvalidArgument,
                "weights: {} links to {}, outside of the model's folder",
                path.display(),
                real.display()
            );
        }
        Ok(Some(real))
    }
}

/// The tensors of one folder.
pub(super) struct Folder {
    files: Vec<Arc<TensorFile>>,
    /// The index into `files` of each tensor.
    tensors: HashMap<String, usize>,
}

impl Folder {
    /// Opens `model.safetensors`, or the shards that the index names, in `folder` under the
    /// root.
    pub fn open(root: &Root, folder: &Path) -> Result<Self> {
        if let Some(path) = root.resolve(&folder.join(SINGLE))? {
            let file = TensorFile::open(&path)?;
            let tensors = file.names().map(|name| (name.to_owned(), 0)).collect();
            return Ok(Self {
                files: vec![Arc::new(file)],
                tensors,
            });
        }
        match root.resolve(&folder.join(INDEX))? {
            Some(path) => Self::open_shards(root, folder, &path),
            None => bail!(
                Other,
                "weights: {} has neither {SINGLE} nor {INDEX}",
                root.path.join(folder).display()
            ),
        }
    }

    fn open_shards(root: &Root, folder: &Path, index: &Path) -> Result<Self> {
        let mut files: Vec<Arc<TensorFile>> = Vec::new();
        let mut opened: HashMap<String, usize> = HashMap::new();
        let mut tensors = HashMap::new();
        for (tensor, shard) in read_index(index)? {
            let file = match opened.get(&shard) {
                Some(&file) => file,
                None => {
                    let Some(path) = root.resolve(&folder.join(&shard))? else {
                        bail!(
                            Other,
                            "weights: {}: shard {shard:?} of tensor {tensor:?} is missing",
                            index.display()
                        );
                    };
                    files.push(Arc::new(TensorFile::open(&path)?));
                    opened.insert(shard.clone(), files.len() - 1);
                    files.len() - 1
                }
            };
            if files[file].entry(&tensor).is_none() {
                bail!(
                    Other,
                    "weights: {} has no tensor {tensor:?}, which {} says it has",
                    files[file].path().display(),
                    index.display()
                );
            }
            tensors.insert(tensor, file);
        }
        Ok(Self { files, tensors })
    }

    /// The tensor of this name and its file.
    pub fn find(&self, name: &str) -> Option<(&Arc<TensorFile>, &Entry)> {
        let file = &self.files[*self.tensors.get(name)?];
        Some((file, file.entry(name)?))
    }

    /// All names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Bytes of all tensors together, as they are in the files.
    pub fn bytes(&self) -> u64 {
        let entries = self.tensors.keys().filter_map(|name| self.find(name));
        entries.map(|(_, entry)| entry.range.len() as u64).sum()
    }
}

/// The shard of each tensor, sorted by tensor.
fn read_index(path: &Path) -> Result<Vec<(String, String)>> {
    let failed =
        |why: &dyn std::fmt::Display| Error::Other(format!("weights: {}: {why}", path.display()));
    let length = fs::metadata(path).map_err(|error| failed(&error))?.len();
    if length > MAX_INDEX_BYTES {
        return Err(failed(&format!(
            "{length} bytes, more than {MAX_INDEX_BYTES}"
        )));
    }
    let text = fs::read(path).map_err(|error| failed(&error))?;
    let index: serde_json::Value = serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    let Some(map) = index
        .get("weight_map")
        .and_then(serde_json::Value::as_object)
    else {
        return Err(failed(&"there is no object \"weight_map\""));
    };
    let mut shards = Vec::with_capacity(map.len());
    for (tensor, shard) in map {
        match shard.as_str() {
            Some(shard) => shards.push((tensor.clone(), shard.to_owned())),
            None => {
                return Err(failed(&format!(
                    "the shard of {tensor:?} is {shard}, no string"
                )));
            }
        }
    }
    shards.sort();
    Ok(shards)
}
