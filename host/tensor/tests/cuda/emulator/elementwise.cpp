// Functions of elements, and conversions, against their definitions.
#include "cast.cu"
#include "check.h"
#include "elementwise.cu"

constexpr int BLOCK = 256;

double reference(Activation activation, double x) {
    auto sigmoid = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
    switch (activation) {
        case RELU: return x < 0.0 ? 0.0 : x;
        case GELU_ERF: return x / 2.0 * (1.0 + std::erf(x / std::sqrt(2.0)));
        case GELU_TANH:
            return x / 2.0 * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
        case GELU_QUICK: return x * sigmoid(1.702 * x);
        case SILU: return x * sigmoid(x);
        case TANH: return std::tanh(x);
        default: return x;
    }
}

// Rows with a gap between them, of a width that is a multiple of a chunk or not.
template <typename T>
struct Matrix {
    int rows, width;
    i64 stride;
    Buffer<T> buffer;

    Matrix(int rows, int width, Random& random, float size = 1.0f)
        : rows(rows),
          width(width),
          stride(width + random.below(3) * 4),
          buffer(random_buffer<T>(rows * stride, random, size)) {}
    double at(int row, int column) const { return buffer.at(row * stride + column); }
};

template <typename T, typename Wanted>
void compare(Comparison& comparison, const Buffer<T>& out, int rows, int width, Wanted wanted) {
    for (int row = 0; row < rows; row++) {
        for (int column = 0; column < width; column++) {
            comparison.see(out.at(size_t(row) * width + column), wanted(row, column));
        }
    }
}

template <typename T, typename Add, typename Mul, typename Scale>
void check_arithmetic(const char* name, Add add, Mul mul, Scale scale) {
    Random random{1};
    Comparison comparison = {name, 1e-7, rounding_of(T())};
    for (int width : {1, 3, 8, 50, 96}) {
        int rows = 1 + random.below(60);
        Matrix<T> a(rows, width, random), b(rows, width, random);
        Buffer<T> out(size_t(rows) * width);
        Dim grid = blocks_for(i64(rows) * chunks_of(width), BLOCK);
        launch(grid, BLOCK, 0, random, [&] {
            add(a.buffer.data(), a.stride, b.buffer.data(), b.stride, out.data(), rows, width);
        });
        compare(comparison, out, rows, width, [&](int i, int j) { return a.at(i, j) + b.at(i, j); });
        launch(grid, BLOCK, 0, random, [&] {
            mul(a.buffer.data(), a.stride, b.buffer.data(), b.stride, out.data(), rows, width);
        });
        compare(comparison, out, rows, width, [&](int i, int j) { return a.at(i, j) * b.at(i, j); });
        launch(grid, BLOCK, 0, random,
               [&] { scale(a.buffer.data(), a.stride, 0.3f, out.data(), rows, width); });
        compare(comparison, out, rows, width, [&](int i, int j) { return a.at(i, j) * 0.3f; });
    }
}

template <typename T, typename Gated, typename Finish>
void check_activations(const char* name, Gated gated, Finish finish) {
    Random random{2};
    Comparison comparison = {name, 1e-6, rounding_of(T())};
    for (int activation = IDENTITY; activation <= TANH; activation++) {
        auto wanted = [&](double x) { return reference(static_cast<Activation>(activation), x); };
        for (int width : {3, 40}) {
            int rows = 1 + random.below(80);
            Matrix<T> x(rows, 2 * width, random, 6.0f), residual(rows, width, random);
            auto bias = random_buffer<float>(width, random);
            Buffer<T> out(size_t(rows) * width);
            Dim grid = blocks_for(i64(rows) * chunks_of(width), BLOCK);
            launch(grid, BLOCK, 0, random, [&] {
                gated(x.buffer.data(), x.stride, activation, out.data(), rows, width);
            });
            compare(comparison, out, rows, width,
                    [&](int i, int j) { return wanted(x.at(i, j)) * x.at(i, width + j); });
            for (int options = 0; options < 4; options++) {
                bool biased = options & 1, added = options & 2;
                launch(grid, BLOCK, 0, random, [&] {
                    finish(x.buffer.data(), x.stride, biased ? bias.data() : nullptr, activation,
                           added ? residual.buffer.data() : nullptr, residual.stride, out.data(),
                           rows, width);
                });
                compare(comparison, out, rows, width, [&](int i, int j) {
                    double y = wanted(x.at(i, j) + (biased ? bias.at(j) : 0.0));
                    return y + (added ? residual.at(i, j) : 0.0);
                });
            }
        }
    }
}

template <typename From, typename To, typename Kernel>
void check_cast(const char* name, Kernel kernel) {
    Random random{3};
    Comparison comparison = {name, 0x1p-25, rounding_of(To())};
    for (float size : {1e-6f, 1.0f, 60000.0f}) {
        Matrix<From> x(37, size == 1.0f ? 24 : 11, random, size);
        Buffer<To> out(size_t(x.rows) * x.width);
        launch(blocks_for(i64(x.rows) * chunks_of(x.width), BLOCK), BLOCK, 0, random,
               [&] { kernel(x.buffer.data(), x.stride, out.data(), x.rows, x.width); });
        compare(comparison, out, x.rows, x.width, [&](int i, int j) { return x.at(i, j); });
    }
}

#define CHECK(SUFFIX, T)                                                                       \
    check_arithmetic<T>("add, mul, scale_" #SUFFIX, add_##SUFFIX, mul_##SUFFIX, scale_##SUFFIX); \
    check_activations<T>("gated, finish_" #SUFFIX, gated_##SUFFIX, finish_##SUFFIX);

int main() {
    FOR_ACTIVATIONS(CHECK)
    check_cast<float, Bf16>("cast_f32_bf16", cast_f32_bf16);
    check_cast<float, F16>("cast_f32_f16", cast_f32_f16);
    check_cast<Bf16, float>("cast_bf16_f32", cast_bf16_f32);
    check_cast<Bf16, F16>("cast_bf16_f16", cast_bf16_f16);
    check_cast<F16, float>("cast_f16_f32", cast_f16_f32);
    check_cast<F16, Bf16>("cast_f16_bf16", cast_f16_bf16);
}
