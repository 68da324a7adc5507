// Gathered rows against a lookup.
#include "check.h"
#include "embedding.cu"

template <typename Table, typename T, typename Kernel>
void check(const char* name, Kernel kernel) {
    Random random{7};
    Comparison comparison = {name, 1e-12, rounding_of(T{})};
    for (int width : {1, 7, 8, 64, 100, 384}) {
        int vocabulary = 1 + random.below(40), rows = 1 + random.below(70);
        auto table = random_buffer<Table>(size_t(vocabulary) * width, random);
        i64 stride = width + random.below(2) * 8;
        auto residual = random_buffer<T>(size_t(rows) * stride, random);
        Buffer<u32> ids(rows), invalid(1);
        for (int row = 0; row < rows; row++) ids[row] = random.below(vocabulary);
        for (bool added : {false, true}) {
            for (bool beyond : {false, true}) {
                if (beyond) ids[rows / 2] = random.below(2) ? vocabulary : 0xffffffffu;
                invalid[0] = 0;
                Buffer<T> out(size_t(rows) * width);
                launch(blocks_for(i64(rows) * chunks_of(width), 256), 256, 0, random, [&] {
                    kernel(table.data(), vocabulary, ids.data(), added ? residual.data() : nullptr,
                           stride, out.data(), rows, width, invalid.data());
                });
                if (invalid[0] != beyond) fail("%s: the flag is %u", name, invalid[0]);
                for (int row = 0; row < rows; row++) {
                    for (int column = 0; column < width; column++) {
                        bool known = ids[row] < u32(vocabulary);
                        double wanted = known ? table.at(size_t(ids[row]) * width + column) : 0.0;
                        if (known && added) wanted += residual.at(row * stride + column);
                        comparison.see(out.at(size_t(row) * width + column), wanted);
                    }
                }
            }
            ids[rows / 2] = 0;
        }
    }
}

int main() {
    check<float, float>("embedding_f32_f32", embedding_f32_f32);
    check<Bf16, float>("embedding_bf16_f32", embedding_bf16_f32);
    check<F16, float>("embedding_f16_f32", embedding_f16_f32);
    check<float, Bf16>("embedding_f32_bf16", embedding_f32_bf16);
    check<Bf16, Bf16>("embedding_bf16_bf16", embedding_bf16_bf16);
    check<F16, Bf16>("embedding_f16_bf16", embedding_f16_bf16);
    check<float, F16>("embedding_f32_f16", embedding_f32_f16);
    check<Bf16, F16>("embedding_bf16_f16", embedding_bf16_f16);
    check<F16, F16>("embedding_f16_f16", embedding_f16_f16);
}
