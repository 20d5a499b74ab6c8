// Where things lie: what the forward and the backward pass of residual_blocks have in common.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/maps.h"
#include "cpu/winograd.h"
#include "residual_blocks.h"

namespace simgan_fast {

// The level's kernels for p.tile; throws std::invalid_argument if there are none.
const WinogradKernels& kernels_of(const ResidualBlocks& p);

// What is common to both passes: how many maps an image has, and where they lie in `maps`.
struct Layout {
    explicit Layout(const ResidualBlocks& p)
        : map(padded_map(p)),
          floats(floats_of(map)),
          kept(2 * p.blocks + (p.ends ? 1 : 0)),
          x_floats(p.height * p.width * (p.ends ? p.ends->in_channels : p.channels)),
          y_floats(p.height * p.width * (p.ends ? p.ends->out_channels : p.channels)) {}

    int64_t tiles() const { return map.tile_rows * map.tile_columns; }

    PaddedMap map;
    int64_t floats;              // of a map
    int64_t kept;                // maps of an image that the backward pass wants
    int64_t x_floats, y_floats;  // of an image
};

ImageSize image_size(const ResidualBlocks& p);     // of what comes in at the first end
int64_t bordered_floats(const ResidualBlocks& p);  // the same with its border; none without ends

// Small weights in the order that the loops read them, zeros for padding channels.
struct SmallWeights {
    SmallWeights(const ResidualBlocks& p, int64_t channels);

    const float* bias(int64_t convolution) const { return &biases[convolution * channels_]; }
    std::vector<float> biases, first, first_bias, last;

  private:
    int64_t channels_;
};

// Both passes with 7x7 filters: residual_blocks_fourier.cpp.
void residual_blocks_fourier(const ResidualBlocks& p, const float* x, float* y, float* maps);
void residual_blocks_fourier_backward(const ResidualBlocks& p, const float* grad, const float* x,
                                      const float* y, const float* maps,
                                      const ResidualBlocksGradients& to);

}  // namespace simgan_fast
