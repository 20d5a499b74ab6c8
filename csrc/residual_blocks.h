// k residual blocks in a row, each relu(x + conv(relu(conv(x, w1) + b1), w2) + b2), 'same', alone
// or between the refiner's two ends: relu(conv) before and conv 1x1 after. 3x3 filters are
// convolved by Winograd's algorithm, 7x7 ones by Fourier transforms of tiles.
#pragma once

#include <cstdint>

namespace simgan_fast {

// One convolution: weight[co][ci][kh][kw] lies at weight + the sum of index times stride.
struct Convolution {
    const float* weight;  // [channels, channels, size, size]
    int64_t strides[4];   // in floats
    const float* bias;    // [channels]
};

// The first and the last convolution of a refiner.
struct RefinerEnds {
    int64_t in_channels, out_channels;
    Convolution first;  // weight [channels, in_channels, size, size], bias [channels]
    Convolution last;   // weight [out_channels, channels, 1, 1], bias [out_channels]
};

struct ResidualBlocks {
    int64_t images, height, width, channels;  // all >= 1
    int64_t blocks;                           // >= 1
    const Convolution* convolutions;          // [2 * blocks], two of each block
    bool reflect;             // padding: reflection (then height, width > size / 2) or zeros
    int64_t tile;             // of Winograd's F(tile, 3): 4, 5 or 6; nothing to 7x7 filters
    int64_t threads;          // at most
    const RefinerEnds* ends;  // null: the blocks alone
    int64_t size = 3;         // of the filters, those of `ends.first` too: 3 or 7
};

// The map that every convolution reads, channels rounded up to 16. For 3x3 filters it has the
// margin that padding and whole tiles need; for 7x7 ones none, rows and columns are height and
// width.
struct PaddedMap {
    int64_t height, width, channels;
    int64_t tile_rows, tile_columns;
    int64_t rows, columns;  // tile * tile_rows + 2 and tile * tile_columns + 2
    int64_t margin = 1;     // pixel (0, 0) lies at row and column `margin`
};

PaddedMap padded_map(const ResidualBlocks& p);

// The blocks alone: x, y [images, height, width, channels] (channels last).
// With ends: x [images, in_channels, height, width], y [images, out_channels, height, width].
// maps: what the backward pass will want, or null: [images, number, rows, columns, padded
// channels], what each convolution of the blocks read (2 * blocks) and, with ends, what the last
// one reads.
void residual_blocks_cpu(const ResidualBlocks& p, const float* x, float* y, float* maps);

// Gradients in the layout of what they are of, but for weights, whose output channel comes first
// and whose input channel last: [channels, size, size, in_channels] and so on.
struct ResidualBlocksGradients {
    float* x;       // null with ends, which give no gradient of the images
    float* weight;  // [2 * blocks, channels, size, size, channels]
    float* bias;    // [2 * blocks, channels]
    // With ends, else null:
    float *first_weight, *first_bias, *last_weight, *last_bias;
};

// grad: of y. x: needed with ends only; y: without only.
// The same bits whatever the number of threads.
void residual_blocks_backward_cpu(const ResidualBlocks& p, const float* grad, const float* x,
                                  const float* y, const float* maps,
                                  const ResidualBlocksGradients& to);

// Forgets the transformed weights that were kept for the next call with the same ones.
void forget_weights();

// The same on the current CUDA device, where all of it lies, in channels-last memory aligned to 16
// bytes. A map is [images, height, width, planes * channels] bf16: of float32 there are three
// planes (cuda/maps.h).
struct ResidualBlocksCuda {
    int64_t images, height, width;  // all >= 1
    int64_t channels;               // a multiple of 16
    int64_t blocks;                 // >= 1
    int64_t size;                   // of the filters: 3 or 7
    bool reflect;                   // padding: reflection (then height, width > size / 2) or zeros
    const void* weights;  // [2 * blocks, channels, channels, size, size], two of each block
    bool bf16_weights;    // else floats; so are the gradients of weights and biases
    int64_t planes;       // 1: bf16; 3: float32, with weights of float32
    const float* biases;  // [2 * blocks, channels]; not for gradients
    uint16_t* arranged;   // working memory for `planes` times as many values as there are weights
};

// x, y: [images, height, width, channels], of bf16 or float32. map: working memory, with float32.
// maps: what the backward pass will want, the 2 * blocks - 1 maps that the convolutions but the
// first read, or without `keep` working memory of one.
void residual_blocks_cuda(const ResidualBlocksCuda& p, const void* x, uint16_t* map, uint16_t* maps,
                          bool keep, void* y, void* stream);

// The same from map to map; y may be x.
void residual_blocks_of_map_cuda(const ResidualBlocksCuda& p, const uint16_t* x, uint16_t* maps,
                                 bool keep, uint16_t* y, void* stream);

struct ResidualBlocksCudaGradients {
    void* x;       // of bf16 or float32
    void* weight;  // [2 * blocks, channels, size, size, channels], input channel last
    void* bias;    // [2 * blocks, channels]
    // Working memory:
    uint16_t* map;     // with bf16 it is x
    uint16_t* hidden;  // a map
    uint16_t* padded;  // with reflection, a map of height + size - 1 by width + size - 1
    float* parts;      // [residual_blocks_cuda_parts]
};

int64_t residual_blocks_cuda_parts(const ResidualBlocksCuda& p);

// The same bits on every GPU. grad: of y. map: as above.
void residual_blocks_backward_cuda(const ResidualBlocksCuda& p, const void* grad, const void* x,
                                   const void* y, uint16_t* map, const uint16_t* maps,
                                   const ResidualBlocksCudaGradients& to, void* stream);

// The same of maps: to.map has the gradient before the last ReLU, and gets that of x, or with
// `relu` before the one that x comes from.
void residual_blocks_of_map_backward_cuda(const ResidualBlocksCuda& p, const uint16_t* x, bool relu,
                                          const uint16_t* maps,
                                          const ResidualBlocksCudaGradients& to, void* stream);

}  // namespace simgan_fast
