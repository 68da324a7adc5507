// What the emulated libraries have of CUDA's interface, declared by hand: no CUDA headers are
// needed. Names, types and numbers are those of CUDA 13.0.
#pragma once
#include <cstddef>
#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

enum CUresult : int {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_ILLEGAL_STATE = 401,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_NOT_SUPPORTED = 801,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
    CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
};

typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct Context* CUcontext;
typedef struct Context* CUmemoryPool;
typedef struct Stream* CUstream;
typedef struct Event* CUevent;
typedef struct Module* CUmodule;
typedef struct Function* CUfunction;
typedef struct Graph* CUgraph;
typedef struct GraphExec* CUgraphExec;

// For the other emulated libraries: queues `run(work)`, which counts as a kernel launch and may
// run any number of times before `free(work)`. `free` is called whatever is returned.
EXPORT CUresult emulated_enqueue(CUstream stream, const char* name, void (*run)(void*), void* work,
                                 void (*free)(void*));

// For work that runs: whether a range is part of an allocation. Where it is not, the device is
// lost, as after an illegal address.
EXPORT bool emulated_reaches(const char* what, const void* address, size_t bytes);
