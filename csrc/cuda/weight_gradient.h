// The gradients of the weights and biases of a 3x3 convolution.
//
// Again a product of matrices, [outputs, pixels] times [pixels, 9 inputs]. A fixed number of blocks
// share the tiles of the maps out; a second kernel adds what they leave in their order, so that the
// bits do not depend on the GPU.
#pragma once

#include "cuda/maps.h"

namespace simgan_fast {
namespace {

struct WeightGradient3x3 {
    Maps x;                // what the convolution read
    const uint16_t* grad;  // of what it gave, before ReLU; like x
    float* parts;          // [splits, channels, taps, channels] and [channels] behind each
    bool reflect;          // padding of x, else zeros
    Tiling tiling;
    int splits;
};

// Floats of one part: weights [channels, 3, 3, channels], then biases.
SIMT_DEVICE int64_t floats_of_part(int channels) {
    return int64_t{kTaps} * channels * channels + channels;
}

// For kGroup outputs and as many inputs.
template <int kGroup>
struct WeightGradient {
    using Params = WeightGradient3x3;
    static constexpr int kEights = kGroup / 8;
    // A warp has all outputs, and of the 9 kGroup columns six times eight.
    static constexpr int kColumns = 6, kWarps = kTaps * kEights / kColumns;
    static constexpr int kThreads = 32 * kWarps, kBlocksPerSm = 1;
    static constexpr int kPixels = 2 * 56, kAround = 4 * 58;
    static constexpr int kGrads = kPixels * kGroup * 2, kStage = kGrads + kAround * kGroup * 2;
    static constexpr int kSharedBytes = 2 * kStage;
    static_assert(kSharedBytes <= 99 * 1024, "what a block has on the smallest of the GPUs");
    static constexpr int kFragments = kGroup / 16;
    static constexpr uint32_t kOnes = 0x3f803f80;

    struct Sums {
        float weight[kFragments][kColumns][4];
        float bias[4];  // of fragment warp(), in every column
    };
    struct alignas(8) Pair {
        float value[2];
    };

    SIMT_DEVICE static char* stage(int step) { return simt::shared() + step % 2 * kStage; }

    SIMT_DEVICE static void copy(const Params& p, int step, int tile, int output, int input) {
        const Tiling& t = p.tiling;
        Place place = place_of(t, tile);
        const Maps grad{p.grad, p.x.height, p.x.width, p.x.channels};
        copy_pixels<kEights, kThreads>(stage(step), grad, place, t.rows, t.columns, t.pitch, output,
                                       false);
        --place.row;
        --place.column;
        copy_pixels<kEights, kThreads>(stage(step) + kGrads, p.x, place, t.rows + 2, t.columns + 2,
                                       t.pitch + 2, input, p.reflect);
        simt::cp_async_commit();
    }

    // Adds the products over `pixels` pixels, gradients of zero up to the next multiple of 16.
    SIMT_DEVICE static void multiply(const Params& p, int pixels, char* grads, Sums& sums) {
        const int lane = simt::lane(), pitch = p.tiling.pitch;
        char* maps = grads + kGrads;
        int moved[kColumns / 2],
            eight[kColumns / 2];  // window and channels of two columns of eight
#pragma unroll
        for (int j = 0; j < kColumns / 2; ++j) {
            const int column = simt::warp() * kColumns + 2 * j + lane / 16;
            const int tap = column / kEights;
            moved[j] = tap / 3 * (pitch + 2) + tap % 3;
            eight[j] = column % kEights;
        }
        int row = 0, column = lane % 16;  // of this lane's pixel
#pragma unroll 1
        for (int pixel = 0; pixel < pixels; pixel += 16, column += 16) {
            for (; column >= pitch; column -= pitch) ++row;
            uint32_t a[kFragments][4], b[4];
#pragma unroll
            for (int i = 0; i < kFragments; ++i)
                simt::ldmatrix_x4_trans(a[i], at<kEights>(grads, pixel + lane % 8 + lane / 16 * 8,
                                                          2 * i + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < kFragments; ++i)
                if (i == simt::warp()) simt::mma_16x8x16(sums.bias, a[i], kOnes, kOnes);
#pragma unroll
            for (int j = 0; j < kColumns / 2; ++j) {
                simt::ldmatrix_x4_trans(
                    b, at<kEights>(maps, row * (pitch + 2) + column + moved[j], eight[j]));
#pragma unroll
                for (int i = 0; i < kFragments; ++i) {
                    simt::mma_16x8x16(sums.weight[i][2 * j], a[i], b[0], b[1]);
                    simt::mma_16x8x16(sums.weight[i][2 * j + 1], a[i], b[2], b[3]);
                }
            }
        }
    }

    SIMT_DEVICE static void leave(const Params& p, float* part, int output, int input,
                                  const Sums& sums) {
        const int64_t channels = p.x.channels;
        const int g = simt::lane() / 4, t = simt::lane() % 4 * 2;
#pragma unroll
        for (int i = 0; i < kFragments; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = output + i * 16 + half * 8 + g;
#pragma unroll
                for (int j = 0; j < kColumns; ++j) {
                    const int column = simt::warp() * kColumns + j;
                    float* to = part + (int64_t{row} * kTaps + column / kEights) * channels +
                                input + column % kEights * 8 + t;
                    const float* sum = sums.weight[i][j] + 2 * half;
                    simt::store(reinterpret_cast<Pair*>(to), Pair{{sum[0], sum[1]}});
                }
                if (i == simt::warp() && input == 0 && t == 0)
                    simt::store(part + kTaps * channels * channels + row, sums.bias[2 * half]);
            }
    }

    SIMT_DEVICE static void run(const Params& p) {
        const int groups = p.x.channels / kGroup, pair = simt::block() % (groups * groups);
        const int output = pair / groups * kGroup, input = pair % groups * kGroup;
        const int split = simt::block() / (groups * groups);
        const int each = (p.tiling.tiles + p.splits - 1) / p.splits, begin = split * each;
        const int end = begin + each < p.tiling.tiles ? begin + each : p.tiling.tiles;
        Sums sums = {};
        if (begin < end) copy(p, begin, begin, output, input);
        for (int tile = begin; tile < end; ++tile) {
            simt::cp_async_wait<0>();
            simt::sync();  // copied by all, and nobody reads the other stage any more
            if (tile + 1 < end) copy(p, tile + 1, tile + 1, output, input);
            const int below = p.x.height - place_of(p.tiling, tile).row;
            const int rows = p.tiling.rows < below ? p.tiling.rows : below;
            multiply(p, rows * p.tiling.pitch, stage(tile), sums);
        }
        leave(p, p.parts + split * floats_of_part(p.x.channels), output, input, sums);
    }
};

}  // namespace
}  // namespace simgan_fast
