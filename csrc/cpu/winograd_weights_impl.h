// Weights to and from Winograd's points, compiled once for every CPU level.
#pragma once

#include "cpu/winograd_products_impl.h"
#include "cpu/winograd_transforms.h"

namespace simgan_fast {
namespace {

// One row and sixteen columns of the weights, zero where there is none. `kernels` in float: the
// conversion is a vector's then.
SIMGAN_FAST_INLINE void gather_kernels(const WeightView& from, int64_t row, int64_t column,
                                       float kernels[3][3][kGroup]) {
    const bool whole = row < from.channels && column + kGroup <= from.channels;
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
            const float* first = from.weight + row * from.row + column * from.column +
                                 i * from.kernel_row + j * from.kernel_column;
            if (whole && from.column == 1) {
                std::memcpy(kernels[i][j], first, sizeof kernels[i][j]);
                continue;
            }
            for (int64_t lane = 0; lane < kGroup; ++lane) {
                const bool inside = whole || (row < from.channels && column + lane < from.channels);
                kernels[i][j][lane] = inside ? first[lane * from.column] : 0;
            }
        }
}

// G g G^T in double, rounded once.
template <class W>
void transform_weights(const WeightView& from, int64_t channels, int64_t first, int64_t last,
                       float* panels) {
    constexpr int kPoints = W::kPoints;
    for (int64_t row = first; row < last; ++row) {
        for (int64_t column = 0; column < channels; column += kGroup) {
            float kernels[3][3][kGroup];
            double half[kPoints][3][kGroup];
            gather_kernels(from, row, column, kernels);
            for (int p = 0; p < kPoints; ++p)
                for (int j = 0; j < 3; ++j)
                    for (int lane = 0; lane < kGroup; ++lane)
                        half[p][j][lane] = W::kKernel[p][0] * kernels[0][j][lane] +
                                           W::kKernel[p][1] * kernels[1][j][lane] +
                                           W::kKernel[p][2] * kernels[2][j][lane];
            for (int p = 0; p < kPoints; ++p) {
                for (int q = 0; q < kPoints; ++q) {
                    float values[kGroup];
                    for (int lane = 0; lane < kGroup; ++lane)
                        values[lane] = static_cast<float>(W::kKernel[q][0] * half[p][0][lane] +
                                                          W::kKernel[q][1] * half[p][1][lane] +
                                                          W::kKernel[q][2] * half[p][2][lane]);
                    float* panel = panels + (p * kPoints + q) * panel_floats(channels);
                    for (int lane = 0; lane < kGroup; lane += kLanes)
                        store(panel + in_strips(channels, row, column + lane), load(values + lane));
                }
            }
        }
    }
}

// G^T (products) G.
template <class W>
void weight_gradient(int64_t channels, const float* products, bool add, float* gradient) {
    constexpr int kPoints = W::kPoints;
    const int64_t panel = panel_floats(channels), size = channels * channels;
    for (int64_t e = 0; e < size; e += kLanes) {
        Floats half[3][kPoints] = {};
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < kPoints; ++i) SIMGAN_FAST_UNROLL
        for (int j = 0; j < kPoints; ++j) {
            const Floats value = load(products + (i * kPoints + j) * panel + e);
            SIMGAN_FAST_UNROLL
            for (int a = 0; a < 3; ++a) half[a][j] += value * static_cast<float>(W::kKernel[i][a]);
        }
        SIMGAN_FAST_UNROLL
        for (int a = 0; a < 3; ++a) SIMGAN_FAST_UNROLL
        for (int b = 0; b < 3; ++b) {
            float* to = gradient + (a * 3 + b) * size + e;
            Floats sum = add ? load(to) : splat(0);
            SIMGAN_FAST_UNROLL
            for (int j = 0; j < kPoints; ++j)
                sum += half[a][j] * static_cast<float>(W::kKernel[j][b]);
            store(to, sum);
        }
    }
}

}  // namespace
}  // namespace simgan_fast
