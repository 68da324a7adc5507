//! A checkpoint's weights: safetensors, mapped, and packed at their first use.

mod file;
mod folder;
mod mapping;
mod weight;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use file::{Entry, TensorFile};
use folder::{Folder, Root};
use weight::{Ledger, Part};

pub(crate) use weight::Weight;

use crate::Device;
use crate::convert::read_f32;
use crate::cuda::OnCuda;
use crate::device::Backend;
use crate::dtype::DType;
use crate::error::{Result, bail};
use crate::shape::Shape;
use crate::tensor::{Storage, Tensor};

/// The most tensors that are fused into one.
const MAX_FUSED: usize = 8;

/// The most fused tensors of one checkpoint.
const MAX_FUSIONS: usize = 8192;

/// The most folders of modules with weights of their own.
const MAX_FOLDERS: usize = 64;

/// Resident bytes may be this many times those of the files: twice where f32 is served from
/// 16-bit files, and twice again where a component uses tensors both alone and fused.
const RESIDENT_FACTOR: u64 = 4;

/// A checkpoint's weights: `model.safetensors`, or shards named by
/// `model.safetensors.index.json`, in f32, f16 or bf16. The files are mapped. What an
/// operation needs (packed panels, a table rounded to the served dtype) is made at its first
/// use, once for all who share this. Cheap to clone.
///
/// The files must not be changed while they are served.
#[derive(Clone)]
pub struct Weights {
    inner: Arc<Inner>,
}

struct Inner {
    device: Device,
    dtype: DType,
    root: Root,
    top: Arc<Folder>,
    folders: Mutex<HashMap<String, Arc<Folder>>>,
    tensors: Mutex<HashMap<Vec<String>, Tensor>>,
    ledger: Arc<Ledger>,
    checkpoint_bytes: AtomicU64,
}

impl Weights {
    /// Opens the checkpoint in `dir`, to be served in `dtype`, which the device
    /// [supports](Device::supports).
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for another dtype; [`crate::Error::Other`] where a file is missing,
    /// cannot be read or is malformed; [`crate::Error::InvalidArgument`] where a path leads out of
    /// `dir`. The text names the file.
    pub fn open(device: &Device, dir: &Path, dtype: DType) -> Result<Self> {
        device.check_weight_dtype(dtype)?;
        let root = Root::new(dir)?;
        let top = Arc::new(Folder::open(&root, Path::new(""))?);
        let inner = Inner {
            device: device.clone(),
            dtype,
            root,
            top: top.clone(),
            folders: Mutex::default(),
            tensors: Mutex::default(),
            ledger: Arc::new(Ledger::new()),
            checkpoint_bytes: AtomicU64::new(0),
        };
        inner.add_folder(&top);
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Whether the checkpoint has a tensor of this name. A name with a folder,
    /// `2_Dense/linear.weight`, is looked for in that folder's files.
    pub fn has(&self, name: &str) -> bool {
        matches!(self.inner.locate(name), Ok((folder, name)) if folder.find(&name).is_some())
    }

    /// The tensor of this name, which has this shape. Rank 1 is f32; higher ranks are in the
    /// served dtype.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] for an absent name; [`crate::Error::ShapeMismatch`] for another
    /// shape; [`crate::Error::Unsupported`] for elements that are not f32, f16 or bf16;
    /// [`crate::Error::QuotaExceeded`] where the checkpoint's weights already take many times its
    /// bytes. The text names the file, the tensor, what was wanted and what was found.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.inner.tensor(&[name], shape)
    }

    /// 2 to 8 named tensors one after the other along dimension 0. `shape` is the result's.
    /// Made once and kept.
    ///
    /// # Errors
    /// As for [`Weights::get`].
    pub fn concat(&self, names: &[&str], shape: &[usize]) -> Result<Tensor> {
        if !(2..=MAX_FUSED).contains(&names.len()) {
            bail!(
                InvalidArgument,
                "weights: {} names to fuse, not 2 to {MAX_FUSED}",
                names.len()
            );
        }
        self.inner.tensor(names, shape)
    }

    /// What they are served in.
    pub fn dtype(&self) -> DType {
        self.inner.dtype
    }

    /// The names of all tensors outside of module folders, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.inner.top.names().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Bytes that packed weights, converted tables, vectors, and tables used in place take.
    pub fn resident_bytes(&self) -> u64 {
        self.inner.ledger.resident()
    }

    /// Bytes of all tensors in the files opened so far.
    pub fn checkpoint_bytes(&self) -> u64 {
        self.inner.checkpoint_bytes.load(Relaxed)
    }
}

impl Inner {
    fn add_folder(&self, folder: &Folder) {
        let bytes = folder.bytes();
        self.checkpoint_bytes.fetch_add(bytes, Relaxed);
        // A panel is filled up with zeros, which counts for small weights: 1 MB for those.
        self.ledger.extend(
            bytes
                .saturating_mul(RESIDENT_FACTOR)
                .saturating_add(1 << 20),
        );
    }

    /// The folder and the name in it of a tensor.
    fn locate(&self, name: &str) -> Result<(Arc<Folder>, String)> {
        let Some((folder, rest)) = name.rsplit_once('/') else {
            return Ok((self.top.clone(), name.to_owned()));
        };
        if self.top.find(name).is_some() {
            return Ok((self.top.clone(), name.to_owned()));
        }
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = folders.get(folder) {
            return Ok((folder.clone(), rest.to_owned()));
        }
        if folders.len() >= MAX_FOLDERS {
            bail!(
                InvalidArgument,
                "weights: {name:?} is in more than {MAX_FOLDERS} folders"
            );
        }
        let opened = Arc::new(Folder::open(&self.root, Path::new(folder))?);
        self.add_folder(&opened);
        folders.insert(folder.to_owned(), opened.clone());
        Ok((opened, rest.to_owned()))
    }

    /// One or more tensors along dimension 0, from the cache or newly made.
    fn tensor(&self, names: &[&str], shape: &[usize]) -> Result<Tensor> {
        let key: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let name = names.join(" + ");
        let mut tensors = self.tensors.lock().unwrap_or_else(PoisonError::into_inner);
        match tensors.get(&key) {
            // Another shape is refused below, where what was found can be told.
            Some(tensor) if tensor.shape() == shape => return Ok(tensor.clone()),
            _ => {}
        }
        if names.len() > 1 && tensors.len() >= MAX_FUSIONS {
            bail!(
                QuotaExceeded,
                "weights: {name} would be tensor {MAX_FUSIONS} or later"
            );
        }
        let shape = Shape::new("weights", shape)?;
        let mut parts = Vec::new();
        let mut height = 0usize;
        for &name in names {
            let part = self.part(name, &shape, names.len())?;
            height = height.saturating_add(part.rows);
            parts.push(part);
        }
        if height != shape.dims()[0] {
            bail!(
                ShapeMismatch,
                "weights: {name} has {height} rows, wanted {shape:?}"
            );
        }
        let tensor = if shape.dims().len() == 1 {
            self.vector(&name, shape, &parts)?
        } else {
            let weight = Weight::new(name, shape, self.dtype, parts, &self.device, &self.ledger);
            Tensor::new(Storage::Weight(Arc::new(weight)), shape)
        };
        tensors.insert(key, tensor.clone());
        Ok(tensor)
    }

    /// A named tensor, checked against the shape of which it is one of `parts` parts.
    fn part(&self, name: &str, wanted: &Shape, parts: usize) -> Result<Part> {
        let (folder, in_folder) = self.locate(name)?;
        let Some((file, entry)) = folder.find(&in_folder) else {
            bail!(
                InvalidArgument,
                "weights: there is no tensor {name:?} in {}, wanted {wanted:?}",
                self.root.path().display()
            );
        };
        let wanted_dims = wanted.dims();
        let fits = match parts {
            1 => is_same_or_matrix(&entry.shape, wanted_dims),
            _ => entry.shape.len() == wanted_dims.len() && entry.shape[1..] == wanted_dims[1..],
        };
        if !fits {
            let path = file.path().display();
            let of = if parts > 1 { "a part of " } else { "" };
            let found = &entry.shape;
            bail!(
                ShapeMismatch,
                "weights: {path}: {name:?} is {found:?}, wanted {of}{wanted:?}"
            );
        }
        let rows = if parts == 1 {
            wanted_dims[0]
        } else {
            entry.shape[0]
        };
        self.checked_part(name, file, entry, rows)
    }

    fn checked_part(
        &self,
        name: &str,
        file: &Arc<TensorFile>,
        entry: &Entry,
        rows: usize,
    ) -> Result<Part> {
        let path = file.path().display();
        let Some(dtype) = entry.weight_dtype() else {
            let found = entry.dtype;
            bail!(
                Unsupported,
                "weights: {path}: {name:?} is {found:?}, wanted f32, f16 or bf16"
            );
        };
        let elements = Shape::new("weights", &entry.shape)?.elements();
        if entry.range.len() != elements * dtype.size() {
            let (bytes, shape) = (entry.range.len(), &entry.shape);
            bail!(
                Other,
                "weights: {path}: {name:?} has {bytes} bytes for {dtype} {shape:?}"
            );
        }
        Ok(Part {
            file: file.clone(),
            range: entry.range.clone(),
            dtype,
            rows,
        })
    }

    /// A tensor of rank 1, in f32.
    fn vector(&self, name: &str, shape: Shape, parts: &[Part]) -> Result<Tensor> {
        let bytes = (shape.elements() * 4) as u64;
        self.ledger.take(name, bytes)?;
        self.lasting_vector(shape, parts)
            .inspect_err(|_| self.ledger.give_back(bytes))
    }

    fn lasting_vector(&self, shape: Shape, parts: &[Part]) -> Result<Tensor> {
        let read = |mut out: &mut [f32]| {
            for part in parts {
                let (head, rest) = out.split_at_mut(part.rows);
                read_f32(part.dtype, part.file.bytes(&part.range), head);
                out = rest;
            }
        };
        match self.device.backend() {
            Backend::Cpu(device) => {
                let mut buffer = device.allocate_weight(shape.elements())?;
                read(buffer.as_mut_slice());
                Ok(Tensor::from_buffer(buffer, shape))
            }
            Backend::Cuda(device) => {
                let mut values = vec![0.0; shape.elements()];
                read(&mut values);
                let cuda = OnCuda {
                    device,
                    account: None,
                    dtype: self.dtype.of_tensors(),
                    recorder: None,
                };
                cuda.upload("weights", shape, &values)
            }
        }
    }
}

/// Whether `found` is `wanted`, or is taken as the matrix `wanted`: a vector as its only row,
/// a convolution `[out, in, ..]` with all but its first dimension as one.
fn is_same_or_matrix(found: &[usize], wanted: &[usize]) -> bool {
    let &[rows, width] = wanted else {
        return found == wanted;
    };
    match found {
        [only] => rows == 1 && *only == width,
        [first, rest @ ..] => {
            let product = rest
                .iter()
                .try_fold(1_usize, |all, &one| all.checked_mul(one));
            *first == rows && product == Some(width)
        }
        [] => false,
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.checkpoint_bytes();
        write!(
            f,
            "{bytes} bytes in {} as {}",
            self.inner.root.path().display(),
            self.inner.dtype
        )
    }
}
