#include "random.h"

#include "random_ops.h"

namespace simgan_fast {

void philox4x32_cpu(const int64_t* counters, int64_t* out, int64_t count, uint64_t key) {
    for (int64_t i = 0; i < count; ++i) {
        uint32_t words[4];
        for (int k = 0; k < 4; ++k) words[k] = static_cast<uint32_t>(counters[4 * i + k]);
        philox4x32(words, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
        for (int k = 0; k < 4; ++k) out[4 * i + k] = words[k];
    }
}

}  // namespace simgan_fast
