// Rotary position embeddings.
//
//   rotary_table  positions [rows], inverse_frequencies [n] on the device; out [rows, 2 n] in
//                 f32 without gaps: the cosines of a row, then its sines
//   rotary        x [rows, width] with a stride; table [rows, 2 n] in f32 with a stride; out
//                 [rows, width] without gaps. Of the first `heads` heads, each `head_dim` wide,
//                 pairs (i, i + n) are rotated; the rest is copied.
//   normed_rotary the same after an RMS norm of each of these heads: of the first `query_heads`
//                 with the weight `query` [head_dim], of the others with `key`, both in f32
//
// Launch: the table one thread an angle, the rotation one thread a chunk of 8 elements, that with
// norms `lanes` threads a head, blocks of 256, no shared memory. A row depends on its position and
// itself only.
#include "element.cuh"

constexpr int WARP = 32;

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

// Where an element of a head finds the other one of its pair, and their angle.
struct PairPlace {
    bool rotated;
    bool left;
    int distance;
    int angle;

    DEVICE PairPlace(int element, int n, bool in_rotated_head) {
        rotated = in_rotated_head && element < 2 * n;
        left = element < n;
        distance = left ? n : -n;
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
        PairPlace pair(place.start % head_dim, n, place.start < heads * head_dim);
        if (pair.rotated) {
            load_chunk(other, x, place.start + pair.distance, width, true);
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
        PairPlace pair(column % head_dim, n, column < heads * head_dim);
        float own = to_float(x[column]);
        if (pair.rotated) {
            own = rotated(pair.left, own, to_float(x[column + pair.distance]), cosines[pair.angle],
                          sines[pair.angle]);
        }
        set(out[column], own);
    }
}

// A lane's part of one head, or of what a row has after its last whole one: chunks `lane`,
// `lane + lanes`, and so on.
struct HeadLane {
    int row;
    int head;
    // Of the head in its row.
    int start;
    int width;
    int lane;
    int lanes;
    // Lanes beyond the last row work on that one too, since sums take whole warps, but do not
    // write.
    bool writes;

    DEVICE HeadLane(int rows, int row_width, int head_dim, int lanes) : lanes(lanes) {
        u32 thread = blockIdx.x * blockDim.x + threadIdx.x;
        u32 heads = (row_width - 1) / head_dim + 1;
        u32 index = thread / lanes;
        lane = thread % lanes;
        row = index / heads;
        head = index % heads;
        writes = row < rows;
        if (!writes) row = rows - 1;
        start = head * head_dim;
        width = row_width - start < head_dim ? row_width - start : head_dim;
    }

    DEVICE int first() const { return lane * CHUNK; }
    DEVICE int step() const { return lanes * CHUNK; }

    // The sum over the head's lanes, the same in each of them.
    DEVICE float sum(float value) const {
        for (int distance = lanes / 2; distance > 0; distance /= 2) {
            value += shuffle_xor(value, distance);
        }
        return value;
    }
};

// What the elements of a head are multiplied with: together, and each by itself. A head that is
// copied has no weight.
struct HeadNorm {
    const float* weight;
    float eps;
    float weight_offset;

    DEVICE float scale(float sum_of_squares, int head_dim) const {
        return 1.0f / sqrtf(sum_of_squares / head_dim + eps);
    }
    DEVICE float apply(float x, float scale, float weight) const {
        return x * scale * (weight + weight_offset);
    }
};

// A head of one chunk a lane, all left, all right or all copied each: it is read once.
template <typename T>
DEVICE void rotate_in_registers(const HeadLane& at, const HeadNorm& norm, const T* x,
                                const float* cosines, int n, T* out, int head_dim) {
    PairPlace pair(at.first(), n, norm.weight);
    bool exists = at.first() < at.width;
    float own[CHUNK] = {}, weight[CHUNK] = {}, cosine[CHUNK] = {}, sine[CHUNK] = {};
    if (exists) load_chunk(own, x, at.first(), at.width, true);
    // The angles come while the squares are added; the weights are near, for all heads read them.
    if (pair.rotated) {
        load_chunk(cosine, cosines, pair.angle, n, true);
        load_chunk(sine, cosines + n, pair.angle, n, true);
    }
    float scale = norm.scale(at.sum(sum_of_squares(own)), head_dim);
    if (exists && norm.weight) load_chunk(weight, norm.weight, at.first(), head_dim, true);
    int other_lane = threadIdx.x % WARP + (pair.rotated ? pair.distance / CHUNK : 0);
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
        if (norm.weight) own[i] = norm.apply(own[i], scale, weight[i]);
        float other = shuffle(own[i], other_lane);
        if (pair.rotated) own[i] = rotated(pair.left, own[i], other, cosine[i], sine[i]);
    }
    if (at.writes && exists) store_chunk(out, at.first(), at.width, true, own);
}

// Any head: it is read again, element by element, once its norm is known.
template <typename T>
DEVICE void rotate_elements(const HeadLane& at, const HeadNorm& norm, const T* x,
                            const float* cosines, int n, T* out, int head_dim) {
    float sum = 0.0f;
    for (int start = at.first(); start < at.width; start += at.step()) {
        float v[CHUNK];
        load_chunk(v, x, start, at.width, false);
        sum += sum_of_squares(v);
    }
    float scale = norm.scale(at.sum(sum), head_dim);
    if (!at.writes) return;
    auto normal = [&](int element) {
        float v = to_float(x[element]);
        return norm.weight ? norm.apply(v, scale, norm.weight[element]) : v;
    };
    for (int start = at.first(); start < at.width; start += at.step()) {
        for (int element = start; element < start + CHUNK && element < at.width; element++) {
            PairPlace pair(element, n, norm.weight);
            float own = normal(element);
            if (pair.rotated) {
                own = rotated(pair.left, own, normal(element + pair.distance), cosines[pair.angle],
                              cosines[n + pair.angle]);
            }
            set(out[element], own);
        }
    }
}

template <typename T>
DEVICE void normed_rotary(const T* x, i64 x_stride, const float* table, i64 table_stride,
                          const float* query, const float* key, T* out, int rows, int width, int n,
                          int heads, int query_heads, int head_dim, int lanes, float eps,
                          float weight_offset) {
    HeadLane at(rows, width, head_dim, lanes);
    const float* weight = at.head < query_heads ? query : at.head < heads ? key : nullptr;
    HeadNorm norm = {weight, eps, weight_offset};
    const float* cosines = table + at.row * table_stride;
    bool in_registers = head_dim <= lanes * CHUNK && head_dim % CHUNK == 0 &&
                        chunks_aligned(x, x_stride, width) && chunks_aligned(out, width, width) &&
                        chunks_aligned(table, table_stride, n) &&
                        chunks_aligned(query, head_dim, head_dim) &&
                        chunks_aligned(key, head_dim, head_dim);
    x += at.row * x_stride + at.start;
    out += static_cast<i64>(at.row) * width + at.start;
    if (in_registers) {
        rotate_in_registers(at, norm, x, cosines, n, out, head_dim);
    } else {
        rotate_elements(at, norm, x, cosines, n, out, head_dim);
    }
}

#define ROTARY(SUFFIX, T)                                                                         \
    KERNEL(256)                                                                                   \
    rotary_##SUFFIX(const T* x, i64 x_stride, const float* table, i64 table_stride, T* out,       \
                    int rows, int width, int n, int heads, int head_dim) {                        \
        rotary(x, x_stride, table, table_stride, out, rows, width, n, heads, head_dim);           \
    }                                                                                             \
    KERNEL(256)                                                                                   \
    normed_rotary_##SUFFIX(const T* x, i64 x_stride, const float* table, i64 table_stride,        \
                           const float* query, const float* key, T* out, int rows, int width,     \
                           int n, int heads, int query_heads, int head_dim, int lanes, float eps, \
                           float weight_offset) {                                                 \
        normed_rotary(x, x_stride, table, table_stride, query, key, out, rows, width, n, heads,   \
                      query_heads, head_dim, lanes, eps, weight_offset);                          \
    }

FOR_ACTIVATIONS(ROTARY)
