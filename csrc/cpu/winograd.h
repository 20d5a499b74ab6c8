// What residual_blocks.cpp asks of a CPU level for one tile size of Winograd's convolution.
#pragma once

#include <cstdint>

#include "residual_blocks.h"

namespace simgan_fast {

// Gap between the panels of one point, so that all points' rows do not fall on one set of a cache.
constexpr int64_t kPanelGap = 16;
constexpr int64_t kMostBlockTiles = 64;

inline int64_t panel_floats(int64_t channels) {
    return channels * channels + kPanelGap;
}

// A convolution's weights as a matrix of 3x3 kernels: rows are input channels and columns output
// channels for the forward pass, the other way round for the adjoint. Strides in floats.
struct WeightView {
    const float* weight;
    int64_t channels;
    int64_t row, column, kernel_row, kernel_column;
};

struct WinogradKernels {
    int64_t tile, points;  // points: in each dimension, tile + 2

    // Rows [first, last) of the weights' points^2 panels, of `channels` rows and columns.
    void (*transform_weights)(const WeightView& from, int64_t channels, int64_t first, int64_t last,
                              float* panels);

    // Tiles [first, last) of out = relu(conv(in) + bias + skip); skip may be null. in, skip, out
    // are padded maps; only whole pixels of out are written, never its margin. scratch: 2 *
    // scratch_floats(...).
    void (*convolve)(const PaddedMap& map, const float* weights, const float* bias, const float* in,
                     const float* skip, float* out, int64_t first, int64_t last, float* scratch);

    // The adjoint of a convolution of one whole image. gradient: of its output, a padded map of
    // which nothing but the pixels may be other than zero. in_gradient: the padded map's gradient,
    // margin included, not yet folded. products: points^2 panels [ci][co], added to if `add`.
    // bias_gradient: [channels], always added to.
    void (*backward)(const PaddedMap& map, const float* adjoint, const float* gradient,
                     const float* in, float* in_gradient, bool add, float* products,
                     float* bias_gradient, float* scratch);

    // Weight gradients [3][3][ci][co] from products, added to.
    void (*weight_gradient)(int64_t channels, const float* products, float* gradient);
};

// Floats of one of the two working buffers of a thread.
inline int64_t scratch_floats(const WinogradKernels& k, int64_t channels) {
    return kMostBlockTiles * (k.points * k.points * channels + kPanelGap);
}

// Plain passes over maps, rows [first, last) of the image.
struct MapKernels {
    // x [height, width, channels] into the pixels of a padded map; padding channels become zero.
    void (*read)(const PaddedMap& map, const float* x, int64_t channels, int64_t first,
                 int64_t last, float* to);
    // The pixels of a padded map to y [height, width, channels].
    void (*write)(const PaddedMap& map, const float* from, int64_t channels, int64_t first,
                  int64_t last, float* y);
    // to = gradient where y > 0, else 0: gradient and y [height, width, channels], `to` padded.
    void (*read_masked)(const PaddedMap& map, const float* gradient, const float* y,
                        int64_t channels, float* to);
    // to = (folded + skip) where value > 0, all padded maps. skip or value may be null; folded is
    // the gradient of a padded map: with reflection its margin is added to the pixels it came from.
    void (*fold_masked)(const PaddedMap& map, bool reflect, float* gradient, const float* skip,
                        const float* value, float* to);
};

}  // namespace simgan_fast
