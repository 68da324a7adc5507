// A block of threads on one processor: each is a fiber that runs until a collective or its end.
//
// Which warp runs next, and which of its lanes, is random, so that a result which depends on the
// order comes out wrong under some seed. AddressSanitizer sees every access: shared memory and
// each buffer are allocations of their own.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

constexpr int WARP_LANES = 32;
constexpr int MAX_THREADS = 1024;
// Each switch costs AddressSanitizer as much as the stack is large.
constexpr size_t STACK_BYTES = 32 << 10;

struct Dim {
    unsigned x, y, z;
};
inline Dim threadIdx, blockIdx, blockDim, gridDim;

// Ends the program: a kernel did what the hardware leaves undefined, or computed wrong numbers.
[[noreturn]] inline void fail(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    fflush(stdout);
    _Exit(1);
}

// splitmix64
struct Random {
    uint64_t state;
    uint64_t bits() {
        uint64_t z = state += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }
    int below(int end) { return static_cast<int>(bits() % static_cast<uint64_t>(end)); }
    // In -1..1, in steps of 2^-23.
    float unit() { return static_cast<float>(bits() >> 40) / (1 << 23) - 1.0f; }
};

// What a lane brings to a collective of its warp.
struct Offer {
    int operation;
    const void* address;
    uint32_t words[6];
};

// Runs on a stack of its own, by turns with who resumes it.
class Fiber {
  public:
    void start(char* stack, size_t bytes, void (*body)()) {
        getcontext(&context_);
        context_.uc_stack.ss_sp = stack;
        context_.uc_stack.ss_size = bytes;
        context_.uc_link = &resumer_;
        makecontext(&context_, body, 0);
        started_ = false;
    }

#ifdef __SANITIZE_ADDRESS__
    void resume() { swapcontext(&resumer_, &context_); }
    void suspend() { swapcontext(&context_, &resumer_); }
    void end() {}
#else
    // Without a system call for each switch, which AddressSanitizer does not understand.
    void resume() {
        if (_setjmp(back_) != 0) return;
        if (started_) _longjmp(here_, 1);
        started_ = true;
        setcontext(&context_);
    }
    void suspend() {
        if (_setjmp(here_) == 0) _longjmp(back_, 1);
    }
    [[noreturn]] void end() { _longjmp(back_, 1); }
#endif

  private:
    ucontext_t context_, resumer_;
    jmp_buf here_, back_;
    bool started_ = false;
};

class Block {
  public:
    // Runs `kernel` on each of `threads` threads.
    void run(int threads, size_t shared_bytes, Random& random, const std::function<void()>& kernel);

    uint8_t* shared() { return shared_.get(); }
    size_t shared_bytes() const { return shared_bytes_; }
    int thread() const { return current_; }

    // Waits for all lanes of the warp; what each of them offered.
    const Offer* exchange(const Offer& offer);
    // Waits for all threads that have not ended.
    void barrier();

  private:
    enum class State { Runnable, AtCollective, AtBarrier, Ended };
    struct Warp {
        // Two, by turns: who is early writes into the one that no lane still reads.
        Offer offers[2][WARP_LANES];
        int turn = 0;
    };

    static void begin();
    void wait(State state);
    void run_lanes(int warp, Random& random);
    bool release(int warp);
    bool release_barrier();

    int threads_ = 0, current_ = 0;
    const std::function<void()>* kernel_ = nullptr;
    std::unique_ptr<uint8_t[]> shared_;
    size_t shared_bytes_ = 0;
    Fiber fibers_[MAX_THREADS];
    State states_[MAX_THREADS];
    Warp warps_[MAX_THREADS / WARP_LANES];
    std::vector<std::unique_ptr<char[]>> stacks_;
};

inline Block block;

inline void Block::begin() {
    (*block.kernel_)();
    block.states_[block.current_] = State::Ended;
    block.fibers_[block.current_].end();
}

inline void Block::wait(State state) {
    states_[current_] = state;
    fibers_[current_].suspend();
}

inline const Offer* Block::exchange(const Offer& offer) {
    Warp& warp = warps_[current_ / WARP_LANES];
    int turn = warp.turn;
    warp.offers[turn][current_ % WARP_LANES] = offer;
    wait(State::AtCollective);
    return warp.offers[turn];
}

inline void Block::barrier() { wait(State::AtBarrier); }

inline void shuffle_order(std::vector<int>& order, Random& random) {
    for (int i = static_cast<int>(order.size()) - 1; i > 0; i--) {
        std::swap(order[i], order[random.below(i + 1)]);
    }
}

inline void Block::run_lanes(int warp, Random& random) {
    std::vector<int> lanes;
    for (int lane = 0; lane < WARP_LANES; lane++) {
        if (states_[warp * WARP_LANES + lane] == State::Runnable) lanes.push_back(lane);
    }
    shuffle_order(lanes, random);
    for (int lane : lanes) {
        current_ = warp * WARP_LANES + lane;
        threadIdx = {static_cast<unsigned>(current_), 0, 0};
        fibers_[current_].resume();
    }
}

// Lets a warp go on whose lanes have all arrived at the same collective.
inline bool Block::release(int warp) {
    State* states = &states_[warp * WARP_LANES];
    int arrived = 0;
    bool ended = false;
    for (int lane = 0; lane < WARP_LANES; lane++) {
        arrived += states[lane] == State::AtCollective;
        ended |= states[lane] == State::Ended;
    }
    if (arrived > 0 && ended) fail("a lane ended that others of its warp wait for");
    if (arrived < WARP_LANES) return false;
    Warp& here = warps_[warp];
    for (int lane = 0; lane < WARP_LANES; lane++) {
        if (here.offers[here.turn][lane].operation != here.offers[here.turn][0].operation) {
            fail("lanes of a warp are at different collectives");
        }
        states[lane] = State::Runnable;
    }
    here.turn ^= 1;
    return true;
}

inline bool Block::release_barrier() {
    bool any = false;
    for (int i = 0; i < threads_; i++) {
        if (states_[i] == State::Runnable || states_[i] == State::AtCollective) return false;
        any |= states_[i] == State::AtBarrier;
    }
    for (int i = 0; i < threads_; i++) {
        if (states_[i] == State::AtBarrier) states_[i] = State::Runnable;
    }
    return any;
}

inline void Block::run(int threads, size_t shared_bytes, Random& random,
                       const std::function<void()>& kernel) {
    if (threads % WARP_LANES != 0 || threads > MAX_THREADS) fail("%d threads", threads);
    threads_ = threads;
    kernel_ = &kernel;
    // All ones is a NaN in each type: what is read before it is written shows in the result.
    shared_.reset(new uint8_t[shared_bytes]);
    shared_bytes_ = shared_bytes;
    memset(shared_.get(), 0xff, shared_bytes);
    while (static_cast<int>(stacks_.size()) < threads) stacks_.emplace_back(new char[STACK_BYTES]);
    for (int i = 0; i < threads; i++) {
        states_[i] = State::Runnable;
        fibers_[i].start(stacks_[i].get(), STACK_BYTES, begin);
    }
    int warps = threads / WARP_LANES;
    std::vector<int> order(warps);
    for (int i = 0; i < warps; i++) order[i] = i;
    for (bool progress = true; progress;) {
        progress = false;
        shuffle_order(order, random);
        for (int warp : order) {
            run_lanes(warp, random);
            // A warp may run far ahead of the others, as on the device.
            while (release(warp)) {
                progress = true;
                run_lanes(warp, random);
                if (random.below(64) == 0) break;
            }
        }
        progress |= release_barrier();
    }
    for (int i = 0; i < threads; i++) {
        if (states_[i] != State::Ended) fail("threads wait for each other forever");
    }
}
