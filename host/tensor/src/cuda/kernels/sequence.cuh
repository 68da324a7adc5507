// The queries of one block of attention, and the keys that they see.
#pragma once
#include "intrinsics.cuh"

DEVICE int smaller(int a, int b) { return a < b ? a : b; }
DEVICE int larger(int a, int b) { return a > b ? a : b; }

// A query at i sees the keys from i - left to i + right of its sequence. A window w is both, and
// causal is a right of 0; without bounds they are any number from the length on.
struct Visible {
    int length;
    int left;
    int right;

    // From the offsets of a packed batch.
    DEVICE Visible(const int* cu_seqlens, int sequence, int left, int right)
        : length(cu_seqlens[sequence + 1] - cu_seqlens[sequence]),
          left(smaller(left, length)),
          right(smaller(right, length)) {}

    DEVICE bool sees(int query, int key) const {
        return key < length && key >= query - left && key <= query + right;
    }

    // Whether each of `queries` from `query` on sees each of `keys` from `key` on.
    DEVICE bool all_see(int query, int queries, int key, int keys) const {
        return key + keys <= length && key >= query + queries - 1 - left &&
               key + keys - 1 <= query + right;
    }

    // Whether any of `queries` from `query` on sees any of `keys` from `key` on, below the length.
    DEVICE bool any_sees(int query, int queries, int key, int keys) const {
        return query < length && key < query + queries + right && key + keys > query - left;
    }

    // The first key that any of the queries from `query` on sees, rounded down to a whole tile:
    // tiles begin at the sequence's start whatever else is in the batch.
    DEVICE int first_key(int query, int tile) const {
        return larger(0, query - left) / tile * tile;
    }

    // One past the last key that any of `queries` from `query` on sees.
    DEVICE int end_key(int query, int queries) const {
        return smaller(length, query + queries + right);
    }
};

// What is added to the score of a key for its distance from the query: [heads, 2 * reach + 1] in
// f32, or none. Element reach + j - i of a head is for the query at i and the key at j. No query
// sees a key beyond the reach; what others would get does not matter, but is read from the table.
struct DistanceBias {
    const float* zero;
    int reach;

    DEVICE DistanceBias(const float* table, int head, int reach)
        : zero(table ? table + static_cast<i64>(head) * (2 * reach + 1) + reach : table),
          reach(reach) {}

    DEVICE bool exists() const { return zero; }
    DEVICE float of(int query, int key) const { return at(key - query); }
    // For the key at `distance` from its query.
    DEVICE float at(int distance) const { return zero[larger(-reach, smaller(reach, distance))]; }
};

constexpr float LOG2_E = 1.4426950408889634f;

// The highest score of a row of the softmax so far, and the sum of 2^(score - highest), where
// scores are in powers of 2. All are kept relative to the highest, so that none overflows.
struct RunningSoftmax {
    float highest = -float_of_bits(0x7f800000);
    float sum = 0.0f;

    // Takes note of the highest of more scores. What was summed up so far must be multiplied
    // with the result.
    DEVICE float raise(float score) {
        float before = highest;
        highest = fmaxf(highest, score);
        float factor = exp2_approximate(before - shift());
        sum *= factor;
        return factor;
    }

    // What is subtracted from scores; of a row that saw no key yet, nothing.
    DEVICE float shift() const { return highest == -float_of_bits(0x7f800000) ? 0.0f : highest; }
};
