// One row a sequence against the definition of each mode.
#include "check.h"
#include "pooling.cu"

double reference(const Span& span, PoolMode mode, const std::function<double(int)>& at) {
    double sum = 0, positions = 0, largest = -INFINITY;
    int count = span.length - span.excluded;
    for (int row = span.excluded; row < span.length; row++) {
        double x = at(row);
        sum += mode == WEIGHTED_MEAN ? x * (row + 1) : x;
        positions += row + 1;
        largest = x > largest || std::isnan(x) ? x : largest;
    }
    switch (mode) {
        case FIRST: return at(span.excluded);
        case LAST: return at(span.length - 1);
        case MEAN: return sum / count;
        case MEAN_SQRT_LEN: return sum / std::sqrt(count);
        case WEIGHTED_MEAN: return sum / positions;
        default: return largest;
    }
}

template <typename T, typename Kernel>
void check(const char* name, Kernel kernel) {
    Random random{1};
    Comparison comparison = {name, 1e-5, rounding_of(float())};
    for (int width : {1, 7, 40, 128, 300}) {
        // Not in the order of the rows: some of a batch's sequences.
        std::vector<Span> spans = {{60, 17, 16}, {0, 1, 0}, {1, 33, 5}, {80, 500, 2}, {34, 16, 0}};
        Buffer<Span> on_device(spans.size());
        for (size_t i = 0; i < spans.size(); i++) on_device[i] = spans[i];
        i64 stride = width + random.below(2) * 8;
        auto x = random_buffer<T>(580 * stride, random);
        // A NaN is not hidden, wherever it stands.
        set(x[20 * stride], NAN);
        unsigned groups = (chunks_of(width) + COLUMNS - 1) / COLUMNS;
        for (int mode = FIRST; mode <= MAX; mode++) {
            Buffer<float> out(spans.size() * width);
            launch({unsigned(spans.size()), groups, 1}, THREADS, sizeof(Pooled), random, [&] {
                kernel(x.data(), stride, on_device.data(), mode, out.data(), width);
            });
            for (size_t i = 0; i < spans.size(); i++) {
                for (int column = 0; column < width; column++) {
                    auto at = [&](int row) { return x.at((spans[i].start + row) * stride + column); };
                    double wanted = reference(spans[i], static_cast<PoolMode>(mode), at);
                    comparison.see(out.at(i * width + column), wanted);
                }
            }
        }
    }
}

int main() {
    check<float>("segment_pool_f32", segment_pool_f32);
    check<Bf16>("segment_pool_bf16", segment_pool_bf16);
    check<F16>("segment_pool_f16", segment_pool_f16);
}
