//! One safetensors file: its header, checked, and its mapped bytes.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::mapping::Mapping;
use crate::dtype::DType;
use crate::error::{Error, Result, bail};

/// A tensor in a file. Its element type may be one that weights cannot have.
pub(super) struct Entry {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Its bytes in the file.
    pub range: Range<usize>,
}

impl Entry {
    /// Its element type, where weights can have it.
    pub fn weight_dtype(&self) -> Option<DType> {
        match self.dtype {
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            _ => None,
        }
    }
}

/// A mapped safetensors file.
pub(super) struct TensorFile {
    path: PathBuf,
    mapping: Mapping,
    entries: HashMap<String, Entry>,
}

impl TensorFile {
    /// Maps a file and checks its header against its length.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |what: &str, why: &dyn std::fmt::Display| {
            Error::Other(format!("weights: {} {what}: {why}", path.display()))
        };
        let file = File::open(path).map_err(|error| failed("cannot be opened", &error))?;
        let mapping = Mapping::new(&file).map_err(|error| failed("cannot be mapped", &error))?;
        let bytes = mapping.bytes();
        let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| {
            let why = format!("{error} (the file has {} bytes)", bytes.len());
            failed("is not a safetensors file", &why)
        })?;
        let mut entries = HashMap::new();
        for (name, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let start = start.checked_add(header + size_of::<u64>());
            let end = end.checked_add(header + size_of::<u64>());
            let range = match (start, end) {
                (Some(start), Some(end)) if start <= end && end <= bytes.len() => start..end,
                _ => bail!(
                    Other,
                    "weights: {}: tensor {name:?} lies at {:?} of {} bytes",
                    path.display(),
                    info.data_offsets,
                    bytes.len()
                ),
            };
            let entry = Entry {
                dtype: info.dtype,
                shape: info.shape.clone(),
                range,
            };
            entries.insert(name, entry);
        }
        Ok(Self {
            path: path.to_owned(),
            mapping,
            entries,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensor of this name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The bytes at a range that an entry has.
    pub fn bytes(&self, range: &Range<usize>) -> &[u8] {
        &self.mapping.bytes()[range.clone()]
    }

    /// Lets go of mapped pages; see [`Mapping::release`].
    pub fn release(&self, range: &Range<usize>) {
        self.mapping.release(range.clone());
    }
}
