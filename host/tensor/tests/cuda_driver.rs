//! The emulated CUDA driver does what tests of a backend count on: work waits for somebody who
//! waits for it, memory is watched, and what a device would punish is noticed.
#![allow(unsafe_code)]

mod cuda;
#[macro_use]
#[path = "cuda/driver/gpu.rs"]
mod gpu;
#[path = "cuda/driver/product.rs"]
mod product;

use std::ffi::{c_int, c_void};
use std::ptr;

use gpu::{Handle, alone, passes};
use product::{Matrix, Product, Type};

const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const INVALID_IMAGE: c_int = 200;
const INVALID_CONTEXT: c_int = 201;
const NOT_FOUND: c_int = 500;
const NOT_READY: c_int = 600;
const ILLEGAL_ADDRESS: c_int = 700;
const CAPTURE_UNSUPPORTED: c_int = 900;
const CAPTURE_INVALIDATED: c_int = 901;

#[test]
fn work_waits_for_somebody_who_waits() {
    passes("work_waits_for_somebody_who_waits", &[], |gpu| {
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
        succeed!(
            gpu.cuda,
            cuMemcpyHtoDAsync_v2(device, from, 32_usize, gpu.stream)
        );
        fill(4.0);
        assert_eq!(
            gpu.download::<f32>(device, 8),
            [4.0; 8],
            "pinned memory is read late"
        );
        succeed!(gpu.cuda, cuMemFreeHost(pinned));
        assert_eq!(values, [2.0; 8]);
    });
}

#[test]
fn events_order_streams() {
    passes("events_order_streams", &[], |gpu| {
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
    });
}

#[test]
fn kernels_compute() {
    passes("kernels_compute", &[], |gpu| {
        let values: Vec<f32> = (0_u8..24).map(f32::from).collect();
        let operands = [gpu.upload(&values), gpu.upload(&values), gpu.allocate(96)];
        assert_eq!(gpu.add(operands, 3, 256, 0), 0);
        let wanted: Vec<f32> = values.iter().map(|x| x + x).collect();
        assert_eq!(gpu.download::<f32>(operands[2], 24), wanted);
    });
}

#[test]
fn modules_have_the_kernels_of_their_file() {
    passes("modules_have_the_kernels_of_their_file", &[], |gpu| {
        for path in cuda::files(&cuda::kernels(), &[".cu"]) {
            gpu.module(path.file_name().unwrap().to_str().unwrap());
        }
        gpu.kernel("attention.cu", "attention_bf16_64");
        let (mut function, module) = (ptr::null_mut::<c_void>(), gpu.module("norm.cu"));
        let name = c"add_f32".as_ptr();
        let found = call!(
            gpu.cuda,
            cuModuleGetFunction(&raw mut function, module, name)
        );
        assert_eq!(found, NOT_FOUND);
        let (mut module, image) = (ptr::null_mut::<c_void>(), c"no code".as_ptr());
        let loaded = call!(gpu.cuda, cuModuleLoadData(&raw mut module, image));
        assert_eq!(loaded, INVALID_IMAGE);
        let (status, code, log) = gpu.compile("empty.cu", "int x;");
        assert_eq!((status, code.len()), (6, 0));
        assert!(log.contains("empty.cu"), "{log}");
    });
}

#[test]
fn refuses_what_a_device_would() {
    passes("refuses_what_a_device_would", &[], |gpu| {
        let all = [gpu.allocate(32), gpu.allocate(32), gpu.allocate(32)];
        assert_eq!(gpu.add(all, 1, 512, 0), INVALID_VALUE, "launch bounds");
        assert_eq!(gpu.add(all, 1, 256, 49_153), INVALID_VALUE, "shared memory");
        let kernel = gpu.kernel("elementwise.cu", "add_f32");
        let set = |bytes: c_int| call!(gpu.cuda, cuFuncSetAttribute(kernel, 8, bytes));
        assert_eq!(
            set(232_449),
            INVALID_VALUE,
            "more shared memory than there is"
        );
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
            scope
                .spawn(|| call!(gpu.cuda, cuCtxSynchronize()))
                .join()
                .unwrap()
        });
        assert_eq!(others, INVALID_CONTEXT, "a thread without a context");
        succeed!(gpu.cuda, cuCtxSynchronize());
    });
}

#[test]
fn a_write_beyond_the_end_ends_the_program() {
    let test = "a_write_beyond_the_end_ends_the_program";
    let output = alone(test, &[], |gpu| {
        let values = gpu.upload(&[1.0_f32; 16]);
        let operands = [values, values, gpu.allocate(33)];
        gpu.add(operands, 2, 256, 0);
        call!(gpu.cuda, cuStreamSynchronize(gpu.stream));
    });
    if let Some(output) = output {
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(
            message.contains("33 bytes") && message.contains("beyond their end"),
            "{message}"
        );
        assert!(message.contains("add_f32"), "{message}");
    }
}

#[test]
fn a_kernel_with_freed_memory_loses_the_device() {
    passes("a_kernel_with_freed_memory_loses_the_device", &[], |gpu| {
        let values = gpu.upload(&[1.0_f32; 8]);
        let freed = gpu.allocate(32);
        succeed!(gpu.cuda, cuMemFreeAsync(freed, gpu.stream));
        assert_eq!(gpu.add([values, freed, values], 1, 256, 0), 0);
        assert_eq!(
            call!(gpu.cuda, cuStreamSynchronize(gpu.stream)),
            ILLEGAL_ADDRESS
        );
        assert_eq!(call!(gpu.cuda, cuCtxSynchronize()), ILLEGAL_ADDRESS);
    });
}

#[test]
fn the_device_is_lost_at_the_launch_that_is_asked_for() {
    let test = "the_device_is_lost_at_the_launch_that_is_asked_for";
    passes(test, &[("EMULATED_GPU_FAILS_AFTER", "2")], |gpu| {
        let values = gpu.upload(&[1.0_f32; 8]);
        assert_eq!(gpu.add([values; 3], 1, 256, 0), 0);
        succeed!(gpu.cuda, cuStreamSynchronize(gpu.stream));
        assert_eq!(gpu.add([values; 3], 1, 256, 0), ILLEGAL_ADDRESS);
        assert_eq!(
            call!(gpu.cuda, cuStreamSynchronize(gpu.stream)),
            ILLEGAL_ADDRESS
        );
    });
}

#[test]
fn memory_is_limited() {
    passes(
        "memory_is_limited",
        &[("EMULATED_GPU_MEMORY", "1000")],
        |gpu| {
            let first = gpu.allocate(600);
            let mut second = 0_u64;
            let more = |to: &mut u64| call!(gpu.cuda, cuMemAllocAsync(to, 600_usize, gpu.stream));
            assert_eq!(more(&mut second), OUT_OF_MEMORY);
            succeed!(gpu.cuda, cuMemFreeAsync(first, gpu.stream));
            assert_eq!(
                more(&mut second),
                0,
                "what is freed in the stream is there for others"
            );
            let (mut free, mut total) = (0_usize, 0_usize);
            succeed!(gpu.cuda, cuMemGetInfo_v2(&raw mut free, &raw mut total));
            assert_eq!((free, total), (400, 1000));
        },
    );
}

#[test]
fn graphs_repeat_what_was_captured() {
    passes("graphs_repeat_what_was_captured", &[], |gpu| {
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
        succeed!(
            gpu.cuda,
            cuGraphInstantiateWithFlags(&raw mut exec, graph, 0_u64)
        );
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
    });
}

#[test]
fn products_are_exact() {
    passes("products_are_exact", &[], |gpu| {
        let types = [
            (Type::F32, Type::F32),
            (Type::Bf16, Type::Bf16),
            (Type::Bf16, Type::F32),
            (Type::F16, Type::F16),
            (Type::F16, Type::F32),
        ];
        let bias: Vec<f32> = (0_u8..19).map(f32::from).collect();
        for (inputs, output) in types {
            for case in 0..16 {
                let has = |bit: i32| case & bit != 0;
                let (m, n, k) = (19, 6, 37);
                let transposed = [has(1), has(2)];
                let a = if has(1) {
                    Matrix::new(k, m, 3)
                } else {
                    Matrix::new(m, k, 3)
                };
                let b = if has(2) {
                    Matrix::new(n, k, 0)
                } else {
                    Matrix::new(k, n, 1)
                };
                let c = Matrix::new(m, n, 2);
                let beta = if has(4) { 2.0 } else { 0.0 };
                let bias = has(8).then_some(&bias[..]);
                let (a, b, c) = (&a, &b, &c);
                let product = Product {
                    a,
                    b,
                    c,
                    inputs,
                    output,
                    transposed,
                    beta,
                    bias,
                };
                let what = format!("{inputs:?} {output:?} {case}");
                let (status, found) = product.compute(&gpu);
                assert_eq!(status, 0, "{what}");
                assert!(found == product.wanted(), "{what}");
            }
        }
    });
}

#[test]
fn products_that_the_library_has_not_are_refused() {
    const NOT_SUPPORTED: c_int = 15;
    passes(
        "products_that_the_library_has_not_are_refused",
        &[],
        |gpu| {
            let (a, b) = (Matrix::new(4, 8, 0), Matrix::new(8, 4, 0));
            let (c, larger) = (Matrix::new(4, 4, 0), Matrix::new(5, 4, 0));
            let status = |c: &Matrix, inputs, output| {
                let (a, b, transposed) = (&a, &b, [false; 2]);
                let (beta, bias) = (0.0, None);
                let product = Product {
                    a,
                    b,
                    c,
                    inputs,
                    output,
                    transposed,
                    beta,
                    bias,
                };
                product.compute(&gpu).0
            };
            assert_eq!(status(&c, Type::F32, Type::F32), 0);
            assert_eq!(status(&c, Type::F32, Type::Bf16), NOT_SUPPORTED);
            assert_eq!(status(&c, Type::Bf16, Type::F16), NOT_SUPPORTED);
            assert_eq!(status(&larger, Type::F32, Type::F32), NOT_SUPPORTED);
        },
    );
}

#[test]
fn a_column_does_not_depend_on_others() {
    passes("a_column_does_not_depend_on_others", &[], |gpu| {
        let rough = |rows, columns| {
            let mut matrix = Matrix::new(rows, columns, 0);
            let values = matrix.values.iter_mut().enumerate();
            values.for_each(|(i, value)| *value = (*value + i as f32).sin());
            matrix
        };
        let columns = |count| {
            let (a, b, c) = (rough(45, 67), rough(67, count), Matrix::new(45, count, 0));
            let (a, b, c) = (&a, &b, &c);
            let (inputs, output, transposed) = (Type::F32, Type::F32, [false; 2]);
            let (beta, bias) = (0.0, None);
            let product = Product {
                a,
                b,
                c,
                inputs,
                output,
                transposed,
                beta,
                bias,
            };
            product.compute(&gpu).1
        };
        let (few, many) = (columns(2), columns(9));
        assert!(few == many[..few.len()]);
    });
}
