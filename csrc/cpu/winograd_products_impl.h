// The matrix products of Winograd's convolution, one point at a time, compiled once for every CPU
// level. Values of all points of a tile lie together: rows of a matrix are `stride` apart.
#pragma once

#include "cpu/vector.h"
#include "cpu/winograd.h"

namespace simgan_fast {
namespace {

// Registers of the inner product: kMostRows x kStrip sums, kStrip weights, one pixel.
constexpr int kStrip = 2;
#if defined(__AVX512F__)
constexpr int kMostRows = 14;
#else
constexpr int kMostRows = 6;
#endif
constexpr int kSumRows = kLanes == 16 ? 8 : 4;  // of the sums over tiles; divides 16

// Products that are added up one after the other, before their sum is added to that of the others:
// sums of sums round less.
constexpr int64_t kChain = 32;

// c [rows][kVectors registers] = a [rows][depth] * b [depth][kVectors registers].
template <int kRows, int kVectors>
SIMGAN_FAST_INLINE void multiply_rows(const float* a, int64_t stride, const float* b, int64_t depth,
                                      float* c) {
    const float* rows[(kRows + 3) / 4];  // one address for four rows: more would not fit registers
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kRows; i += 4) rows[i / 4] = a + i * stride;
    for (int64_t first = 0; first < depth; first += kChain) {
        Floats sum[kRows][kVectors] = {};
        const int64_t last = depth - first < kChain ? depth : first + kChain;
#pragma GCC unroll 2
        for (int64_t k = first; k < last; ++k) {
            Floats weight[kVectors];
            SIMGAN_FAST_UNROLL
            for (int v = 0; v < kVectors; ++v) {
                weight[v] = load(b + (k * kVectors + v) * kLanes);
                if (v * kLanes % kGroup == 0)  // a cache line of the next strip
                    __builtin_prefetch(b + ((depth + k) * kVectors + v) * kLanes);
            }
            SIMGAN_FAST_UNROLL
            for (int i = 0; i < kRows; ++i) {
                const Floats value = splat(rows[i / 4][(i % 4) * stride + k]);
                SIMGAN_FAST_UNROLL
                for (int v = 0; v < kVectors; ++v) sum[i][v] += value * weight[v];
            }
        }
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < kRows; ++i) SIMGAN_FAST_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            float* to = c + i * stride + v * kLanes;
            store(to, first == 0 ? sum[i][v] : load(to) + sum[i][v]);
        }
    }
}

template <int kVectors, int kRows = kMostRows>
void multiply_some(int64_t rows, const float* a, int64_t stride, const float* b, int64_t depth,
                   float* c) {
    if (rows == kRows) return multiply_rows<kRows, kVectors>(a, stride, b, depth, c);
    if constexpr (kRows > 1) multiply_some<kVectors, kRows - 1>(rows, a, stride, b, depth, c);
}

// out [tiles][channels] = in [tiles][channels] * panel [channels][channels in strips], at one
// point.
SIMGAN_FAST_INLINE void multiply(int64_t tiles, const float* in, int64_t stride, const float* panel,
                                 int64_t channels, float* out) {
    for (int64_t c = 0; c < channels; c += kStrip * kLanes) {
        const bool whole = channels - c >= kStrip * kLanes;
        const auto run = whole ? multiply_some<kStrip> : multiply_some<1>;
        for (int64_t first = 0; first < tiles; first += kMostRows)
            run(tiles - first < kMostRows ? tiles - first : kMostRows, in + first * stride, stride,
                panel + c * channels, channels, out + first * stride + c);
    }
}

// sums [rows][kVectors registers] = a^T b over the tiles, added to what is there if `add`.
template <int kVectors>
SIMGAN_FAST_INLINE void add_products(int64_t tiles, const float* a, const float* b, int64_t stride,
                                     bool add, float* sums, int64_t sums_stride) {
    Floats sum[kSumRows][kVectors] = {};
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kSumRows && add; ++i) SIMGAN_FAST_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[i][v] = load(sums + i * sums_stride + v * kLanes);
    for (int64_t t = 0; t < tiles; ++t) {
        Floats right[kVectors];
        SIMGAN_FAST_UNROLL
        for (int v = 0; v < kVectors; ++v) right[v] = load(b + t * stride + v * kLanes);
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < kSumRows; ++i) {
            const Floats left = splat(a[t * stride + i]);
            SIMGAN_FAST_UNROLL
            for (int v = 0; v < kVectors; ++v) sum[i][v] += left * right[v];
        }
    }
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kSumRows; ++i) SIMGAN_FAST_UNROLL
    for (int v = 0; v < kVectors; ++v) store(sums + i * sums_stride + v * kLanes, sum[i][v]);
}

// panel [channels][channels] = in^T gradient over the tiles, at one point, added to what is there
// if `add`.
SIMGAN_FAST_INLINE void accumulate(int64_t tiles, const float* in, const float* gradient,
                                   int64_t stride, int64_t channels, bool add, float* panel) {
    for (int64_t c = 0; c < channels; c += kStrip * kLanes) {
        const bool whole = channels - c >= kStrip * kLanes;
        for (int64_t r = 0; r < channels; r += kSumRows) {
            float* sums = panel + r * channels + c;
            if (whole)
                add_products<kStrip>(tiles, in + r, gradient + c, stride, add, sums, channels);
            else
                add_products<1>(tiles, in + r, gradient + c, stride, add, sums, channels);
        }
    }
}

// Where panel [row][column] lies: strips of columns, each contiguous, as multiply_rows reads them.
SIMGAN_FAST_INLINE int64_t in_strips(int64_t channels, int64_t row, int64_t column) {
    const int64_t strip = column / (kStrip * kLanes) * (kStrip * kLanes);
    const int64_t left = channels - strip;
    const int64_t width = left < kStrip * kLanes ? left : kStrip * kLanes;
    return strip * channels + row * width + column - strip;
}

}  // namespace
}  // namespace simgan_fast
