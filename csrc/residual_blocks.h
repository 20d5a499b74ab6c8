// k residual blocks in a row, each relu(x + conv(relu(conv(x, w1) + b1), w2) + b2), 3x3 and 'same'.
#pragma once

#include <cstdint>

namespace simgan_fast {

// One convolution: weight[co][ci][kh][kw] lies at weight + the sum of index times stride.
struct Convolution {
    const float* weight;  // [channels, channels, 3, 3]
    int64_t strides[4];   // in floats
    const float* bias;    // [channels]
};

struct ResidualBlocks {
    int64_t images, height, width, channels;  // all >= 1
    int64_t blocks;                           // >= 1
    const Convolution* convolutions;          // [2 * blocks], two of each block
    bool reflect;     // padding: reflection (then height, width >= 2) or zeros
    int64_t tile;     // of Winograd's F(tile, 3): 4, 5 or 6
    int64_t threads;  // at most
};

// The map that every convolution reads, with the margin that padding and whole tiles need and
// channels rounded up to 16: pixel (0, 0) lies at row 1, column 1.
struct PaddedMap {
    int64_t height, width, channels;
    int64_t tile_rows, tile_columns;
    int64_t rows, columns;  // tile * tile_rows + 2 and tile * tile_columns + 2
};

PaddedMap padded_map(const ResidualBlocks& p);

// x, y: [images, height, width, channels] (channels last).
// maps: [images, 2 * blocks, rows, columns, padded channels], what each convolution read, for the
// backward pass; or null.
void residual_blocks_cpu(const ResidualBlocks& p, const float* x, float* y, float* maps);

// grad: of y. grad_x: as x. grad_weight: [2 * blocks, channels, 3, 3, channels], output channel
// first and input channel last. grad_bias: [2 * blocks, channels].
// The same bits whatever the number of threads.
void residual_blocks_backward_cpu(const ResidualBlocks& p, const float* grad, const float* y,
                                  const float* maps, float* grad_x, float* grad_weight,
                                  float* grad_bias);

// Frees the working memory that is kept between calls; it says how many bytes that were.
int64_t release_scratch();

}  // namespace simgan_fast
