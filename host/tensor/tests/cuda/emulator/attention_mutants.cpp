// The smallest program that notices every mutant of attention on tensor cores: each compiles it.
#include "attention_check.h"

int main() {
    CHECK(bf16, Bf16, 64, many_shapes())
    // The form with one tile of keys in shared memory.
    CHECK_FORMS(bf16, Bf16, 256, 256, 256, few_shapes())
}
