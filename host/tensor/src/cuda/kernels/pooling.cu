// One row a sequence.
//
//   x [rows, width] with a stride; spans [sequences] on the device, made by the host; out
//   [sequences, width] without gaps, in f32: what follows is small, and rounding it would show in
//   the vectors.
//
// Launch: grid (sequences, chunks of 8 elements / COLUMNS rounded up), blocks of THREADS,
// a `Pooled` of shared memory. Sixteen threads share a chunk: each takes every sixteenth row of
// the sequence, and their results are put together in order. A row depends on its own sequence
// only.
#include "element.cuh"

// Chunks of a block, and threads that share one.
constexpr int COLUMNS = 16;
constexpr int LANES = 16;
constexpr int THREADS = COLUMNS * LANES;

// What each thread has pooled.
struct Pooled {
    float chunks[LANES][COLUMNS][CHUNK];
};

// In the order of `tenon:embed/tensor.pool-mode`.
enum PoolMode : int { FIRST, LAST, MEAN, MEAN_SQRT_LEN, WEIGHTED_MEAN, MAX };

// The rows of a sequence, of which pooling leaves out the first `excluded`.
struct Span {
    int start;
    int length;
    int excluded;
};

// What the sum of the pooled rows is divided by.
DEVICE float divisor(const Span& span, PoolMode mode) {
    float count = static_cast<float>(span.length - span.excluded);
    if (mode == MEAN) return count;
    if (mode == MEAN_SQRT_LEN) return sqrtf(count);
    // The sum of the positions from excluded + 1 to length.
    u64 length = span.length, excluded = span.excluded;
    return static_cast<float>((length * (length + 1) - excluded * (excluded + 1)) / 2);
}

// Puts a lane's or a row's chunk to what there is already.
DEVICE void combine(PoolMode mode, float (&into)[CHUNK], const float (&from)[CHUNK]) {
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
        if (mode == MAX) {
            // Not fmaxf, which would hide a NaN.
            into[i] = from[i] > into[i] || from[i] != from[i] ? from[i] : into[i];
        } else {
            into[i] += from[i];
        }
    }
}

template <typename T>
DEVICE void segment_pool(const T* x, i64 x_stride, const Span* spans, PoolMode mode, float* out,
                         int width) {
    Span span = spans[blockIdx.x];
    int column = threadIdx.x % COLUMNS, lane = threadIdx.x / COLUMNS;
    int start = (blockIdx.y * COLUMNS + column) * CHUNK;
    bool aligned = chunks_aligned(x, x_stride, width);
    // Rows that are pooled, counted in the sequence.
    int first = mode == LAST ? span.length - 1 : span.excluded;
    int end = mode == FIRST ? first + 1 : span.length;
    float pooled[CHUNK], values[CHUNK];
#pragma unroll
    for (int i = 0; i < CHUNK; i++) pooled[i] = mode == MAX ? -float_of_bits(0x7f800000) : 0.0f;
    for (int row = first + lane; row < end && start < width; row += LANES) {
        load_chunk(values, x + (span.start + row) * x_stride, start, width, aligned);
        if (mode == WEIGHTED_MEAN) {
#pragma unroll
            for (int i = 0; i < CHUNK; i++) values[i] *= static_cast<float>(row + 1);
        }
        combine(mode, pooled, values);
    }

    Pooled* all = reinterpret_cast<Pooled*>(shared_memory());
#pragma unroll
    for (int i = 0; i < CHUNK; i++) all->chunks[lane][column][i] = pooled[i];
    block_barrier();
    if (lane > 0 || start >= width) return;
    for (int other = 1; other < LANES; other++) {
        combine(mode, pooled, all->chunks[other][column]);
    }
    if (mode == MEAN || mode == MEAN_SQRT_LEN || mode == WEIGHTED_MEAN) {
        float by = divisor(span, mode);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) pooled[i] /= by;
    }
    float* row = out + static_cast<i64>(blockIdx.x) * width;
    store_chunk(row, start, width, chunks_aligned(out, width, width), pooled);
}

#define POOL(SUFFIX, T)                                                                         \
    KERNEL(THREADS)                                                                             \
    segment_pool_##SUFFIX(const T* x, i64 x_stride, const Span* spans, int mode, float* out,    \
                          int width) {                                                          \
        segment_pool(x, x_stride, spans, static_cast<PoolMode>(mode), out, width);              \
    }

FOR_ACTIVATIONS(POOL)
