// Attention on tensor cores against its definition: every mask, one width of heads.
#include "attention_check.h"

int main() {
    CHECK(bf16, Bf16, 64, many_shapes())
    CHECK(f16, F16, 64, many_shapes())
}
