// What residual_blocks.cpp asks of a CPU level for one tile size of Winograd's convolution.
#pragma once

#include <algorithm>
#include <cstdint>

#include "residual_blocks.h"

namespace simgan_fast {

// Gap between the panels of one point, so that all points' rows do not fall on one set of a cache.
constexpr int64_t kPanelGap = 16;
constexpr int64_t kBlockTiles = 28;  // transformed at once, or somewhat fewer

// Tiles [first, last) cut into blocks of about the same size, all but the last of them a multiple
// of `rows`, which a product has in registers at once.
class TileBlocks {
  public:
    TileBlocks(int64_t rows, int64_t first, int64_t last)
        : rows_(rows), first_(first), last_(last), products_((last - first + rows - 1) / rows) {
        const int64_t products_of_a_block = kBlockTiles / rows;
        count_ = (products_ + products_of_a_block - 1) / products_of_a_block;
    }
    int64_t count() const { return count_; }
    int64_t begin(int64_t block) const {
        return std::min(first_ + products_ * block / count_ * rows_, last_);
    }
    int64_t end(int64_t block) const { return begin(block + 1); }

  private:
    int64_t rows_, first_, last_, products_, count_;
};

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

// Memory that the next step reads, to be fetched meanwhile.
struct Stretch {
    const float* from;
    int64_t floats;
};

struct WinogradKernels {
    int64_t tile, points;  // points: in each dimension, tile + 2
    int64_t rows;          // of tiles that a product has in registers at once

    // Rows [first, last) of the weights' points^2 panels, of `channels` rows and columns.
    void (*transform_weights)(const WeightView& from, int64_t channels, int64_t first, int64_t last,
                              float* panels);

    // Tiles [first, last) of out = relu(conv(in) + bias + skip); skip may be null. in, skip, out
    // are padded maps; only whole pixels of out are written, never its margin. scratch:
    // scratch_floats(...).
    void (*convolve)(const PaddedMap& map, const float* weights, const float* bias, const float* in,
                     const float* skip, float* out, int64_t first, int64_t last, float* scratch);

    // The adjoint of a convolution, in three steps for each block of up to kBlockTiles tiles
    // [first, last). scratch: 2 * scratch_floats(...); it keeps the points from one step to the
    // next.
    //
    // One: to the points. gradient: of the convolution's output, a padded map of which nothing but
    // the pixels may be other than zero. bias_gradient: [channels], added to.
    void (*backward_points)(const PaddedMap& map, const float* gradient, const float* in,
                            int64_t first, int64_t last, float* bias_gradient, float* scratch);
    // Two: at points [first, last) of points^2, of `tiles` tiles. products: points^2 panels
    // [ci][co], added to if `add`. Points are independent of one another.
    void (*backward_products)(const PaddedMap& map, const float* adjoint, int64_t tiles,
                              int64_t first, int64_t last, bool add, float* products,
                              float* scratch, const Stretch& ahead);
    // Three: to the gradient of the padded map that was read, margin included, not yet folded.
    // Blocks must come in order: a tile adds to pixels that an earlier one has written.
    void (*backward_pixels)(const PaddedMap& map, int64_t first, int64_t last, const float* scratch,
                            float* in_gradient);

    // Weight gradients [3][3][ci][co] from products, added to if `add`.
    void (*weight_gradient)(int64_t channels, const float* products, bool add, float* gradient);
};

// A tile's values at all points, [points * points][channels], with room for one point more: the
// products at point p overwrite what those at p - 1 were made of. And a gap, as between panels.
inline int64_t tile_floats(int64_t points, int64_t channels) {
    return (points * points + 1) * channels + kPanelGap;
}

// Floats of a block of tiles.
inline int64_t scratch_floats(const WinogradKernels& k, int64_t channels) {
    return kBlockTiles * tile_floats(k.points, channels);
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

// A refiner's first and last convolution of one image. size: of the first one's filters, 3 or 7.
// image: [in_channels, height + size - 1, width + size - 1], with its border. Weights
// [size * size * in_channels, channels] (tap fastest) and [out_channels, channels],
// biases [channels] and [out_channels], channels those of the map.
struct EndKernels {
    // Rows [first, last) of relu(conv(image) + bias), to the pixels of a map.
    void (*first)(const PaddedMap& map, int64_t size, const float* image, int64_t in_channels,
                  const float* weight, const float* bias, int64_t first, int64_t last, float* to);
    // Rows [first, last) of conv(from) + bias, to [out_channels, height, width].
    void (*last)(const PaddedMap& map, const float* from, int64_t out_channels, const float* weight,
                 const float* bias, int64_t first, int64_t last, float* to);
    // The adjoint of `last` and of the ReLU that made `from`; gradients of weight and bias are
    // added to. gradient: [out_channels, height, width].
    void (*last_backward)(const PaddedMap& map, const float* from, const float* gradient,
                          int64_t out_channels, const float* weight, float* to, float* grad_weight,
                          float* grad_bias);
    // The weights' gradients from that of `first` before its ReLU, a padded map; added to.
    void (*first_backward)(const PaddedMap& map, int64_t size, const float* image,
                           const float* gradient, int64_t in_channels, float* grad_weight,
                           float* grad_bias);
};

}  // namespace simgan_fast
