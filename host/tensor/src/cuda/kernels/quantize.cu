// Rows in 8 bits with a scale each, and what follows a product of such rows.
//
//   quantize_bf16         x [rows, width] with a stride; out [rows, width] in e4m3 and scales
//                         [rows], without gaps. width is a multiple of 8.
//   finish_scaled_bf16    x, residual [rows, width] with strides; out [rows, width] without gaps;
//                         scales of x's rows and of its columns; a bias [width], all in f32
//   fill_fp8              count elements: numbers that depend on their place alone, none of them NaN
//
// Launch: quantize `lanes` threads a row, 32 or 128, in blocks of 128 with WARPS words of shared
// memory; finish one thread a chunk of 8 elements, blocks of 256; fill as in tuning.cu. A row
// depends on itself only.
#include "activation.cuh"

constexpr int WARP = 32;
constexpr int THREADS = 128;
constexpr int WARPS = THREADS / WARP;

// Chunks that a lane keeps: they are loaded together, so that their latencies overlap.
constexpr int KEPT = 4;

// The largest number of e4m3.
constexpr float LARGEST = 448.0f;

// The least scale: its reciprocal is finite, so that a row of zeros stays one. Of rows that ask
// for less nothing is left but zeros, which they are to every sum.
constexpr float LEAST_SCALE = 1e-30f;

constexpr u32 SIZE_BITS = 0x7fffffff;
constexpr u32 INFINITY_BITS = 0x7f800000;

// The larger of two numbers as bits without a sign. Beyond all numbers are infinity and NaN, so
// that neither is lost.
DEVICE u32 higher(u32 a, u32 b) { return a > b ? a : b; }

DEVICE u32 highest_of(const float (&v)[CHUNK]) {
    u32 highest = 0;
#pragma unroll
    for (int i = 0; i < CHUNK; i++) highest = higher(highest, bits_of_float(v[i]) & SIZE_BITS);
    return highest;
}

// The highest of all lanes of a row, the same in each of them.
DEVICE u32 highest_of_lanes(u32 highest, int lanes) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        highest = higher(highest, bits_of_float(shuffle_xor(float_of_bits(highest), distance)));
    }
    if (lanes == WARP) return highest;
    u32* of_warps = reinterpret_cast<u32*>(shared_memory());
    if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = highest;
    block_barrier();
    for (int i = 0; i < WARPS; i++) highest = higher(highest, of_warps[i]);
    return highest;
}

// Eight elements of e4m3.
struct alignas(8) Eight {
    u16 pair[CHUNK / 2];
};

DEVICE void store_eight(u8* to, const float (&v)[CHUNK], float factor) {
    Eight eight;
#pragma unroll
    for (int i = 0; i < CHUNK / 2; i++) {
        eight.pair[i] = e4m3_pair(v[2 * i] * factor, v[2 * i + 1] * factor);
    }
    *reinterpret_cast<Eight*>(to) = eight;
}

KERNEL(THREADS)
quantize_bf16(const Bf16* x, i64 x_stride, int lanes, u8* out, float* scales, int rows, int width) {
    u32 thread = blockIdx.x * blockDim.x + threadIdx.x;
    int row = thread / lanes, lane = thread % lanes;
    // Whole warps, or whole blocks where they wait for each other.
    if (row >= rows) return;
    const Bf16* from = x + row * x_stride;
    bool aligned = chunks_aligned(x, x_stride, width);
    int first = lane * CHUNK, step = lanes * CHUNK;
    float kept[KEPT][CHUNK];
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int start = first + i * step;
        if (start < width) load_chunk(kept[i], from, start, width, aligned);
    }
    u32 highest = 0;
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        if (first + i * step < width) highest = higher(highest, highest_of(kept[i]));
    }
    float v[CHUNK];
    for (int start = first + KEPT * step; start < width; start += step) {
        load_chunk(v, from, start, width, aligned);
        highest = higher(highest, highest_of(v));
    }
    highest = highest_of_lanes(highest, lanes);
    // e4m3 has no infinity: a row with one, or with a NaN, has a scale that makes every result of
    // it NaN.
    float scale = float_of_bits(highest) / LARGEST;
    if (scale < LEAST_SCALE) scale = LEAST_SCALE;
    if (highest >= INFINITY_BITS) scale = float_of_bits(SIZE_BITS);
    float factor = highest >= INFINITY_BITS ? 0.0f : 1.0f / scale;
    if (lane == 0) scales[row] = scale;
    u8* to = out + static_cast<i64>(row) * width;
#pragma unroll
    for (int i = 0; i < KEPT; i++) {
        int start = first + i * step;
        if (start < width) store_eight(to + start, kept[i], factor);
    }
    for (int start = first + KEPT * step; start < width; start += step) {
        load_chunk(v, from, start, width, aligned);
        store_eight(to + start, v, factor);
    }
}

// activation(x * row's scale * column's scale + bias) + residual, of which the last two may be
// none; `out` may be x.
KERNEL(256)
finish_scaled_bf16(const Bf16* x, i64 x_stride, const float* row_scales,
                   const float* column_scales, const float* bias, int activation,
                   const Bf16* residual, i64 residual_stride, Bf16* out, int rows, int width) {
    ChunkPlace place(rows, width);
    if (!place.exists) return;
    float v[CHUNK], other[CHUNK];
    int start = place.start;
    load_chunk(v, x + place.row * x_stride, start, width, chunks_aligned(x, x_stride, width));
    load_chunk(other, column_scales, start, width, chunks_aligned(column_scales, width, width));
    float row_scale = row_scales[place.row];
#pragma unroll
    for (int i = 0; i < CHUNK; i++) v[i] = v[i] * row_scale * other[i];
    if (bias) {
        load_chunk(other, bias, start, width, chunks_aligned(bias, width, width));
#pragma unroll
        for (int i = 0; i < CHUNK; i++) v[i] += other[i];
    }
    activate_chunk<Bf16>(static_cast<Activation>(activation), v);
    if (residual) {
        bool aligned = chunks_aligned(residual, residual_stride, width);
        load_chunk(other, residual + place.row * residual_stride, start, width, aligned);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) v[i] += other[i];
    }
    Bf16* row = out + static_cast<i64>(place.row) * width;
    store_chunk(row, start, width, chunks_aligned(out, width, width), v);
}

KERNEL(256) fill_fp8(u8* out, u64 count) {
    u64 step = static_cast<u64>(gridDim.x) * blockDim.x;
    for (u64 i = static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
        // Numbers from -8 to 8 whose neighbours have nothing in common.
        u32 mixed = static_cast<u32>(i + (i >> 32)) * 0x9e3779b9u;
        mixed = (mixed ^ (mixed >> 15)) * 0x85ebca6bu;
        float x = static_cast<float>(static_cast<int>(mixed)) * 0x1p-28f;
        out[i] = static_cast<u8>(e4m3_pair(x, 0.0f));
    }
}
