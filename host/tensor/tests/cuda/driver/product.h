// A matrix product on the processor, in f32.
#pragma once
#include "element.cuh"

constexpr int CUDA_R_32F = 0, CUDA_R_16F = 2, CUDA_R_16BF = 14, CUDA_R_8F_E4M3 = 28;

inline size_t size_of(int type) {
    return type == CUDA_R_32F ? 4 : type == CUDA_R_8F_E4M3 ? 1 : 2;
}

// Columns of `rows` elements that lie `ld` apart.
struct Matrix {
    const uint8_t* data;
    int type;
    int64_t rows, columns, ld;

    size_t bytes() const { return size_t((columns - 1) * ld + rows) * size_of(type); }
};

// d = alpha op(a) op(b) + beta c, plus a bias of d's type for each row of d, or none. Rows of d
// and columns of it are multiplied by scales before anything is added, where there are any.
struct Product {
    Matrix a, b, c, d;
    bool a_transposed, b_transposed;
    float alpha, beta;
    const void* bias;
    const float *row_scales, *column_scales;
    // Whether products are added from the last to the first: rounded otherwise.
    bool backwards;
};

inline float load(const void* data, int type, int64_t index) {
    switch (type) {
        case CUDA_R_16BF:
            return to_float(static_cast<const Bf16*>(data)[index]);
        case CUDA_R_8F_E4M3:
            return float_of_e4m3(static_cast<const u8*>(data)[index]);
        case CUDA_R_16F:
            return to_float(static_cast<const F16*>(data)[index]);
        default:
            return static_cast<const float*>(data)[index];
    }
}

inline void store(void* data, int type, int64_t index, float value) {
    switch (type) {
        case CUDA_R_16BF:
            return set(static_cast<Bf16*>(data)[index], value);
        case CUDA_R_16F:
            return set(static_cast<F16*>(data)[index], value);
        default:
            static_cast<float*>(data)[index] = value;
    }
}

constexpr int TILE_ROWS = 8, TILE_COLUMNS = 4;
// Rows of a tile in one column: the compiler has instructions for them.
typedef float Rows __attribute__((vector_size(TILE_ROWS * sizeof(float))));

// Lines of k elements, `tile` of them together: element 0 of each, then element 1 of each, and
// so on; zeros where a tile has no more lines. Elements of a line lie side by side or `ld` apart.
inline std::vector<float> packed(const Matrix& from, bool side_by_side, int64_t lines, int64_t k,
                                 int tile) {
    std::vector<float> to(size_t((lines + tile - 1) / tile * tile * k));
    for (int64_t line = 0; line < lines; line++) {
        float* first = &to[size_t(line / tile * tile * k + line % tile)];
        for (int64_t i = 0; i < k; i++) {
            int64_t index = side_by_side ? line * from.ld + i : i * from.ld + line;
            first[i * tile] = load(from.data, from.type, index);
        }
    }
    return to;
}

// Every element is the sum of its products in the order of k, or against it, wherever it is and
// whatever else is computed.
inline void multiply(const Product& product) {
    const Matrix &a = product.a, &d = product.d;
    int64_t k = product.a_transposed ? a.rows : a.columns;
    std::vector<float> left = packed(a, product.a_transposed, d.rows, k, TILE_ROWS);
    std::vector<float> right = packed(product.b, !product.b_transposed, d.columns, k, TILE_COLUMNS);
    for (int64_t column = 0; column < d.columns; column += TILE_COLUMNS) {
        for (int64_t row = 0; row < d.rows; row += TILE_ROWS) {
            Rows sums[TILE_COLUMNS] = {};
            const float *x = &left[size_t(row * k)], *y = &right[size_t(column * k)];
            int64_t step = product.backwards ? -1 : 1;
            if (product.backwards) x += (k - 1) * TILE_ROWS, y += (k - 1) * TILE_COLUMNS;
            for (int64_t i = 0; i < k; i++, x += step * TILE_ROWS, y += step * TILE_COLUMNS) {
                Rows rows;
                memcpy(&rows, x, sizeof rows);
                for (int j = 0; j < TILE_COLUMNS; j++) sums[j] += rows * y[j];
            }
            for (int j = 0; j < TILE_COLUMNS && column + j < d.columns; j++) {
                for (int i = 0; i < TILE_ROWS && row + i < d.rows; i++) {
                    float sum = product.alpha * sums[j][i];
                    if (product.row_scales) {
                        sum *= product.row_scales[row + i] * product.column_scales[column + j];
                    }
                    if (product.beta != 0) {
                        const Matrix& c = product.c;
                        int64_t index = (column + j) * c.ld + row + i;
                        sum += product.beta * load(c.data, c.type, index);
                    }
                    if (product.bias) sum += load(product.bias, d.type, row + i);
                    store(const_cast<uint8_t*>(d.data), d.type, (column + j) * d.ld + row + i, sum);
                }
            }
        }
    }
}
