// What the driver knows, behind one lock: the emulated block of threads is a single one too.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "cuda.h"
#include "memory.h"

// Objects that the caller knows by their address.
template <typename T>
class Handles {
  public:
    T* add(std::shared_ptr<T> object) {
        T* handle = object.get();
        objects_[handle] = std::move(object);
        return handle;
    }
    // None where the handle is not one of these.
    std::shared_ptr<T> find(const T* handle) const {
        auto found = objects_.find(handle);
        return found == objects_.end() ? nullptr : found->second;
    }
    bool remove(const T* handle) { return objects_.erase(handle) > 0; }
    template <typename Condition>
    void remove_where(Condition condition) {
        for (auto next = objects_.begin(); next != objects_.end();) {
            next = condition(*next->second) ? objects_.erase(next) : std::next(next);
        }
    }
    auto begin() const { return objects_.begin(); }
    auto end() const { return objects_.end(); }

  private:
    std::map<const T*, std::shared_ptr<T>> objects_;
};

// A device's primary context, and its memory pool.
struct Context {
    CUdevice device;
    int retained = 0;
    uint64_t release_threshold = 0;
    std::shared_ptr<Stream> default_stream;
};

struct State {
    std::mutex lock;
    bool initialised = false;
    std::map<CUdevice, Context> contexts;
    Memory memory;
    Handles<Stream> streams;
    Handles<Event> events;
    Handles<Module> modules;
    Handles<Function> functions;
    Handles<Graph> graphs;
    Handles<GraphExec> graph_execs;

    // Whether the device is lost: everything fails from then on.
    bool lost = false;
    // Launches so far, and the one that loses the device; 0 for none.
    uint64_t launches = 0, fails_at = 0;
    // What ran last, the latest first.
    std::deque<std::string> ran;
};

extern State& state;
extern thread_local Context* current;

// The file that says that a process has lost its device already; none where each is to.
const char* fails_once();

__attribute__((format(printf, 1, 2))) void complain(const char* format, ...);
// Says what went wrong and what ran last, and ends the program.
[[noreturn]] __attribute__((format(printf, 1, 2))) void give_up(const char* format, ...);

// Makes a call of the driver that needs no context.
template <typename Call>
CUresult without_context(Call call) {
    std::lock_guard<std::mutex> guard(state.lock);
    if (!state.initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (state.lost) return CUDA_ERROR_ILLEGAL_ADDRESS;
    return call();
}

// Makes a call of the driver in the thread's context.
template <typename Call>
CUresult in_context(Call call) {
    return without_context([&]() -> CUresult {
        if (!current || current->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
        return call(*current);
    });
}
