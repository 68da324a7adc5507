// Norms of rows and of heads against their definitions.
#include "check.h"
#include "norm.cu"

// A matrix whose rows lie `stride` apart, from `offset` on.
struct Placement {
    i64 stride;
    int offset;
};

Placement placed(int width, Random& random) {
    int gap = random.below(3) * 8, offset = random.below(2);
    return {width + gap + offset, offset};
}

template <typename T, typename Kernel>
void check_layer_norm(const char* name, Kernel kernel) {
    Random random{1};
    Comparison comparison = {name, 3e-6, rounding_of(T{})};
    for (int width : {1, 7, 8, 33, 64, 100, 256, 384, 1000, 1536, 2048, 3000, 4096, 5000}) {
        int rows = 1 + random.below(9);
        for (int options = 0; options < 8; options++) {
            Placement x_at = placed(width, random), residual_at = placed(width, random);
            auto x = random_buffer<T>(rows * x_at.stride, random, 4.0f);
            auto residual = random_buffer<T>(rows * residual_at.stride, random);
            auto weight = random_buffer<float>(width, random), bias = random_buffer<float>(width, random);
            bool added = options & 1, weighted = options & 2, biased = options & 4;
            float eps = options & 1 ? 1e-12f : 1e-5f;
            // A row without variance has nothing but eps below.
            for (int i = 0; i < width; i++) set(x[x_at.offset + i], added ? to_float(x[i]) : 1.5f);
            Buffer<T> out(size_t(rows) * width);
            launch(blocks_for(i64(rows) * lanes_of(width), THREADS), THREADS, WarpSums::SHARED_BYTES, random, [&] {
                kernel(x.data() + x_at.offset, x_at.stride,
                       added ? residual.data() + residual_at.offset : nullptr, residual_at.stride,
                       weighted ? weight.data() : nullptr, biased ? bias.data() : nullptr,
                       out.data(), rows, width, eps);
            });
            for (int row = 0; row < rows; row++) {
                std::vector<double> v(width);
                double mean = 0, variance = 0;
                for (int i = 0; i < width; i++) {
                    v[i] = x.at(row * x_at.stride + x_at.offset + i);
                    if (added) v[i] += residual.at(row * residual_at.stride + residual_at.offset + i);
                    mean += v[i] / width;
                }
                for (double one : v) variance += (one - mean) * (one - mean) / width;
                // One element has no variance; what is left is rounding over sqrt(eps).
                if (width == 1 && added) continue;
                for (int i = 0; i < width; i++) {
                    double wanted = (v[i] - mean) / std::sqrt(variance + eps);
                    wanted = wanted * (weighted ? weight.at(i) : 1.0) + (biased ? bias.at(i) : 0.0);
                    comparison.see(out.at(size_t(row) * width + i), wanted);
                }
            }
        }
    }
}

template <typename T, typename Kernel>
void check_rms_norm(const char* name, Kernel kernel) {
    Random random{2};
    Comparison comparison = {name, 1e-6, rounding_of(T{})};
    for (int run : {1, 6, 8, 32, 64, 80, 100, 128, 256, 1024, 2050}) {
        for (int runs : {1, 3}) {
            int rows = 1 + random.below(11), width = run * runs;
            Placement at = placed(width, random);
            float offset = random.below(2) ? 1.0f : 0.0f, eps = 1e-6f;
            auto x = random_buffer<T>(rows * at.stride, random, 3.0f);
            auto weight = random_buffer<float>(run, random);
            Buffer<T> out(size_t(rows) * width);
            launch(blocks_for(i64(rows) * runs * lanes_of(run), THREADS), THREADS, WarpSums::SHARED_BYTES, random, [&] {
                kernel(x.data() + at.offset, at.stride, weight.data(), offset, out.data(), rows, runs,
                       run, eps);
            });
            for (int row = 0; row < rows; row++) {
                for (int first = 0; first < width; first += run) {
                    size_t from = row * at.stride + at.offset + first;
                    double squares = 0;
                    for (int i = 0; i < run; i++) squares += x.at(from + i) * x.at(from + i);
                    double scale = 1.0 / std::sqrt(squares / run + eps);
                    for (int i = 0; i < run; i++) {
                        double wanted = x.at(from + i) * scale * (weight.at(i) + offset);
                        comparison.see(out.at(size_t(row) * width + first + i), wanted);
                    }
                }
            }
        }
    }
}

template <typename T, typename Kernel>
void check_l2(const char* name, Kernel kernel) {
    Random random{3};
    Comparison comparison = {name, 1e-7, rounding_of(T{})};
    for (int width : {1, 5, 8, 64, 384, 768, 1030}) {
        int rows = 2 + random.below(20);
        Placement at = placed(width, random);
        auto x = random_buffer<T>(rows * at.stride, random);
        float eps = 1e-12f;
        // Zeros stay zeros, and a NaN is not hidden.
        for (int i = 0; i < width; i++) set(x[at.offset + i], 0.0f);
        set(x[at.stride + at.offset], NAN);
        Buffer<T> out(size_t(rows) * width);
        launch(blocks_for(i64(rows) * lanes_of(width), THREADS), THREADS, WarpSums::SHARED_BYTES, random, [&] {
            kernel(x.data() + at.offset, at.stride, out.data(), rows, width, eps);
        });
        for (int row = 0; row < rows; row++) {
            double squares = 0;
            size_t from = row * at.stride + at.offset;
            for (int i = 0; i < width; i++) squares += x.at(from + i) * x.at(from + i);
            double norm = std::sqrt(squares);
            for (int i = 0; i < width; i++) {
                double wanted = x.at(from + i) / (norm < eps ? eps : norm);
                comparison.see(out.at(size_t(row) * width + i), wanted);
            }
        }
    }
}

#define CHECK(SUFFIX, T)                                            \
    check_layer_norm<T>("layer_norm_" #SUFFIX, layer_norm_##SUFFIX); \
    check_rms_norm<T>("rms_norm_" #SUFFIX, rms_norm_##SUFFIX);       \
    check_l2<T>("l2_normalize_" #SUFFIX, l2_normalize_##SUFFIX);

int main() { FOR_ACTIVATIONS(CHECK) }
