// cuBLASLt's matrix products as far as they are documented: columns first, sums in f32.
//
// What is refused is what the library's table of supported types does not have; algorithms ask
// for the alignment that was promised when they were looked for, and for their workspace. With
// EMULATED_CUBLASLT_ORDERS=2 there are two algorithms that round otherwise, and which of them is
// held to be the faster depends on the number of columns, as the library's guesses do.
// EMULATED_CUBLASLT_FP8 is what is refused of e4m3: "unscaled" scales of rows, "none" all of it.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "cuda.h"
#include "product.h"

enum cublasStatus_t : int {
    CUBLAS_STATUS_SUCCESS = 0,
    CUBLAS_STATUS_NOT_INITIALIZED = 1,
    CUBLAS_STATUS_INVALID_VALUE = 7,
    CUBLAS_STATUS_EXECUTION_FAILED = 13,
    CUBLAS_STATUS_NOT_SUPPORTED = 15,
};

constexpr int CUBLAS_COMPUTE_32F = 68, CUBLAS_OP_N = 0, CUBLAS_OP_T = 1;
constexpr uint32_t CUBLASLT_EPILOGUE_DEFAULT = 1, CUBLASLT_EPILOGUE_BIAS = 4;
constexpr int SAME_AS_D = -1;
// One scale for a matrix, or one for each of its rows that the product sums over.
constexpr uint32_t SCALE_SCALAR_32F = 0, SCALE_OUTER_VEC_32F = 3;

struct Library {};

struct MatmulDesc {
    int compute_type, scale_type;
    int pointer_mode = 0;
    int transa = CUBLAS_OP_N, transb = CUBLAS_OP_N;
    uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void* bias = nullptr;
    int bias_type = SAME_AS_D;
    const float *a_scale = nullptr, *b_scale = nullptr;
    uint32_t a_scale_mode = SCALE_SCALAR_32F, b_scale_mode = SCALE_SCALAR_32F;
    int8_t fast_accumulation = 0;

    bool scales_rows() const { return a_scale_mode == SCALE_OUTER_VEC_32F; }
};

struct MatrixLayout {
    int type;
    uint64_t rows, columns;
    int64_t ld;
    int order = 0;
    int batch_count = 1;
    int64_t batch_stride = 0;
};

// Which results an algorithm is looked for; alignments are of A, B, C and D.
struct MatmulPreference {
    uint32_t search_mode = 0;
    uint64_t max_workspace = 0;
    uint32_t reduction_schemes = ~0u;
    uint32_t alignments[4] = {256, 256, 256, 256};
    float max_waves = 0;
    uint64_t implementations = ~0ull;
};

// Has the size of the library's own.
struct Algorithm {
    uint64_t magic;
    uint64_t workspace;
    uint32_t alignments[4];
    uint64_t columns;
    uint64_t backwards;
    uint64_t unused[2];
};
constexpr uint64_t MAGIC = 0x656d756c61746564;
static_assert(sizeof(Algorithm) == 64, "cublasLtMatmulAlgo_t");

struct HeuristicResult {
    Algorithm algorithm;
    size_t workspace;
    cublasStatus_t state;
    float waves;
    int reserved[4];
};

// Enough to notice a workspace that somebody else uses.
constexpr uint64_t WORKSPACE_BYTES = 64 << 10;

// An attribute's number, and where its value is.
struct Attribute {
    int number;
    void* value;
    size_t bytes;

    template <typename T>
    Attribute(int number, T& value) : number(number), value(&value), bytes(sizeof value) {}
};

static cublasStatus_t set(std::initializer_list<Attribute> attributes, int number,
                          const void* value, size_t bytes) {
    for (const Attribute& attribute : attributes) {
        if (attribute.number != number) continue;
        if (attribute.bytes != bytes || !value) return CUBLAS_STATUS_INVALID_VALUE;
        memcpy(attribute.value, value, bytes);
        return CUBLAS_STATUS_SUCCESS;
    }
    return CUBLAS_STATUS_INVALID_VALUE;
}

template <typename T>
static cublasStatus_t destroy(T* object) {
    delete object;
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtCreate(Library** library) {
    *library = new Library;
    return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtDestroy(Library* library) { return destroy(library); }
EXPORT size_t cublasLtGetVersion() { return 130000; }

EXPORT cublasStatus_t cublasLtMatmulDescCreate(MatmulDesc** desc, int compute_type,
                                               int scale_type) {
    *desc = new MatmulDesc{compute_type, scale_type};
    return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatmulDescDestroy(MatmulDesc* desc) { return destroy(desc); }

EXPORT cublasStatus_t cublasLtMatmulDescSetAttribute(MatmulDesc* desc, int attribute,
                                                     const void* value, size_t bytes) {
    if (!desc) return CUBLAS_STATUS_INVALID_VALUE;
    return set({{0, desc->compute_type},
                {1, desc->scale_type},
                {2, desc->pointer_mode},
                {3, desc->transa},
                {4, desc->transb},
                {7, desc->epilogue},
                {8, desc->bias},
                {17, desc->a_scale},
                {18, desc->b_scale},
                {25, desc->fast_accumulation},
                {26, desc->bias_type},
                {31, desc->a_scale_mode},
                {32, desc->b_scale_mode}},
               attribute, value, bytes);
}

EXPORT cublasStatus_t cublasLtMatrixLayoutCreate(MatrixLayout** layout, int type, uint64_t rows,
                                                 uint64_t columns, int64_t ld) {
    *layout = new MatrixLayout{type, rows, columns, ld};
    return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatrixLayoutDestroy(MatrixLayout* layout) { return destroy(layout); }

EXPORT cublasStatus_t cublasLtMatrixLayoutSetAttribute(MatrixLayout* layout, int attribute,
                                                       const void* value, size_t bytes) {
    if (!layout) return CUBLAS_STATUS_INVALID_VALUE;
    return set({{0, layout->type},
                {1, layout->order},
                {2, layout->rows},
                {3, layout->columns},
                {4, layout->ld},
                {5, layout->batch_count},
                {6, layout->batch_stride}},
               attribute, value, bytes);
}

EXPORT cublasStatus_t cublasLtMatmulPreferenceCreate(MatmulPreference** preference) {
    *preference = new MatmulPreference;
    return CUBLAS_STATUS_SUCCESS;
}
EXPORT cublasStatus_t cublasLtMatmulPreferenceDestroy(MatmulPreference* preference) {
    return destroy(preference);
}

EXPORT cublasStatus_t cublasLtMatmulPreferenceSetAttribute(MatmulPreference* preference,
                                                           int attribute, const void* value,
                                                           size_t bytes) {
    if (!preference) return CUBLAS_STATUS_INVALID_VALUE;
    return set({{0, preference->search_mode},
                {1, preference->max_workspace},
                {3, preference->reduction_schemes},
                {5, preference->alignments[0]},
                {6, preference->alignments[1]},
                {7, preference->alignments[2]},
                {8, preference->alignments[3]},
                {9, preference->max_waves},
                {12, preference->implementations}},
               attribute, value, bytes);
}

static bool transposed(int operation) { return operation != CUBLAS_OP_N; }

static bool refuses_fp8(const char* what) {
    const char* refused = getenv("EMULATED_CUBLASLT_FP8");
    return refused && strcmp(refused, what) == 0;
}

// Whether the library has a product of e4m3: of columns that are multiplied with columns, in 16
// bytes at a time, with scales of both matrices' or of none.
static bool supported_fp8(const MatmulDesc& desc, const MatrixLayout& a, const MatrixLayout& b,
                          const MatrixLayout& d) {
    bool layouts = desc.transa == CUBLAS_OP_T && desc.transb == CUBLAS_OP_N;
    for (const MatrixLayout* layout : {&a, &b, &d}) {
        layouts = layouts && layout->ld * size_of(layout->type) % 16 == 0;
    }
    bool dimensions = a.rows % 16 == 0 && a.columns % 16 == 0;
    bool scaled = desc.scales_rows() && desc.a_scale && desc.b_scale && !refuses_fp8("unscaled");
    bool unscaled = desc.a_scale_mode == SCALE_SCALAR_32F && !desc.a_scale && !desc.b_scale;
    bool scales = desc.a_scale_mode == desc.b_scale_mode && (scaled || unscaled);
    bool bias = desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT || d.type == CUDA_R_16BF;
    return layouts && dimensions && scales && bias && !refuses_fp8("none");
}

// Whether the library has such a product at all.
static bool supported(const MatmulDesc& desc, const MatrixLayout& a, const MatrixLayout& b,
                      const MatrixLayout& c, const MatrixLayout& d) {
    for (const MatrixLayout* layout : {&a, &b, &c, &d}) {
        if (layout->order != 0 || layout->batch_count != 1) return false;
        if (layout->rows == 0 || layout->columns == 0) return false;
        if (layout->ld < int64_t(layout->rows)) return false;
    }
    bool inputs = a.type == CUDA_R_32F || a.type == CUDA_R_16BF || a.type == CUDA_R_16F;
    bool types = inputs && b.type == a.type && c.type == d.type &&
                 (d.type == a.type || d.type == CUDA_R_32F) && !desc.scales_rows();
    if (a.type == CUDA_R_8F_E4M3) {
        types = b.type == a.type && c.type == d.type && d.type != a.type &&
                supported_fp8(desc, a, b, d);
    }
    bool sums = desc.compute_type == CUBLAS_COMPUTE_32F && desc.scale_type == CUDA_R_32F &&
                desc.pointer_mode == 0;
    bool biased = desc.epilogue == CUBLASLT_EPILOGUE_BIAS &&
                  (desc.bias_type == SAME_AS_D || desc.bias_type == d.type);
    if (!types || !sums || !(biased || desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT)) return false;
    for (int operation : {desc.transa, desc.transb}) {
        if (operation != CUBLAS_OP_N && operation != CUBLAS_OP_T) return false;
    }
    uint64_t m = transposed(desc.transa) ? a.columns : a.rows;
    uint64_t k = transposed(desc.transa) ? a.rows : a.columns;
    uint64_t n = transposed(desc.transb) ? b.rows : b.columns;
    uint64_t also_k = transposed(desc.transb) ? b.columns : b.rows;
    return k == also_k && c.rows == m && c.columns == n && d.rows == m && d.columns == n;
}

EXPORT cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
    Library* library, const MatmulDesc* desc, const MatrixLayout* a, const MatrixLayout* b,
    const MatrixLayout* c, const MatrixLayout* d, const MatmulPreference* preference, int wanted,
    HeuristicResult* results, int* found) {
    if (!library) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!desc || !a || !b || !c || !d || !preference || !results || !found || wanted < 1) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    *found = 0;
    if (!supported(*desc, *a, *b, *c, *d)) return CUBLAS_STATUS_NOT_SUPPORTED;
    Algorithm algorithm = {MAGIC, std::min(preference->max_workspace, WORKSPACE_BYTES), {}, d->columns, 0, {}};
    const MatrixLayout* layouts[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        size_t least = a->type == CUDA_R_8F_E4M3 ? 16 : size_of(layouts[i]->type);
        if (preference->alignments[i] < least) return CUBLAS_STATUS_NOT_SUPPORTED;
        algorithm.alignments[i] = preference->alignments[i];
    }
    const char* orders = getenv("EMULATED_CUBLASLT_ORDERS");
    *found = orders && strcmp(orders, "2") == 0 ? std::min(wanted, 2) : 1;
    constexpr uint64_t FEW_COLUMNS = 64;
    for (int i = 0; i < *found; i++) {
        algorithm.backwards = *found == 2 && (d->columns <= FEW_COLUMNS) == (i == 0);
        results[i] = {algorithm, algorithm.workspace, CUBLAS_STATUS_SUCCESS, 1.0f, {}};
    }
    return CUBLAS_STATUS_SUCCESS;
}

static Matrix matrix(const void* data, const MatrixLayout& layout) {
    return {static_cast<const uint8_t*>(data), layout.type, int64_t(layout.rows),
            int64_t(layout.columns), layout.ld};
}

// What is queued: the product and the workspace that it may write.
struct Queued {
    Product product;
    void* workspace;
    size_t workspace_bytes;

    void run() const {
        auto reaches = [](const char* what, const Matrix& matrix) {
            return emulated_reaches(what, matrix.data, matrix.bytes());
        };
        const Product& it = product;
        if (!reaches("cublasLtMatmul: A", it.a) || !reaches("cublasLtMatmul: B", it.b)) return;
        if (it.beta != 0 && !reaches("cublasLtMatmul: C", it.c)) return;
        if (!reaches("cublasLtMatmul: D", it.d)) return;
        size_t bias_bytes = size_t(it.d.rows) * size_of(it.d.type);
        if (it.bias && !emulated_reaches("cublasLtMatmul: bias", it.bias, bias_bytes)) return;
        if (it.row_scales) {
            auto scales = [](const char* what, const float* data, int64_t count) {
                return emulated_reaches(what, data, size_t(count) * sizeof(float));
            };
            if (!scales("cublasLtMatmul: scales of A", it.row_scales, it.d.rows)) return;
            if (!scales("cublasLtMatmul: scales of B", it.column_scales, it.d.columns)) return;
        }
        if (workspace_bytes > 0) {
            if (!emulated_reaches("cublasLtMatmul: workspace", workspace, workspace_bytes)) return;
            memset(workspace, 0xff, workspace_bytes);
        }
        multiply(product);
    }
};

static bool aligned(const void* pointer, size_t bytes) {
    return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

EXPORT cublasStatus_t cublasLtMatmul(Library* library, const MatmulDesc* desc, const float* alpha,
                                     const void* a, const MatrixLayout* a_layout, const void* b,
                                     const MatrixLayout* b_layout, const float* beta, const void* c,
                                     const MatrixLayout* c_layout, void* d,
                                     const MatrixLayout* d_layout, const Algorithm* algorithm,
                                     void* workspace, size_t workspace_bytes, CUstream stream) {
    if (!library) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!desc || !alpha || !a || !a_layout || !b || !b_layout || !beta || !c_layout || !d ||
        !d_layout || (*beta != 0 && !c)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (!supported(*desc, *a_layout, *b_layout, *c_layout, *d_layout)) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    const void* pointers[4] = {a, b, c, d};
    const MatrixLayout* layouts[4] = {a_layout, b_layout, c_layout, d_layout};
    for (int i = 0; i < 4; i++) {
        size_t needed = algorithm ? algorithm->alignments[i] : size_of(layouts[i]->type);
        if (!aligned(pointers[i], needed)) return CUBLAS_STATUS_INVALID_VALUE;
    }
    // An algorithm need not do what it was not chosen for.
    uint64_t columns = d_layout->columns;
    if (algorithm && columns != algorithm->columns && columns % 3 == 1) {
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    size_t used = algorithm ? algorithm->workspace : 0;
    bool known = !algorithm || algorithm->magic == MAGIC;
    bool room = used <= workspace_bytes && (used == 0 || (workspace && aligned(workspace, 256)));
    bool in_place = c == d && *beta != 0;
    bool biased = desc->epilogue == CUBLASLT_EPILOGUE_BIAS;
    if (!known || !room || (in_place && c_layout->ld != d_layout->ld) || (biased && !desc->bias)) {
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    Product product = {matrix(a, *a_layout),
                       matrix(b, *b_layout),
                       matrix(c, *c_layout),
                       matrix(d, *d_layout),
                       transposed(desc->transa),
                       transposed(desc->transb),
                       *alpha,
                       *beta,
                       biased ? desc->bias : nullptr,
                       desc->scales_rows() ? desc->a_scale : nullptr,
                       desc->scales_rows() ? desc->b_scale : nullptr,
                       algorithm && algorithm->backwards};
    CUresult queued = emulated_enqueue(
        stream, "cublasLtMatmul", [](void* work) { static_cast<Queued*>(work)->run(); },
        new Queued{product, workspace, used}, [](void* work) { delete static_cast<Queued*>(work); });
    return queued == CUDA_SUCCESS ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
