// The 3x3 convolution that makes a map of images, with its bias and ReLU.
//
// The map's memory bounds it and its gradients (first_gradients.h): each goes through the map once,
// a thread with eight channels of a pixel (16 bytes) beside the thread of the next eight. Of the
// images, a small part of that, tiles with what padding makes of their borders are in shared
// memory, as floats.
#pragma once

#include "cuda/maps.h"

namespace simgan_fast {
namespace {

constexpr int kTaps = 9;
constexpr int kRun = 8;  // pixels in a row that a thread has at once: a pitch has whole runs

struct Images {
    const void* values;  // [images, in channels, height, width]
    bool bf16;           // else floats
    int height, width;
    bool reflect;  // padding, else zeros
};

struct alignas(16) Floats4 {
    float value[4];
};

// A tile with what is around it, [kIn, rows + 2, pitch + 2].
template <int kIn, int kThreads>
SIMT_DEVICE void copy_images(float* to, const Images& from, const Tiling& t, Place first) {
    const int rows = t.rows + 2, columns = t.pitch + 2;
    for (int i = simt::thread(); i < kIn * rows * columns; i += kThreads) {
        const int channel = i / columns / rows;
        const int y =
            unpadded(first.row - 1 + i / columns % rows, from.height, from.reflect ? 1 : 0);
        const int x = unpadded(first.column - 1 + i % columns, from.width, from.reflect ? 1 : 0);
        const int64_t offset =
            ((int64_t{first.image} * kIn + channel) * from.height + y) * from.width + x;
        float value = 0;
        if (y >= 0 && x >= 0)
            value =
                from.bf16
                    ? simt::to_float(simt::load(static_cast<const uint16_t*>(from.values) + offset))
                    : simt::load(static_cast<const float*>(from.values) + offset);
        to[i] = value;
    }
}

// Weights [channels, all_taps] of a block's kGroup channels from `channel` on, `taps` of them from
// `tap` on: [taps, 2, kGroup / 8, 4], in which the eight of a thread are two reads and those of its
// neighbours lie beside them.
template <int kGroup, int kThreads>
SIMT_DEVICE void copy_weights(float* to, const float* from, int channel, int all_taps, int tap,
                              int taps) {
    for (int i = simt::thread(); i < kGroup * taps; i += kThreads) {
        const int in_group = i / taps, of_taps = i % taps;
        to[of_taps * kGroup + in_group % 8 / 4 * (kGroup / 2) + in_group / 8 * 4 + in_group % 4] =
            simt::load(from + int64_t{channel + in_group} * all_taps + tap + of_taps);
    }
}

// The eight of a tap.
template <int kGroup>
SIMT_DEVICE void weights_of(const float* weights, int tap, int eight, float (&to)[8]) {
    const float* from = weights + tap * kGroup + eight * 4;
    *reinterpret_cast<Floats4*>(to) = *reinterpret_cast<const Floats4*>(from);
    *reinterpret_cast<Floats4*>(to + 4) = *reinterpret_cast<const Floats4*>(from + kGroup / 2);
}

struct FirstConvolution {
    Images images;
    const float* weight;  // [channels, kIn, 3, 3]
    const float* bias;    // [channels]
    uint16_t* y;          // map of `channels`
    int channels;
    Tiling tiling;
};

template <int kIn, int kGroup, int kPlanes>
struct First {
    using Params = FirstConvolution;
    // Small blocks: one multiplies while another waits for its tile.
    static constexpr int kThreads = 128, kBlocksPerSm = 4;
    static constexpr int kPixels = 8 * 56, kAround = 10 * 58;
    static constexpr int kEights = kGroup / 8, kWeights = kIn * kTaps * kGroup;
    static constexpr int kSharedBytes = 4 * (kWeights + kIn * kAround);

    // The run whose window begins at `window`, of the kIn planes of `plane` floats.
    SIMT_DEVICE static void multiply(const float* window, int plane, int pitch,
                                     const float* weights, int eight, float (&sums)[kRun][8]) {
#pragma unroll
        for (int channel = 0; channel < kIn; ++channel)
#pragma unroll
            for (int down = 0; down < 3; ++down) {
                float in[kRun + 2];
#pragma unroll
                for (int i = 0; i < kRun + 2; ++i)
                    in[i] = window[channel * plane + down * (pitch + 2) + i];
#pragma unroll
                for (int across = 0; across < 3; ++across) {
                    alignas(16) float weight[8];
                    weights_of<kGroup>(weights, channel * kTaps + down * 3 + across, eight, weight);
#pragma unroll
                    for (int i = 0; i < kRun; ++i)
#pragma unroll
                        for (int c = 0; c < 8; ++c) sums[i][c] += in[i + across] * weight[c];
                }
            }
    }

    SIMT_DEVICE static void run(const Params& p) {
        const int groups = p.channels / kGroup, group = simt::block() % groups;
        const int eight = simt::thread() % kEights, channel = group * kGroup + eight * 8;
        const Tiling& t = p.tiling;
        auto* weights = reinterpret_cast<float*>(simt::shared());
        float* tile = weights + kWeights;
        copy_weights<kGroup, kThreads>(weights, p.weight, group * kGroup, kIn * kTaps, 0,
                                       kIn * kTaps);
        float bias[8];
        for (int c = 0; c < 8; ++c) bias[c] = simt::load(p.bias + channel + c);
        for (int i = simt::block() / groups; i < t.tiles; i += simt::blocks() / groups) {
            const Place place = place_of(t, i);
            simt::sync();  // nobody reads the last tile any more
            copy_images<kIn, kThreads>(tile, p.images, t, place);
            simt::sync();
            const int runs = t.pitch / kRun, plane = (t.rows + 2) * (t.pitch + 2);
            for (int j = simt::thread() / kEights; j < t.rows * runs; j += kThreads / kEights) {
                const int row = j / runs, column = j % runs * kRun;
                const int y = place.row + row, x = place.column + column;
                if (y >= p.images.height) break;
                float sums[kRun][8];
#pragma unroll
                for (auto& pixel : sums)
#pragma unroll
                    for (int c = 0; c < 8; ++c) pixel[c] = bias[c];
                multiply(tile + row * (t.pitch + 2) + column, plane, t.pitch, weights, eight, sums);
                uint16_t* to = p.y +
                               ((int64_t{place.image} * p.images.height + y) * p.images.width + x) *
                                   kPlanes * p.channels +
                               channel;
#pragma unroll
                for (int k = 0; k < kRun; ++k) {
                    if (column + k >= t.columns || x + k >= p.images.width) break;
                    simt::Words16 eight_of_pixel[kPlanes];
#pragma unroll
                    for (int c = 0; c < 4; ++c) {
                        const float low = sums[k][2 * c], high = sums[k][2 * c + 1];
                        uint32_t words[kPlanes];
                        to_planes(low < 0 ? 0.0f : low, high < 0 ? 0.0f : high, words);
#pragma unroll
                        for (int plane = 0; plane < kPlanes; ++plane)
                            eight_of_pixel[plane].word[c] = words[plane];
                    }
#pragma unroll
                    for (int plane = 0; plane < kPlanes; ++plane)
                        simt::store(reinterpret_cast<simt::Words16*>(
                                        to + int64_t{k * kPlanes + plane} * p.channels),
                                    eight_of_pixel[plane]);
                }
            }
        }
    }
};

}  // namespace
}  // namespace simgan_fast
