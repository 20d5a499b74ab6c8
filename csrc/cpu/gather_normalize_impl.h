// The loops of gather_normalize, compiled once for every CPU level.
#pragma once

#include <cstdint>

#include "gather_normalize.h"

namespace simgan_fast {
namespace {

// x / half - 1, the quotient rounded as a division rounds it. Where there are fused multiply-adds,
// it is the product with the inverse, put right by its remainder (Markstein 1990), at a third of
// the time; equal for every value of 8 and of 16 bits (tests/test_gather_normalize.py).
template <typename T>
inline float scaled(T value, float half, float inverse) {
    const float x = value;
#ifdef __FMA__
    const float quotient = x * inverse;
    const float remainder = __builtin_fmaf(-half, quotient, x);
    return __builtin_fmaf(remainder, inverse, quotient) - 1.0f;
#else
    static_cast<void>(inverse);
    return x / half - 1.0f;
#endif
}

template <typename T>
void scale(const T* in, float* out, int64_t count, float half, float inverse) {
    for (int64_t i = 0; i < count; ++i) out[i] = scaled(in[i], half, inverse);
}

template <typename T>
void scale_mirrored(const T* in, float* out, int64_t count, float half, float inverse) {
    for (int64_t i = 0; i < count; ++i) out[i] = scaled(in[count - 1 - i], half, inverse);
}

// Images first, ..., last - 1 of the batch. They lie anywhere in a set larger than any cache, so
// the next is asked for while this one is scaled.
template <typename T>
void gather(const GatherNormalize& p, int64_t first, int64_t last, float half) {
    constexpr int64_t kStretch = 256, kLine = 64 / sizeof(T);
    const int64_t size = p.lines * p.width;
    const float inverse = 1.0f / half;
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
                scale_mirrored(in + at, out + at, count, half, inverse);
            else
                scale(in + at, out + at, count, half, inverse);
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
