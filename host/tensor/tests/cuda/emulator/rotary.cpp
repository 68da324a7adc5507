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

struct NormedHeads {
    // Columns after the last head that is rotated, which need not be whole heads.
    int queries, keys, rest, head_dim, n;
    // Whether rows lie so that they are read eight elements at a time.
    bool aligned = true;
};

template <typename T, typename Kernel>
void check_normed(const char* name, Kernel kernel) {
    Random random{3};
    Comparison comparison = {name, 2e-6, rounding_of(T())};
    std::vector<NormedHeads> cases = {
        {2, 1, 64, 64, 32},   {3, 1, 80, 80, 40},       {2, 2, 96, 96, 16},  {4, 2, 256, 128, 64},
        {3, 1, 256, 256, 128}, {1, 1, 24, 128, 32},     {2, 0, 0, 16, 8},    {0, 2, 8, 32, 16},
        {2, 1, 13, 20, 10},   {1, 3, 7, 7, 3},          {1, 1, 0, 2, 1},     {3, 3, 16, 16, 4},
        {1, 1, 100, 300, 150}, {1, 1, 512, 512, 256},   {1, 1, 9, 260, 8},   {12, 12, 768, 64, 32},
        {2, 1, 64, 64, 32, false}, {2, 1, 128, 128, 64, false}};
    for (auto [queries, keys, rest, head_dim, n, aligned] : cases) {
        int rows = 1 + random.below(20), heads = queries + keys, width = heads * head_dim + rest;
        i64 stride = width + (aligned ? random.below(2) * 8 : 3);
        i64 table_stride = 2 * n + random.below(2) * 4;
        auto x = random_buffer<T>(rows * stride, random, 3.0f);
        auto table = random_buffer<float>(rows * table_stride, random);
        auto query = random_buffer<float>(head_dim, random);
        auto key = random_buffer<float>(head_dim, random);
        float offset = random.below(2) ? 1.0f : 0.0f, eps = 1e-6f;
        Buffer<T> out(size_t(rows) * width);
        int lanes = 1;
        while (lanes < WARP && lanes * CHUNK < head_dim) lanes *= 2;
        i64 threads = i64(rows) * ((width + head_dim - 1) / head_dim) * lanes;
        launch(blocks_for(threads, BLOCK), BLOCK, 0, random, [&] {
            kernel(x.data(), stride, table.data(), table_stride, query.data(), key.data(),
                   out.data(), rows, width, n, heads, queries, head_dim, lanes, eps, offset);
        });
        for (int row = 0; row < rows; row++) {
            std::vector<double> wanted(width);
            for (int i = 0; i < width; i++) wanted[i] = x.at(row * stride + i);
            for (int head = 0; head < heads; head++) {
                double* of = &wanted[head * head_dim];
                double squares = 0;
                for (int i = 0; i < head_dim; i++) squares += of[i] * of[i];
                double scale = 1.0 / std::sqrt(squares / head_dim + eps);
                const Buffer<float>& weight = head < queries ? query : key;
                for (int i = 0; i < head_dim; i++) of[i] *= scale * (weight.at(i) + offset);
                for (int i = 0; i < n; i++) {
                    double left = of[i], right = of[i + n];
                    double cosine = table.at(row * table_stride + i);
                    double sine = table.at(row * table_stride + n + i);
                    of[i] = left * cosine - right * sine;
                    of[i + n] = right * cosine + left * sine;
                }
            }
            for (int i = 0; i < width; i++) {
                comparison.see(out.at(size_t(row) * width + i), wanted[i]);
            }
        }
    }
}

#define CHECK(SUFFIX, T)                                 \
    check<T>("rotary_" #SUFFIX, rotary_##SUFFIX);        \
    check_normed<T>("normed_rotary_" #SUFFIX, normed_rotary_##SUFFIX);

int main() {
    check_table();
    FOR_ACTIVATIONS(CHECK)
}
