#include "random.h"

#include "random_ops.h"

namespace simgan_fast {

void permutation_cpu(const PermutationSlice& p) {
    const Permutation permutation =
        make_permutation(static_cast<uint64_t>(p.size), p.step, p.stream, p.seed);
    for (int64_t i = 0; i < p.count; ++i)
        p.out[i] = static_cast<int64_t>(permuted(permutation, static_cast<uint64_t>(p.start + i)));
}

void philox4x32_cpu(const int64_t* counters, int64_t* out, int64_t count, uint64_t key) {
    for (int64_t i = 0; i < count; ++i) {
        uint32_t words[4];
        for (int k = 0; k < 4; ++k) words[k] = static_cast<uint32_t>(counters[4 * i + k]);
        philox4x32(words, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
        for (int k = 0; k < 4; ++k) out[4 * i + k] = words[k];
    }
}

}  // namespace simgan_fast
