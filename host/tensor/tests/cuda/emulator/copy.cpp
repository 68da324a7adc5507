// Strided copies against a walk through the view.
#include "check.h"
#include "copy.cu"

constexpr int BLOCK = 256;

// A view of `rank` random dimensions inside of larger ones, on both sides.
template <typename Unit, typename Kernel>
void check(const char* name, Kernel kernel) {
    Random random{1};
    for (int rank = 1; rank <= MAX_RANK; rank++) {
        View view = {};
        view.rank = rank;
        i64 from_units = 1, to_units = 1;
        u32 units = 1;
        for (int axis = rank - 1; axis >= 0; axis--) {
            view.dims[axis] = 1 + random.below(axis == 0 ? 40 : 4);
            view.from_strides[axis] = from_units;
            view.to_strides[axis] = to_units;
            from_units *= view.dims[axis] + random.below(2);
            to_units *= view.dims[axis] + random.below(2);
            units *= view.dims[axis];
        }
        Buffer<Unit> from(from_units), to(to_units);
        auto* bytes = reinterpret_cast<u8*>(from.data());
        for (size_t i = 0; i < from_units * sizeof(Unit); i++) bytes[i] = random.below(255);
        launch(blocks_for(units, BLOCK), BLOCK, 0, random,
               [&] { kernel(view, from.data(), to.data(), units); });

        std::vector<bool> written(to_units);
        std::vector<u32> at(rank, 0);
        for (u32 unit = 0; unit < units; unit++) {
            i64 source = 0, target = 0;
            for (int axis = 0; axis < rank; axis++) {
                source += at[axis] * view.from_strides[axis];
                target += at[axis] * view.to_strides[axis];
            }
            written[target] = true;
            if (memcmp(&from[source], &to[target], sizeof(Unit)) != 0) fail("%s: unit %u", name, unit);
            for (int axis = rank - 1; axis >= 0 && ++at[axis] == view.dims[axis]; axis--) at[axis] = 0;
        }
        u8 untouched[sizeof(Unit)];
        memset(untouched, 0xff, sizeof untouched);
        for (i64 i = 0; i < to_units; i++) {
            bool same = memcmp(&to[i], untouched, sizeof untouched) == 0;
            if (!written[i] && !same) fail("%s: wrote beside the view", name);
        }
    }
    printf("%-40s exact\n", name);
}

int main() {
    check<Quad>("copy_16", copy_16);
    check<u32>("copy_4", copy_4);
    check<u16>("copy_2", copy_2);
    check<u8>("copy_1", copy_1);
}
