// Devices and contexts, and the names of errors.
#include "state.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "stream.h"

// Never destroyed: threads may still be in a call when the program ends.
State& state = *new State;
thread_local Context* current = nullptr;

static void print(const char* format, va_list arguments) {
    fprintf(stderr, "emulated GPU: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
}

void complain(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print(format, arguments);
    va_end(arguments);
}

void give_up(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print(format, arguments);
    va_end(arguments);
    for (const std::string& name : state.ran) complain("ran before, the latest first: %s", name.c_str());
    abort();
}

static uint64_t wanted(const char* variable, uint64_t otherwise) {
    const char* text = getenv(variable);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

const char* fails_once() { return getenv("EMULATED_GPU_FAILS_ONCE"); }

static bool has_failed() {
    const char* mark = fails_once();
    FILE* file = mark ? fopen(mark, "r") : nullptr;
    return file && fclose(file) == 0;
}

EXPORT CUresult cuInit(unsigned flags) {
    std::lock_guard<std::mutex> guard(state.lock);
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    if (state.initialised) return CUDA_SUCCESS;
    state.initialised = true;
    state.fails_at = has_failed() ? 0 : wanted("EMULATED_GPU_FAILS_AFTER", 0);
    for (CUdevice device = 0; device < CUdevice(wanted("EMULATED_GPUS", 1)); device++) {
        state.contexts[device].device = device;
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDriverGetVersion(int* version) {
    *version = 13000;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuDeviceGetCount(int* count) {
    return without_context([&] {
        *count = int(state.contexts.size());
        return CUDA_SUCCESS;
    });
}

// Makes a call about a device's context.
template <typename Call>
static CUresult of_device(CUdevice device, Call call) {
    return without_context([&]() -> CUresult {
        auto found = state.contexts.find(device);
        if (found == state.contexts.end()) return CUDA_ERROR_INVALID_DEVICE;
        return call(found->second);
    });
}

EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    return of_device(ordinal, [&](Context& context) {
        *device = context.device;
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
    return of_device(device, [&](Context&) {
        if (length <= 0) return CUDA_ERROR_INVALID_VALUE;
        snprintf(name, size_t(length), "emulated GPU");
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuDeviceGetUuid_v2(uint8_t (*uuid)[16], CUdevice device) {
    return of_device(device, [&](Context& context) {
        memset(*uuid, 0, sizeof *uuid);
        (*uuid)[15] = uint8_t(context.device);
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
    return of_device(device, [&](Context&) {
        *bytes = state.memory.limit();
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
    static const std::map<int, int> attributes = {
        {16, 2},       // MULTIPROCESSOR_COUNT
        {75, int(wanted("EMULATED_GPU_CAPABILITY", 90) / 10)},  // COMPUTE_CAPABILITY_MAJOR
        {76, int(wanted("EMULATED_GPU_CAPABILITY", 90) % 10)},  // COMPUTE_CAPABILITY_MINOR
        {97, 232448},  // MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
        {115, 1},      // MEMORY_POOLS_SUPPORTED
    };
    return of_device(device, [&](Context&) {
        auto found = attributes.find(attribute);
        *value = found == attributes.end() ? 0 : found->second;
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext* handle, CUdevice device) {
    return of_device(device, [&](Context& context) {
        if (context.retained++ == 0) {
            context.default_stream = std::make_shared<Stream>();
            context.default_stream->context = &context;
        }
        *handle = &context;
        return CUDA_SUCCESS;
    });
}

// The last release takes the streams and the memory with it.
EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    return of_device(device, [&](Context& context) {
        if (context.retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
        if (--context.retained > 0) return CUDA_SUCCESS;
        run_all(context);
        state.memory.check();
        state.streams.remove_where([&](Stream& stream) { return stream.context == &context; });
        state.memory.release_all(device);
        return waited();
    });
}

EXPORT CUresult cuCtxSetCurrent(CUcontext handle) {
    return without_context([&] {
        for (auto& [device, context] : state.contexts) {
            if (handle != &context || context.retained == 0) continue;
            current = handle;
            return CUDA_SUCCESS;
        }
        if (handle) return CUDA_ERROR_INVALID_CONTEXT;
        current = nullptr;
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuCtxGetCurrent(CUcontext* handle) {
    return without_context([&] {
        *handle = current;
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuDeviceGetDefaultMemPool(CUmemoryPool* pool, CUdevice device) {
    return of_device(device, [&](Context& context) {
        *pool = &context;
        return CUDA_SUCCESS;
    });
}

#define ERRORS(ERROR)                                                                       \
    ERROR(CUDA_SUCCESS, "no error")                                                         \
    ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument")                                     \
    ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory")                                        \
    ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error")                               \
    ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal")                              \
    ERROR(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid")                       \
    ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context")                             \
    ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle")                             \
    ERROR(CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state") \
    ERROR(CUDA_ERROR_NOT_FOUND, "named symbol not found")                                   \
    ERROR(CUDA_ERROR_NOT_READY, "device not ready")                                         \
    ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered")           \
    ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported")                              \
    ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,                                            \
          "operation not permitted when stream is capturing")                               \
    ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,                                            \
          "operation failed due to a previous error during capture")                        \
    ERROR(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,                                           \
          "attempt to terminate a thread-local capture sequence from another thread")

EXPORT CUresult cuGetErrorName(CUresult error, const char** text) {
#define NAME(CODE, MEANING) \
    case CODE:              \
        *text = #CODE;      \
        return CUDA_SUCCESS;
    switch (error) { ERRORS(NAME) }
    *text = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}

EXPORT CUresult cuGetErrorString(CUresult error, const char** text) {
#define MEANING(CODE, MEANING) \
    case CODE:                 \
        *text = MEANING;       \
        return CUDA_SUCCESS;
    switch (error) { ERRORS(MEANING) }
    *text = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
}
