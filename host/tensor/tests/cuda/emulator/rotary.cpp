// Rotary tables and rotations against their definitions.
#include "check.h"
#include "rotary.cu"

constexpr int BLOCK = 256;

void check_table() {
    Random random{1};
    Comparison comparison = {"rotary_table", 1e-6, 0.0};
    for (int n : {1, 20, 64}) {
        int rows = 1 + random.below(50);
        Buffer<u32> positions(rows);
        Buffer<float> frequencies(n), out(size_t(rows) * 2 * n);
        for (int i = 0; i < rows; i++) positions[i] = random.below(i % 2 ? 40000 : 600);
        for (int i = 0; i < n; i++) frequencies[i] = std::pow(10000.0f, -float(i) / n);
        float factor = n == 20 ? 1.2f : 1.0f;
        launch(blocks_for(i64(rows) * n, BLOCK), BLOCK, 0, random, [&] {
            rotary_table(positions.data(), frequencies.data(), factor, out.data(), rows, n);
        });
        for (int row = 0; row < rows; row++) {
            for (int i = 0; i < n; i++) {
                double angle = static_cast<float>(positions[row]) * frequencies[i];
                comparison.see(out[row * 2 * n + i], factor * std::cos(angle));
                comparison.see(out[row * 2 * n + n + i], factor * std::sin(angle));
            }
        }
    }
}

struct Heads {
    int heads, kept, head_dim, n;
};

template <typename T, typename Kernel>
void check(const char* name, Kernel kernel) {
    Random random{2};
    Comparison comparison = {name, 3e-7, rounding_of(T())};
    std::vector<Heads> cases = {{2, 1, 64, 32}, {3, 0, 80, 40}, {1, 2, 96, 16}, {2, 2, 20, 10},
                                {4, 1, 7, 3},   {1, 0, 2, 1},   {3, 3, 16, 4},  {12, 12, 64, 32}};
    for (auto [heads, kept, head_dim, n] : cases) {
        int rows = 1 + random.below(20), width = (heads + kept) * head_dim;
        i64 stride = width + random.below(2) * 8, table_stride = 2 * n + random.below(2) * 4;
        auto x = random_buffer<T>(rows * stride, random);
        auto table = random_buffer<float>(rows * table_stride, random);
        Buffer<T> out(size_t(rows) * width);
        launch(blocks_for(i64(rows) * chunks_of(width), BLOCK), BLOCK, 0, random, [&] {
            kernel(x.data(), stride, table.data(), table_stride, out.data(), rows, width, n, heads,
                   head_dim);
        });
        for (int row = 0; row < rows; row++) {
            for (int column = 0; column < width; column++) {
                int element = column % head_dim;
                double wanted = x.at(row * stride + column);
                if (column / head_dim < heads && element < 2 * n) {
                    bool left = element < n;
                    int angle = left ? element : element - n;
                    double cosine = table.at(row * table_stride + angle);
                    double sine = table.at(row * table_stride + n + angle);
                    double other = x.at(row * stride + column + (left ? n : -n));
                    wanted = wanted * cosine + (left ? -other : other) * sine;
                }
                comparison.see(out.at(size_t(row) * width + column), wanted);
            }
        }
    }
}

int main() {
    check_table();
    check<float>("rotary_f32", rotary_f32);
    check<Bf16>("rotary_bf16", rotary_bf16);
    check<F16>("rotary_f16", rotary_f16);
}
