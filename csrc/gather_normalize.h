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

// Whether all indices are in [0, available); if not, nothing is written.
bool gather_normalize_cpu(const GatherNormalize& p, int64_t available);

// The same on the current CUDA device, where all of it lies, out aligned to 16 bytes and images of
// less than 2^30 values. bf16_out: where bfloat16 go, in place of p.out, or null. An index that is
// not in [0, available) gives an image of NaN: the host does not wait to find out.
void gather_normalize_cuda(const GatherNormalize& p, int64_t available, uint16_t* bf16_out,
                           void* stream);

}  // namespace simgan_fast
