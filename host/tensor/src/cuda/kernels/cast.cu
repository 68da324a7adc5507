// Elements in another type, rounded to nearest.
//
//   x [rows, width] with a stride; out [rows, width] without gaps.
//
// Launch: one thread a chunk of 8 elements, blocks of 256, no shared memory. An element depends
// on its operand only.
#include "element.cuh"

template <typename From, typename To>
DEVICE void cast(const From* x, i64 x_stride, To* out, int rows, int width) {
    ChunkPlace place(rows, width);
    if (!place.exists) return;
    float values[CHUNK];
    bool aligned = chunks_aligned(x, x_stride, width);
    load_chunk(values, x + place.row * x_stride, place.start, width, aligned);
    To* row = out + static_cast<i64>(place.row) * width;
    store_chunk(row, place.start, width, chunks_aligned(out, width, width), values);
}

#define CAST(NAME, FROM, TO)                                                         \
    KERNEL(256) NAME(const FROM* x, i64 x_stride, TO* out, int rows, int width) {    \
        cast(x, x_stride, out, rows, width);                                         \
    }

// cast_FROM_TO
CAST(cast_f32_bf16, float, Bf16)
CAST(cast_f32_f16, float, F16)
CAST(cast_bf16_f32, Bf16, float)
CAST(cast_bf16_f16, Bf16, F16)
CAST(cast_f16_f32, F16, float)
CAST(cast_f16_bf16, F16, Bf16)
