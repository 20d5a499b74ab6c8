#include "gather_normalize.h"

#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/threads.h"

namespace simgan_fast {
namespace {

constexpr int64_t kBytesOfAThread = 1 << 18;  // less is not worth waking one

}  // namespace

bool gather_normalize_cpu(const GatherNormalize& p, int64_t available) {
    for (int64_t i = 0; i < p.count; ++i)
        if (p.indices[i] < 0 || p.indices[i] >= available) return false;
    const auto& kernel = cpu_kernels().gather_normalize;
    const int64_t bytes = p.count * p.lines * p.width * p.bytes;
    const int64_t parts = std::max<int64_t>(1, std::min(p.threads, bytes / kBytesOfAThread));
    parallel_for(parts, p.threads, [&](int64_t part, int64_t) {
        kernel(p, p.count * part / parts, p.count * (part + 1) / parts);
    });
    return true;
}

}  // namespace simgan_fast
