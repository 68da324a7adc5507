// Memory as the caller sees it: allocated, filled, copied and freed in the order of a stream.
#include <cstring>
#include <vector>

#include "stream.h"

bool emulated_reaches(const char* what, const void* address, size_t bytes) {
    Allocation* found = state.memory.find(address, bytes);
    if (found) return true;
    complain("%s: %zu bytes at %p are not (or no longer) inside of an allocation", what, bytes,
             address);
    state.lost = true;
    return false;
}

// Whether a call may use a range: all of it is in one allocation whose free is not yet queued.
static bool usable(const char* what, const void* address, size_t bytes) {
    Allocation* found = state.memory.find(address, bytes);
    if (found && !found->retired) return true;
    complain("%s: %zu bytes at %p are not (or no longer) inside of an allocation", what, bytes,
             address);
    return false;
}

static void* pointer(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

// Frees wait in their streams for somebody who waits: so does a driver that has no memory left.
static uint8_t* allocate(size_t bytes, int device) {
    uint8_t* memory = state.memory.allocate(bytes, device);
    if (memory) return memory;
    for (auto& [number, context] : state.contexts) {
        if (context.retained > 0) run_all(context);
    }
    return state.memory.allocate(bytes, device);
}

EXPORT CUresult cuMemAllocAsync(CUdeviceptr* address, size_t bytes, CUstream handle) {
    return in_context([&](Context& context) {
        std::shared_ptr<Stream> stream = stream_of(context, handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
        if (refused(*stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        uint8_t* memory = allocate(bytes, context.device);
        *address = reinterpret_cast<CUdeviceptr>(memory);
        return memory ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    });
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
    return in_context([&](Context& context) {
        if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
        if (refused_by_captures()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        uint8_t* memory = allocate(bytes, context.device);
        *address = reinterpret_cast<CUdeviceptr>(memory);
        return memory ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    });
}

EXPORT CUresult cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    return in_context([&](Context&) {
        if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
        if (refused_by_captures()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        *memory = state.memory.allocate(bytes, PINNED);
        return *memory ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    });
}

// The allocation that a caller wants to free; or none.
static Allocation* to_free(const char* what, const void* address, bool pinned) {
    Allocation* found = state.memory.beginning(address);
    if (found && (found->device == PINNED) == pinned) return found;
    complain("%s: no allocation begins at %p, or it is freed already", what, address);
    return nullptr;
}

EXPORT CUresult cuMemFreeAsync(CUdeviceptr address, CUstream handle) {
    return in_context([&](Context& context) {
        std::shared_ptr<Stream> stream = stream_of(context, handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        if (refused(*stream)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        Allocation* found = to_free("cuMemFreeAsync", pointer(address), false);
        if (!found) return CUDA_ERROR_INVALID_VALUE;
        found->retired = true;
        stream->push([found] { state.memory.release(*found); });
        return CUDA_SUCCESS;
    });
}

// Waits for everything and frees.
static CUresult free_now(Context& context, const char* what, const void* address, bool pinned) {
    if (refused_by_captures()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    Allocation* found = to_free(what, address, pinned);
    if (!found) return CUDA_ERROR_INVALID_VALUE;
    run_all(context);
    state.memory.release(*found);
    return waited();
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
    return in_context([&](Context& context) {
        return address ? free_now(context, "cuMemFree", pointer(address), false) : CUDA_SUCCESS;
    });
}

EXPORT CUresult cuMemFreeHost(void* memory) {
    return in_context(
        [&](Context& context) { return free_now(context, "cuMemFreeHost", memory, true); });
}

EXPORT CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    return in_context([&](Context& context) {
        *total = state.memory.limit();
        *free = *total - state.memory.held(context.device);
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuMemsetD8Async(CUdeviceptr address, unsigned char value, size_t bytes,
                                CUstream handle) {
    return in_context([&](Context& context) {
        std::shared_ptr<Stream> stream = stream_of(context, handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        if (bytes == 0) return CUDA_SUCCESS;
        void* to = pointer(address);
        if (!usable("cuMemsetD8Async", to, bytes)) return CUDA_ERROR_INVALID_VALUE;
        stream->push([=] {
            if (emulated_reaches("cuMemsetD8Async", to, bytes)) memset(to, value, bytes);
        });
        return CUDA_SUCCESS;
    });
}

// One side of a copy. Pageable memory is the host's own.
struct Side {
    void* address;
    bool pageable = false;

    static Side host(const void* address) {
        return {const_cast<void*>(address), !state.memory.find(address, 0)};
    }
    static Side device(CUdeviceptr address) { return {pointer(address)}; }

    bool usable(const char* what, size_t bytes) const {
        return pageable || ::usable(what, address, bytes);
    }
    bool reaches(const char* what, size_t bytes) const {
        return pageable || emulated_reaches(what, address, bytes);
    }
};

// Queues a copy in the thread's context.
static CUresult copy(Context& context, const char* what, Side to, Side from, size_t bytes,
                     CUstream handle) {
    std::shared_ptr<Stream> stream = stream_of(context, handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (bytes == 0) return CUDA_SUCCESS;
    if (!to.usable(what, bytes) || !from.usable(what, bytes)) return CUDA_ERROR_INVALID_VALUE;
    if ((to.pageable || from.pageable) && refused(*stream)) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    // The driver has a copy of pageable memory when the call returns.
    std::vector<uint8_t> staged;
    if (from.pageable) {
        auto start = static_cast<const uint8_t*>(from.address);
        staged.assign(start, start + bytes);
    }
    stream->push([=, staged = std::move(staged)] {
        if (!to.reaches(what, bytes) || !from.reaches(what, bytes)) return;
        memmove(to.address, from.pageable ? staged.data() : from.address, bytes);
    });
    return CUDA_SUCCESS;
}

EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes,
                                     CUstream stream) {
    return in_context([&](Context& context) {
        return copy(context, "cuMemcpyHtoDAsync", Side::device(to), Side::host(from), bytes, stream);
    });
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return in_context([&](Context& context) {
        return copy(context, "cuMemcpyDtoHAsync", Side::host(to), Side::device(from), bytes, stream);
    });
}

EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes,
                                     CUstream stream) {
    return in_context([&](Context& context) {
        return copy(context, "cuMemcpyDtoDAsync", Side::device(to), Side::device(from), bytes,
                    stream);
    });
}

enum PoolAttribute {
    RELEASE_THRESHOLD = 4,
    RESERVED_MEM_CURRENT = 5,
    USED_MEM_CURRENT = 7,
};

EXPORT CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void* value) {
    return without_context([&] {
        if (attribute != RELEASE_THRESHOLD) return CUDA_ERROR_NOT_SUPPORTED;
        pool->release_threshold = *static_cast<uint64_t*>(value);
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuMemPoolGetAttribute(CUmemoryPool pool, int attribute, void* value) {
    return without_context([&] {
        auto number = static_cast<uint64_t*>(value);
        switch (attribute) {
            case RELEASE_THRESHOLD:
                *number = pool->release_threshold;
                return CUDA_SUCCESS;
            case RESERVED_MEM_CURRENT:
            case USED_MEM_CURRENT:
                *number = state.memory.held(pool->device);
                return CUDA_SUCCESS;
            default:
                return CUDA_ERROR_NOT_SUPPORTED;
        }
    });
}

// Freed memory is given back at once: there is nothing to trim.
EXPORT CUresult cuMemPoolTrimTo(CUmemoryPool, size_t) {
    return without_context([] { return CUDA_SUCCESS; });
}
