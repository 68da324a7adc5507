// Attention's inputs, as a fused projection or by themselves, and its definition in f64.
#pragma once
#include "check.h"

struct Shape {
    std::vector<int> lengths;
    int heads, kv_heads;
    bool causal;
    // Below 0 where there is none.
    int window;
    bool fused;
    // How far scores spread, about.
    float sharpness = 1.5f;
    bool biased = false;
};

template <typename T>
struct Attended {
    Shape shape;
    int head_dim;
    float scale;
    std::vector<int> offsets = {0};
    Buffer<T> q, k, v;
    const T *k_data, *v_data;
    i64 q_stride, kv_stride;
    Buffer<int> cu_seqlens;
    // The bias reaches exactly as far as a key is seen.
    int reach;
    Buffer<float> bias;
    Buffer<T> out;

    static int rows_of(const Shape& shape) {
        int rows = 0;
        for (int length : shape.lengths) rows += length;
        return rows;
    }

    static int reach_of(const Shape& shape) {
        int longest = 1;
        for (int length : shape.lengths) longest = std::max(longest, length);
        return shape.window < 0 ? longest - 1 : std::min(shape.window, longest - 1);
    }

    Attended(const Shape& wanted, int dim, Random& random)
        : shape(wanted),
          head_dim(dim),
          scale(wanted.sharpness / std::sqrt(float(dim))),
          q(random_buffer<T>(size_t(rows_of(wanted)) *
                                 (wanted.heads + (wanted.fused ? 2 * wanted.kv_heads : 0)) * dim,
                             random, 2.0f)),
          k(random_buffer<T>(wanted.fused ? 1 : size_t(rows_of(wanted)) * wanted.kv_heads * dim,
                             random, 2.0f)),
          v(random_buffer<T>(k.length, random)),
          cu_seqlens(wanted.lengths.size() + 1),
          reach(reach_of(wanted)),
          bias(random_buffer<float>(size_t(wanted.heads) * (2 * reach + 1), random, 3.0f)),
          out(size_t(rows_of(wanted)) * wanted.heads * dim) {
        cu_seqlens[0] = 0;
        for (int length : shape.lengths) {
            offsets.push_back(offsets.back() + length);
            cu_seqlens[offsets.size() - 1] = offsets.back();
        }
        q_stride = i64(shape.heads + (shape.fused ? 2 * shape.kv_heads : 0)) * dim;
        kv_stride = shape.fused ? q_stride : i64(shape.kv_heads) * dim;
        k_data = shape.fused ? q.data() + i64(shape.heads) * dim : k.data();
        v_data = shape.fused ? k_data + i64(shape.kv_heads) * dim : v.data();
    }

    const float* bias_data() const { return shape.biased ? bias.data() : nullptr; }
    int left() const { return shape.window < 0 ? 0x7fffffff : shape.window; }
    int right() const { return shape.causal ? 0 : left(); }

    // Launches blocks of `queries` queries for each head of each sequence.
    template <typename Kernel>
    void run(Kernel kernel, int queries, int threads, size_t shared_bytes, Random& random) {
        int longest = 0;
        for (int length : shape.lengths) longest = length > longest ? length : longest;
        Dim grid = {unsigned((longest + queries - 1) / queries), unsigned(shape.heads),
                    unsigned(shape.lengths.size())};
        launch(grid, threads, shared_bytes, random, [&] { kernel(*this); });
    }

    void compare(Comparison& comparison) const {
        for (size_t sequence = 0; sequence < shape.lengths.size(); sequence++) {
            for (int head = 0; head < shape.heads; head++) {
                for (int query = 0; query < shape.lengths[sequence]; query++) {
                    compare_row(comparison, int(sequence), head, query);
                }
            }
        }
    }

  private:
    void compare_row(Comparison& comparison, int sequence, int head, int query) const {
        i64 first = offsets[sequence];
        int kv_head = head / (shape.heads / shape.kv_heads), length = shape.lengths[sequence];
        std::vector<double> sums(head_dim), weights(length, 0.0);
        double highest = -INFINITY, total = 0;
        auto seen = [&](int key) {
            bool near = shape.window < 0 || std::abs(query - key) <= shape.window;
            return near && (!shape.causal || key <= query);
        };
        for (int key = 0; key < length; key++) {
            if (!seen(key)) continue;
            for (int i = 0; i < head_dim; i++) {
                double left = to_float(q.data()[(first + query) * q_stride + head * head_dim + i]);
                weights[key] +=
                    left * to_float(k_data[(first + key) * kv_stride + kv_head * head_dim + i]);
            }
            weights[key] *= scale;
            if (shape.biased) {
                weights[key] += bias.at(size_t(head) * (2 * reach + 1) + reach + key - query);
            }
            highest = std::max(highest, weights[key]);
        }
        for (int key = 0; key < length; key++) {
            if (!seen(key)) continue;
            double weight = std::exp(weights[key] - highest);
            total += weight;
            for (int i = 0; i < head_dim; i++) {
                sums[i] += weight * to_float(v_data[(first + key) * kv_stride + kv_head * head_dim + i]);
            }
        }
        for (int i = 0; i < head_dim; i++) {
            size_t at = ((first + query) * shape.heads + head) * head_dim + i;
            comparison.see(out.at(at), sums[i] / total);
        }
    }
};

// Lengths around a tile, windows shorter and longer than the text, shared key heads.
inline std::vector<Shape> few_shapes() {
    return {
        {{70, 1, 16}, 2, 1, true, -1, true},
        {{130}, 1, 1, false, 20, false},
        {{65, 3}, 2, 2, false, -1, true, 1.5f, true},
    };
}

inline std::vector<Shape> many_shapes() {
    return {
        {{1, 7, 64, 65}, 2, 2, false, -1, true},
        {{130, 1, 33}, 4, 2, true, -1, true},
        {{200, 16}, 2, 1, false, 20, false},
        {{150, 63}, 2, 2, true, 64, false},
        {{100}, 3, 1, false, 0, true},
        // Rows whose only score is far below 0, after tiles of which they see nothing.
        {{100}, 2, 1, false, 0, true, 200.0f},
        {{40, 66}, 1, 1, true, 500, true},
        {{90, 2}, 2, 1, false, 30, false, 1.5f, true},
        {{70, 129}, 1, 1, true, -1, true, 1.5f, true},
    };
}
