// The kernels' intrinsics as host code for the emulated block.
#pragma once
#include <cmath>

#include "block.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
typedef long long i64;

#define DEVICE inline
#define KERNEL(threads) inline void
#define RESIDENT_KERNEL(threads, blocks) inline void
// For what the emulator does itself, many times: it need not be watched.
#define UNWATCHED __attribute__((no_sanitize("address", "undefined")))

DEVICE u8* shared_memory() { return block.shared(); }

// What is copied to shared memory is there when it was waited for, not before.
struct PendingCopy {
    u8* to;
    u8 bytes[16];
};
inline std::vector<PendingCopy> open_copies[MAX_THREADS];
inline std::vector<std::vector<PendingCopy>> copy_groups[MAX_THREADS];

enum Operation { SHUFFLE, LOAD_MATRICES, MULTIPLY };

DEVICE void block_barrier() { block.barrier(); }

DEVICE float shuffle(float value, int lane) {
    Offer offer = {SHUFFLE, nullptr, {}};
    memcpy(offer.words, &value, sizeof value);
    const Offer* offers = block.exchange(offer);
    memcpy(&value, offers[lane % WARP_LANES].words, sizeof value);
    return value;
}

DEVICE float shuffle_xor(float value, int mask) {
    return shuffle(value, (block.thread() % WARP_LANES) ^ mask);
}

UNWATCHED DEVICE float float_of_bits(u32 bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

DEVICE u32 bits_of_float(float x) {
    u32 bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

DEVICE float exp2_approximate(float x) {
    float result = exp2f(x);
    return fabsf(result) < 0x1p-126f ? 0.0f : result;
}

DEVICE float reciprocal_approximate(float x) {
    float result = 1.0f / x;
    return fabsf(result) < 0x1p-126f ? 0.0f : result;
}

DEVICE u16 bf16_bits(float x) {
    u32 bits = bits_of_float(x);
    if (std::isnan(x)) return 0x7fff;
    return static_cast<u16>((u64(bits) + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

DEVICE u16 f16_bits(float x) {
    u16 sign = static_cast<u16>(bits_of_float(x) >> 16 & 0x8000);
    double size = std::fabs(static_cast<double>(x));
    if (std::isnan(x)) return 0x7fff;
    if (size >= 65520.0) return sign | 0x7c00;
    int exponent = -14;
    if (size >= 0x1p-14) frexp(size, &exponent), exponent -= 1;
    // In units of the last place; a carry into the exponent is what it should be.
    u16 units = static_cast<u16>(std::nearbyint(std::ldexp(size, 10 - exponent)));
    return sign | static_cast<u16>(units + ((exponent + 14) << 10));
}

UNWATCHED DEVICE float float_of_f16(u16 bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    u32 sign = u32(bits & 0x8000) << 16;
    if (exponent == 31) return float_of_bits(sign | 0x7f800000 | u32(fraction) << 13);
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * static_cast<float>(fraction) * 0x1p-24f;
    return float_of_bits(sign | u32(exponent + 112) << 23 | u32(fraction) << 13);
}

DEVICE u32 bf16_pair(float low, float high) { return bf16_bits(low) | u32(bf16_bits(high)) << 16; }
DEVICE u32 f16_pair(float low, float high) { return f16_bits(low) | u32(f16_bits(high)) << 16; }

// Sign, four bits of exponent, three of fraction; 0x7f is NaN, and there is no infinity.
DEVICE u8 e4m3_bits(float x) {
    u8 sign = bits_of_float(x) >> 24 & 0x80;
    double size = std::fabs(static_cast<double>(x));
    if (std::isnan(x)) return 0x7f;
    if (size > 448.0) size = 448.0;
    int exponent = -6;
    if (size >= 0x1p-6) frexp(size, &exponent), exponent -= 1;
    // In units of the last place; a carry into the exponent is what it should be.
    u8 units = static_cast<u8>(std::nearbyint(std::ldexp(size, 3 - exponent)));
    return static_cast<u8>(sign | (units + ((exponent + 6) << 3)));
}

UNWATCHED DEVICE float float_of_e4m3(u8 bits) {
    int exponent = bits >> 3 & 15, fraction = bits & 7;
    u32 sign = u32(bits & 0x80) << 24;
    if ((bits & 0x7f) == 0x7f) return float_of_bits(0x7fc00000);
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * static_cast<float>(fraction) * 0x1p-9f;
    return float_of_bits(sign | u32(exponent + 120) << 23 | u32(fraction) << 20);
}

DEVICE u16 e4m3_pair(float low, float high) {
    return static_cast<u16>(e4m3_bits(low) | e4m3_bits(high) << 8);
}

DEVICE int opaque(int value) { return value; }

// 16 bytes of shared memory at a multiple of 16.
DEVICE u8* shared_piece(const void* pointer) {
    auto offset = static_cast<const u8*>(pointer) - block.shared();
    if (offset < 0 || offset + 16 > static_cast<i64>(block.shared_bytes()) || offset % 16 != 0) {
        fail("16 bytes at %lld of %zu bytes of shared memory", static_cast<i64>(offset),
             block.shared_bytes());
    }
    return block.shared() + offset;
}

DEVICE void copy_async(void* to, const void* from, bool present) {
    PendingCopy copy = {shared_piece(to), {}};
    if (reinterpret_cast<u64>(from) % 16 != 0) fail("an asynchronous copy from %p", from);
    if (present) memcpy(copy.bytes, from, 16);
    // Nobody may count on what was there.
    memset(to, 0xff, 16);
    open_copies[block.thread()].push_back(copy);
}

DEVICE void copy_commit() {
    copy_groups[block.thread()].push_back(std::move(open_copies[block.thread()]));
    open_copies[block.thread()].clear();
}

template <int PENDING>
void copy_wait() {
    auto& groups = copy_groups[block.thread()];
    while (groups.size() > PENDING) {
        for (const PendingCopy& copy : groups.front()) memcpy(copy.to, copy.bytes, 16);
        groups.erase(groups.begin());
    }
}

UNWATCHED DEVICE u32 element_pair(u16 low, u16 high) { return low | u32(high) << 16; }

UNWATCHED DEVICE void load_matrices(u32 (&to)[4], const void* row) {
    const Offer* offers = block.exchange({LOAD_MATRICES, shared_piece(row), {}});
    int lane = block.thread() % WARP_LANES;
    for (int matrix = 0; matrix < 4; matrix++) {
        auto from = static_cast<const u16*>(offers[matrix * 8 + lane / 4].address);
        to[matrix] = element_pair(from[lane % 4 * 2], from[lane % 4 * 2 + 1]);
    }
}

UNWATCHED DEVICE void load_matrices_transposed(u32 (&to)[4], const void* row) {
    const Offer* offers = block.exchange({LOAD_MATRICES, shared_piece(row), {}});
    int lane = block.thread() % WARP_LANES;
    for (int matrix = 0; matrix < 4; matrix++) {
        const Offer* rows = &offers[matrix * 8 + lane % 4 * 2];
        to[matrix] = element_pair(static_cast<const u16*>(rows[0].address)[lane / 4],
                                  static_cast<const u16*>(rows[1].address)[lane / 4]);
    }
}

struct Bf16Bits {
    UNWATCHED float operator()(u32 bits) const { return float_of_bits(bits << 16); }
};
struct F16Bits {
    UNWATCHED float operator()(u32 bits) const { return float_of_f16(static_cast<u16>(bits)); }
};

// Each lane computes its four elements of the product from all lanes' fragments.
template <typename ToFloat>
UNWATCHED void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, ToFloat to_float) {
    const Offer* offers = block.exchange({MULTIPLY, nullptr, {a[0], a[1], a[2], a[3], b0, b1}});
    int lane = block.thread() % WARP_LANES;
    for (int element = 0; element < 4; element++) {
        int row = lane / 4 + element / 2 * 8, column = lane % 4 * 2 + element % 2;
        float sum = 0.0f;
        for (int k = 0; k < 16; k += 2) {
            u32 left = offers[row % 8 * 4 + k % 8 / 2].words[row / 8 + k / 8 * 2];
            u32 right = offers[column * 4 + k % 8 / 2].words[4 + k / 8];
            sum += to_float(left & 0xffff) * to_float(right & 0xffff);
            sum += to_float(left >> 16) * to_float(right >> 16);
        }
        c[element] += sum;
    }
}

DEVICE void multiply_bf16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    multiply(c, a, b0, b1, Bf16Bits());
}

DEVICE void multiply_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    multiply(c, a, b0, b1, F16Bits());
}
