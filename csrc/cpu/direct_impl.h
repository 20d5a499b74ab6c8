// Direct convolutions as matrix products whose rows are pieces of a map, compiled once for every
// CPU level: neighbouring pixels of a row of a channels-last map lie together, so the three taps of
// a kernel row are one piece, and nothing is copied.
#pragma once

#include "cpu/direct.h"
#include "cpu/ends_impl.h"
#include "cpu/winograd_products_impl.h"

namespace simgan_fast {
namespace {

template <int kRows, int kVectors>
SIMGAN_FAST_INLINE void product_rows(const MapProduct& p, int64_t row, int64_t column) {
    Floats sum[kRows][kVectors];
    const float* start = p.start + row * p.start_row + column;
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kRows; ++i) SIMGAN_FAST_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[i][v] = load(start + i * p.start_row + v * kLanes);

    const float* b = p.b + column * p.pieces * p.depth;
    for (int64_t piece = 0; piece < p.pieces; ++piece) {
        const float* rows[(kRows + 3) / 4];  // one address for four rows, as in multiply_rows
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < kRows; i += 4)
            rows[i / 4] = p.a + piece * p.a_piece + (row + i) * p.a_row;
#pragma GCC unroll 2
        for (int64_t k = 0; k < p.depth; ++k) {
            Floats weight[kVectors];
            SIMGAN_FAST_UNROLL
            for (int v = 0; v < kVectors; ++v) {
                weight[v] = load(b + v * kLanes);
                __builtin_prefetch(b + 16 * kVectors * kLanes + v * kLanes);
            }
            b += kVectors * kLanes;
            SIMGAN_FAST_UNROLL
            for (int i = 0; i < kRows; ++i) {
                const Floats value = splat(rows[i / 4][(i % 4) * p.a_row + k]);
                SIMGAN_FAST_UNROLL
                for (int v = 0; v < kVectors; ++v) sum[i][v] += value * weight[v];
            }
        }
    }
    float* c = p.c + row * p.c_row + column;
    const Floats least = splat(p.relu ? 0 : -__builtin_inff());
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kRows; ++i) SIMGAN_FAST_UNROLL
    for (int v = 0; v < kVectors; ++v) {
        const Floats value = sum[i][v];
        store(c + i * p.c_row + v * kLanes, value < least ? least : value);  // NaN stays
    }
}

template <int kVectors, int kRows = kMostRows>
void product_some(const MapProduct& p, int64_t rows, int64_t row, int64_t column) {
    if (rows == kRows) return product_rows<kRows, kVectors>(p, row, column);
    if constexpr (kRows > 1) product_some<kVectors, kRows - 1>(p, rows, row, column);
}

void multiply_map(const MapProduct& p) {
    const int64_t groups = (p.rows + kMostRows - 1) / kMostRows;
    for (int64_t column = 0; column < p.columns; column += kStrip * kLanes) {
        const bool whole = p.columns - column >= kStrip * kLanes;
        const auto run = whole ? product_some<kStrip> : product_some<1>;
        for (int64_t group = 0; group < groups; ++group) {
            const int64_t first = p.rows * group / groups, last = p.rows * (group + 1) / groups;
            run(p, last - first, first, column);
        }
    }
}

template <int kVectors>
SIMGAN_FAST_INLINE void add_outer(const OuterProduct& p, int64_t row, int64_t column) {
    Floats sum[kSumRows][kVectors] = {};
    for (int64_t line = 0; line < p.lines; ++line) {
        const float* a = p.a + line * p.a_line + row;
        const float* b = p.b + line * p.b_line + column;
        for (int64_t pixel = 0; pixel < p.pixels; ++pixel, a += p.a_pixel, b += p.b_pixel) {
            Floats right[kVectors];
            SIMGAN_FAST_UNROLL
            for (int v = 0; v < kVectors; ++v) right[v] = load(b + v * kLanes);
            SIMGAN_FAST_UNROLL
            for (int i = 0; i < kSumRows; ++i) {
                const Floats left = splat(a[i]);
                SIMGAN_FAST_UNROLL
                for (int v = 0; v < kVectors; ++v) sum[i][v] += left * right[v];
            }
        }
    }
    float* to = p.sums + row * p.columns + column;
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kSumRows; ++i) SIMGAN_FAST_UNROLL
    for (int v = 0; v < kVectors; ++v) {
        float* at = to + i * p.columns + v * kLanes;
        store(at, load(at) + sum[i][v]);
    }
}

void accumulate_outer(const OuterProduct& p) {
    for (int64_t row = 0; row < p.rows; row += kSumRows)
        for (int64_t column = 0; column < p.columns; column += kStrip * kLanes)
            if (p.columns - column >= kStrip * kLanes)
                add_outer<kStrip>(p, row, column);
            else
                add_outer<1>(p, row, column);
}

void add_all_pixels(const PaddedMap& map, const float* from, float* to) {
    for (int64_t c = 0; c < map.channels; c += kLanes) {
        Floats total = load(to + c);
        for (int64_t row = 0; row < map.height; ++row) {
            Floats sum = {};  // of a row first: shorter sums round less
            for (int64_t column = 0; column < map.width; ++column)
                sum += load(from + map_offset(map, row, column) + c);
            total += sum;
        }
        store(to + c, total);
    }
}

// Offsets of the 3x3 pixels around one, in the order of torch's scan.
struct Around {
    explicit Around(const PaddedMap& map) {
        for (int i = 0; i < 9; ++i)
            offset[i] = ((i / 3 - 1) * map.columns + i % 3 - 1) * map.channels;
    }
    int64_t offset[9];
};

void pool_map(const PaddedMap& map, const float* from, float* to) {
    const Around around(map);
    for (int64_t row = 0; row < map.height; ++row)
        for (int64_t i = map_offset(map, row, 0); i < map_offset(map, row, map.width);
             i += kLanes) {
            Floats largest = load(from + i + around.offset[0]);
            for (int k = 1; k < 9; ++k) {
                const Floats value = load(from + i + around.offset[k]);
                // Not below it, or NaN itself: it stays.
                largest = ((largest >= value) | (largest != largest)) ? largest : value;
            }
            store(to + i, largest);
        }
}

void pool_backward_map(const PaddedMap& map, const float* from, const float* to,
                       const float* grad_to, float* grad_from) {
    const Around around(map);
    std::memset(grad_from, 0, map.rows * map.columns * map.channels * sizeof(float));
    for (int64_t row = 0; row < map.height; ++row)
        for (int64_t i = map_offset(map, row, 0); i < map_offset(map, row, map.width);
             i += kLanes) {
            const Floats largest = load(to + i);
            Floats gradient = load(grad_to + i);
            for (int k = 0; k < 9; ++k) {
                const int64_t at = i + around.offset[k];
                const Floats value = load(from + at);
                const Ints here = (value == largest) & (value > 0);
                store(grad_from + at, load(grad_from + at) + (here ? gradient : splat(0)));
                gradient = here ? splat(0) : gradient;
            }
        }
}

constexpr DirectKernels direct_kernels() {
    return {kStrip * kLanes, multiply_map, accumulate_outer,
            add_all_pixels,  pool_map,     pool_backward_map};
}

}  // namespace
}  // namespace simgan_fast
