// Random operands of products that are tried, and whether two results are the same.
//
//   fill_T         count elements of T: numbers from -1 to 1 that depend on their place alone
//   compare_words  sets the flag where any of count words differ
//
// Launch: blocks of 256, as many as there is work for or fewer; no shared memory.
#include "element.cuh"

// The bits of a number mixed so that neighbours have nothing in common (splitmix64's finaliser).
DEVICE u64 mixed(u64 x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

DEVICE u64 first_item() { return static_cast<u64>(blockIdx.x) * blockDim.x + threadIdx.x; }
DEVICE u64 item_step() { return static_cast<u64>(gridDim.x) * blockDim.x; }

template <typename T>
DEVICE void fill(T* out, u64 count) {
    for (u64 i = first_item(); i < count; i += item_step()) {
        int signed_bits = static_cast<int>(mixed(i) >> 32);
        set(out[i], static_cast<float>(signed_bits) * 4.656612873077393e-10f);
    }
}

KERNEL(256) compare_words(const u32* a, const u32* b, u64 count, u32* differ) {
    bool same = true;
    for (u64 i = first_item(); i < count; i += item_step()) same = same && a[i] == b[i];
    if (!same) *differ = 1;
}

#define FILL(SUFFIX, T)                                                     \
    KERNEL(256) fill_##SUFFIX(T* out, u64 count) { fill(out, count); }

FOR_ACTIVATIONS(FILL)
