// Layer norm, RMS norm and L2 normalisation of rows.
//
//   layer_norm    x, residual [rows, width] with strides; weight, bias [width] in f32 or none
//   rms_norm      x [rows, runs_per_row * run] with a stride; weight [run] in f32
//   l2_normalize  x [rows, width] with a stride
//
// Outputs have no gaps. A run is what is normalised by itself: a row, or a head of it.
//
// Launch: `lanes_of(width of a run)` threads a run, blocks of 128, `WarpSums::SHARED_BYTES` of
// shared memory. A run is read once and kept in registers, but for what is beyond KEPT chunks a lane, which is
// read again. Its lanes add the same elements in the same order whatever else is in the batch.
#include "element.cuh"

constexpr int WARP = 32;
constexpr int THREADS = 128;
constexpr int WARPS = THREADS / WARP;

// Chunks that a lane keeps: they are loaded together, so that their latencies overlap.
constexpr int KEPT = 4;

// What each warp of a block found, for each of two sums.
struct WarpSums {
    static constexpr int SHARED_BYTES = 2 * WARPS * sizeof(float);
};

// Lanes that share a run: a power of two. Two chunks for each in a warp, then up to KEPT.
DEVICE int lanes_of(int width) {
    int lanes = 1;
    while (lanes < WARP && 2 * lanes * CHUNK < width) lanes *= 2;
    while (lanes >= WARP && lanes < THREADS && KEPT * lanes * CHUNK < width) lanes *= 2;
    return lanes;
}

// A lane's part of one run: chunks `lane`, `lane + lanes`, and so on.
struct Lane {
    int run;
    int lane;
    int lanes;
    // Lanes beyond the last run work on that run too, since sums take whole blocks, but do not
    // write.
    bool writes;

    DEVICE Lane(int runs, int width) {
        lanes = lanes_of(width);
        u32 thread = blockIdx.x * blockDim.x + threadIdx.x;
        run = thread / lanes;
        lane = thread % lanes;
        writes = run < runs;
        if (!writes) run = runs - 1;
    }

    DEVICE int first() const { return lane * CHUNK; }
    DEVICE int step() const { return lanes * CHUNK; }

    // The sum over the run's lanes, the same in each of them. `SLOT` is another for each sum.
    template <int SLOT>
    DEVICE float sum(float value) const {
        for (int distance = (lanes < WARP ? lanes : WARP) / 2; distance > 0; distance /= 2) {
            value += shuffle_xor(value, distance);
        }
        if (lanes <= WARP) return value;
        float* sums = reinterpret_cast<float*>(shared_memory()) + SLOT * WARPS;
        int warp = threadIdx.x / WARP, warps = lanes / WARP;
        if (threadIdx.x % WARP == 0) sums[warp] = value;
        block_barrier();
        float total = 0.0f;
        for (int i = warp / warps * warps; i < warp / warps * warps + warps; i++) total += sums[i];
        return total;
    }
};

// A row of x, plus one of a residual where there is any.
template <typename T>
struct SumRow {
    const T* x;
    const T* residual;
    int width;
    bool aligned;

    DEVICE void load(float (&to)[CHUNK], int start) const {
        load_chunk(to, x, start, width, aligned);
        if (!residual) return;
        float added[CHUNK];
        load_chunk(added, residual, start, width, aligned);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) to[i] += added[i];
    }
};

// A lane's chunks of a row.
template <typename T>
struct Chunks {
    const Lane& lane;
    SumRow<T> row;
    float kept[KEPT][CHUNK];

    DEVICE Chunks(const Lane& lane, const SumRow<T>& row) : lane(lane), row(row) {
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            int start = lane.first() + i * lane.step();
            if (start < row.width) row.load(kept[i], start);
        }
    }

    // Calls `f(values, start)` with each chunk.
    template <typename F>
    DEVICE void each(F f) const {
#pragma unroll
        for (int i = 0; i < KEPT; i++) {
            int start = lane.first() + i * lane.step();
            if (start < row.width) f(kept[i], start);
        }
        for (int start = lane.first() + KEPT * lane.step(); start < row.width;
             start += lane.step()) {
            float v[CHUNK];
            row.load(v, start);
            f(v, start);
        }
    }

    DEVICE float sum_of_all_squares() const {
        float sum = 0.0f;
        each([&](const float(&v)[CHUNK], int) { sum += sum_of_squares(v); });
        return lane.sum<0>(sum);
    }
};

// (v - mean v) / sqrt(var v + eps) * weight + bias, v = x + residual
template <typename T>
DEVICE void layer_norm(const T* x, i64 x_stride, const T* residual, i64 residual_stride,
                       const float* weight, const float* bias, T* out, int rows, int width,
                       float eps) {
    Lane lane(rows, width);
    bool aligned = chunks_aligned(x, x_stride, width) &&
                   (!residual || chunks_aligned(residual, residual_stride, width));
    const T* residual_row = residual ? residual + lane.run * residual_stride : residual;
    Chunks<T> chunks(lane, {x + lane.run * x_stride, residual_row, width, aligned});

    float sum = 0.0f;
    chunks.each([&](const float(&v)[CHUNK], int) { sum += sum_of(v); });
    float mean = lane.sum<0>(sum) / width;

    // Not the mean square less the squared mean, which cancels.
    sum = 0.0f;
    chunks.each([&](const float(&v)[CHUNK], int start) {
        float distances[CHUNK];
#pragma unroll
        for (int i = 0; i < CHUNK; i++) distances[i] = start + i < width ? v[i] - mean : 0.0f;
        sum += sum_of_squares(distances);
    });
    float scale = 1.0f / sqrtf(lane.sum<1>(sum) / width + eps);

    if (!lane.writes) return;
    bool weight_aligned = chunks_aligned(weight, width, width);
    bool bias_aligned = chunks_aligned(bias, width, width);
    bool out_aligned = chunks_aligned(out, width, width);
    T* out_row = out + static_cast<i64>(lane.run) * width;
    chunks.each([&](const float(&v)[CHUNK], int start) {
        float to[CHUNK], w[CHUNK], b[CHUNK];
        if (weight) load_chunk(w, weight, start, width, weight_aligned);
        if (bias) load_chunk(b, bias, start, width, bias_aligned);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) {
            to[i] = (v[i] - mean) * scale * (weight ? w[i] : 1.0f) + (bias ? b[i] : 0.0f);
        }
        store_chunk(out_row, start, width, out_aligned, to);
    });
}

// x / sqrt(mean x^2 + eps) * (weight + weight_offset)
template <typename T>
DEVICE void rms_norm(const T* x, i64 x_stride, const float* weight, float weight_offset, T* out,
                     int rows, int runs_per_row, int run_width, float eps) {
    Lane lane(rows * runs_per_row, run_width);
    int row = lane.run / runs_per_row;
    const T* run = x + row * x_stride + lane.run % runs_per_row * run_width;
    Chunks<T> chunks(lane, {run, nullptr, run_width, chunks_aligned(x, x_stride, run_width)});
    float scale = 1.0f / sqrtf(chunks.sum_of_all_squares() / run_width + eps);
    if (!lane.writes) return;
    bool weight_aligned = chunks_aligned(weight, run_width, run_width);
    bool out_aligned = chunks_aligned(out, run_width, run_width);
    T* out_run = out + static_cast<i64>(lane.run) * run_width;
    chunks.each([&](const float(&v)[CHUNK], int start) {
        float to[CHUNK], w[CHUNK];
        load_chunk(w, weight, start, run_width, weight_aligned);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) to[i] = v[i] * scale * (w[i] + weight_offset);
        store_chunk(out_run, start, run_width, out_aligned, to);
    });
}

// x / max(||x||, eps)
template <typename T>
DEVICE void l2_normalize(const T* x, i64 x_stride, T* out, int rows, int width, float eps) {
    Lane lane(rows, width);
    Chunks<T> chunks(lane, {x + lane.run * x_stride, nullptr, width, chunks_aligned(x, x_stride, width)});
    float norm = sqrtf(chunks.sum_of_all_squares());
    // Not fmaxf, which would turn a NaN into eps.
    float divisor = norm < eps ? eps : norm;
    if (!lane.writes) return;
    bool out_aligned = chunks_aligned(out, width, width);
    T* out_row = out + static_cast<i64>(lane.run) * width;
    chunks.each([&](const float(&v)[CHUNK], int start) {
        float to[CHUNK];
#pragma unroll
        for (int i = 0; i < CHUNK; i++) to[i] = v[i] / divisor;
        store_chunk(out_row, start, width, out_aligned, to);
    });
}

#define NORMS(SUFFIX, T)                                                                          \
    KERNEL(THREADS)                                                                                  \
    layer_norm_##SUFFIX(const T* x, i64 x_stride, const T* residual, i64 residual_stride,         \
                        const float* weight, const float* bias, T* out, int rows, int width,      \
                        float eps) {                                                              \
        layer_norm(x, x_stride, residual, residual_stride, weight, bias, out, rows, width, eps);  \
    }                                                                                             \
    KERNEL(THREADS)                                                                                  \
    rms_norm_##SUFFIX(const T* x, i64 x_stride, const float* weight, float weight_offset, T* out, \
                      int rows, int runs_per_row, int run_width, float eps) {                     \
        rms_norm(x, x_stride, weight, weight_offset, out, rows, runs_per_row, run_width, eps);    \
    }                                                                                             \
    KERNEL(THREADS)                                                                                  \
    l2_normalize_##SUFFIX(const T* x, i64 x_stride, T* out, int rows, int width, float eps) {     \
        l2_normalize(x, x_stride, out, rows, width, eps);                                         \
    }

FOR_ACTIVATIONS(NORMS)
