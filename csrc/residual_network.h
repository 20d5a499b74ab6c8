// A refiner on the current CUDA device: relu of a 3x3 convolution, residual blocks, a 1x1
// convolution and its tanh. On the CPU it is residual_blocks_cpu with ends.
#pragma once

#include "residual_blocks.h"

namespace simgan_fast {

struct ResidualNetworkCuda {
    ResidualBlocksCuda blocks;          // of 3x3 filters
    int64_t in_channels, out_channels;  // 1 or 3
    const float* first;                 // [channels, in_channels, 3, 3]
    const float* first_bias;            // [channels]
    const float* last;                  // [out_channels, channels]
    const float* last_bias;             // [out_channels]
    bool bf16_images;                   // else floats
    bool tanh;
};

// images [images, in_channels, height, width], y [images, out_channels, height, width], bf16 or
// with maps of float32 float32. maps: what the backward pass will want, the 2 * blocks + 1 maps
// that the convolutions but the first read, or without `keep` working memory of two.
void residual_network_cuda(const ResidualNetworkCuda& p, const void* images, uint16_t* maps,
                           bool keep, void* y, void* stream);

struct ResidualNetworkCudaGradients {
    ResidualBlocksCudaGradients blocks;  // without `x`
    void* images;                        // like the images, or null: not wanted
    // Of the type of the blocks' weights, input channel last:
    void *first_weight, *first_bias, *last_weight, *last_bias;
};

// Floats of the working memory `blocks.parts`.
int64_t residual_network_cuda_parts(const ResidualNetworkCuda& p);

// grad: of y. The same bits on every GPU.
void residual_network_backward_cuda(const ResidualNetworkCuda& p, const void* grad,
                                    const void* images, const void* y, const uint16_t* maps,
                                    const ResidualNetworkCudaGradients& to, void* stream);

}  // namespace simgan_fast
