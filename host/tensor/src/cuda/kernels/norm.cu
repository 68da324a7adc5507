// Layer norm, RMS norm and L2 normalisation of rows.
//
//   layer_norm    x, residual [rows, width] with strides; weight, bias [width] in f32 or none
//   rms_norm      x [rows, runs_per_row * run] with a stride; weight [run] in f32
//   l2_normalize  x [rows, width] with a stride
//
// Outputs have no gaps. A run is what is normalised by itself: a row, or a head of it.
//
// Launch: `lanes_of(width of a run)` threads a run, blocks of 128, no shared memory. A run is
// read several times, from the first-level cache after the first: registers would limit its
// width. Its lanes add the same elements in the same order whatever else is in the batch.
#include "element.cuh"

constexpr int WARP = 32;

// Lanes of a warp that share a run: a power of two, enough for one chunk each, or all.
DEVICE int lanes_of(int width) {
    int lanes = 1;
    while (lanes < WARP && lanes * CHUNK < width) lanes *= 2;
    return lanes;
}

// A lane's part of one run: chunks `lane`, `lane + lanes`, and so on.
struct Lane {
    int run;
    int lane;
    int lanes;
    // Lanes beyond the last run work on that run too, since sums take whole warps, but do not
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

    // The sum over the run's lanes, the same in each of them.
    DEVICE float sum(float value) const {
        for (int distance = lanes / 2; distance > 0; distance /= 2) {
            value += shuffle_xor(value, distance);
        }
        return value;
    }
};

DEVICE float sum_of(const float (&v)[CHUNK]) {
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

DEVICE float sum_of_squares(const float (&v)[CHUNK]) {
    float squares[CHUNK];
#pragma unroll
    for (int i = 0; i < CHUNK; i++) squares[i] = v[i] * v[i];
    return sum_of(squares);
}

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

// (v - mean v) / sqrt(var v + eps) * weight + bias, v = x + residual
template <typename T>
DEVICE void layer_norm(const T* x, i64 x_stride, const T* residual, i64 residual_stride,
                       const float* weight, const float* bias, T* out, int rows, int width,
                       float eps) {
    Lane lane(rows, width);
    bool aligned = chunks_aligned(x, x_stride, width) &&
                   (!residual || chunks_aligned(residual, residual_stride, width));
    const T* residual_row = residual ? residual + lane.run * residual_stride : residual;
    SumRow<T> row = {x + lane.run * x_stride, residual_row, width, aligned};

    float sum = 0.0f;
    for (int start = lane.first(); start < width; start += lane.step()) {
        float v[CHUNK];
        row.load(v, start);
        sum += sum_of(v);
    }
    float mean = lane.sum(sum) / width;

    // Not the mean square less the squared mean, which cancels.
    sum = 0.0f;
    for (int start = lane.first(); start < width; start += lane.step()) {
        float v[CHUNK];
        row.load(v, start);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) v[i] = start + i < width ? v[i] - mean : 0.0f;
        sum += sum_of_squares(v);
    }
    float scale = 1.0f / sqrtf(lane.sum(sum) / width + eps);

    if (!lane.writes) return;
    bool weight_aligned = chunks_aligned(weight, width, width);
    bool bias_aligned = chunks_aligned(bias, width, width);
    bool out_aligned = chunks_aligned(out, width, width);
    for (int start = lane.first(); start < width; start += lane.step()) {
        float v[CHUNK], w[CHUNK], b[CHUNK];
        row.load(v, start);
        if (weight) load_chunk(w, weight, start, width, weight_aligned);
        if (bias) load_chunk(b, bias, start, width, bias_aligned);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) {
            v[i] = (v[i] - mean) * scale * (weight ? w[i] : 1.0f) + (bias ? b[i] : 0.0f);
        }
        store_chunk(out + static_cast<i64>(lane.run) * width, start, width, out_aligned, v);
    }
}

// The sum of x^2 over a run, the same in each of its lanes.
template <typename T>
DEVICE float square_sum(const Lane& lane, const T* run, int width, bool aligned) {
    float sum = 0.0f;
    for (int start = lane.first(); start < width; start += lane.step()) {
        float v[CHUNK];
        load_chunk(v, run, start, width, aligned);
        sum += sum_of_squares(v);
    }
    return lane.sum(sum);
}

// x / sqrt(mean x^2 + eps) * (weight + weight_offset)
template <typename T>
DEVICE void rms_norm(const T* x, i64 x_stride, const float* weight, float weight_offset, T* out,
                     int rows, int runs_per_row, int run_width, float eps) {
    Lane lane(rows * runs_per_row, run_width);
    int row = lane.run / runs_per_row;
    const T* run = x + row * x_stride + lane.run % runs_per_row * run_width;
    bool aligned = chunks_aligned(x, x_stride, run_width);
    float mean_square = square_sum(lane, run, run_width, aligned) / run_width;
    float scale = 1.0f / sqrtf(mean_square + eps);
    if (!lane.writes) return;
    bool weight_aligned = chunks_aligned(weight, run_width, run_width);
    bool out_aligned = chunks_aligned(out, run_width, run_width);
    T* out_run = out + static_cast<i64>(lane.run) * run_width;
    for (int start = lane.first(); start < run_width; start += lane.step()) {
        float v[CHUNK], w[CHUNK];
        load_chunk(v, run, start, run_width, aligned);
        load_chunk(w, weight, start, run_width, weight_aligned);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) v[i] = v[i] * scale * (w[i] + weight_offset);
        store_chunk(out_run, start, run_width, out_aligned, v);
    }
}

// x / max(||x||, eps)
template <typename T>
DEVICE void l2_normalize(const T* x, i64 x_stride, T* out, int rows, int width, float eps) {
    Lane lane(rows, width);
    const T* row = x + lane.run * x_stride;
    bool aligned = chunks_aligned(x, x_stride, width);
    float norm = sqrtf(square_sum(lane, row, width, aligned));
    // Not fmaxf, which would turn a NaN into eps.
    float divisor = norm < eps ? eps : norm;
    if (!lane.writes) return;
    bool out_aligned = chunks_aligned(out, width, width);
    for (int start = lane.first(); start < width; start += lane.step()) {
        float v[CHUNK];
        load_chunk(v, row, start, width, aligned);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) v[i] /= divisor;
        store_chunk(out + static_cast<i64>(lane.run) * width, start, width, out_aligned, v);
    }
}

#define NORMS(SUFFIX, T)                                                                          \
    KERNEL(128)                                                                                   \
    layer_norm_##SUFFIX(const T* x, i64 x_stride, const T* residual, i64 residual_stride,         \
                        const float* weight, const float* bias, T* out, int rows, int width,      \
                        float eps) {                                                              \
        layer_norm(x, x_stride, residual, residual_stride, weight, bias, out, rows, width, eps);  \
    }                                                                                             \
    KERNEL(128)                                                                                   \
    rms_norm_##SUFFIX(const T* x, i64 x_stride, const float* weight, float weight_offset, T* out, \
                      int rows, int runs_per_row, int run_width, float eps) {                     \
        rms_norm(x, x_stride, weight, weight_offset, out, rows, runs_per_row, run_width, eps);    \
    }                                                                                             \
    KERNEL(128)                                                                                   \
    l2_normalize_##SUFFIX(const T* x, i64 x_stride, T* out, int rows, int width, float eps) {     \
        l2_normalize(x, x_stride, out, rows, width, eps);                                         \
    }

FOR_ACTIVATIONS(NORMS)
