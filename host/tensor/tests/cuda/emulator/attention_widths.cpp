// Attention on tensor cores against its definition: the other widths of heads.
#include "attention_check.h"

#define CHECK_BOTH(HEAD_DIM)                      \
    CHECK(bf16, Bf16, HEAD_DIM, few_shapes())     \
    CHECK(f16, F16, HEAD_DIM, few_shapes())

int main() {
    CHECK_BOTH(32)
    CHECK_BOTH(80)
    CHECK_BOTH(96)
    CHECK_BOTH(128)
    CHECK_FORMS(bf16, Bf16, 256, 256, 256, few_shapes())
    CHECK_FORMS(f16, F16, 256, 256, 256, few_shapes())
}
