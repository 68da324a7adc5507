//! Calls of the emulated libraries without a crate between, for the tests of the emulation.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_void};
use std::process::{Command, Output};
use std::ptr;

use libloading::Library;

use crate::cuda;

pub type Handle = *mut c_void;

macro_rules! inferred {
    ($argument:expr) => {
        _
    };
}

/// Calls a function of a library, whose parameters have the types of the arguments.
macro_rules! call {
    ($library:expr, $name:ident($($argument:expr),* $(,)?)) => {
        // SAFETY: the arguments have the types that the function declares, and all pointers
        // among them live until what was queued is done.
        unsafe {
            let function = $library
                .get::<unsafe extern "C" fn($(inferred!($argument)),*) -> c_int>(stringify!($name))
                .unwrap();
            function($($argument),*)
        }
    };
}

/// As `call`, for what must succeed.
macro_rules! succeed {
    ($library:expr, $name:ident($($argument:expr),* $(,)?)) => {
        assert_eq!(call!($library, $name($($argument),*)), 0, stringify!($name))
    };
}

/// The libraries, with a stream of the first device, whose context is the thread's.
pub struct Gpu {
    pub cuda: Library,
    pub cublaslt: Library,
    pub nvrtc: Library,
    pub stream: Handle,
}

impl Gpu {
    fn open() -> Self {
        cuda::load_emulated_driver().unwrap();
        // By name, as a backend does.
        // SAFETY: they are loaded already.
        let load = |name| unsafe { Library::new(name) }.unwrap();
        let mut gpu = Self {
            cuda: load("libcuda.so"),
            cublaslt: load("libcublasLt.so"),
            nvrtc: load("libnvrtc.so"),
            stream: ptr::null_mut(),
        };
        succeed!(gpu.cuda, cuInit(0_u32));
        let (mut device, mut context): (c_int, Handle) = (-1, ptr::null_mut());
        succeed!(gpu.cuda, cuDeviceGet(&raw mut device, 0));
        succeed!(gpu.cuda, cuDevicePrimaryCtxRetain(&raw mut context, device));
        succeed!(gpu.cuda, cuCtxSetCurrent(context));
        gpu.stream = gpu.new_stream();
        gpu
    }

    pub fn new_stream(&self) -> Handle {
        let mut stream: Handle = ptr::null_mut();
        succeed!(self.cuda, cuStreamCreate(&raw mut stream, 1_u32));
        stream
    }

    pub fn allocate(&self, bytes: usize) -> u64 {
        let mut address = 0_u64;
        succeed!(
            self.cuda,
            cuMemAllocAsync(&raw mut address, bytes, self.stream)
        );
        address
    }

    /// Memory with these numbers in it.
    pub fn upload<T>(&self, values: &[T]) -> u64 {
        let bytes = size_of_val(values);
        let address = self.allocate(bytes);
        let from: *const c_void = values.as_ptr().cast();
        succeed!(
            self.cuda,
            cuMemcpyHtoDAsync_v2(address, from, bytes, self.stream)
        );
        address
    }

    /// Queues a copy; the numbers are there when somebody has waited.
    pub fn queue_download<T>(&self, address: u64, to: &mut [T]) {
        let (bytes, to) = (size_of_val(to), to.as_mut_ptr().cast::<c_void>());
        succeed!(
            self.cuda,
            cuMemcpyDtoHAsync_v2(to, address, bytes, self.stream)
        );
    }

    pub fn download<T: Clone + Default>(&self, address: u64, count: usize) -> Vec<T> {
        let mut values = vec![T::default(); count];
        self.queue_download(address, &mut values);
        succeed!(self.cuda, cuStreamSynchronize(self.stream));
        values
    }

    /// A kernel of a file, through NVRTC as on a device.
    pub fn kernel(&self, file: &str, name: &str) -> Handle {
        let mut function: Handle = ptr::null_mut();
        let (module, name) = (self.module(file), CString::new(name).unwrap());
        succeed!(
            self.cuda,
            cuModuleGetFunction(&raw mut function, module, name.as_ptr())
        );
        function
    }

    pub fn module(&self, file: &str) -> Handle {
        let source = std::fs::read_to_string(cuda::kernels().join(file)).unwrap();
        let (status, code, log) = self.compile(file, &source);
        assert_eq!((status, log.as_str()), (0, ""), "{file}");
        let mut module: Handle = ptr::null_mut();
        let image: *const c_void = code.as_ptr().cast();
        succeed!(self.cuda, cuModuleLoadData(&raw mut module, image));
        module
    }

    /// The compiler's status, its code and its log.
    pub fn compile(&self, name: &str, source: &str) -> (c_int, Vec<u8>, String) {
        let (name, source) = (CString::new(name).unwrap(), CString::new(source).unwrap());
        let mut program: Handle = ptr::null_mut();
        let none: *const *const i8 = ptr::null();
        succeed!(
            self.nvrtc,
            nvrtcCreateProgram(
                &raw mut program,
                source.as_ptr(),
                name.as_ptr(),
                0,
                none,
                none
            )
        );
        let options = [c"-arch=sm_90a".as_ptr()];
        let status = call!(
            self.nvrtc,
            nvrtcCompileProgram(program, 1, options.as_ptr())
        );
        let (mut log_bytes, mut code_bytes) = (0_usize, 0_usize);
        succeed!(
            self.nvrtc,
            nvrtcGetProgramLogSize(program, &raw mut log_bytes)
        );
        let mut log = vec![0_u8; log_bytes];
        succeed!(self.nvrtc, nvrtcGetProgramLog(program, log.as_mut_ptr()));
        succeed!(self.nvrtc, nvrtcGetCUBINSize(program, &raw mut code_bytes));
        let mut code = vec![0_u8; code_bytes];
        if status == 0 {
            succeed!(self.nvrtc, nvrtcGetCUBIN(program, code.as_mut_ptr()));
        }
        succeed!(self.nvrtc, nvrtcDestroyProgram(&raw mut program));
        log.pop();
        (status, code, String::from_utf8(log).unwrap())
    }

    /// Queues `out = a + b` of 8 columns in blocks of `threads`; the driver's status.
    pub fn add(
        &self,
        [a, b, out]: [u64; 3],
        rows: c_int,
        threads: u32,
        shared_bytes: u32,
    ) -> c_int {
        let kernel = self.kernel("elementwise.cu", "add_f32");
        let (stride, width) = (8_i64, 8_i32);
        // The arguments may be gone as soon as the call returns.
        let mut arguments: [*const c_void; 7] = [
            (&raw const a).cast(),
            (&raw const stride).cast(),
            (&raw const b).cast(),
            (&raw const stride).cast(),
            (&raw const out).cast(),
            (&raw const rows).cast(),
            (&raw const width).cast(),
        ];
        let none: *mut *mut c_void = ptr::null_mut();
        call!(
            self.cuda,
            cuLaunchKernel(
                kernel,
                1_u32,
                1_u32,
                1_u32,
                threads,
                1_u32,
                1_u32,
                shared_bytes,
                self.stream,
                arguments.as_mut_ptr(),
                none
            )
        )
    }
}

/// Runs `body` in a process of its own, with these variables: the driver has one state for all of
/// a process. How it ended; none in that process, or where there is no compiler.
pub fn alone(test: &str, variables: &[(&str, &str)], body: impl FnOnce(Gpu)) -> Option<Output> {
    const CHILD: &str = "EMULATED_GPU_TEST";
    if std::env::var_os(CHILD).is_some_and(|child| child == test) {
        body(Gpu::open());
        return None;
    }
    if let Err(reason) = cuda::emulated_driver() {
        cuda::skip(test, &reason);
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, test);
    Some(command.envs(variables.iter().copied()).output().unwrap())
}

/// As `alone`, and passes where `body` does.
#[track_caller]
pub fn passes(test: &str, variables: &[(&str, &str)], body: impl FnOnce(Gpu)) {
    if let Some(output) = alone(test, variables, body) {
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && stdout.contains("1 passed"),
            "{stdout}{stderr}"
        );
    }
}
