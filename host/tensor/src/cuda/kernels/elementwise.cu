// Functions of one or two elements, and what follows the product of a linear layer.
//
//   Operands [rows, width] in rows with strides; out [rows, width] without gaps. `gated` reads
//   rows of twice its width. A bias is [width] in f32.
//
// Launch: one thread a chunk of 8 elements, blocks of 256, no shared memory. An element depends
// on its operands only.
#include "activation.cuh"

// Calls `f(values, row, start)`, which turns a chunk of x into one of the result.
template <typename T, typename F>
DEVICE void map_chunks(const T* x, i64 x_stride, T* out, int rows, int width, F f) {
    ChunkPlace place(rows, width);
    if (!place.exists) return;
    float values[CHUNK];
    bool aligned = chunks_aligned(x, x_stride, width);
    load_chunk(values, x + place.row * x_stride, place.start, width, aligned);
    f(values, place.row, place.start);
    T* row = out + static_cast<i64>(place.row) * width;
    store_chunk(row, place.start, width, chunks_aligned(out, width, width), values);
}

// The chunk of another operand that lies where one of x does.
template <typename T>
DEVICE void load_other(float (&to)[CHUNK], const T* x, i64 stride, int row, int start, int width) {
    load_chunk(to, x + row * stride, start, width, chunks_aligned(x, stride, width));
}

template <typename T>
DEVICE void add(const T* a, i64 a_stride, const T* b, i64 b_stride, T* out, int rows, int width) {
    map_chunks(a, a_stride, out, rows, width, [=](float(&v)[CHUNK], int row, int start) {
        float other[CHUNK];
        load_other(other, b, b_stride, row, start, width);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) v[i] += other[i];
    });
}

template <typename T>
DEVICE void mul(const T* a, i64 a_stride, const T* b, i64 b_stride, T* out, int rows, int width) {
    map_chunks(a, a_stride, out, rows, width, [=](float(&v)[CHUNK], int row, int start) {
        float other[CHUNK];
        load_other(other, b, b_stride, row, start, width);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) v[i] *= other[i];
    });
}

template <typename T>
DEVICE void scale(const T* x, i64 x_stride, float factor, T* out, int rows, int width) {
    map_chunks(x, x_stride, out, rows, width, [=](float(&v)[CHUNK], int, int) {
#pragma unroll
        for (int i = 0; i < CHUNK; i++) v[i] *= factor;
    });
}

// activation(left) * right, which lie side by side
template <typename T>
DEVICE void gated(const T* x, i64 x_stride, Activation activation, T* out, int rows, int half) {
    map_chunks(x, x_stride, out, rows, half, [=](float(&v)[CHUNK], int row, int start) {
        float right[CHUNK];
        load_other(right, x + half, x_stride, row, start, half);
        activate_chunk<T>(activation, v);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) v[i] *= right[i];
    });
}

// activation(x + bias) + residual, of which either may be none; `out` may be x.
template <typename T>
DEVICE void finish(const T* x, i64 x_stride, const float* bias, Activation activation,
                   const T* residual, i64 residual_stride, T* out, int rows, int width) {
    map_chunks(x, x_stride, out, rows, width, [=](float(&v)[CHUNK], int row, int start) {
        float other[CHUNK];
        if (bias) {
            load_other(other, bias, 0, 0, start, width);
#pragma unroll
            for (int i = 0; i < CHUNK; i++) v[i] += other[i];
        }
        activate_chunk<T>(activation, v);
        if (residual) {
            load_other(other, residual, residual_stride, row, start, width);
#pragma unroll
            for (int i = 0; i < CHUNK; i++) v[i] += other[i];
        }
    });
}

#define ELEMENTWISE(SUFFIX, T)                                                                    \
    KERNEL(256)                                                                                   \
    add_##SUFFIX(const T* a, i64 a_stride, const T* b, i64 b_stride, T* out, int rows,            \
                 int width) {                                                                     \
        add(a, a_stride, b, b_stride, out, rows, width);                                          \
    }                                                                                             \
    KERNEL(256)                                                                                   \
    mul_##SUFFIX(const T* a, i64 a_stride, const T* b, i64 b_stride, T* out, int rows,            \
                 int width) {                                                                     \
        mul(a, a_stride, b, b_stride, out, rows, width);                                          \
    }                                                                                             \
    KERNEL(256)                                                                                   \
    scale_##SUFFIX(const T* x, i64 x_stride, float factor, T* out, int rows, int width) {         \
        scale(x, x_stride, factor, out, rows, width);                                             \
    }                                                                                             \
    KERNEL(256)                                                                                   \
    gated_##SUFFIX(const T* x, i64 x_stride, int activation, T* out, int rows, int half) {        \
        gated(x, x_stride, static_cast<Activation>(activation), out, rows, half);                 \
    }                                                                                             \
    KERNEL(256)                                                                                   \
    finish_##SUFFIX(const T* x, i64 x_stride, const float* bias, int activation,                  \
                    const T* residual, i64 residual_stride, T* out, int rows, int width) {        \
        finish(x, x_stride, bias, static_cast<Activation>(activation), residual, residual_stride, \
               out, rows, width);                                                                 \
    }

// add_T, mul_T, scale_T, gated_T; finish_T is also the activation of a tensor
FOR_ACTIVATIONS(ELEMENTWISE)
