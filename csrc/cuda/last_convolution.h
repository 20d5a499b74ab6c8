// The 1x1 convolution that makes images of a map, with its bias and tanh, and its gradients.
//
// The map's memory bounds them, and each goes through it once. A warp has 32 pixels in a row: a
// lane eight channels (16 bytes) of each of kEights pixels, beside the lane with the next eight,
// and of the images the one pixel that is its own. What is linear in the map is the sum of what its
// planes give.
#pragma once

#include "cuda/maps.h"

namespace simgan_fast {
namespace {

// Of the images that are made: those of a map of bf16 are bf16.
template <int kPlanes>
using Pixel = std::conditional_t<kPlanes == 1, uint16_t, float>;

struct LastConvolution {
    const uint16_t* x;    // map of `channels`
    const float* weight;  // [kOut, channels]
    const float* bias;    // [kOut]
    bool tanh;
    void* y;                // Pixel [images, kOut, plane]
    int64_t pixels, plane;  // of all images and of one
    int channels;
};

// Where an image's channel has pixel `pixel` of all.
template <int kOut>
SIMT_DEVICE int64_t offset_in_images(int64_t pixel, int64_t plane, int channel) {
    return kOut == 1 ? pixel : (pixel / plane * kOut + channel) * plane + pixel % plane;
}

// The eights of this lane: of pixel first + i for each i, zeros past the last pixel.
template <int kEights>
SIMT_DEVICE void load_eights(const uint16_t* x, int64_t first, int64_t pixels, int channels,
                             int channel, simt::Words16 (&to)[kEights]) {
#pragma unroll
    for (int i = 0; i < kEights; ++i) {
        to[i] = {};
        if (first + i < pixels)
            to[i] = simt::load(
                reinterpret_cast<const simt::Words16*>(x + (first + i) * channels + channel));
    }
}

template <int kOut>
SIMT_DEVICE void load_weights(const float* from, int channels, int channel, float (&to)[kOut][8]) {
#pragma unroll
    for (int out = 0; out < kOut; ++out)
#pragma unroll
        for (int c = 0; c < 8; ++c) to[out][c] = simt::load(from + out * channels + channel + c);
}

template <int kOut, int kGroup, int kPlanes>
struct Last {
    using Params = LastConvolution;
    static constexpr int kThreads = 256, kBlocksPerSm = 2, kSharedBytes = 0;
    static constexpr int kEights = kGroup / 8;

    SIMT_DEVICE static void run(const Params& p) {
        const int lane = simt::lane(), eight = lane % kEights, groups = p.channels / kGroup;
        float weight[kOut][8];
        int held = -1;  // whose weights these are: those of a single group stay
        const int64_t stride = int64_t{simt::blocks()} * kThreads;
        for (int64_t first = int64_t{simt::block()} * kThreads + simt::warp() * 32;
             first < p.pixels; first += stride) {
            float sums[kOut][kEights] = {};
#pragma unroll 1
            for (int plane = kPlanes - 1; plane >= 0; --plane)
                for (int group = 0; group < groups; ++group) {
                    const int channel = group * kGroup + eight * 8;
                    if (group != held) load_weights<kOut>(p.weight, p.channels, channel, weight);
                    held = group;
                    simt::Words16 x[kEights];
                    load_eights<kEights>(p.x, first + lane - eight, p.pixels, kPlanes * p.channels,
                                         plane * p.channels + channel, x);
#pragma unroll
                    for (int i = 0; i < kEights; ++i)
#pragma unroll
                        for (int c = 0; c < 4; ++c)
#pragma unroll
                            for (int out = 0; out < kOut; ++out) {
                                const float (&of_out)[8] = weight[out];
                                sums[out][i] += simt::low_bf16(x[i].word[c]) * of_out[2 * c];
                                sums[out][i] += simt::high_bf16(x[i].word[c]) * of_out[2 * c + 1];
                            }
                }
#pragma unroll
            for (int out = 0; out < kOut; ++out) {
                float own = 0;
#pragma unroll
                for (int i = 0; i < kEights; ++i) {
                    float sum = sums[out][i];
#pragma unroll
                    for (int mask = 1; mask < kEights; mask *= 2)
                        sum += simt::shuffle_xor(sum, mask);
                    if (i == eight) own = sum;
                }
                const int64_t pixel = first + lane;
                if (pixel < p.pixels) {
                    own += simt::load(p.bias + out);
                    simt::store(static_cast<Pixel<kPlanes>*>(p.y) +
                                    offset_in_images<kOut>(pixel, p.plane, out),
                                simt::from_float<Pixel<kPlanes>>(p.tanh ? tanhf(own) : own));
                }
            }
        }
    }
};

struct LastGradient {
    const void* grad;   // of y
    const void* y;      // that went through tanh; null: there was none
    const uint16_t* x;  // the map, which a ReLU gave
    const float* weight;
    uint16_t* to;  // of the map before its ReLU
    float* parts;  // [splits, kOut, channels] and [kOut] behind each
    int64_t pixels, plane;
    int channels, splits;
};

template <int kOut, int kGroup, int kPlanes>
struct LastBackward {
    using Params = LastGradient;
    // Three outputs take more registers, and so do three planes.
    static constexpr int kWarps = kPlanes == 3 ? 4 : kOut == 1 ? 8 : 6;
    static constexpr int kThreads = 32 * kWarps, kBlocksPerSm = 2;
    static constexpr int kEights = kGroup / 8, kOfWarp = kOut * (kGroup + 1);
    static constexpr int kSharedBytes = 4 * kWarps * kOfWarp;

    // Of the sum that became this lane's own pixel.
    SIMT_DEVICE static float own(const Params& p, int64_t pixel, int64_t end, int out) {
        if (pixel >= end) return 0;
        const int64_t offset = offset_in_images<kOut>(pixel, p.plane, out);
        const auto of_images = [&](const void* images) {
            return simt::to_float(simt::load(static_cast<const Pixel<kPlanes>*>(images) + offset));
        };
        const float grad = of_images(p.grad);
        if (p.y == nullptr) return grad;
        const float y = of_images(p.y);
        return grad * (1 - y * y);
    }

    SIMT_DEVICE static float gated(float grad, float x) { return x <= 0 ? 0.0f : grad; }

    SIMT_DEVICE static void run(const Params& p) {
        const int lane = simt::lane(), eight = lane % kEights;
        const int groups = p.channels / kGroup, group = simt::block() % groups;
        const int split = simt::block() / groups, channel = group * kGroup + eight * 8;
        float weight[kOut][8], sums[kOut][8] = {}, bias[kOut] = {};
        load_weights<kOut>(p.weight, p.channels, channel, weight);
        const int64_t each = ((p.pixels + 31) / 32 + p.splits - 1) / p.splits * 32;
        const int64_t begin = split * each;
        const int64_t end = begin + each < p.pixels ? begin + each : p.pixels;
#pragma unroll 1
        for (int64_t first = begin + simt::warp() * 32; first < end; first += kThreads) {
            float mine[kOut];
#pragma unroll
            for (int out = 0; out < kOut; ++out)
                bias[out] += mine[out] = own(p, first + lane, end, out);
            const int64_t pixel = first + lane - eight;
#pragma unroll 1
            for (int of_x = kPlanes - 1; of_x >= 0; --of_x) {
                simt::Words16 x[kEights];
                load_eights<kEights>(p.x, pixel, end, kPlanes * p.channels,
                                     of_x * p.channels + channel, x);
#pragma unroll
                for (int i = 0; i < kEights; ++i) {
                    float grad[kOut];
#pragma unroll
                    for (int out = 0; out < kOut; ++out)
                        grad[out] = simt::shuffle(mine[out], lane - eight + i);
                    simt::Words16 to[kPlanes];
#pragma unroll
                    for (int c = 0; c < 4; ++c) {
                        const float low = simt::low_bf16(x[i].word[c]);
                        const float high = simt::high_bf16(x[i].word[c]);
                        float of_low = 0, of_high = 0;
#pragma unroll
                        for (int out = 0; out < kOut; ++out) {
                            of_low += grad[out] * weight[out][2 * c];
                            of_high += grad[out] * weight[out][2 * c + 1];
                            sums[out][2 * c] += grad[out] * low;
                            sums[out][2 * c + 1] += grad[out] * high;
                        }
                        uint32_t words[kPlanes];
                        to_planes(gated(of_low, low), gated(of_high, high), words);
#pragma unroll
                        for (int plane = 0; plane < kPlanes; ++plane)
                            to[plane].word[c] = words[plane];
                    }
                    if (of_x > 0 || pixel + i >= end) continue;  // plane 0 has the sign of x
#pragma unroll
                    for (int plane = 0; plane < kPlanes; ++plane)
                        simt::store(
                            reinterpret_cast<simt::Words16*>(
                                p.to + ((pixel + i) * kPlanes + plane) * p.channels + channel),
                            to[plane]);
                }
            }
        }
        leave(p, group, split, sums, bias);
    }

    // The sums over the lanes of a warp that have the same channels, then over the warps.
    SIMT_DEVICE static void leave(const Params& p, int group, int split,
                                  const float (&sums)[kOut][8], const float (&bias)[kOut]) {
        auto* memory = reinterpret_cast<float*>(simt::shared());  // [kWarps, kOut, kGroup + 1]
        const int lane = simt::lane();
#pragma unroll
        for (int out = 0; out < kOut; ++out) {
            float* to = memory + simt::warp() * kOfWarp + out * (kGroup + 1);
#pragma unroll
            for (int c = 0; c < 8; ++c) {
                float sum = sums[out][c];
#pragma unroll
                for (int mask = kEights; mask < 32; mask *= 2) sum += simt::shuffle_xor(sum, mask);
                if (lane < kEights) to[lane * 8 + c] = sum;
            }
            float sum = bias[out];
#pragma unroll
            for (int mask = 1; mask < 32; mask *= 2) sum += simt::shuffle_xor(sum, mask);
            if (lane == 0) to[kGroup] = sum;
        }
        simt::sync();
        float* part = p.parts + int64_t{split} * kOut * (p.channels + 1);
        for (int i = simt::thread(); i < kOfWarp; i += kThreads) {
            const int out = i / (kGroup + 1), c = i % (kGroup + 1);
            float sum = 0;
            for (int warp = 0; warp < kWarps; ++warp) sum += memory[warp * kOfWarp + i];
            if (c < kGroup)
                simt::store(part + int64_t{out} * p.channels + group * kGroup + c, sum);
            else if (group == 0)
                simt::store(part + int64_t{kOut} * p.channels + out, sum);
        }
    }
};

}  // namespace
}  // namespace simgan_fast
