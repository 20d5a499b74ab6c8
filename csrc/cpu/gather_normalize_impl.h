// The loops of gather_normalize, compiled once for every CPU level.
#pragma once

#include <cstdint>

#include "gather_normalize.h"

namespace simgan_fast {
namespace {

// Divided, not multiplied by the inverse, which rounds otherwise; memory is what bounds it.
template <typename T>
void scale(const T* in, float* out, int64_t count, float half) {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(in[i]) / half - 1.0f;
}

template <typename T>
void scale_mirrored(const T* in, float* out, int64_t count, float half) {
    for (int64_t i = 0; i < count; ++i)
        out[i] = static_cast<float>(in[count - 1 - i]) / half - 1.0f;
}

// Images first, ..., last - 1 of the batch. They lie anywhere in a set larger than any cache, so
// the next is asked for while this one is scaled.
template <typename T>
void gather(const GatherNormalize& p, int64_t first, int64_t last, float half) {
    constexpr int64_t kStretch = 256, kLine = 64 / sizeof(T);
    const int64_t size = p.lines * p.width;
    for (int64_t i = first; i < last; ++i) {
        const T* in = static_cast<const T*>(p.images) + p.indices[i] * size;
        const T* next =
            static_cast<const T*>(p.images) + p.indices[i + 1 < last ? i + 1 : i] * size;
        float* out = p.out + i * size;
        const bool mirrored = p.flips != nullptr && p.flips[i];
        const int64_t step = mirrored ? p.width : kStretch;
        for (int64_t at = 0; at < size; at += step) {
            const int64_t count = at + step < size ? step : size - at;
            for (int64_t k = 0; k < count; k += kLine) __builtin_prefetch(next + at + k);
            if (mirrored)
                scale_mirrored(in + at, out + at, count, half);
            else
                scale(in + at, out + at, count, half);
        }
    }
}

void gather_normalize(const GatherNormalize& p, int64_t first, int64_t last) {
    if (p.bytes == 1)
        gather<uint8_t>(p, first, last, 127.5f);
    else
        gather<uint16_t>(p, first, last, 32767.5f);
}

}  // namespace
}  // namespace simgan_fast
