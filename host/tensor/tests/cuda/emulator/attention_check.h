// Runs an attention on tensor cores, in each of its forms, and compares it.
#pragma once
#include "attention.cu"

#include "attention.h"

// Weights, whose sum is 1, are rounded to T before they are multiplied with values below 1.
double absolute(Bf16) { return 0x1p-8; }
double absolute(F16) { return 0x1p-11; }

template <typename Form, typename T, typename Kernel>
void run(Kernel kernel, Attended<T>& op, Random& random) {
    auto run = [&](Attended<T>& op) {
        kernel(op.q.data(), op.q_stride, op.k_data, op.kv_stride, op.v_data, op.kv_stride,
               op.out.data(), op.cu_seqlens.data(), op.bias_data(), op.reach, op.shape.heads,
               op.shape.kv_heads, op.scale, op.left(), op.right());
    };
    op.run(run, Form::QUERIES, THREADS, Form::SHARED_BYTES, random);
}

template <typename T, typename Long, typename Short, typename Kernel>
void check(const char* name, Kernel kernel, Kernel short_kernel, const std::vector<Shape>& shapes) {
    Random random{Long::HEAD_DIM};
    Comparison comparison = {name, absolute(T()), rounding_of(T())};
    for (const Shape& shape : shapes) {
        Attended<T> op(shape, Long::HEAD_DIM, random);
        run<Long>(kernel, op, random);
        op.compare(comparison);
        Buffer<T> out(op.out.length);
        std::swap(out.memory, op.out.memory);
        run<Short>(short_kernel, op, random);
        if (memcmp(out.data(), op.out.data(), out.length * sizeof(T)) != 0) {
            fail("%s: the short form rounds differently", name);
        }
    }
}

#define CHECK_FORMS(TYPE, T, HEAD_DIM, LONG, SHORT, SHAPES)                                 \
    check<T, Form_##LONG, Form_##SHORT>("attention_" #TYPE "_" #HEAD_DIM,                   \
                                        attention_##TYPE##_##LONG,                          \
                                        attention_##TYPE##_##SHORT, SHAPES);
#define CHECK(TYPE, T, HEAD_DIM, SHAPES) \
    CHECK_FORMS(TYPE, T, HEAD_DIM, HEAD_DIM, HEAD_DIM##_short, SHAPES)
