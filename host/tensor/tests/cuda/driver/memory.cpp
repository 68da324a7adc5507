// Device memory and pinned host memory, with redzones.
#include "memory.h"

#include <cstdlib>
#include <cstring>
#include <vector>

#include "state.h"

// On both sides of an allocation; also its alignment.
constexpr size_t REDZONE_BYTES = 256;
constexpr uint8_t FILL = 0xff;
// Freed memory that is kept for a while, so that who still has its address does not find others'
// numbers there.
constexpr size_t MAX_FREED_BYTES = 64 << 20;

static bool untouched(const uint8_t* redzone) {
    static const std::vector<uint8_t> filled(REDZONE_BYTES, FILL);
    return memcmp(redzone, filled.data(), REDZONE_BYTES) == 0;
}

size_t Memory::limit_wanted() {
    const char* bytes = getenv("EMULATED_GPU_MEMORY");
    return bytes ? strtoull(bytes, nullptr, 10) : size_t(4) << 30;
}

size_t Memory::held(int device) const {
    auto held = held_.find(device);
    return held == held_.end() ? 0 : held->second;
}

uint8_t* Memory::allocate(size_t bytes, int device) {
    if (device != PINNED && (bytes > limit_ || held(device) > limit_ - bytes)) return nullptr;
    void* memory = nullptr;
    if (posix_memalign(&memory, REDZONE_BYTES, bytes + 2 * REDZONE_BYTES) != 0) return nullptr;
    memset(memory, FILL, bytes + 2 * REDZONE_BYTES);
    uint8_t* start = static_cast<uint8_t*>(memory) + REDZONE_BYTES;
    allocations_[start] = {start, bytes, device};
    held_[device] += bytes;
    return start;
}

Allocation* Memory::find(const void* address, size_t bytes) {
    auto from = static_cast<const uint8_t*>(address);
    auto after = allocations_.upper_bound(from);
    if (after == allocations_.begin()) return nullptr;
    Allocation& allocation = std::prev(after)->second;
    bool inside = from <= allocation.end() && bytes <= size_t(allocation.end() - from);
    return inside ? &allocation : nullptr;
}

Allocation* Memory::beginning(const void* address) {
    auto found = allocations_.find(static_cast<const uint8_t*>(address));
    return found == allocations_.end() || found->second.retired ? nullptr : &found->second;
}

void Memory::release(Allocation& allocation) {
    check(allocation);
    uint8_t* start = allocation.start;
    size_t bytes = allocation.bytes;
    held_[allocation.device] -= bytes;
    allocations_.erase(start);
    memset(start, FILL, bytes);
    freed_.push_back({start, bytes});
    freed_bytes_ += bytes;
    while (freed_bytes_ > MAX_FREED_BYTES) {
        freed_bytes_ -= freed_.front().bytes;
        free(freed_.front().start - REDZONE_BYTES);
        freed_.pop_front();
    }
}

void Memory::release_all(int device) {
    for (auto next = allocations_.begin(); next != allocations_.end();) {
        Allocation& allocation = (next++)->second;
        if (allocation.device == device) release(allocation);
    }
}

void Memory::check() const {
    for (const auto& [start, allocation] : allocations_) check(allocation);
}

void Memory::check(const Allocation& allocation) const {
    bool before = untouched(allocation.start - REDZONE_BYTES);
    if (before && untouched(allocation.end())) return;
    give_up("%zu bytes at %p were written %s", allocation.bytes, allocation.start,
            before ? "beyond their end" : "before their start");
}
