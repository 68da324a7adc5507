// e4m3 against its definition, rows in it with their scales, and what follows their products.
#include "check.h"
#include "quantize.cu"

// All numbers of e4m3 from their definition: eighths of a power of two, and below 2^-6 eighths
// of that.
double number_of_code(int code) {
    int exponent = code >> 3 & 15, fraction = code & 7;
    if ((code & 0x7f) == 0x7f) return NAN;
    double size = exponent == 0 ? std::ldexp(fraction, -9)
                                : std::ldexp(8 + fraction, exponent - 10);
    return code & 0x80 ? -size : size;
}

void expect(bool holds, const char* what, double x, int found) {
    if (!holds) fail("%s: %.9g became the code 0x%02x", what, x, found);
}

void check_codes() {
    for (int code = 0; code < 256; code++) {
        double x = number_of_code(code);
        int bits = e4m3_bits(static_cast<float>(x));
        double back = float_of_e4m3(static_cast<u8>(code));
        if (std::isnan(x)) {
            expect((bits & 0x7f) == 0x7f && std::isnan(back), "NaN", x, bits);
            continue;
        }
        expect(bits == code && back == x, "a number of e4m3", x, bits);
    }
    // Between neighbours: the nearer, and of two as near the one whose code is even.
    for (int code = 0; code < 0x7e; code++) {
        double low = number_of_code(code), high = number_of_code(code + 1);
        float middle = static_cast<float>((low + high) / 2);
        for (int sign : {0, 0x80}) {
            float factor = sign ? -1.0f : 1.0f;
            int below = e4m3_bits(factor * std::nextafterf(middle, 0.0f));
            int above = e4m3_bits(factor * std::nextafterf(middle, 1e9f));
            int tie = e4m3_bits(factor * middle);
            expect(below == (sign | code), "below a tie", middle, below);
            expect(above == (sign | (code + 1)), "above a tie", middle, above);
            expect(tie == (sign | (code + code % 2)), "a tie", middle, tie);
        }
    }
    for (float beyond : {464.0f, 1e30f, INFINITY}) {
        expect(e4m3_bits(beyond) == 0x7e && e4m3_bits(-beyond) == 0xfe, "too large", beyond, 0);
    }
    expect(e4m3_pair(1.0f, -2.0f) == (0x38 | 0xc0 << 8), "a pair", 1.0, e4m3_pair(1.0f, -2.0f));
    printf("%-40s all codes and ties\n", "e4m3");
}

void check_rows(int width, int lanes, Random& random) {
    int rows = 13;
    // Rows that are read by eights, and rows that are not.
    i64 stride = width + random.below(2) * 4;
    auto x = random_buffer<Bf16>(rows * stride, random, 5.0f);
    auto fill = [&](int row, float value) {
        for (int i = 0; i < width; i++) set(x[row * stride + i], value);
    };
    auto put = [&](int row, int column, float value) { set(x[row * stride + column], value); };
    fill(1, 0.0f);
    fill(2, 1e-40f);
    fill(3, 1e-36f);
    fill(4, 3e38f);
    put(5, width - 1, NAN);
    put(6, 0, -INFINITY);
    put(7, random.below(width), 700.0f);
    put(8, width - 1, -1e20f);
    put(9, width / 2, INFINITY);
    put(9, width - 1, NAN);
    Buffer<u8> out(size_t(rows) * width);
    Buffer<float> scales(rows);
    launch(blocks_for(i64(rows) * lanes, THREADS), THREADS, WARPS * sizeof(u32), random, [&] {
        quantize_bf16(x.data(), stride, lanes, out.data(), scales.data(), rows, width);
    });
    for (int row = 0; row < rows; row++) {
        float largest = 0.0f;
        bool poisoned = row == 5 || row == 6 || row == 9;
        for (int i = 0; i < width; i++) {
            largest = std::max(largest, fabsf(to_float(x[row * stride + i])));
        }
        float scale = std::max(largest / 448.0f, 1e-30f);
        if (poisoned != std::isnan(scales[row])) fail("row %d: a scale of %g", row, scales[row]);
        if (!poisoned && scales[row] != scale) {
            fail("row %d: a scale of %g, wanted %g", row, scales[row], scale);
        }
        for (int i = 0; i < width; i++) {
            if (poisoned) continue;
            u8 code = out[size_t(row) * width + i];
            float factor = 1.0f / scale;
            u8 wanted = e4m3_bits(to_float(x[row * stride + i]) * factor);
            if (code != wanted) fail("row %d: element %d is %02x, wanted %02x", row, i, code, wanted);
        }
    }
    printf("quantize_bf16, %5d columns, %3d lanes     exact\n", width, lanes);
}

double relu_or_identity(int activation, double x) { return activation == RELU && x < 0.0 ? 0.0 : x; }

void check_finish() {
    Random random{7};
    Comparison comparison = {"finish_scaled_bf16", 1e-5, rounding_of(Bf16())};
    for (int width : {16, 48, 144}) {
        int rows = 1 + random.below(40);
        auto x = random_buffer<Bf16>(size_t(rows) * width, random, 300.0f);
        i64 stride = width + 8;
        auto residual = random_buffer<Bf16>(rows * stride, random);
        auto bias = random_buffer<float>(width, random);
        auto row_scales = random_buffer<float>(rows, random);
        auto column_scales = random_buffer<float>(width, random, 0.01f);
        for (int options = 0; options < 8; options++) {
            bool biased = options & 1, added = options & 2;
            int activation = options & 4 ? RELU : IDENTITY;
            Buffer<Bf16> out(size_t(rows) * width);
            launch(blocks_for(i64(rows) * chunks_of(width), 256), 256, 0, random, [&] {
                finish_scaled_bf16(x.data(), width, row_scales.data(), column_scales.data(),
                                   biased ? bias.data() : nullptr, activation,
                                   added ? residual.data() : nullptr, stride, out.data(), rows,
                                   width);
            });
            for (int i = 0; i < rows; i++) {
                for (int j = 0; j < width; j++) {
                    double y = x.at(size_t(i) * width + j) * row_scales[i] * column_scales[j];
                    y = relu_or_identity(activation, y + (biased ? bias[j] : 0.0f));
                    y += added ? residual.at(i * stride + j) : 0.0;
                    comparison.see(out.at(size_t(i) * width + j), y);
                }
            }
        }
    }
}

void check_fill() {
    Random random{8};
    Buffer<u8> out(5000);
    launch(blocks_for(1024, 256), 256, 0, random, [&] { fill_fp8(out.data(), 5000); });
    bool seen[256] = {};
    int kinds = 0;
    for (size_t i = 0; i < 5000; i++) {
        if ((out[i] & 0x7f) == 0x7f) fail("element %zu is NaN", i);
        kinds += !seen[out[i]];
        seen[out[i]] = true;
    }
    if (kinds < 100) fail("only %d different numbers", kinds);
}

int main() {
    check_codes();
    Random random{9};
    for (int width : {16, 48, 256, 1024, 1040}) check_rows(width, 32, random);
    for (int width : {1040, 4096, 5136}) check_rows(width, 128, random);
    check_finish();
    check_fill();
}
