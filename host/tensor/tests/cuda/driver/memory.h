// Device memory and pinned host memory, with redzones.
#pragma once
#include <deque>
#include <map>

#include "cuda.h"

// Who may use memory without a copy: a device by its number, or all and the host.
constexpr int PINNED = -1;

struct Allocation {
    uint8_t* start;
    size_t bytes;
    int device;
    // Its free is queued: nothing may be queued for it any more.
    bool retired = false;

    uint8_t* end() const { return start + bytes; }
};

class Memory {
  public:
    // Bytes that each device has.
    size_t limit() const { return limit_; }
    // Bytes of a device that are not freed yet.
    size_t held(int device) const;

    // Memory full of ones, a NaN in every type, at a multiple of 256; null where there is no more.
    uint8_t* allocate(size_t bytes, int device);
    // The allocation that has all of a range, whether it is retired or not; or null.
    Allocation* find(const void* address, size_t bytes);
    // The allocation that begins here and is not retired; or null.
    Allocation* beginning(const void* address);
    // Frees an allocation. What is still read from it is full of ones.
    void release(Allocation& allocation);
    // Frees all that a device has.
    void release_all(int device);
    // Ends the program where a redzone was written.
    void check() const;

  private:
    struct Freed {
        uint8_t* start;
        size_t bytes;
    };
    void check(const Allocation& allocation) const;

    size_t limit_ = limit_wanted();
    static size_t limit_wanted();
    std::map<const uint8_t*, Allocation> allocations_;
    std::map<int, size_t> held_;
    // The last freed memory, in the order in which it was freed: its addresses are not given out
    // again at once.
    std::deque<Freed> freed_;
    size_t freed_bytes_ = 0;
};
