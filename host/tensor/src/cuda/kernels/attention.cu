// softmax(scale q k^T + bias + mask) v inside each sequence of a packed batch, on tensor cores
// (FlashAttention-2).
//
//   q [rows, heads * head_dim], k, v [rows, kv_heads * head_dim] with strides, in bf16 or f16:
//   of their own or side by side in one projection; out [rows, heads * head_dim] without gaps;
//   cu_seqlens [sequences + 1] on the device, made by the host. Query head h reads key head
//   h / (heads / kv_heads). Which keys a query sees: `Visible`; what it adds: `DistanceBias`.
//
// Launch: grid (max_rows / QUERIES rounded up, heads, sequences), blocks of THREADS, and
// `Tile<HEAD_DIM>::SHARED_BYTES` of shared memory: attention_TYPE_HEADDIM. Pointers and strides
// are multiples of 16 bytes; where they are not, see attention_plain.cu. Blocks beyond the end of
// a short sequence have nothing to do.
//
// A warp has 16 queries, and its block reads a tile of keys and values at a time: the values are
// copied while scores are computed, the next keys while the values are used. Tiles begin at the
// sequence's start and are added in order, so a row depends on its own sequence only.
#include "element.cuh"
#include "sequence.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;
constexpr int WARP_QUERIES = 16;
constexpr int QUERIES = WARPS * WARP_QUERIES;

// What a block has in shared memory.
template <int HEAD_DIM>
struct Tile {
    // Wide heads leave no registers for the scores of more keys.
    static constexpr int KEYS = HEAD_DIM <= 128 ? 64 : 32;
    // Where so many blocks leave no registers for the queries, they are read for each tile again.
    static constexpr bool KEEPS_QUERIES = HEAD_DIM <= 64 || HEAD_DIM == 128;
    // 16 bytes more than a row has: eight rows one below the other then lie in different banks.
    static constexpr int STRIDE = HEAD_DIM + 8;
    // Blocks of a multiprocessor: what their results take of its registers.
    static constexpr int RESIDENT = HEAD_DIM <= 32 ? 4 : HEAD_DIM <= 96 ? 3 : 2;
    static constexpr int SHARED_BYTES = (QUERIES + 2 * KEYS) * STRIDE * 2;
};

DEVICE u32 pair(Bf16, float low, float high) { return bf16_pair(low, high); }
DEVICE u32 pair(F16, float low, float high) { return f16_pair(low, high); }

DEVICE void multiply(Bf16, float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    multiply_bf16(c, a, b0, b1);
}
DEVICE void multiply(F16, float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    multiply_f16(c, a, b0, b1);
}

// Starts to copy `ROWS` rows from `first` on into a tile; zeros from `length` on.
template <int ROWS, int HEAD_DIM, typename T>
DEVICE void copy_rows(T* tile, const T* from, i64 stride, int first, int length) {
    constexpr int CHUNKS = HEAD_DIM / CHUNK;
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        int row = i / CHUNKS, column = i % CHUNKS * CHUNK;
        bool present = first + row < length;
        const T* source = from + (present ? first + row : 0) * stride + column;
        copy_async(tile + row * Tile<HEAD_DIM>::STRIDE + column, source, present);
    }
    copy_commit();
}

// A warp's queries, and what it has computed for them. Of a lane: rows lane / 4 and 8 below it.
template <typename T, int HEAD_DIM>
struct WarpQueries {
    static constexpr int KEYS = Tile<HEAD_DIM>::KEYS;
    static constexpr int STRIDE = Tile<HEAD_DIM>::STRIDE;
    static constexpr int STEPS = HEAD_DIM / 16;
    static constexpr int KEPT = Tile<HEAD_DIM>::KEEPS_QUERIES ? STEPS : 1;

    int lane;
    const T* rows;
    u32 kept[KEPT][4];
    float out[HEAD_DIM / 8][4] = {};
    RunningSoftmax softmax[2];

    // The 16 x 16 piece of the queries that a step multiplies.
    DEVICE void load(u32 (&to)[4], int step) const {
        load_matrices(to, rows + lane % 16 * STRIDE + step * 16 + lane / 16 * 8);
    }

    DEVICE void keep() {
        if constexpr (Tile<HEAD_DIM>::KEEPS_QUERIES) {
#pragma unroll
            for (int step = 0; step < STEPS; step++) load(kept[step], step);
        }
    }

    // Products of the queries with a tile of keys.
    DEVICE void scores(float (&to)[KEYS / 8][4], const T* keys) {
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) to[n][i] = 0.0f;
        }
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            u32 loaded[4];
            if constexpr (!Tile<HEAD_DIM>::KEEPS_QUERIES) load(loaded, step);
            const u32(&query)[4] = Tile<HEAD_DIM>::KEEPS_QUERIES ? kept[step % KEPT] : loaded;
#pragma unroll
            for (int n = 0; n < KEYS / 16; n++) {
                u32 b[4];
                int key = n * 16 + lane / 16 * 8 + lane % 8, element = lane / 8 % 2 * 8;
                load_matrices(b, keys + key * STRIDE + step * 16 + element);
                multiply(T(), to[2 * n], query, b[0], b[1]);
                multiply(T(), to[2 * n + 1], query, b[2], b[3]);
            }
        }
    }

    // Turns scores into 2^(scale score - highest) and makes what was computed relative to the
    // new highest. `scale` has log2 e in it, or is 1 where the scores do.
    DEVICE void exponentials(float (&scores)[KEYS / 8][4], float scale) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float highest = scores[0][2 * half];
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
                highest = fmaxf(highest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
            }
            // Four lanes share a row.
            highest = fmaxf(highest, shuffle_xor(highest, 1));
            highest = fmaxf(highest, shuffle_xor(highest, 2));
            RunningSoftmax& row = softmax[half];
            float factor = row.raise(highest * scale);
            float shift = row.shift();
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    scores[n][i] = exp2_approximate(scores[n][i] * scale - shift);
                    row.sum += scores[n][i];
                }
            }
#pragma unroll
            for (int n = 0; n < HEAD_DIM / 8; n++) {
                out[n][2 * half] *= factor;
                out[n][2 * half + 1] *= factor;
            }
        }
    }

    // Adds a tile of values, each times its key's weight.
    DEVICE void add_values(const float (&weights)[KEYS / 8][4], const T* values) {
#pragma unroll
        for (int step = 0; step < KEYS / 16; step++) {
            const float(&left)[4] = weights[2 * step], (&right)[4] = weights[2 * step + 1];
            u32 a[4] = {pair(T(), left[0], left[1]), pair(T(), left[2], left[3]),
                        pair(T(), right[0], right[1]), pair(T(), right[2], right[3])};
#pragma unroll
            for (int n = 0; n < HEAD_DIM / 16; n++) {
                u32 b[4];
                int key = step * 16 + lane % 16, element = n * 16 + lane / 16 * 8;
                load_matrices_transposed(b, values + key * STRIDE + element);
                multiply(T(), out[2 * n], a, b[0], b[1]);
                multiply(T(), out[2 * n + 1], a, b[2], b[3]);
            }
        }
    }

    // Writes the rows below `count` over their sums.
    DEVICE void store(T* to, i64 stride, int count) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = softmax[half].sum;
            sum += shuffle_xor(sum, 1);
            sum += shuffle_xor(sum, 2);
            float inverse = 1.0f / sum;
            int row = lane / 4 + half * 8;
            if (row >= count) continue;
            u32* pairs = reinterpret_cast<u32*>(to + row * stride);
#pragma unroll
            for (int n = 0; n < HEAD_DIM / 8; n++) {
                float low = out[n][2 * half] * inverse, high = out[n][2 * half + 1] * inverse;
                pairs[n * 4 + lane % 4] = pair(T(), low, high);
            }
        }
    }
};

// Turns products into scores with a bias, in powers of 2. `scale` has log2 e in it.
template <int TILES>
DEVICE void add_bias(float (&scores)[TILES][4], const DistanceBias& bias, float scale, int query,
                     int key, int lane) {
#pragma unroll
    for (int n = 0; n < TILES; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float added = bias.of(query + lane / 4 + i / 2 * 8, key + n * 8 + lane % 4 * 2 + i % 2);
            scores[n][i] = scores[n][i] * scale + added * LOG2_E;
        }
    }
}

// Scores of keys that a query does not see become minus infinity.
template <int TILES>
DEVICE void mask(float (&scores)[TILES][4], const Visible& visible, int query, int key, int lane) {
#pragma unroll
    for (int n = 0; n < TILES; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            bool seen = visible.sees(query + lane / 4 + i / 2 * 8, key + n * 8 + lane % 4 * 2 + i % 2);
            if (!seen) scores[n][i] = -float_of_bits(0x7f800000);
        }
    }
}

template <typename T, int HEAD_DIM>
DEVICE void attention(const T* q, i64 q_stride, const T* k, i64 k_stride, const T* v, i64 v_stride,
                      T* out, const int* cu_seqlens, const float* biases, int reach, int heads,
                      int kv_heads, float scale, int left, int right) {
    using Warp = WarpQueries<T, HEAD_DIM>;
    constexpr int KEYS = Warp::KEYS, STRIDE = Warp::STRIDE;
    int first = blockIdx.x * QUERIES, head = blockIdx.y, sequence = blockIdx.z;
    Visible visible(cu_seqlens, sequence, left, right);
    if (first >= visible.length) return;
    i64 row = cu_seqlens[sequence];
    int kv_head = head / (heads / kv_heads);
    q += row * q_stride + head * HEAD_DIM;
    k += row * k_stride + kv_head * HEAD_DIM;
    v += row * v_stride + kv_head * HEAD_DIM;

    DistanceBias bias(biases, head, reach);
    scale *= LOG2_E;

    T* queries = reinterpret_cast<T*>(shared_memory());
    T* keys = queries + QUERIES * STRIDE;
    T* values = keys + KEYS * STRIDE;
    int key = visible.first_key(first, KEYS), end = visible.end_key(first, QUERIES);
    copy_rows<QUERIES, HEAD_DIM>(queries, q, q_stride, first, visible.length);
    copy_rows<KEYS, HEAD_DIM>(keys, k, k_stride, key, visible.length);

    Warp warp;
    warp.lane = threadIdx.x % 32;
    int warp_first = threadIdx.x / 32 * WARP_QUERIES;
    warp.rows = queries + warp_first * STRIDE;
    for (bool kept = false; key < end; key += KEYS) {
        copy_wait<0>();
        // The keys are there for all, and nobody still uses the values.
        block_barrier();
        copy_rows<KEYS, HEAD_DIM>(values, v, v_stride, key, visible.length);
        if (!kept) warp.keep();
        kept = true;
        float scores[KEYS / 8][4];
        warp.scores(scores, keys);
        copy_wait<0>();
        // The values are there for all, and nobody still uses the keys.
        block_barrier();
        if (key + KEYS < end) {
            copy_rows<KEYS, HEAD_DIM>(keys, k, k_stride, key + KEYS, visible.length);
        }
        int query = first + warp_first;
        if (bias.exists()) add_bias(scores, bias, scale, query, key, warp.lane);
        if (!visible.all_see(query, WARP_QUERIES, key, KEYS)) {
            mask(scores, visible, query, key, warp.lane);
        }
        warp.exponentials(scores, bias.exists() ? 1.0f : scale);
        warp.add_values(scores, values);
    }
    i64 out_stride = static_cast<i64>(heads) * HEAD_DIM;
    T* to = out + (row + first + warp_first) * out_stride + head * HEAD_DIM;
    warp.store(to, out_stride, visible.length - first - warp_first);
}

#define ATTENTION(NAME, T, HEAD_DIM)                                                              \
    RESIDENT_KERNEL(THREADS, Tile<HEAD_DIM>::RESIDENT)                                            \
    NAME(const T* q, i64 q_stride, const T* k, i64 k_stride, const T* v, i64 v_stride, T* out,    \
         const int* cu_seqlens, const float* bias, int reach, int heads, int kv_heads,            \
         float scale, int left, int right) {                                                      \
        attention<T, HEAD_DIM>(q, q_stride, k, k_stride, v, v_stride, out, cu_seqlens, bias,      \
                               reach, heads, kv_heads, scale, left, right);                       \
    }

#define ATTENTIONS(HEAD_DIM)                                \
    ATTENTION(attention_bf16_##HEAD_DIM, Bf16, HEAD_DIM)    \
    ATTENTION(attention_f16_##HEAD_DIM, F16, HEAD_DIM)

ATTENTIONS(32)
ATTENTIONS(64)
ATTENTIONS(80)
ATTENTIONS(96)
ATTENTIONS(128)
ATTENTIONS(256)
