// Included before a file of kernels that is preprocessed only: shows which kernels it has.
#include "intrinsics.cuh"
#undef KERNEL
#undef RESIDENT_KERNEL
#define KERNEL(threads) EMULATED_KERNEL threads EMULATED_NAME
#define RESIDENT_KERNEL(threads, blocks) KERNEL(threads)
