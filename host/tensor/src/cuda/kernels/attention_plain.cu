// softmax(scale q k^T + bias + mask) v inside each sequence of a packed batch, without tensor cores: for
// f32, and for heads of any width up to 256 that attention.cu does not take.
//
//   As in attention.cu, but without its alignment, and with head_dim as a number.
//
// Launch: grid (max_rows / QUERIES rounded up, heads, sequences), blocks of THREADS,
// `shared_floats(head_dim)` floats of shared memory.
//
// The block's keys, then its values, stand in shared memory 32 at a time. A lane has the score of
// one key of them, then some elements of the result. Tiles begin at the sequence's start and are
// added in order, so a row depends on its own sequence only.
#include "element.cuh"
#include "sequence.cuh"

constexpr int WARP = 32;
constexpr int WARPS = 4;
constexpr int THREADS = WARP * WARPS;
// Queries that a warp works on together: each key is read once for all of them.
constexpr int WARP_QUERIES = 4;
constexpr int QUERIES = WARPS * WARP_QUERIES;
constexpr int KEYS = WARP;
constexpr int MAX_HEAD_DIM = 256;
constexpr int LANE_ELEMENTS = MAX_HEAD_DIM / WARP;

// One float more than a key has: the same element of 32 keys then lies in different banks.
DEVICE int key_stride(int head_dim) { return head_dim + 1; }

DEVICE int shared_floats(int head_dim) {
    return KEYS * key_stride(head_dim) + QUERIES * head_dim;
}

// Copies `count` rows from `first` on into shared memory; zeros from `length` on.
template <typename T>
DEVICE void copy_rows(float* to, int to_stride, const T* from, i64 stride, int first, int count,
                      int length, int head_dim) {
    for (int i = threadIdx.x; i < count * head_dim; i += THREADS) {
        int row = i / head_dim, column = i % head_dim;
        bool present = first + row < length;
        to[row * to_stride + column] =
            present ? to_float(from[(first + row) * stride + column]) : 0.0f;
    }
}

DEVICE float warp_max(float value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        value = fmaxf(value, shuffle_xor(value, distance));
    }
    return value;
}

DEVICE float warp_sum(float value) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        value += shuffle_xor(value, distance);
    }
    return value;
}

// A warp's queries, and what it has computed for them.
struct WarpQueries {
    int head_dim;
    int lane;
    // The first of them in its sequence, and in shared memory.
    int first;
    const float* rows;
    RunningSoftmax softmax[WARP_QUERIES];
    // Elements lane, lane + 32, and so on of each.
    float out[WARP_QUERIES][LANE_ELEMENTS] = {};

    // The weight of key `key` + lane for each query, relative to the highest score so far.
    DEVICE void weigh(float (&weights)[WARP_QUERIES], const float* keys, int key,
                      const Visible& visible, const DistanceBias& bias, float scale) {
#pragma unroll
        for (int query = 0; query < WARP_QUERIES; query++) weights[query] = 0.0f;
        const float* own = keys + lane * key_stride(head_dim);
        for (int i = 0; i < head_dim; i++) {
#pragma unroll
            for (int query = 0; query < WARP_QUERIES; query++) {
                weights[query] += rows[query * head_dim + i] * own[i];
            }
        }
#pragma unroll
        for (int query = 0; query < WARP_QUERIES; query++) {
            bool seen = visible.sees(first + query, key + lane);
            float score = weights[query] * scale;
            if (bias.exists()) score += bias.of(first + query, key + lane) * LOG2_E;
            if (!seen) score = -float_of_bits(0x7f800000);
            float factor = softmax[query].raise(warp_max(score));
            weights[query] = exp2_approximate(score - softmax[query].shift());
            softmax[query].sum += warp_sum(weights[query]);
#pragma unroll
            for (int i = 0; i < LANE_ELEMENTS; i++) out[query][i] *= factor;
        }
    }

    // Adds the values of a tile, each times the weight that its key's lane has.
    DEVICE void add_values(const float (&weights)[WARP_QUERIES], const float* values) {
        for (int key = 0; key < KEYS; key++) {
            const float* row = values + key * key_stride(head_dim);
            float weight[WARP_QUERIES];
#pragma unroll
            for (int query = 0; query < WARP_QUERIES; query++) {
                weight[query] = shuffle(weights[query], key);
            }
#pragma unroll
            for (int i = 0; i < LANE_ELEMENTS; i++) {
                int element = i * WARP + lane;
                if (element >= head_dim) break;
#pragma unroll
                for (int query = 0; query < WARP_QUERIES; query++) {
                    out[query][i] += weight[query] * row[element];
                }
            }
        }
    }

    // Writes the queries below `length` over their sums.
    template <typename T>
    DEVICE void store(T* to, i64 stride, int length) const {
#pragma unroll
        for (int query = 0; query < WARP_QUERIES; query++) {
            if (first + query >= length) return;
#pragma unroll
            for (int i = 0; i < LANE_ELEMENTS; i++) {
                int element = i * WARP + lane;
                if (element >= head_dim) break;
                set(to[query * stride + element], out[query][i] / softmax[query].sum);
            }
        }
    }
};

template <typename T>
DEVICE void attention_plain(const T* q, i64 q_stride, const T* k, i64 k_stride, const T* v,
                            i64 v_stride, T* out, const int* cu_seqlens, const float* biases,
                            int reach, int heads, int kv_heads, int head_dim, float scale, int left,
                            int right) {
    int first = blockIdx.x * QUERIES, head = blockIdx.y, sequence = blockIdx.z;
    Visible visible(cu_seqlens, sequence, left, right);
    if (first >= visible.length) return;
    i64 row = cu_seqlens[sequence];
    int kv_head = head / (heads / kv_heads), length = visible.length;
    q += row * q_stride + head * head_dim;
    k += row * k_stride + kv_head * head_dim;
    v += row * v_stride + kv_head * head_dim;

    DistanceBias bias(biases, head, reach);

    float* tile = reinterpret_cast<float*>(shared_memory());
    float* queries = tile + KEYS * key_stride(head_dim);
    copy_rows(queries, head_dim, q, q_stride, first, QUERIES, length, head_dim);
    WarpQueries warp;
    warp.head_dim = head_dim;
    warp.lane = threadIdx.x % WARP;
    int warp_first = threadIdx.x / WARP * WARP_QUERIES;
    warp.first = first + warp_first;
    warp.rows = queries + warp_first * head_dim;
    int end = visible.end_key(first, QUERIES);
    for (int key = visible.first_key(first, KEYS); key < end; key += KEYS) {
        copy_rows(tile, key_stride(head_dim), k, k_stride, key, KEYS, length, head_dim);
        block_barrier();
        float weights[WARP_QUERIES];
        warp.weigh(weights, tile, key, visible, bias, scale * LOG2_E);
        block_barrier();
        copy_rows(tile, key_stride(head_dim), v, v_stride, key, KEYS, length, head_dim);
        block_barrier();
        warp.add_values(weights, tile);
        block_barrier();
    }
    i64 out_stride = static_cast<i64>(heads) * head_dim;
    T* to = out + (row + warp.first) * out_stride + head * head_dim;
    warp.store(to, out_stride, length);
}

#define ATTENTION_PLAIN(SUFFIX, T)                                                               \
    KERNEL(THREADS)                                                                              \
    attention_plain_##SUFFIX(const T* q, i64 q_stride, const T* k, i64 k_stride, const T* v,     \
                             i64 v_stride, T* out, const int* cu_seqlens, const float* bias,     \
                             int reach, int heads, int kv_heads, int head_dim, float scale,      \
                             int left, int right) {                                              \
        attention_plain(q, q_stride, k, k_stride, v, v_stride, out, cu_seqlens, bias, reach,     \
                        heads, kv_heads, head_dim, scale, left, right);                          \
    }

FOR_ACTIVATIONS(ATTENTION_PLAIN)
