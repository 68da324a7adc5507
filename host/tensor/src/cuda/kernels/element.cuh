// Stored elements, and rows of them that are read eight at a time.
#pragma once
#include "intrinsics.cuh"

struct Bf16 {
    u16 bits;
};
struct F16 {
    u16 bits;
};

DEVICE float to_float(float x) { return x; }
DEVICE float to_float(Bf16 x) { return float_of_bits(static_cast<u32>(x.bits) << 16); }
DEVICE float to_float(F16 x) { return float_of_f16(x.bits); }

DEVICE void set(float& to, float x) { to = x; }
DEVICE void set(Bf16& to, float x) { to.bits = bf16_bits(x); }
DEVICE void set(F16& to, float x) { to.bits = f16_bits(x); }

// Defines a kernel for each type of activations: MACRO(suffix of its name, type).
#define FOR_ACTIVATIONS(MACRO) \
    MACRO(f32, float)          \
    MACRO(bf16, Bf16)          \
    MACRO(f16, F16)

// Elements that a thread handles together: 16 bytes of a 16-bit type.
constexpr int CHUNK = 8;

// How many chunks `width` elements have; the last may be short.
DEVICE int chunks_of(int width) { return (width + CHUNK - 1) / CHUNK; }

// 16 bytes that are read and written by one instruction.
struct alignas(16) Quad {
    u32 word[4];
};

// CHUNK elements as they are stored.
template <typename T>
union Packed {
    Quad quads[CHUNK * sizeof(T) / sizeof(Quad)];
    T elements[CHUNK];
    DEVICE Packed() {}
};

// Whether every chunk of rows of `width` elements that lie `stride` apart is whole and begins at
// a multiple of 16 bytes. It decides how a chunk is read, never in which order its elements are
// added, so a result does not depend on where a tensor lies.
template <typename T>
DEVICE bool chunks_aligned(const T* data, i64 stride, int width) {
    return width % CHUNK == 0 && stride * sizeof(T) % sizeof(Quad) == 0 &&
           reinterpret_cast<u64>(data) % sizeof(Quad) == 0;
}

// Elements of `row` from `start` on; 0 from `width` on.
template <typename T>
DEVICE void load_chunk(float (&to)[CHUNK], const T* row, int start, int width, bool aligned) {
    if (aligned) {
        Packed<T> packed;
        const Quad* from = reinterpret_cast<const Quad*>(row + start);
#pragma unroll
        for (int i = 0; i < sizeof(packed.quads) / sizeof(Quad); i++) packed.quads[i] = from[i];
#pragma unroll
        for (int i = 0; i < CHUNK; i++) to[i] = to_float(packed.elements[i]);
    } else {
#pragma unroll
        for (int i = 0; i < CHUNK; i++) to[i] = start + i < width ? to_float(row[start + i]) : 0.0f;
    }
}

// Writes what `load_chunk` would read: nothing from `width` on.
template <typename T>
DEVICE void store_chunk(T* row, int start, int width, bool aligned, const float (&from)[CHUNK]) {
    if (aligned) {
        Packed<T> packed;
#pragma unroll
        for (int i = 0; i < CHUNK; i++) set(packed.elements[i], from[i]);
        Quad* to = reinterpret_cast<Quad*>(row + start);
#pragma unroll
        for (int i = 0; i < sizeof(packed.quads) / sizeof(Quad); i++) to[i] = packed.quads[i];
    } else {
#pragma unroll
        for (int i = 0; i < CHUNK; i++) {
            if (start + i < width) set(row[start + i], from[i]);
        }
    }
}

DEVICE float sum_of(const float (&v)[CHUNK]) {
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

DEVICE float sum_of_squares(const float (&v)[CHUNK]) {
    float squares[CHUNK];
#pragma unroll
    for (int i = 0; i < CHUNK; i++) squares[i] = v[i] * v[i];
    return sum_of(squares);
}

// Where a thread works that handles one chunk of a matrix: `rows` times `chunks_of(width)`
// threads in all, which are below 2^31.
struct ChunkPlace {
    int row;
    int start;
    bool exists;

    DEVICE ChunkPlace(int rows, int width) {
        u32 chunks = chunks_of(width);
        u32 index = blockIdx.x * blockDim.x + threadIdx.x;
        row = index / chunks;
        start = index % chunks * CHUNK;
        exists = row < rows;
    }
};
