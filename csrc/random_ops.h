// The random numbers of csrc/random.h, many at a time.
#pragma once

#include <cstdint>

namespace simgan_fast {

struct PermutationSlice {
    int64_t* out;          // [count]: P(start), ..., P(start + count - 1)
    int64_t start, count;  // start + count <= size
    int64_t size;
    uint64_t step, seed;
    uint32_t stream;
};

void permutation_cpu(const PermutationSlice& p);

// counters and out: [count, 4] 32-bit words, each in an int64 as torch has no arithmetic on uint32.
void philox4x32_cpu(const int64_t* counters, int64_t* out, int64_t count, uint64_t key);

}  // namespace simgan_fast
