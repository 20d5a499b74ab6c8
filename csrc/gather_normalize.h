// Picks images by index, mirrors those that are to be mirrored, and scales them to [-1, 1].
#pragma once

#include <cstdint>

namespace simgan_fast {

struct GatherNormalize {
    const void* images;      // [N, lines, width] of 1 or 2 bytes
    const int64_t* indices;  // [count], each in [0, N)
    const bool* flips;       // [count], or null: none
    float* out;              // [count, lines, width]: value / half - 1
    int64_t count, lines, width;
    int64_t bytes;    // of a value: 1 (half is 127.5) or 2 (32767.5)
    int64_t threads;  // at most
};

void gather_normalize_cpu(const GatherNormalize& p);

}  // namespace simgan_fast
