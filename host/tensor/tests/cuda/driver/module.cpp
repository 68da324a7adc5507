// Modules, and the launches of their kernels.
#include <cstdio>

#include "check.h"
#include "kernel.h"
#include "stream.h"

constexpr unsigned SHARED_BYTES = 48 << 10, MAX_SHARED_BYTES = 232448;
constexpr unsigned MAX_BLOCKS_X = 0x7fffffff, MAX_BLOCKS_YZ = 65535;
// How many of the last kernels are named when something is wrong.
constexpr size_t MAX_RAN = 8;

// A file of kernels: what NVRTC's emulation makes of it is a line with its name.
struct Module {
    Context* context;
    std::string file;
};

struct Function {
    std::shared_ptr<Module> module;
    const Kernel* kernel;
    unsigned shared_bytes = SHARED_BYTES;
};

EXPORT CUresult cuModuleLoadData(CUmodule* handle, const void* image) {
    return in_context([&](Context& context) {
        static const std::string marker = "emulated code of ";
        std::string text = static_cast<const char*>(image);
        if (text.compare(0, marker.size(), marker) != 0) return CUDA_ERROR_INVALID_IMAGE;
        std::string file = text.substr(marker.size());
        for (const Kernel& kernel : Kernel::all()) {
            if (file != kernel.file) continue;
            *handle = state.modules.add(std::make_shared<Module>(Module{&context, file}));
            return CUDA_SUCCESS;
        }
        complain("cuModuleLoadData: there are no kernels of %s", file.c_str());
        return CUDA_ERROR_INVALID_IMAGE;
    });
}

EXPORT CUresult cuModuleUnload(CUmodule handle) {
    return in_context([&](Context&) {
        std::shared_ptr<Module> module = state.modules.find(handle);
        if (!module) return CUDA_ERROR_INVALID_HANDLE;
        state.functions.remove_where([&](Function& it) { return it.module == module; });
        state.modules.remove(handle);
        return CUDA_SUCCESS;
    });
}

EXPORT CUresult cuModuleGetFunction(CUfunction* handle, CUmodule module_handle, const char* name) {
    return in_context([&](Context&) {
        std::shared_ptr<Module> module = state.modules.find(module_handle);
        if (!module) return CUDA_ERROR_INVALID_HANDLE;
        for (const Kernel& kernel : Kernel::all()) {
            if (module->file != kernel.file || strcmp(name, kernel.name) != 0) continue;
            for (auto& [known, function] : state.functions) {
                if (function->module != module || function->kernel != &kernel) continue;
                *handle = function.get();
                return CUDA_SUCCESS;
            }
            *handle = state.functions.add(std::make_shared<Function>(Function{module, &kernel}));
            return CUDA_SUCCESS;
        }
        return CUDA_ERROR_NOT_FOUND;
    });
}

EXPORT CUresult cuFuncSetAttribute(CUfunction handle, int attribute, int value) {
    return in_context([&](Context&) {
        std::shared_ptr<Function> function = state.functions.find(handle);
        if (!function) return CUDA_ERROR_INVALID_HANDLE;
        enum { MAX_DYNAMIC_SHARED_SIZE_BYTES = 8, PREFERRED_SHARED_MEMORY_CARVEOUT = 9 };
        if (attribute == PREFERRED_SHARED_MEMORY_CARVEOUT) return CUDA_SUCCESS;
        if (attribute != MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_ERROR_INVALID_VALUE;
        if (value < 0 || unsigned(value) > MAX_SHARED_BYTES) return CUDA_ERROR_INVALID_VALUE;
        function->shared_bytes = unsigned(value);
        return CUDA_SUCCESS;
    });
}

// Counts a launch; whether the device survives it.
static bool survives_launch() {
    state.launches++;
    if (state.launches == state.fails_at) {
        complain("launch %llu fails, as was asked for", u64(state.launches));
        state.lost = true;
        if (const char* mark = fails_once()) {
            if (FILE* file = fopen(mark, "w")) fclose(file);
        }
    }
    return !state.lost;
}

static void remember(const std::string& name) {
    state.ran.push_front(name);
    if (state.ran.size() > MAX_RAN) state.ran.pop_back();
}

// Runs every block, unless an argument points to what the device does not have.
static void run(const Kernel& kernel, const BoundKernel& bound, Dim grid, int threads,
                unsigned shared_bytes, CUdevice device) {
    for (const void* pointer : bound.pointers) {
        if (!pointer) continue;
        if (!emulated_reaches(kernel.name, pointer, 0)) return;
        int owner = state.memory.find(pointer, 0)->device;
        if (owner != device && owner != PINNED) {
            complain("%s on device %d: %p is on device %d", kernel.name, device, pointer, owner);
            state.lost = true;
            return;
        }
    }
    remember(kernel.name);
    static Random random{1};
    launch(grid, threads, shared_bytes, random, bound.thread);
}

EXPORT CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y,
                               unsigned grid_z, unsigned block_x, unsigned block_y,
                               unsigned block_z, unsigned shared_bytes, CUstream stream_handle,
                               void** arguments, void** extra) {
    return in_context([&](Context& context) {
        std::shared_ptr<Function> function = state.functions.find(handle);
        std::shared_ptr<Stream> stream = stream_of(context, stream_handle);
        if (!function || !stream) return CUDA_ERROR_INVALID_HANDLE;
        if (function->module->context != &context) return CUDA_ERROR_INVALID_CONTEXT;
        const Kernel& kernel = *function->kernel;
        if (extra || block_y != 1 || block_z != 1 || block_x % WARP_LANES != 0) {
            complain("%s: %u x %u x %u threads, or packed arguments, are not emulated", kernel.name,
                     block_x, block_y, block_z);
            return CUDA_ERROR_NOT_SUPPORTED;
        }
        bool grid_fits = grid_x >= 1 && grid_x <= MAX_BLOCKS_X && grid_y >= 1 &&
                         grid_y <= MAX_BLOCKS_YZ && grid_z >= 1 && grid_z <= MAX_BLOCKS_YZ;
        bool block_fits = block_x >= 1 && block_x <= unsigned(kernel.max_threads) &&
                          shared_bytes <= function->shared_bytes;
        if (!grid_fits || !block_fits || !arguments) return CUDA_ERROR_INVALID_VALUE;
        if (!survives_launch()) return CUDA_ERROR_ILLEGAL_ADDRESS;
        BoundKernel bound = kernel.bind(arguments);
        stream->push([=, &kernel, device = context.device] {
            run(kernel, bound, {grid_x, grid_y, grid_z}, int(block_x), shared_bytes, device);
        });
        return CUDA_SUCCESS;
    });
}

CUresult emulated_enqueue(CUstream stream_handle, const char* name, void (*run)(void*), void* work,
                          void (*free)(void*)) {
    std::shared_ptr<void> owned(work, free);
    return in_context([&](Context& context) {
        std::shared_ptr<Stream> stream = stream_of(context, stream_handle);
        if (!stream) return CUDA_ERROR_INVALID_HANDLE;
        if (!survives_launch()) return CUDA_ERROR_ILLEGAL_ADDRESS;
        stream->push([=, name = std::string(name)] {
            remember(name);
            run(owned.get());
        });
        return CUDA_SUCCESS;
    });
}
