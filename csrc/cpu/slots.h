// Sums over images that do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/threads.h"

namespace simgan_fast {

// Images are dealt to so many sums of weight gradients, each added up in order and then together in
// order. More slots than threads cost time.
inline int64_t slots_of(int64_t images) {
    return images < 64 ? std::min<int64_t>(images, 8) : 16;
}

// Adds up sums [slots, floats] into the first.
inline void add_slots(float* sums, int64_t slots, int64_t floats, int64_t threads) {
    constexpr int64_t kParts = 64;
    parallel_for(kParts, threads, [&](int64_t part, int64_t) {
        const int64_t begin = floats * part / kParts, end = floats * (part + 1) / kParts;
        for (int64_t slot = 1; slot < slots; ++slot)
            for (int64_t i = begin; i < end; ++i) sums[i] += sums[slot * floats + i];
    });
}

}  // namespace simgan_fast
