// Attention without tensor cores against its definition.
#include "attention_plain.cu"

#include "attention.h"

template <typename T, typename Kernel>
void check(const char* name, Kernel kernel, const std::vector<Shape>& shapes) {
    Random random{5};
    Comparison comparison = {name, 2e-6, rounding_of(T())};
    std::vector<int> widths = {33, 64, 1, 256, 12, 80};
    size_t next = 0;
    for (const Shape& shape : shapes) {
        int head_dim = widths[next++ % widths.size()];
        Attended<T> op(shape, head_dim, random);
        auto run = [&](Attended<T>& op) {
            kernel(op.q.data(), op.q_stride, op.k_data, op.kv_stride, op.v_data, op.kv_stride,
                   op.out.data(), op.cu_seqlens.data(), op.bias_data(), op.reach, shape.heads,
                   shape.kv_heads, head_dim, op.scale, op.left(), op.right());
        };
        op.run(run, QUERIES, THREADS, shared_floats(head_dim) * sizeof(float), random);
        op.compare(comparison);
    }
}

int main() {
    check<float>("attention_plain_f32", attention_plain_f32, many_shapes());
    check<Bf16>("attention_plain_bf16", attention_plain_bf16, few_shapes());
    check<F16>("attention_plain_f16", attention_plain_f16, few_shapes());
}
