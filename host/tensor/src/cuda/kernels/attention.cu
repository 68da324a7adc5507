// softmax(scale q k^T + bias + mask) v inside each sequence of a packed batch, on tensor cores
// (FlashAttention-2).
//
//   q [rows, heads * head_dim], k, v [rows, kv_heads * head_dim] with strides, in bf16 or f16:
//   of their own or side by side in one projection; out [rows, heads * head_dim] without gaps;
//   cu_seqlens [sequences + 1] on the device, made by the host. Query head h reads key head
//   h / (heads / kv_heads). Which keys a query sees: `Visible`; what it adds: `DistanceBias`.
//
// Launch: grid (max_rows / QUERIES rounded up, heads, sequences), blocks of THREADS, and
// SHARED_BYTES of shared memory, as the kernel's `Form` has them: attention_TYPE_HEADDIM, and
// attention_TYPE_HEADDIM_short for batches without long sequences. Pointers and strides are
// multiples of 16 bytes; where they are not, see attention_plain.cu. Blocks beyond the end of a
// short sequence have nothing to do.
//
// A warp has 16 queries, or 32 that share what is loaded of the keys and values, which a block
// reads a tile at a time. Tiles begin at the sequence's start and are added in order, and both
// forms of a width have tiles of the same keys, so a row depends on its own sequence only.
#include "element.cuh"
#include "sequence.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = 32 * WARPS;
// Queries, or keys, or elements of a head, that one product of a warp takes.
constexpr int SIDE = 16;

// How a block computes heads of one width: `TILES` times SIDE queries a warp.
template <int HEAD_DIM_, int TILES_, int RESIDENT_>
struct Form {
    static constexpr int HEAD_DIM = HEAD_DIM_, TILES = TILES_;
    // Blocks of a multiprocessor: what their results take of its registers.
    static constexpr int RESIDENT = RESIDENT_;
    static constexpr int WARP_QUERIES = SIDE * TILES;
    static constexpr int QUERIES = WARPS * WARP_QUERIES;
    // As measured. How a row is rounded depends on it, so that it is the width's, not the form's.
    static constexpr int KEYS = HEAD_DIM == 64 || HEAD_DIM == 256 ? 64 : 32;
    // Tiles of keys, and of values: with two, the next are copied while these are used. Of the
    // widest heads there is memory for one.
    static constexpr int STAGES = HEAD_DIM <= 128 ? 2 : 1;
    // Wider heads leave no registers for the queries: they are read for each tile again.
    static constexpr bool KEEPS_QUERIES = HEAD_DIM <= 96;
    // Whether what follows from the lane is computed for each tile: kept, some would be spilled,
    // but for heads of 64, where it is the other way round.
    static constexpr bool COMPUTES_AGAIN = HEAD_DIM != 64;
    // 16 bytes more than a row has: eight rows one below the other then lie in different banks.
    static constexpr int STRIDE = HEAD_DIM + 8;
    static constexpr int SHARED_BYTES = (QUERIES + 2 * STAGES * KEYS) * STRIDE * 2;
    // What a lane has of its warp's scores: of each 8 keys two, for two rows of each tile.
    using Scores = float[TILES][KEYS / 8][4];
};

DEVICE u32 pair(Bf16, float low, float high) { return bf16_pair(low, high); }
DEVICE u32 pair(F16, float low, float high) { return f16_pair(low, high); }

DEVICE void multiply(Bf16, float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    multiply_bf16(c, a, b0, b1);
}
DEVICE void multiply(F16, float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    multiply_f16(c, a, b0, b1);
}

// Rows that a block copies tile by tile: a thread has one chunk of every PASS-th row.
template <int HEAD_DIM, typename T>
struct Rows {
    static constexpr int CHUNKS = HEAD_DIM / CHUNK;
    static constexpr int PASS = THREADS / CHUNKS;

    // The thread's chunk of its first row of the next tile.
    const T* next;
    i64 stride;

    DEVICE Rows(const T* rows, i64 stride) : stride(stride) {
        next = rows + threadIdx.x / CHUNKS * stride + threadIdx.x % CHUNKS * CHUNK;
    }

    // Starts to copy the next ROWS; zeros from `count` on.
    template <int ROWS>
    DEVICE void copy(T* tile, int count) {
        int row = threadIdx.x / CHUNKS;
        T* to = tile + row * (HEAD_DIM + 8) + threadIdx.x % CHUNKS * CHUNK;
        // Threads that a pass has no row for have none at all.
        if (THREADS % CHUNKS == 0 || row < PASS) {
            const T* from = next;
            // Unrolled, each row's address would take registers that the scores need.
#pragma unroll 1
            for (int i = 0; i < ROWS; i += PASS) {
                if (ROWS % PASS != 0 && row + i >= ROWS) break;
                copy_async(to + i * (HEAD_DIM + 8), from, row + i < count);
                from += PASS * stride;
            }
        }
        next += ROWS * stride;
    }
};

// A warp's queries, and what it has computed for them. Of a lane and a tile of queries: rows
// lane / 4 and 8 below it.
template <typename T, typename Form>
struct WarpQueries {
    using Scores = typename Form::Scores;
    static constexpr int TILES = Form::TILES, HEAD_DIM = Form::HEAD_DIM, KEYS = Form::KEYS;
    static constexpr int STRIDE = Form::STRIDE;
    static constexpr int STEPS = HEAD_DIM / SIDE;
    static constexpr int KEPT = Form::KEEPS_QUERIES ? STEPS : 1;

    int lane;
    const T* rows;
    u32 kept[KEPT][TILES][4];
    float out[TILES][HEAD_DIM / 8][4] = {};
    RunningSoftmax softmax[TILES][2];

    // The pieces of the queries that a step multiplies.
    DEVICE void load(u32 (&to)[TILES][4], int step) const {
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            int row = t * SIDE + lane % 16;
            load_matrices(to[t], rows + row * STRIDE + step * SIDE + lane / 16 * 8);
        }
    }

    DEVICE void keep() {
        if constexpr (Form::KEEPS_QUERIES) {
#pragma unroll
            for (int step = 0; step < STEPS; step++) load(kept[step], step);
        }
    }

    // Products of the queries with a tile of keys.
    DEVICE void multiply_keys(Scores& to, const T* keys) {
#pragma unroll
        for (int t = 0; t < TILES; t++) {
#pragma unroll
            for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) to[t][n][i] = 0.0f;
            }
        }
        keys += (lane / 16 * 8 + lane % 8) * STRIDE + lane / 8 % 2 * 8;
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            u32 loaded[TILES][4];
            if constexpr (!Form::KEEPS_QUERIES) load(loaded, step);
            const u32(&query)[TILES][4] = Form::KEEPS_QUERIES ? kept[step % KEPT] : loaded;
#pragma unroll
            for (int n = 0; n < KEYS / SIDE; n++) {
                u32 b[4];
                load_matrices(b, keys + n * SIDE * STRIDE + step * SIDE);
#pragma unroll
                for (int t = 0; t < TILES; t++) {
                    multiply(T(), to[t][2 * n], query[t], b[0], b[1]);
                    multiply(T(), to[t][2 * n + 1], query[t], b[2], b[3]);
                }
            }
        }
    }

    // Turns scores into 2^(scale score - highest) and makes what was computed relative to the
    // new highest. `scale` has log2 e in it, or is 1 where the scores do.
    DEVICE void exponentials(float (&scores)[KEYS / 8][4], float scale, int tile, int half) {
        float highest = scores[0][2 * half];
#pragma unroll
        for (int n = 0; n < KEYS / 8; n++) {
            highest = fmaxf(highest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
        }
        // Four lanes share a row.
        highest = fmaxf(highest, shuffle_xor(highest, 1));
        highest = fmaxf(highest, shuffle_xor(highest, 2));
        RunningSoftmax& row = softmax[tile][half];
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
            out[tile][n][2 * half] *= factor;
            out[tile][n][2 * half + 1] *= factor;
        }
    }

    // Adds a tile of values, each times its key's weight.
    DEVICE void add_values(Scores& scores, float scale, const T* values) {
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            exponentials(scores[t], scale, t, 0);
            exponentials(scores[t], scale, t, 1);
        }
        values += lane % 16 * STRIDE + lane / 16 * 8;
#pragma unroll
        for (int step = 0; step < KEYS / SIDE; step++) {
            u32 a[TILES][4];
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                const float(&left)[4] = scores[t][2 * step], (&right)[4] = scores[t][2 * step + 1];
                a[t][0] = pair(T(), left[0], left[1]);
                a[t][1] = pair(T(), left[2], left[3]);
                a[t][2] = pair(T(), right[0], right[1]);
                a[t][3] = pair(T(), right[2], right[3]);
            }
#pragma unroll
            for (int n = 0; n < HEAD_DIM / SIDE; n++) {
                u32 b[4];
                load_matrices_transposed(b, values + step * SIDE * STRIDE + n * SIDE);
#pragma unroll
                for (int t = 0; t < TILES; t++) {
                    multiply(T(), out[t][2 * n], a[t], b[0], b[1]);
                    multiply(T(), out[t][2 * n + 1], a[t], b[2], b[3]);
                }
            }
        }
    }

    // Writes the rows below `count` over their sums.
    DEVICE void store(T* to, i64 stride, int count) {
#pragma unroll
        for (int t = 0; t < TILES; t++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float sum = softmax[t][half].sum;
                sum += shuffle_xor(sum, 1);
                sum += shuffle_xor(sum, 2);
                float inverse = 1.0f / sum;
                int row = t * SIDE + lane / 4 + half * 8;
                if (row >= count) continue;
                u32* pairs = reinterpret_cast<u32*>(to + row * stride);
#pragma unroll
                for (int n = 0; n < HEAD_DIM / 8; n++) {
                    float low = out[t][n][2 * half] * inverse;
                    float high = out[t][n][2 * half + 1] * inverse;
                    pairs[n * 4 + lane % 4] = pair(T(), low, high);
                }
            }
        }
    }
};

// How far a score's key, and its distance from its query, lie beyond those of the lane's first
// score: constants once loops are unrolled, so that neither is computed for each.
DEVICE constexpr int key_offset(int n, int i) { return n * 8 + i % 2; }
DEVICE constexpr int distance_offset(int t, int n, int i) {
    return key_offset(n, i) - t * SIDE - i / 2 * 8;
}

// Turns products into scores with a bias, in powers of 2. `scale` has log2 e in it.
template <int TILES, int KEY_TILES>
DEVICE void add_bias(float (&scores)[TILES][KEY_TILES][4], const DistanceBias& bias, float scale,
                     int query, int key, int lane) {
    int distance = key + lane % 4 * 2 - query - lane / 4;
#pragma unroll
    for (int t = 0; t < TILES; t++) {
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float added = bias.at(distance + distance_offset(t, n, i));
                scores[t][n][i] = scores[t][n][i] * scale + added * LOG2_E;
            }
        }
    }
}

// Scores of keys that a query does not see become minus infinity.
template <int TILES, int KEY_TILES>
DEVICE void mask(float (&scores)[TILES][KEY_TILES][4], const Visible& visible, int query, int key,
                 int lane) {
    // What a score's offsets are compared with.
    int first = key + lane % 4 * 2, distance = first - query - lane / 4;
    int least = -visible.left - distance, most = visible.right - distance;
    int keys = visible.length - first;
#pragma unroll
    for (int t = 0; t < TILES; t++) {
#pragma unroll
        for (int n = 0; n < KEY_TILES; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int offset = distance_offset(t, n, i);
                bool seen = offset >= least && offset <= most && key_offset(n, i) < keys;
                if (!seen) scores[t][n][i] = -float_of_bits(0x7f800000);
            }
        }
    }
}

template <typename T, typename Form>
DEVICE void attention(const T* q, i64 q_stride, const T* k, i64 k_stride, const T* v, i64 v_stride,
                      T* out, const int* cu_seqlens, const float* biases, int reach, int heads,
                      int kv_heads, float scale, int left, int right) {
    constexpr int HEAD_DIM = Form::HEAD_DIM, KEYS = Form::KEYS, QUERIES = Form::QUERIES;
    constexpr int WARP_QUERIES = Form::WARP_QUERIES, TILE = KEYS * Form::STRIDE;
    // The last queries see most where attention is causal: theirs are the first blocks to run.
    int first = (gridDim.x - 1 - blockIdx.x) * QUERIES, head = blockIdx.y, sequence = blockIdx.z;
    Visible visible(cu_seqlens, sequence, left, right);
    if (first >= visible.length) return;
    i64 row = cu_seqlens[sequence];
    int kv_head = head / (heads / kv_heads), length = visible.length;
    q += row * q_stride + head * HEAD_DIM;
    k += row * k_stride + kv_head * HEAD_DIM;
    v += row * v_stride + kv_head * HEAD_DIM;
    DistanceBias bias(biases, head, reach);
    scale *= LOG2_E;

    T* queries = reinterpret_cast<T*>(shared_memory());
    T* keys = queries + QUERIES * Form::STRIDE;
    T* values = keys + Form::STAGES * TILE;
    int key = visible.first_key(first, KEYS), end = visible.end_key(first, QUERIES);
    Rows<HEAD_DIM, T> query_rows(q + first * q_stride, q_stride);
    Rows<HEAD_DIM, T> key_rows(k + key * k_stride, k_stride);
    Rows<HEAD_DIM, T> value_rows(v + key * v_stride, v_stride);
    query_rows.template copy<QUERIES>(queries, length - first);
    key_rows.template copy<KEYS>(keys, length - key);
    if constexpr (Form::STAGES == 2) value_rows.template copy<KEYS>(values, length - key);
    copy_commit();

    WarpQueries<T, Form> warp;
    warp.lane = threadIdx.x % 32;
    int warp_first = threadIdx.x / 32 * WARP_QUERIES, query = first + warp_first;
    warp.rows = queries + warp_first * Form::STRIDE;
    auto add = [&](typename Form::Scores& scores, const T* values) {
        if (bias.exists()) add_bias(scores, bias, scale, query, key, warp.lane);
        if (!visible.all_see(query, WARP_QUERIES, key, KEYS)) {
            mask(scores, visible, query, key, warp.lane);
        }
        warp.add_values(scores, bias.exists() ? 1.0f : scale, values);
    };

    copy_wait<0>();
    // The queries and the first tiles are there for all.
    block_barrier();
    warp.keep();
#pragma unroll 1
    for (int stage = 0;;) {
        int next = key + KEYS;
        if constexpr (Form::COMPUTES_AGAIN) warp.lane = opaque(warp.lane);
        // Tiles that none of the warp's queries sees would leave its results as they are.
        bool sees = visible.any_sees(query, WARP_QUERIES, key, KEYS);
        typename Form::Scores scores;
        if constexpr (Form::STAGES == 2) {
            int other = stage ^ TILE;
            if (next < end) {
                key_rows.template copy<KEYS>(keys + other, length - next);
                value_rows.template copy<KEYS>(values + other, length - next);
                copy_commit();
            }
            if (sees) {
                warp.multiply_keys(scores, keys + stage);
                add(scores, values + stage);
            }
            stage = other;
        } else {
            value_rows.template copy<KEYS>(values, length - key);
            copy_commit();
            if (sees) warp.multiply_keys(scores, keys);
            copy_wait<0>();
            // The values are there for all, and nobody still uses the keys.
            block_barrier();
            if (next < end) {
                key_rows.template copy<KEYS>(keys, length - next);
                copy_commit();
            }
            if (sees) add(scores, values);
        }
        if (next >= end) break;
        copy_wait<0>();
        // The next tiles are there for all, and nobody still uses these.
        block_barrier();
        key = next;
    }
    i64 out_stride = static_cast<i64>(heads) * HEAD_DIM;
    T* to = out + (row + query) * out_stride + head * HEAD_DIM;
    warp.store(to, out_stride, length - query);
}

#define ATTENTION(NAME, T, FORM)                                                                  \
    RESIDENT_KERNEL(THREADS, FORM::RESIDENT)                                                      \
    NAME(const T* q, i64 q_stride, const T* k, i64 k_stride, const T* v, i64 v_stride, T* out,    \
         const int* cu_seqlens, const float* bias, int reach, int heads, int kv_heads,            \
         float scale, int left, int right) {                                                      \
        attention<T, FORM>(q, q_stride, k, k_stride, v, v_stride, out, cu_seqlens, bias, reach,   \
                           heads, kv_heads, scale, left, right);                                  \
    }

#define ATTENTIONS(NAME, HEAD_DIM, TILES, RESIDENT)              \
    using Form_##NAME = Form<HEAD_DIM, TILES, RESIDENT>;         \
    ATTENTION(attention_bf16_##NAME, Bf16, Form_##NAME)          \
    ATTENTION(attention_f16_##NAME, F16, Form_##NAME)

ATTENTIONS(32, 32, 2, 4)
ATTENTIONS(32_short, 32, 1, 6)
ATTENTIONS(64, 64, 2, 2)
// Elsewhere there is no shared memory for a fourth block.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ == 900 || __CUDA_ARCH__ == 1000)
ATTENTIONS(64_short, 64, 1, 4)
#else
ATTENTIONS(64_short, 64, 1, 3)
#endif
ATTENTIONS(80, 80, 2, 2)
ATTENTIONS(80_short, 80, 1, 3)
ATTENTIONS(96, 96, 2, 2)
ATTENTIONS(96_short, 96, 1, 3)
ATTENTIONS(128, 128, 2, 2)
ATTENTIONS(128_short, 128, 1, 4)
// The results of so wide a head leave no registers for more queries.
ATTENTIONS(256, 256, 1, 2)
