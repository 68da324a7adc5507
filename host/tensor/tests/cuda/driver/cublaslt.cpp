// libcublasLt: matrix products of the emulated device. The functions that Tenon calls, no others.
#include <cstring>

#include "check.h"
#include "driver.h"

namespace {

enum Status { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum Type { F32_TYPE = 0, F16_TYPE = 2, BF16_TYPE = 14 };

struct Description {
    int transposed_a = 0, transposed_b = 0;
};

// Columns of `rows` elements, `stride` from one to the next.
struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t stride;
};

struct Algorithm {
    uint64_t words[8];
};

struct Found {
    Algorithm algorithm;
    size_t workspace_bytes;
    int status;
    float waves;
    int reserved[4];
};

float element(const void* data, int type, size_t index) {
    switch (type) {
        case BF16_TYPE:
            return to_float(static_cast<const Bf16*>(data)[index]);
        case F16_TYPE:
            return to_float(static_cast<const F16*>(data)[index]);
        default:
            return static_cast<const float*>(data)[index];
    }
}

void set_element(void* data, int type, size_t index, float x) {
    switch (type) {
        case BF16_TYPE:
            return set(static_cast<Bf16*>(data)[index], x);
        case F16_TYPE:
            return set(static_cast<F16*>(data)[index], x);
        default:
            return set(static_cast<float*>(data)[index], x);
    }
}

// A matrix as f32 in rows of `columns`, after its transposition if there is one.
std::vector<float> rows_of(const void* data, const Layout& of, bool transposed) {
    std::vector<float> rows(of.rows * of.columns);
    for (size_t column = 0; column < of.columns; column++) {
        for (size_t row = 0; row < of.rows; row++) {
            float x = element(data, of.type, column * static_cast<size_t>(of.stride) + row);
            rows[transposed ? column * of.rows + row : row * of.columns + column] = x;
        }
    }
    return rows;
}

}  // namespace

extern "C" {

int cublasLtCreate(void** handle) {
    static int only;
    *handle = &only;
    return SUCCESS;
}

int cublasLtDestroy(void*) { return SUCCESS; }

int cublasLtMatmulDescCreate(Description** description, int, int scale_type) {
    *description = new Description();
    return scale_type == F32_TYPE ? SUCCESS : NOT_SUPPORTED;
}

int cublasLtMatmulDescSetAttribute(Description* description, int attribute, const void* value,
                                   size_t bytes) {
    constexpr int TRANSPOSED_A = 3, TRANSPOSED_B = 4;
    if (bytes != sizeof(int)) return INVALID_VALUE;
    if (attribute == TRANSPOSED_A) return memcpy(&description->transposed_a, value, bytes), SUCCESS;
    if (attribute == TRANSPOSED_B) return memcpy(&description->transposed_b, value, bytes), SUCCESS;
    return NOT_SUPPORTED;
}

int cublasLtMatmulDescDestroy(Description* description) {
    delete description;
    return SUCCESS;
}

int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns,
                               int64_t stride) {
    *layout = new Layout{type, rows, columns, stride};
    return stride < static_cast<int64_t>(rows) ? INVALID_VALUE : SUCCESS;
}

int cublasLtMatrixLayoutDestroy(Layout* layout) {
    delete layout;
    return SUCCESS;
}

int cublasLtMatmulPreferenceCreate(void** preference) {
    static int only;
    *preference = &only;
    return SUCCESS;
}

int cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t) { return SUCCESS; }
int cublasLtMatmulPreferenceDestroy(void*) { return SUCCESS; }

int cublasLtMatmulAlgoGetHeuristic(void*, Description*, Layout* a, Layout* b, Layout*, Layout* d,
                                   void*, int, Found* found, int* count) {
    *found = {};
    *count = a->type == b->type && (d->type == a->type || d->type == F32_TYPE);
    return *count ? SUCCESS : NOT_SUPPORTED;
}

// D = alpha op(A) op(B) + beta C; sums are f32, in the order of k.
int cublasLtMatmul(void*, Description* description, const float* alpha, const void* a,
                   Layout* a_layout, const void* b, Layout* b_layout, const float* beta,
                   const void* c, Layout* c_layout, void* d, Layout* d_layout, const Algorithm*,
                   void*, size_t, void* stream) {
    Layout of_a = *a_layout, of_b = *b_layout, of_c = *c_layout, of_d = *d_layout;
    Description operands = *description;
    float product_scale = *alpha, sum_scale = *beta;
    size_t n = operands.transposed_a ? of_a.columns : of_a.rows;
    size_t k = operands.transposed_a ? of_a.rows : of_a.columns;
    size_t m = operands.transposed_b ? of_b.rows : of_b.columns;
    size_t k_of_b = operands.transposed_b ? of_b.columns : of_b.rows;
    if (k != k_of_b || of_d.rows != n || of_d.columns != m || of_c.rows != n || of_c.columns != m) {
        return INVALID_VALUE;
    }
    enqueue(stream, [=] {
        // [k][n] and [m][k].
        std::vector<float> left = rows_of(a, of_a, !operands.transposed_a);
        std::vector<float> right = rows_of(b, of_b, !operands.transposed_b);
        std::vector<float> sums(n);
        for (size_t column = 0; column < m; column++) {
            sums.assign(n, 0.0f);
            for (size_t l = 0; l < k; l++) {
                float x = right[column * k + l];
                for (size_t row = 0; row < n; row++) sums[row] += x * left[l * n + row];
            }
            for (size_t row = 0; row < n; row++) {
                float sum = product_scale * sums[row];
                if (sum_scale != 0.0f) {
                    size_t at = column * static_cast<size_t>(of_c.stride) + row;
                    sum += sum_scale * element(c, of_c.type, at);
                }
                size_t at = column * static_cast<size_t>(of_d.stride) + row;
                set_element(d, of_d.type, at, sum);
            }
        }
    });
    return SUCCESS;
}

}  // extern "C"
