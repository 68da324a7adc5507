// Launches, random inputs, and comparison with references in f64.
#pragma once
#include "element.cuh"

// Runs every block of a grid, in random order, with results that must not depend on it.
inline void launch(Dim grid, int threads, size_t shared_bytes, Random& random,
                   const std::function<void()>& kernel) {
    std::vector<int> order(grid.x * grid.y * grid.z);
    for (size_t i = 0; i < order.size(); i++) order[i] = static_cast<int>(i);
    shuffle_order(order, random);
    gridDim = grid;
    blockDim = {static_cast<unsigned>(threads), 1, 1};
    for (int index : order) {
        unsigned i = static_cast<unsigned>(index);
        blockIdx = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
        for (int thread = 0; thread < threads; thread++) {
            open_copies[thread].clear();
            copy_groups[thread].clear();
        }
        block.run(threads, shared_bytes, random, kernel);
    }
}

// As many blocks as give each of `items` a thread.
inline Dim blocks_for(i64 items, int threads) {
    return {static_cast<unsigned>((items + threads - 1) / threads), 1, 1};
}

// Device memory of exactly its size, aligned as the driver does; a NaN where never written.
template <typename T>
struct Buffer {
    std::unique_ptr<T, void (*)(void*)> memory{nullptr, free};
    size_t length;

    explicit Buffer(size_t count) : length(count) {
        void* pointer = nullptr;
        if (posix_memalign(&pointer, 256, count * sizeof(T)) != 0) fail("no memory");
        memset(pointer, 0xff, count * sizeof(T));
        memory.reset(static_cast<T*>(pointer));
    }
    T* data() const { return memory.get(); }
    T& operator[](size_t index) const { return memory.get()[index]; }
    double at(size_t index) const { return to_float(memory.get()[index]); }
};

// `count` numbers in -size..size, as they are stored.
template <typename T>
Buffer<T> random_buffer(size_t count, Random& random, float size = 1.0f) {
    Buffer<T> buffer(count);
    for (size_t i = 0; i < count; i++) set(buffer[i], size * random.unit());
    return buffer;
}

// Names a type in reports.
inline const char* name_of(float) { return "f32"; }
inline const char* name_of(Bf16) { return "bf16"; }
inline const char* name_of(F16) { return "f16"; }

// What rounding a result to the stored type may cost, relative to it: a little over half a unit
// in the last place, and for f32 a few units for the arithmetic.
inline double rounding_of(float) { return 1e-6; }
inline double rounding_of(Bf16) { return 0x1.04p-8; }
inline double rounding_of(F16) { return 0x1.04p-11; }

// Compares results with references and remembers the worst.
struct Comparison {
    const char* what;
    double absolute, relative;
    double worst = 0, worst_share = 0;

    void see(double found, double wanted) {
        double error = std::fabs(found - wanted);
        double share = error / (absolute + relative * std::fabs(wanted));
        if (!(share <= 1.0) && !(std::isnan(found) && std::isnan(wanted))) {
            fail("%s: found %.9g, wanted %.9g", what, found, wanted);
        }
        if (error > worst) worst = error;
        if (share > worst_share) worst_share = share;
    }
    ~Comparison() {
        printf("%-40s max error %.2e, %3.0f %% of the tolerance\n", what, worst, 100 * worst_share);
    }
};
