// Runs an attention on tensor cores and compares it.
#pragma once
#include "attention.cu"

#include "attention.h"

// Weights, whose sum is 1, are rounded to T before they are multiplied with values below 1.
double absolute(Bf16) { return 0x1p-8; }
double absolute(F16) { return 0x1p-11; }

template <typename T, int HEAD_DIM, typename Kernel>
void check(const char* name, Kernel kernel, const std::vector<Shape>& shapes) {
    Random random{HEAD_DIM};
    Comparison comparison = {name, absolute(T()), rounding_of(T())};
    for (const Shape& shape : shapes) {
        Attended<T> op(shape, HEAD_DIM, random);
        size_t shared_bytes = Tile<HEAD_DIM>::SHARED_BYTES;
        auto run = [&](Attended<T>& op) {
            kernel(op.q.data(), op.q_stride, op.k_data, op.kv_stride, op.v_data, op.kv_stride,
                   op.out.data(), op.cu_seqlens.data(), op.bias_data(), op.reach, shape.heads,
                   shape.kv_heads, op.scale, op.left(), op.right());
        };
        op.run(run, QUERIES, THREADS, shared_bytes, random);
        op.compare(comparison);
    }
}

#define CHECK(TYPE, T, HEAD_DIM, SHAPES) \
    check<T, HEAD_DIM>("attention_" #TYPE "_" #HEAD_DIM, attention_##TYPE##_##HEAD_DIM, SHAPES);
