// Gradients that are sums over all pixels: each block leaves its part, and a second kernel adds the
// parts in their order.
#pragma once

#include "cuda/simt.h"

namespace simgan_fast {
namespace {

template <typename T>
struct Parts {
    const float* parts;  // [splits, floats]
    int64_t splits, weights, biases;
    T *weight, *bias;
};

// The sums over the splits, in their order.
template <typename T>
struct SumParts {
    using Params = Parts<T>;
    static constexpr int kThreads = 256, kBlocksPerSm = 4, kSharedBytes = 0;

    SIMT_DEVICE static void run(const Params& p) {
        const int64_t i = static_cast<int64_t>(simt::block()) * kThreads + simt::thread();
        const int64_t floats = p.weights + p.biases;
        if (i >= floats) return;
        float sum = 0;
#pragma unroll 16  // their latency would be most of it
        for (int64_t split = 0; split < p.splits; ++split)
            sum += simt::load(p.parts + split * floats + i);
        T* to = i < p.weights ? p.weight + i : p.bias + (i - p.weights);
        simt::store(to, simt::from_float<T>(sum));
    }
};

}  // namespace
}  // namespace simgan_fast
