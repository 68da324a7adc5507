// The kernels of KERNEL_FILE, whose names are in KERNEL_NAMES: ENTRY(name) of each.
#include "check.h"
#include "kernel.h"

// Files of kernels have helpers of the same names.
namespace {
#include KERNEL_FILE

#define ENTRY(NAME) {KERNEL_FILE, #NAME, [](void** arguments) { return bound(NAME, arguments); }},
const Registered registered({
#include KERNEL_NAMES
});
}  // namespace
