// The gradients of the first convolution: of its weights and bias, and of the images. Both are sums
// of what the planes of the map's gradient give.
#pragma once

#include "cuda/first_convolution.h"

namespace simgan_fast {
namespace {

struct FirstGradient {
    Images images;
    const uint16_t* grad;  // of the sums before the ReLU, a map of `channels`
    float* parts;          // [splits, channels, 9, kIn] and [channels] behind each
    int channels;
    Tiling tiling;
    int splits;
};

// Of weights and bias.
template <int kIn, int kGroup, int kPlanes>
struct FirstWeights {
    using Params = FirstGradient;
    // The warps share the input channels out; those of a run ask for the same gradients, which are
    // then in the first-level cache.
    static constexpr int kWarps = 6, kThreads = 32 * kWarps, kBlocksPerSm = 2;
    static constexpr int kPixels = 8 * 56, kAround = 10 * 58;
    static constexpr int kEights = kGroup / 8, kSums = (kTaps + 1) * 8;  // of a thread
    static constexpr int kSlots = kWarps / kIn * (32 / kEights);
    static constexpr int kSharedBytes = 4 * (kIn * kAround + kWarps * kSums * kEights);

    struct Sums {
        float weight[kTaps][8], bias[8];
    };

    SIMT_DEVICE static void add(const simt::Words16 (&grads)[kRun], const float* window, int pitch,
                                Sums& sums) {
        float in[3][kRun + 2];
#pragma unroll
        for (int i = 0; i < kRun + 2; ++i) {
#pragma unroll
            for (int down = 0; down < 3; ++down) in[down][i] = window[down * (pitch + 2) + i];
            if (i < 2) continue;
            const simt::Words16& words = grads[i - 2];
#pragma unroll
            for (int c = 0; c < 8; ++c) {
                const uint32_t word = words.word[c / 2];
                const float grad = c % 2 == 0 ? simt::low_bf16(word) : simt::high_bf16(word);
                sums.bias[c] += grad;
#pragma unroll
                for (int tap = 0; tap < kTaps; ++tap)
                    sums.weight[tap][c] += grad * in[tap / 3][i - 2 + tap % 3];
            }
        }
    }

    // Sums over the lanes of a warp that have the same channels, to `memory` [kWarps, kSums,
    // kEights].
    SIMT_DEVICE static void leave(float* memory, int index, float sum) {
#pragma unroll
        for (int mask = kEights; mask < 32; mask *= 2) sum += simt::shuffle_xor(sum, mask);
        if (simt::lane() < kEights)
            memory[(simt::warp() * kSums + index) * kEights + simt::lane()] = sum;
    }

    // Of the warps that had input channel `in`, in their order.
    SIMT_DEVICE static float of_warps(const float* memory, int in, int index, int channel) {
        float sum = 0;
        for (int warp = in; warp < kWarps; warp += kIn)
            sum += memory[(warp * kSums + index * 8 + channel % 8) * kEights + channel / 8];
        return sum;
    }

    SIMT_DEVICE static void run(const Params& p) {
        const int groups = p.channels / kGroup, group = simt::block() % groups;
        const int split = simt::block() / groups, lane = simt::lane(), in = simt::warp() % kIn;
        const int slot = simt::warp() / kIn * (32 / kEights) + lane / kEights;
        const Tiling& t = p.tiling;
        auto* tile = reinterpret_cast<float*>(simt::shared());
        float* memory = tile + kIn * kAround;
        const int each = (t.tiles + p.splits - 1) / p.splits, begin = split * each;
        const int end = begin + each < t.tiles ? begin + each : t.tiles;
        Sums sums = {};
        for (int i = begin; i < end; ++i) {
            const Place place = place_of(t, i);
            simt::sync();  // nobody reads the last tile any more
            copy_images<kIn, kThreads>(tile, p.images, t, place);
            simt::sync();
            const int runs = t.pitch / kRun, plane = (t.rows + 2) * (t.pitch + 2);
#pragma unroll 1
            for (int of_grad = kPlanes - 1; of_grad >= 0; --of_grad)
#pragma unroll 1
                for (int j = slot; j < t.rows * runs; j += kSlots) {
                    const int row = j / runs, column = j % runs * kRun;
                    const int y = place.row + row, x = place.column + column;
                    if (y >= p.images.height) break;
                    const uint16_t* from =
                        p.grad +
                        (((int64_t{place.image} * p.images.height + y) * p.images.width + x) *
                             kPlanes +
                         of_grad) *
                            p.channels +
                        group * kGroup + lane % kEights * 8;
                    simt::Words16 grads[kRun];
#pragma unroll
                    for (int k = 0; k < kRun; ++k) {
                        grads[k] = {};
                        if (column + k < t.columns && x + k < p.images.width)
                            grads[k] = simt::load(reinterpret_cast<const simt::Words16*>(
                                from + int64_t{k} * kPlanes * p.channels));
                    }
                    add(grads, tile + in * plane + row * (t.pitch + 2) + column, t.pitch, sums);
                }
        }
#pragma unroll
        for (int c = 0; c < 8; ++c) {
#pragma unroll
            for (int tap = 0; tap < kTaps; ++tap) leave(memory, tap * 8 + c, sums.weight[tap][c]);
            leave(memory, kTaps * 8 + c, sums.bias[c]);
        }
        simt::sync();
        const int64_t weights = int64_t{p.channels} * kTaps * kIn;
        float* part = p.parts + split * (weights + p.channels);
        for (int i = simt::thread(); i < kGroup * kTaps * kIn; i += kThreads) {
            const int channel = i / (kTaps * kIn), tap = i / kIn % kTaps;
            simt::store(part + int64_t{group} * kGroup * kTaps * kIn + i,
                        of_warps(memory, i % kIn, tap, channel));
        }
        for (int i = simt::thread(); i < kGroup; i += kThreads)
            simt::store(part + weights + group * kGroup + i, of_warps(memory, 0, kTaps, i));
    }
};

struct FirstImages {
    Images images;         // whose gradient it is; `values` is not read
    const uint16_t* grad;  // as in FirstGradient
    const float* weight;   // [channels, kIn, 3, 3]
    void* to;              // like images.values
    int channels;
    Tiling tiling;
};

// Of the images: first what each pixel of the map gives to each of the nine that it saw, then what
// each pixel of the images gets. One input channel after the other.
template <int kIn, int kGroup, int kPlanes>
struct FirstInput {
    using Params = FirstImages;
    static constexpr int kThreads = 192, kBlocksPerSm = 2;
    static constexpr int kPixels = 5 * 56;
    // A row with what is around it is whole runs, so narrow tiles of many rows have the most.
    static constexpr int kAround = (kPixels / 8 + 2) * 16;
    static constexpr int kEights = kGroup / 8, kWeights = kTaps * kGroup;
    static constexpr int kSharedBytes = 4 * (kWeights + kTaps * kAround);

    SIMT_DEVICE static int pitch_around(const Tiling& t) {
        return (t.columns + 2 + kRun - 1) / kRun * kRun;
    }

    // given[tap, kAround]: sums over the channels of all planes, those of a group on top of the
    // ones before.
    SIMT_DEVICE static void give(const Params& p, Place place, int group, const float* weights,
                                 float* given) {
        const Tiling& t = p.tiling;
        const int eight = simt::thread() % kEights, runs = pitch_around(t) / kRun;
        // All lanes of a warp go the same number of rounds: they exchange their sums.
        for (int first = 0; first < (t.rows + 2) * runs; first += kThreads / kEights) {
            const int j = first + simt::thread() / kEights;
            const int row = j / runs, column = j % runs * kRun;
            const int y = place.row - 1 + row, x = place.column - 1 + column;
            const bool in_map = row < t.rows + 2 && y >= 0 && y < p.images.height;
            const uint16_t* from =
                p.grad +
                ((int64_t{place.image} * p.images.height + y) * p.images.width + x) * kPlanes *
                    p.channels +
                group * kGroup + eight * 8;
            float sums[kRun][kTaps] = {};
            simt::Words16 grads[kRun];
#pragma unroll
            for (int k = 0; k < kRun; ++k) {
                grads[k] = {};
                if (in_map && column + k < t.columns + 2 && x + k >= 0 && x + k < p.images.width)
                    grads[k] = simt::load(reinterpret_cast<const simt::Words16*>(
                        from + int64_t{k} * kPlanes * p.channels));
            }
#pragma unroll
            for (int tap = 0; tap < kTaps; ++tap) {
                alignas(16) float weight[8];
                weights_of<kGroup>(weights, tap, eight, weight);
#pragma unroll
                for (int k = 0; k < kRun; ++k)
#pragma unroll
                    for (int c = 0; c < 4; ++c) {
                        sums[k][tap] += simt::low_bf16(grads[k].word[c]) * weight[2 * c];
                        sums[k][tap] += simt::high_bf16(grads[k].word[c]) * weight[2 * c + 1];
                    }
            }
#pragma unroll
            for (int k = 0; k < kRun; ++k)
#pragma unroll
                for (int tap = 0; tap < kTaps; ++tap) {
                    float sum = sums[k][tap];
#pragma unroll
                    for (int mask = 1; mask < kEights; mask *= 2)
                        sum += simt::shuffle_xor(sum, mask);
                    float* to = given + tap * kAround + j * kRun + k;
                    if (k % kEights == eight && row < t.rows + 2)
                        *to = group == 0 ? sum : *to + sum;
                }
        }
    }

    // The places in a padded side that have pixel i of it: i, and its reflections or -2.
    SIMT_DEVICE static int copy_of(int i, int side, bool reflect, int number) {
        if (number == 0) return i;
        if (number == 1) return reflect && i == 1 ? -1 : -2;
        return reflect && i == side - 2 ? side : -2;
    }

    SIMT_DEVICE static float taken(const Params& p, Place place, int y, int x, const float* given) {
        const int height = p.images.height, width = p.images.width;
        float sum = 0;
#pragma unroll 1
        for (int copy = 0; copy < 9; ++copy) {
            const int in_y = copy_of(y, height, p.images.reflect, copy / 3);
            const int in_x = copy_of(x, width, p.images.reflect, copy % 3);
            if (in_y < -1 || in_x < -1) continue;
            for (int tap = 0; tap < kTaps; ++tap) {
                const int by_y = in_y + 1 - tap / 3, by_x = in_x + 1 - tap % 3;
                if (by_y < 0 || by_y >= height || by_x < 0 || by_x >= width) continue;
                const int row = by_y - place.row + 1, column = by_x - place.column + 1;
                sum += given[tap * kAround + row * pitch_around(p.tiling) + column];
            }
        }
        return sum;
    }

    SIMT_DEVICE static void run(const Params& p) {
        const Tiling& t = p.tiling;
        const Place place = place_of(t, simt::block());
        auto* weights = reinterpret_cast<float*>(simt::shared());
        float* given = weights + kWeights;
        for (int in = 0; in < kIn; ++in) {
            for (int group = 0; group < kPlanes * p.channels / kGroup; ++group) {
                simt::sync();  // nobody reads the last weights any more, nor what was given
                copy_weights<kGroup, kThreads>(weights, p.weight, group * kGroup % p.channels,
                                               kIn * kTaps, in * kTaps, kTaps);
                simt::sync();
                give(p, place, group, weights, given);
            }
            simt::sync();
            for (int i = simt::thread(); i < t.rows * t.columns; i += kThreads) {
                const int y = place.row + i / t.columns, x = place.column + i % t.columns;
                if (y >= p.images.height || x >= p.images.width) continue;
                const float sum = taken(p, place, y, x, given);
                const int64_t offset =
                    ((int64_t{place.image} * kIn + in) * p.images.height + y) * p.images.width + x;
                if (p.images.bf16)
                    simt::store(static_cast<uint16_t*>(p.to) + offset,
                                simt::from_float<uint16_t>(sum));
                else
                    simt::store(static_cast<float*>(p.to) + offset, sum);
            }
        }
    }
};

}  // namespace
}  // namespace simgan_fast
