//! The emulated CUDA driver does what tests of a backend count on: work waits for somebody who
//! waits for it, memory is watched, and what a device would punish is noticed.
#![allow(unsafe_code)]

mod cuda;

use std::ffi::{CString, c_int, c_void};
use std::process::{Command, Output};
use std::ptr;

use libloading::Library;

const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const INVALID_IMAGE: c_int = 200;
const INVALID_CONTEXT: c_int = 201;
const NOT_FOUND: c_int = 500;
const NOT_READY: c_int = 600;
const ILLEGAL_ADDRESS: c_int = 700;
const CAPTURE_UNSUPPORTED: c_int = 900;
const CAPTURE_INVALIDATED: c_int = 901;

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

type Handle = *mut c_void;

/// The libraries, with a stream of the first device, whose context is the thread's.
struct Gpu {
    cuda: Library,
    cublaslt: Library,
    nvrtc: Library,
    stream: Handle,
}

impl Gpu {
    /// None, with a notice, where there is no compiler for it.
    fn open(test: &str) -> Option<Self> {
        if let Err(reason) = cuda::load_emulated_driver() {
            cuda::skip(test, &reason);
            return None;
        }
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
        Some(gpu)
    }

    fn new_stream(&self) -> Handle {
        let mut stream: Handle = ptr::null_mut();
        succeed!(self.cuda, cuStreamCreate(&raw mut stream, 1_u32));
        stream
    }

    fn allocate(&self, bytes: usize) -> u64 {
        let mut address = 0_u64;
        succeed!(self.cuda, cuMemAllocAsync(&raw mut address, bytes, self.stream));
        address
    }

    /// Memory with these numbers in it.
    fn upload<T>(&self, values: &[T]) -> u64 {
        let bytes = size_of_val(values);
        let address = self.allocate(bytes);
        let from: *const c_void = values.as_ptr().cast();
        succeed!(self.cuda, cuMemcpyHtoDAsync_v2(address, from, bytes, self.stream));
        address
    }

    /// Queues a copy; the numbers are there when somebody has waited.
    fn queue_download<T>(&self, address: u64, to: &mut [T]) {
        let (bytes, to) = (size_of_val(to), to.as_mut_ptr().cast::<c_void>());
        succeed!(self.cuda, cuMemcpyDtoHAsync_v2(to, address, bytes, self.stream));
    }

    fn download<T: Clone + Default>(&self, address: u64, count: usize) -> Vec<T> {
        let mut values = vec![T::default(); count];
        self.queue_download(address, &mut values);
        succeed!(self.cuda, cuStreamSynchronize(self.stream));
        values
    }

    /// A kernel of a file, through NVRTC as on a device.
    fn kernel(&self, file: &str, name: &str) -> Handle {
        let mut function: Handle = ptr::null_mut();
        let (module, name) = (self.module(file), CString::new(name).unwrap());
        succeed!(self.cuda, cuModuleGetFunction(&raw mut function, module, name.as_ptr()));
        function
    }

    fn module(&self, file: &str) -> Handle {
        let source = std::fs::read_to_string(cuda::kernels().join(file)).unwrap();
        let (status, code, log) = self.compile(file, &source);
        assert_eq!((status, log.as_str()), (0, ""), "{file}");
        let mut module: Handle = ptr::null_mut();
        let image: *const c_void = code.as_ptr().cast();
        succeed!(self.cuda, cuModuleLoadData(&raw mut module, image));
        module
    }

    /// The compiler's status, its code and its log.
    fn compile(&self, name: &str, source: &str) -> (c_int, Vec<u8>, String) {
        let (name, source) = (CString::new(name).unwrap(), CString::new(source).unwrap());
        let mut program: Handle = ptr::null_mut();
        let none: *const *const i8 = ptr::null();
        succeed!(
            self.nvrtc,
            nvrtcCreateProgram(&raw mut program, source.as_ptr(), name.as_ptr(), 0, none, none)
        );
        let options = [c"-arch=sm_90a".as_ptr()];
        let status = call!(self.nvrtc, nvrtcCompileProgram(program, 1, options.as_ptr()));
        let (mut log_bytes, mut code_bytes) = (0_usize, 0_usize);
        succeed!(self.nvrtc, nvrtcGetProgramLogSize(program, &raw mut log_bytes));
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
    fn add(&self, [a, b, out]: [u64; 3], rows: c_int, threads: u32, shared_bytes: u32) -> c_int {
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
                kernel, 1_u32, 1_u32, 1_u32, threads, 1_u32, 1_u32, shared_bytes, self.stream,
                arguments.as_mut_ptr(), none
            )
        )
    }
}

/// Runs `body` in a process of its own with these variables; how it ended. None in that process.
fn in_child(test: &str, variables: &[(&str, &str)], body: impl FnOnce(Gpu)) -> Option<Output> {
    const CHILD: &str = "EMULATED_GPU_CHILD";
    if std::env::var_os(CHILD).is_some_and(|child| child == test) {
        body(Gpu::open(test)?);
        return None;
    }
    // Built, and noticed where it cannot be, before it is needed.
    Gpu::open(test)?;
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(CHILD, test).envs(variables.iter().copied());
    Some(command.output().unwrap())
}

#[track_caller]
fn passed(output: Option<Output>) {
    if let Some(output) = output {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn work_waits_for_somebody_who_waits() {
    let Some(gpu) = Gpu::open("work_waits_for_somebody_who_waits") else {
        return;
    };
    let mut values = [1.0_f32; 8];
    let device = gpu.upload(&values);
    values = [2.0; 8];
    let mut read = [0.0_f32; 8];
    gpu.queue_download(device, &mut read);
    assert_eq!(read, [0.0; 8], "nobody waited");
    succeed!(gpu.cuda, cuStreamSynchronize(gpu.stream));
    assert_eq!(read, [1.0; 8], "pageable memory is copied at the call");

    let mut pinned: *mut c_void = ptr::null_mut();
    succeed!(gpu.cuda, cuMemHostAlloc(&raw mut pinned, 32_usize, 0_u32));
    let fill = |value: f32| {
        // SAFETY: it has 32 bytes, and nobody else uses it meanwhile.
        unsafe { std::slice::from_raw_parts_mut(pinned.cast::<f32>(), 8) }.fill(value);
    };
    fill(3.0);
    let from: *const c_void = pinned;
    succeed!(gpu.cuda, cuMemcpyHtoDAsync_v2(device, from, 32_usize, gpu.stream));
    fill(4.0);
    assert_eq!(gpu.download::<f32>(device, 8), [4.0; 8], "pinned memory is read late");
    succeed!(gpu.cuda, cuMemFreeHost(pinned));
    assert_eq!(values, [2.0; 8]);
}

#[test]
fn events_order_streams() {
    let Some(gpu) = Gpu::open("events_order_streams") else {
        return;
    };
    let device = gpu.upload(&[0_u8; 4]);
    let (other, mut event) = (gpu.new_stream(), ptr::null_mut::<c_void>());
    succeed!(gpu.cuda, cuEventCreate(&raw mut event, 2_u32));
    succeed!(gpu.cuda, cuMemsetD8Async(device, 7_u8, 4_usize, gpu.stream));
    succeed!(gpu.cuda, cuEventRecord(event, gpu.stream));
    succeed!(gpu.cuda, cuMemsetD8Async(device, 9_u8, 1_usize, gpu.stream));
    succeed!(gpu.cuda, cuStreamWaitEvent(other, event, 0_u32));
    let mut read = [0_u8; 4];
    let to: *mut c_void = read.as_mut_ptr().cast();
    succeed!(gpu.cuda, cuMemcpyDtoHAsync_v2(to, device, 4_usize, other));
    assert_eq!(call!(gpu.cuda, cuEventQuery(event)), NOT_READY);
    succeed!(gpu.cuda, cuStreamSynchronize(other));
    assert_eq!(read, [7; 4], "what comes after the event is not waited for");
    succeed!(gpu.cuda, cuEventQuery(event));
    assert_eq!(gpu.download::<u8>(device, 4), [9, 7, 7, 7]);
}

#[test]
fn kernels_compute() {
    let Some(gpu) = Gpu::open("kernels_compute") else {
        return;
    };
    let values: Vec<f32> = (0_u8..24).map(f32::from).collect();
    let operands = [gpu.upload(&values), gpu.upload(&values), gpu.allocate(96)];
    assert_eq!(gpu.add(operands, 3, 256, 0), 0);
    let wanted: Vec<f32> = values.iter().map(|x| x + x).collect();
    assert_eq!(gpu.download::<f32>(operands[2], 24), wanted);
}

#[test]
fn modules_have_the_kernels_of_their_file() {
    let Some(gpu) = Gpu::open("modules_have_the_kernels_of_their_file") else {
        return;
    };
    for path in cuda::files(&cuda::kernels(), &[".cu"]) {
        gpu.module(path.file_name().unwrap().to_str().unwrap());
    }
    gpu.kernel("attention.cu", "attention_bf16_64");
    let (mut function, module) = (ptr::null_mut::<c_void>(), gpu.module("norm.cu"));
    let name = c"add_f32".as_ptr();
    let found = call!(gpu.cuda, cuModuleGetFunction(&raw mut function, module, name));
    assert_eq!(found, NOT_FOUND);
    let (mut module, image) = (ptr::null_mut::<c_void>(), c"no code".as_ptr());
    let loaded = call!(gpu.cuda, cuModuleLoadData(&raw mut module, image));
    assert_eq!(loaded, INVALID_IMAGE);
    let (status, code, log) = gpu.compile("empty.cu", "int x;");
    assert_eq!((status, code.len()), (6, 0));
    assert!(log.contains("empty.cu"), "{log}");
}

#[test]
fn refuses_what_a_device_would() {
    let Some(gpu) = Gpu::open("refuses_what_a_device_would") else {
        return;
    };
    let all = [gpu.allocate(32), gpu.allocate(32), gpu.allocate(32)];
    assert_eq!(gpu.add(all, 1, 512, 0), INVALID_VALUE, "launch bounds");
    assert_eq!(gpu.add(all, 1, 256, 49_153), INVALID_VALUE, "shared memory");
    let kernel = gpu.kernel("elementwise.cu", "add_f32");
    let set = |bytes: c_int| call!(gpu.cuda, cuFuncSetAttribute(kernel, 8, bytes));
    assert_eq!(set(232_449), INVALID_VALUE, "more shared memory than there is");
    assert_eq!(set(232_448), 0);

    let fill = |address: u64, bytes: usize| {
        call!(gpu.cuda, cuMemsetD8Async(address, 0_u8, bytes, gpu.stream))
    };
    assert_eq!(fill(all[0] + 1, 32), INVALID_VALUE, "beyond the end");
    assert_eq!(fill(all[0] - 1, 4), INVALID_VALUE, "before the start");
    let free = |address: u64| call!(gpu.cuda, cuMemFreeAsync(address, gpu.stream));
    assert_eq!(free(all[0] + 16), INVALID_VALUE, "not the start");
    assert_eq!(free(all[0]), 0);
    assert_eq!(free(all[0]), INVALID_VALUE, "freed twice");
    assert_eq!(fill(all[0], 4), INVALID_VALUE, "freed");

    let others = std::thread::scope(|scope| {
        scope.spawn(|| call!(gpu.cuda, cuCtxSynchronize())).join().unwrap()
    });
    assert_eq!(others, INVALID_CONTEXT, "a thread without a context");
    succeed!(gpu.cuda, cuCtxSynchronize());
}

// SAFETY: handles may be used from any thread.
unsafe impl Sync for Gpu {}

#[test]
fn a_write_beyond_the_end_ends_the_program() {
    let test = "a_write_beyond_the_end_ends_the_program";
    let output = in_child(test, &[], |gpu| {
        let values = gpu.upload(&[1.0_f32; 16]);
        let operands = [values, values, gpu.allocate(33)];
        gpu.add(operands, 2, 256, 0);
        call!(gpu.cuda, cuStreamSynchronize(gpu.stream));
    });
    if let Some(output) = output {
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(message.contains("33 bytes") && message.contains("beyond their end"), "{message}");
        assert!(message.contains("add_f32"), "{message}");
    }
}

#[test]
fn a_kernel_with_freed_memory_loses_the_device() {
    passed(in_child("a_kernel_with_freed_memory_loses_the_device", &[], |gpu| {
        let values = gpu.upload(&[1.0_f32; 8]);
        let freed = gpu.allocate(32);
        succeed!(gpu.cuda, cuMemFreeAsync(freed, gpu.stream));
        assert_eq!(gpu.add([values, freed, values], 1, 256, 0), 0);
        assert_eq!(call!(gpu.cuda, cuStreamSynchronize(gpu.stream)), ILLEGAL_ADDRESS);
        assert_eq!(call!(gpu.cuda, cuCtxSynchronize()), ILLEGAL_ADDRESS);
    }));
}

#[test]
fn the_device_is_lost_at_the_launch_that_is_asked_for() {
    let test = "the_device_is_lost_at_the_launch_that_is_asked_for";
    passed(in_child(test, &[("EMULATED_GPU_FAILS_AFTER", "2")], |gpu| {
        let values = gpu.upload(&[1.0_f32; 8]);
        assert_eq!(gpu.add([values; 3], 1, 256, 0), 0);
        succeed!(gpu.cuda, cuStreamSynchronize(gpu.stream));
        let kernel = gpu.kernel("elementwise.cu", "add_f32");
        assert!(!kernel.is_null());
        assert_eq!(gpu.add([values; 3], 1, 256, 0), ILLEGAL_ADDRESS);
        assert_eq!(call!(gpu.cuda, cuStreamSynchronize(gpu.stream)), ILLEGAL_ADDRESS);
    }));
}

#[test]
fn memory_is_limited() {
    passed(in_child("memory_is_limited", &[("EMULATED_GPU_MEMORY", "1000")], |gpu| {
        let first = gpu.allocate(600);
        let mut second = 0_u64;
        let more =
            |to: &mut u64| call!(gpu.cuda, cuMemAllocAsync(to, 600_usize, gpu.stream));
        assert_eq!(more(&mut second), OUT_OF_MEMORY);
        succeed!(gpu.cuda, cuMemFreeAsync(first, gpu.stream));
        assert_eq!(more(&mut second), 0, "what is freed in the stream is there for others");
        let (mut free, mut total) = (0_usize, 0_usize);
        succeed!(gpu.cuda, cuMemGetInfo_v2(&raw mut free, &raw mut total));
        assert_eq!((free, total), (400, 1000));
    }));
}

#[test]
fn graphs_repeat_what_was_captured() {
    let Some(gpu) = Gpu::open("graphs_repeat_what_was_captured") else {
        return;
    };
    let (sum, one) = (gpu.upload(&[0.0_f32; 8]), gpu.upload(&[1.0_f32; 8]));
    let begin = || succeed!(gpu.cuda, cuStreamBeginCapture_v2(gpu.stream, 0));
    let mut graph: Handle = ptr::null_mut();
    begin();
    assert_eq!(gpu.add([sum, one, sum], 1, 256, 0), 0);
    let mut status: c_int = -1;
    succeed!(gpu.cuda, cuStreamIsCapturing(gpu.stream, &raw mut status));
    assert_eq!(status, 1);
    succeed!(gpu.cuda, cuStreamEndCapture(gpu.stream, &raw mut graph));
    assert_eq!(gpu.download::<f32>(sum, 8), [0.0; 8], "captured, not run");
    let mut exec: Handle = ptr::null_mut();
    succeed!(gpu.cuda, cuGraphInstantiateWithFlags(&raw mut exec, graph, 0_u64));
    succeed!(gpu.cuda, cuGraphDestroy(graph));
    for _ in 0..3 {
        succeed!(gpu.cuda, cuGraphLaunch(exec, gpu.stream));
    }
    succeed!(gpu.cuda, cuGraphExecDestroy(exec));
    assert_eq!(gpu.download::<f32>(sum, 8), [3.0; 8]);

    begin();
    let waited = call!(gpu.cuda, cuStreamSynchronize(gpu.stream));
    assert_eq!(waited, CAPTURE_UNSUPPORTED);
    let ended = call!(gpu.cuda, cuStreamEndCapture(gpu.stream, &raw mut graph));
    assert_eq!(ended, CAPTURE_INVALIDATED);
}
