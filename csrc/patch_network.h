// The paper's patch discriminator: conv 3x3 stride 2, conv 3x3 stride 2, max-pool 3x3, conv 3x3,
// conv 1x1, each convolution with a ReLU, and conv 1x1 to the logits.
#pragma once

#include <cstdint>

#include "residual_blocks.h"

namespace simgan_fast {

constexpr int kPatchConvolutions = 5;

struct PatchNetwork {
    int64_t images, in_channels, height, width;  // all >= 1; images [images, in_channels, h, w]
    // channels[i] come out of convolution i: multiples of 16, but for the logits any number.
    int64_t channels[kPatchConvolutions];
    Convolution convolutions[kPatchConvolutions];
    bool reflect;     // padding: reflection (then maps have at least two rows and columns) or zeros
    int64_t threads;  // at most
};

// logits: [images, channels[4], h2, w2], where h1 = ceil(height / 2) and h2 = ceil(h1 / 2), w
// alike. maps: what the backward pass will want, or null: of each image five padded maps in a row,
// [h1 + 2, w1 + 2, channels[0]] and [h2 + 2, w2 + 2, .] of channels[1], [2], [3] and [1].
void patch_network_cpu(const PatchNetwork& p, const float* images, float* logits, float* maps);

struct PatchNetworkGradients {
    float* images;  // [images, in_channels, height, width], or null
    // All null or none. Weights with the input channel last: [channels[i], k, k, channels[i - 1]].
    float *weights[kPatchConvolutions], *biases[kPatchConvolutions];
};

// grad: of the logits. The same bits whatever the number of threads.
void patch_network_backward_cpu(const PatchNetwork& p, const float* grad, const float* images,
                                const float* maps, const PatchNetworkGradients& to);

}  // namespace simgan_fast
