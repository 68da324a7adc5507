// Copies of strided views: what slices, joins and reshapes become.
//
//   A view has up to 8 dimensions, outermost first, with the strides of both sides. All are in
//   units of 16, 4, 2 or 1 bytes, the largest that divides every innermost run and address.
//
// Launch: one thread a unit, fewer than 2^31 of them, blocks of 256, no shared memory.
#include "element.cuh"

constexpr int MAX_RANK = 8;

struct View {
    i64 from_strides[MAX_RANK];
    i64 to_strides[MAX_RANK];
    u32 dims[MAX_RANK];
    int rank;
};

template <typename Unit>
DEVICE void copy(const View& view, const Unit* from, Unit* to, u32 units) {
    u32 index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= units) return;
    for (int axis = view.rank - 1; axis >= 0; axis--) {
        u32 at = index % view.dims[axis];
        index /= view.dims[axis];
        from += at * view.from_strides[axis];
        to += at * view.to_strides[axis];
    }
    *to = *from;
}

#define COPY(NAME, UNIT)                                                              \
    KERNEL(256) NAME(const View view, const UNIT* from, UNIT* to, u32 units) {        \
        copy(view, from, to, units);                                                  \
    }

// copy_BYTES
COPY(copy_16, Quad)
COPY(copy_4, u32)
COPY(copy_2, u16)
COPY(copy_1, u8)
