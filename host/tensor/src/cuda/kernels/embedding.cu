// Rows of a table, picked by index.
//
//   table [table_rows, width] without gaps, of any type; ids [rows] on the device;
//   residual [rows, width] with a stride, or none; out [rows, width] without gaps.
//
// Launch: one thread a chunk of 8 elements, blocks of 256, no shared memory. An id beyond the
// table gives a row of zeros and sets `*invalid` to 1, which the caller clears before and reads
// after. An output row depends on its id and its residual only.
#include "element.cuh"

template <typename Table, typename T>
DEVICE void embed(const Table* table, int table_rows, const u32* ids, const T* residual,
                  i64 residual_stride, T* out, int rows, int width, u32* invalid) {
    ChunkPlace place(rows, width);
    if (!place.exists) return;
    u32 id = ids[place.row];
    bool known = id < static_cast<u32>(table_rows);
    float values[CHUNK] = {};
    if (known) {
        bool aligned = chunks_aligned(table, width, width);
        load_chunk(values, table + static_cast<i64>(id) * width, place.start, width, aligned);
    } else {
        *invalid = 1;
    }
    if (known && residual) {
        float added[CHUNK];
        bool aligned = chunks_aligned(residual, residual_stride, width);
        load_chunk(added, residual + place.row * residual_stride, place.start, width, aligned);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) values[i] += added[i];
    }
    T* row = out + static_cast<i64>(place.row) * width;
    store_chunk(row, place.start, width, chunks_aligned(out, width, width), values);
}

#define EMBEDDING(NAME, TABLE, T)                                                               \
    KERNEL(256)                                                                                 \
    NAME(const TABLE* table, int table_rows, const u32* ids, const T* residual,                 \
         i64 residual_stride, T* out, int rows, int width, u32* invalid) {                      \
        embed(table, table_rows, ids, residual, residual_stride, out, rows, width, invalid);    \
    }

// embedding_TABLE_ACTIVATIONS
EMBEDDING(embedding_f32_f32, float, float)
EMBEDDING(embedding_bf16_f32, Bf16, float)
EMBEDDING(embedding_f16_f32, F16, float)
EMBEDDING(embedding_f32_bf16, float, Bf16)
EMBEDDING(embedding_bf16_bf16, Bf16, Bf16)
EMBEDDING(embedding_f16_bf16, F16, Bf16)
EMBEDDING(embedding_f32_f16, float, F16)
EMBEDDING(embedding_bf16_f16, Bf16, F16)
EMBEDDING(embedding_f16_f16, F16, F16)
