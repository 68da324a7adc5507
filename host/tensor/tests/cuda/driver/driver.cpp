// libcuda: a driver whose one device is emulated. The functions that Tenon calls, no others.
//
// Stricter than a device where that shows mistakes of the host:
// - Streams are queues. Nothing in them happens before somebody waits for it, or else late.
// - Memory that nobody has written, and that lies beyond an allocation, is NaN in every type. What
//   was written beyond one is noticed when it is freed.
// - A thread that has no context gets an error, and so does a launch that a device would refuse.
//
// From the environment: EMULATED_GPU_MEMORY, bytes; EMULATED_GPU_FAILS_AFTER, the launch with
// which, and every call after it, the device is lost.
#include "driver.h"

#include <deque>
#include <map>
#include <mutex>

#include "check.h"

std::vector<Kernel>& kernels() {
    static std::vector<Kernel> all;
    return all;
}

namespace {

// As the driver numbers them.
enum Result {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    INVALID_DEVICE = 101,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
};

constexpr size_t REDZONE = 256;
constexpr int SHARED_BYTES = 48 << 10, MOST_SHARED_BYTES = 227 << 10;

struct Event {
    bool recorded = true;
};

struct Stream {
    std::deque<Work> queue;
};

// The code of a file, as the compiler gives it: this, and the file's name.
const std::string IMAGE = "emulated ";
struct Module {
    std::string file;
};

struct Function {
    const Kernel* kernel;
    int shared_bytes = SHARED_BYTES;
};

size_t number(const char* name, size_t otherwise) {
    const char* text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}

class Device {
  public:
    std::recursive_mutex mutex;
    bool lost = false;

    Result allocate(uint64_t* address, size_t bytes) {
        if (used + bytes > memory()) {
            // What is freed later in a stream may be enough.
            for (Stream* stream : streams) drain(stream);
            if (used + bytes > memory()) return OUT_OF_MEMORY;
        }
        size_t whole = (bytes + 2 * REDZONE + 255) / 256 * 256;
        void* begin = nullptr;
        if (posix_memalign(&begin, 256, whole) != 0) return OUT_OF_MEMORY;
        memset(begin, 0xff, whole);
        *address = reinterpret_cast<uint64_t>(begin) + REDZONE;
        live[*address] = bytes;
        used += bytes;
        return SUCCESS;
    }

    void release(uint64_t address, size_t bytes) {
        check_redzones(address, bytes);
        used -= bytes;
        memset(reinterpret_cast<void*>(address), 0xff, bytes);
        free(reinterpret_cast<void*>(address - REDZONE));
    }

    // Whether a range is inside of a live allocation.
    bool has(uint64_t address, size_t bytes) const {
        auto after = live.upper_bound(address);
        if (after == live.begin()) return false;
        auto [start, length] = *std::prev(after);
        return address + bytes <= start + length;
    }

    void drain(Stream* stream) {
        while (!stream->queue.empty()) next(stream);
    }

    void next(Stream* stream) {
        Work work = std::move(stream->queue.front());
        stream->queue.pop_front();
        work();
    }

    static size_t memory() { return number("EMULATED_GPU_MEMORY", size_t(4) << 30); }

    std::map<uint64_t, size_t> live;
    std::vector<Stream*> streams;
    std::vector<std::string> launched;
    size_t used = 0;
    Random random{1};

  private:
    void check_redzones(uint64_t address, size_t bytes) const {
        auto begin = reinterpret_cast<const uint8_t*>(address);
        for (size_t i = 0; i < REDZONE; i++) {
            if (begin[bytes + i] == 0xff && begin[-1 - static_cast<i64>(i)] == 0xff) continue;
            std::string last;
            size_t count = launched.size();
            for (size_t k = count < 8 ? 0 : count - 8; k < count; k++) last += " " + launched[k];
            fprintf(stderr, "emulated GPU: a write beyond %zu bytes; last kernels:%s\n", bytes,
                    last.c_str());
            abort();
        }
    }
};

Device device;
thread_local bool has_context = false;

// Calls `body` unless the device is lost or the thread has no context.
template <typename Body>
Result in_context(Body body) {
    std::lock_guard lock(device.mutex);
    if (device.lost) return ILLEGAL_ADDRESS;
    if (!has_context) return INVALID_CONTEXT;
    return body();
}

// A copy of bytes that lie in host memory now, or a promise to read pinned memory later.
std::map<uint64_t, size_t> pinned;
bool is_pinned(const void* pointer, size_t bytes) {
    auto address = reinterpret_cast<uint64_t>(pointer);
    auto after = pinned.upper_bound(address);
    if (after == pinned.begin()) return false;
    auto [start, length] = *std::prev(after);
    return address + bytes <= start + length;
}

Result refused(const char* call, uint64_t address, size_t bytes) {
    fprintf(stderr, "emulated GPU: %s: %zu bytes at %llx are not in one live allocation\n", call,
            bytes, static_cast<unsigned long long>(address));
    return INVALID_VALUE;
}

}  // namespace

void enqueue(void* stream, Work work) {
    std::lock_guard lock(device.mutex);
    static_cast<Stream*>(stream)->queue.push_back(std::move(work));
}

extern "C" {

int cuInit(unsigned) { return SUCCESS; }

int cuDeviceGetCount(int* count) {
    *count = 1;
    return SUCCESS;
}

int cuDeviceGet(int* found, int ordinal) {
    *found = ordinal;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

int cuDeviceGetName(char* name, int length, int) {
    snprintf(name, static_cast<size_t>(length), "emulated GPU");
    return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t* bytes, int) {
    *bytes = Device::memory();
    return SUCCESS;
}

int cuDeviceGetAttribute(int* value, int attribute, int) {
    constexpr int CAPABILITY_MAJOR = 75;
    *value = attribute == CAPABILITY_MAJOR ? 9 : 0;
    return SUCCESS;
}

int cuDeviceGetDefaultMemPool(void** pool, int) {
    *pool = &device;
    return SUCCESS;
}

int cuMemPoolSetAttribute(void*, int, void*) { return SUCCESS; }

int cuDevicePrimaryCtxRetain(void** context, int) {
    *context = &device;
    return device.lost ? ILLEGAL_ADDRESS : SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }

int cuCtxSetCurrent(void* context) {
    has_context = context;
    return SUCCESS;
}

int cuStreamCreate(Stream** stream, unsigned) {
    return in_context([=] {
        *stream = new Stream();
        device.streams.push_back(*stream);
        return SUCCESS;
    });
}

int cuStreamSynchronize(Stream* stream) {
    return in_context([=] {
        device.drain(stream);
        return device.lost ? ILLEGAL_ADDRESS : SUCCESS;
    });
}

int cuStreamDestroy_v2(Stream* stream) {
    return in_context([=] {
        device.drain(stream);
        auto& all = device.streams;
        for (size_t i = 0; i < all.size(); i++) {
            if (all[i] == stream) all.erase(all.begin() + static_cast<i64>(i--));
        }
        delete stream;
        return SUCCESS;
    });
}

int cuEventCreate(Event** event, unsigned) {
    *event = new Event();
    return SUCCESS;
}

int cuEventRecord(Event* event, Stream* stream) {
    return in_context([=] {
        event->recorded = false;
        stream->queue.push_back([=] { event->recorded = true; });
        return SUCCESS;
    });
}

// Whatever comes after the event stays in its stream.
int cuEventSynchronize(Event* event) {
    return in_context([=] {
        for (Stream* stream : device.streams) {
            while (!event->recorded && !stream->queue.empty()) device.next(stream);
        }
        return device.lost ? ILLEGAL_ADDRESS : SUCCESS;
    });
}

int cuEventDestroy_v2(Event* event) {
    delete event;
    return SUCCESS;
}

int cuMemAllocAsync(uint64_t* address, size_t bytes, Stream*) {
    return in_context([=] { return bytes ? device.allocate(address, bytes) : INVALID_VALUE; });
}

int cuMemFreeAsync(uint64_t address, Stream* stream) {
    return in_context([=] {
        auto found = device.live.find(address);
        if (found == device.live.end()) return refused("free", address, 0);
        size_t bytes = found->second;
        device.live.erase(found);
        stream->queue.push_back([=] { device.release(address, bytes); });
        return SUCCESS;
    });
}

int cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
    return in_context([=] {
        *pointer = malloc(bytes);
        memset(*pointer, 0xff, bytes);
        pinned[reinterpret_cast<uint64_t>(*pointer)] = bytes;
        return SUCCESS;
    });
}

int cuMemFreeHost(void* pointer) {
    return in_context([=] {
        if (!pinned.erase(reinterpret_cast<uint64_t>(pointer))) return INVALID_VALUE;
        free(pointer);
        return SUCCESS;
    });
}

int cuMemsetD8Async(uint64_t address, unsigned char value, size_t bytes, Stream* stream) {
    return in_context([=] {
        if (!device.has(address, bytes)) return refused("memset", address, bytes);
        stream->queue.push_back([=] { memset(reinterpret_cast<void*>(address), value, bytes); });
        return SUCCESS;
    });
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t bytes, Stream* stream) {
    return in_context([=] {
        if (!device.has(to, bytes)) return refused("copy to the device", to, bytes);
        auto target = reinterpret_cast<void*>(to);
        if (is_pinned(from, bytes)) {
            stream->queue.push_back([=] { memcpy(target, from, bytes); });
        } else {
            auto begin = static_cast<const uint8_t*>(from);
            std::vector<uint8_t> staged(begin, begin + bytes);
            stream->queue.push_back([=] { memcpy(target, staged.data(), bytes); });
        }
        return SUCCESS;
    });
}

int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, Stream* stream) {
    return in_context([=] {
        if (!device.has(from, bytes)) return refused("copy to the host", from, bytes);
        stream->queue.push_back([=] { memcpy(to, reinterpret_cast<void*>(from), bytes); });
        return SUCCESS;
    });
}

int cuModuleLoadData(Module** module, const void* image) {
    return in_context([=] {
        std::string text = static_cast<const char*>(image);
        if (text.rfind(IMAGE, 0) != 0) return INVALID_IMAGE;
        *module = new Module{text.substr(IMAGE.size())};
        return SUCCESS;
    });
}

int cuModuleGetFunction(Function** function, Module* module, const char* name) {
    return in_context([=] {
        for (const Kernel& kernel : kernels()) {
            if (kernel.file != module->file || kernel.name != name) continue;
            // Never freed: modules live as long as the process.
            *function = new Function{&kernel};
            return SUCCESS;
        }
        return NOT_FOUND;
    });
}

int cuModuleUnload(Module* module) {
    delete module;
    return SUCCESS;
}

int cuFuncSetAttribute(Function* function, int attribute, int value) {
    constexpr int MAX_DYNAMIC_SHARED_BYTES = 8;
    return in_context([=] {
        if (attribute != MAX_DYNAMIC_SHARED_BYTES || value > MOST_SHARED_BYTES) return INVALID_VALUE;
        function->shared_bytes = value;
        return SUCCESS;
    });
}

int cuLaunchKernel(Function* function, unsigned x, unsigned y, unsigned z, unsigned threads,
                   unsigned threads_y, unsigned threads_z, unsigned shared_bytes, Stream* stream,
                   void** arguments, void**) {
    return in_context([=] {
        bool fits = x > 0 && x < 1u << 31 && y > 0 && y <= 65535 && z > 0 && z <= 65535 &&
                    threads > 0 && threads <= 1024 && threads_y == 1 && threads_z == 1 &&
                    static_cast<int>(shared_bytes) <= function->shared_bytes;
        if (!fits) {
            fprintf(stderr, "emulated GPU: %s: grid %u x %u x %u of %u threads, %u bytes\n",
                    function->kernel->name.c_str(), x, y, z, threads, shared_bytes);
            return INVALID_VALUE;
        }
        device.launched.push_back(function->kernel->name);
        if (device.launched.size() == number("EMULATED_GPU_FAILS_AFTER", 0)) {
            device.lost = true;
            return ILLEGAL_ADDRESS;
        }
        Work thread = function->kernel->bind(arguments);
        stream->queue.push_back([=] {
            launch({x, y, z}, static_cast<int>(threads), shared_bytes, device.random, thread);
        });
        return SUCCESS;
    });
}

int cuGetErrorName(int error, const char** name) {
    switch (error) {
        case OUT_OF_MEMORY:
            *name = "CUDA_ERROR_OUT_OF_MEMORY";
            return SUCCESS;
        case ILLEGAL_ADDRESS:
            *name = "CUDA_ERROR_ILLEGAL_ADDRESS";
            return SUCCESS;
        default:
            return INVALID_VALUE;
    }
}

}  // extern "C"
