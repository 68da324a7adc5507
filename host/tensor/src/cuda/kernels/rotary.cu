// Rotary position embeddings.
//
//   rotary_table  positions [rows], inverse_frequencies [n] on the device; out [rows, 2 n] in
//                 f32 without gaps: the cosines of a row, then its sines
//   rotary        x [rows, width] with a stride; table [rows, 2 n] in f32 with a stride; out
//                 [rows, width] without gaps. Of the first `heads` heads, each `head_dim` wide,
//                 pairs (i, i + n) are rotated; the rest is copied.
//
// Launch: the table one thread an angle, the rotation one thread a chunk of 8 elements, blocks of
// 256, no shared memory. A row depends on its position and itself only.
#include "element.cuh"

KERNEL(256)
rotary_table(const u32* positions, const float* inverse_frequencies, float factor, float* out,
             int rows, int n) {
    u32 index = blockIdx.x * blockDim.x + threadIdx.x;
    int row = index / n, i = index % n;
    if (row >= rows) return;
    // Rounded to f32 like the reference's angle, whose error grows with it.
    float angle = static_cast<float>(positions[row]) * inverse_frequencies[i];
    float* cosines = out + static_cast<i64>(row) * 2 * n;
    cosines[i] = cosf(angle) * factor;
    cosines[n + i] = sinf(angle) * factor;
}

// Where an element of a rotated pair finds the other one, and their angle.
struct PairPlace {
    bool rotated;
    bool left;
    int other;
    int angle;

    DEVICE PairPlace(int column, int n, int heads, int head_dim) {
        int element = column % head_dim;
        rotated = column < heads * head_dim && element < 2 * n;
        left = element < n;
        other = left ? column + n : column - n;
        angle = left ? element : element - n;
    }
};

DEVICE float rotated(bool left, float own, float other, float cosine, float sine) {
    return left ? own * cosine - other * sine : own * cosine + other * sine;
}

template <typename T>
DEVICE void rotary(const T* x, i64 x_stride, const float* table, i64 table_stride, T* out, int rows,
                   int width, int n, int heads, int head_dim) {
    ChunkPlace place(rows, width);
    if (!place.exists) return;
    x += place.row * x_stride;
    const float* cosines = table + place.row * table_stride;
    const float* sines = cosines + n;
    out += static_cast<i64>(place.row) * width;

    bool aligned = chunks_aligned(x, x_stride, width) && chunks_aligned(out, width, width) &&
                   chunks_aligned(table, table_stride, n) && head_dim % CHUNK == 0;
    if (aligned) {
        // The chunk is all left, all right or all copied.
        float own[CHUNK], other[CHUNK], cosine[CHUNK], sine[CHUNK];
        load_chunk(own, x, place.start, width, true);
        PairPlace pair(place.start, n, heads, head_dim);
        if (pair.rotated) {
            load_chunk(other, x, pair.other, width, true);
            load_chunk(cosine, cosines, pair.angle, n, true);
            load_chunk(sine, sines, pair.angle, n, true);
#pragma unroll
            for (int i = 0; i < CHUNK; i++) {
                own[i] = rotated(pair.left, own[i], other[i], cosine[i], sine[i]);
            }
        }
        store_chunk(out, place.start, width, true, own);
        return;
    }
    for (int column = place.start; column < place.start + CHUNK && column < width; column++) {
        PairPlace pair(column, n, heads, head_dim);
        float own = to_float(x[column]);
        if (pair.rotated) {
            own = rotated(pair.left, own, to_float(x[pair.other]), cosines[pair.angle],
                          sines[pair.angle]);
        }
        set(out[column], own);
    }
}

#define ROTARY(SUFFIX, T)                                                                         \
    KERNEL(256)                                                                                   \
    rotary_##SUFFIX(const T* x, i64 x_stride, const float* table, i64 table_stride, T* out,       \
                    int rows, int width, int n, int heads, int head_dim) {                        \
        rotary(x, x_stride, table, table_stride, out, rows, width, n, heads, head_dim);           \
    }

FOR_ACTIVATIONS(ROTARY)
