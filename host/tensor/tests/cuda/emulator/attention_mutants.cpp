// The smallest program that notices every mutant of attention on tensor cores: each compiles it.
#include "attention_check.h"

int main() { CHECK(bf16, Bf16, 64, many_shapes()) }
