//! Kernels by name, and their launches.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CString, c_void};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{result, sys};

use super::driver::{Queue, Stream, failure};
use crate::error::{Error, Result};

/// Shared memory that a kernel may have without asking for more, in bytes.
const SHARED_BYTES: u32 = 48 << 10;

/// The most blocks along the second and the third dimension of a grid.
pub(super) const MAX_BLOCKS_YZ: usize = 65_535;

/// How many blocks of how many threads, and each block's shared memory in bytes.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub blocks: [u32; 3],
    pub threads: u32,
    pub shared_bytes: u32,
}

/// An argument as the kernel finds it, filled up to whole words.
pub(super) enum Argument {
    Word(u64),
    Words(Vec<u64>),
}

macro_rules! words {
    ($($type:ty: $bits:expr;)+) => {
        $(impl From<$type> for Argument {
            fn from(value: $type) -> Self {
                Self::Word($bits(value))
            }
        })+
    };
}

// The lower half of a word comes first in memory on every system that has such a device.
words! {
    u64: |value| value;
    i64: |value: i64| value as u64;
    u32: u64::from;
    i32: |value: i32| u64::from(value as u32);
    f32: |value: f32| u64::from(value.to_bits());
}

impl Argument {
    fn words(&mut self) -> &mut [u64] {
        match self {
            Self::Word(word) => std::slice::from_mut(word),
            Self::Words(words) => words,
        }
    }
}

/// The arguments of a launch, in the kernel's order and of its types.
macro_rules! arguments {
    ($($argument:expr),+ $(,)?) => {
        [$($crate::cuda::launch::Argument::from($argument)),+]
    };
}
pub(super) use arguments;

/// A kernel, and the shared memory that it may have.
struct Function {
    raw: sys::CUfunction,
    shared_bytes: AtomicU32,
}

/// The kernels of a device, found by name.
pub(super) struct Kernels {
    stream: Arc<Stream>,
    modules: Vec<sys::CUmodule>,
    functions: Mutex<HashMap<String, Arc<Function>>>,
}

// SAFETY: the driver's handles may be used from any thread, several at a time.
unsafe impl Send for Kernels {}
// SAFETY: as above.
unsafe impl Sync for Kernels {}
// SAFETY: as above.
unsafe impl Send for Function {}
// SAFETY: as above.
unsafe impl Sync for Function {}

impl Kernels {
    /// No kernels yet.
    pub fn new(stream: &Arc<Stream>) -> Self {
        Self {
            stream: stream.clone(),
            modules: Vec::new(),
            functions: Mutex::default(),
        }
    }

    /// Adds the kernels of compiled code.
    pub fn load(&mut self, code: &[u8]) -> Result<()> {
        const OP: &str = "cuda: kernels";
        self.stream.enter(OP)?;
        // The driver takes the code's length from its header, or reads text to a zero.
        let mut code = code.to_vec();
        code.push(0);
        // SAFETY: the code is NVRTC's, for this architecture.
        let module = unsafe { result::module::load_data(code.as_ptr().cast()) }
            .map_err(|error| failure(OP, error))?;
        self.modules.push(module);
        Ok(())
    }

    fn function(&self, name: &str) -> Result<Arc<Function>> {
        let mut functions = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(name) {
            return Ok(function.clone());
        }
        let unknown = || Error::Other(format!("cuda: there is no kernel {name}"));
        let c_name = CString::new(name).map_err(|_| unknown())?;
        let found = self.modules.iter().find_map(|&module| {
            // SAFETY: the module is loaded.
            unsafe { result::module::get_function(module, c_name.clone()) }.ok()
        });
        let function = Arc::new(Function {
            raw: found.ok_or_else(unknown)?,
            shared_bytes: AtomicU32::new(SHARED_BYTES),
        });
        functions.insert(name.to_owned(), function.clone());
        Ok(function)
    }

    /// Queues a kernel. `arguments` are those that its source names, in their order.
    pub fn launch(
        &self,
        queue: Queue<'_>,
        op: &str,
        name: &str,
        grid: Grid,
        arguments: &mut [Argument],
    ) -> Result<()> {
        let failed = |error| failure(op, error);
        self.stream.enter(op)?;
        let function = self.function(name)?;
        if grid.shared_bytes > function.shared_bytes.load(Relaxed) {
            let attribute =
                sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: the function's module is loaded.
            unsafe {
                let bytes = grid.shared_bytes as i32;
                result::function::set_function_attribute(function.raw, attribute, bytes)
            }
            .map_err(failed)?;
            function.shared_bytes.store(grid.shared_bytes, Relaxed);
        }
        let mut pointers: Vec<*mut c_void> = arguments
            .iter_mut()
            .map(|argument| argument.words().as_mut_ptr().cast())
            .collect();
        let [x, y, z] = grid.blocks;
        // SAFETY: each kernel's source says what its arguments are, and the operations of this
        // backend, which alone call this, pass them so, with addresses of live allocations of
        // this stream that reach as far as the shapes say; the driver copies the arguments
        // before it returns. Tests run every operation with every access checked.
        unsafe {
            result::launch_kernel(
                function.raw,
                (x, y, z),
                (grid.threads, 1, 1),
                grid.shared_bytes,
                queue.raw(),
                &mut pointers,
            )
        }
        .map_err(failed)
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        if self.stream.enter("cuda").is_err() || self.stream.synchronize("cuda").is_err() {
            return;
        }
        for &module in &self.modules {
            // SAFETY: loaded by this, and nothing of it runs any more.
            let _ = unsafe { result::module::unload(module) };
        }
    }
}
