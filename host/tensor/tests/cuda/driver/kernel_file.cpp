// Registers the kernels of KERNEL_FILE, which KERNEL_NAMES lists. Compiled once for each file.
#include "check.h"

#include "kernel.h"

// Files have helpers of the same names.
namespace {
#include KERNEL_FILE

#define REGISTER(THREADS_OF_BLOCK, NAME)                 \
    const RegisteredKernel registered_##NAME(            \
        {KERNEL_FILE, #NAME, THREADS_OF_BLOCK,           \
         [](void** arguments) { return bind_arguments(NAME, arguments); }});
#include KERNEL_NAMES
}  // namespace
