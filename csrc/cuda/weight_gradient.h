// The gradients of the weights and biases of a 3x3 or 7x7 convolution.
//
// Again a product of matrices, [outputs, pixels] times [pixels, taps inputs]. A fixed number of
// blocks share the tiles of the maps out; a second kernel adds what they leave in their order, so
// that the bits do not depend on the GPU. A block has all taps of a 3x3 filter; of a 7x7 filter,
// whose sums are too many for its registers, one row, for which a tile needs no rows around it.
#pragma once

#include "cuda/maps.h"

namespace simgan_fast {
namespace {

struct MapWeightGradient {
    Maps x;                // what the convolution read
    const uint16_t* grad;  // of what it gave, before ReLU; like x
    float* parts;          // [splits, channels, taps, channels] and [channels] behind each
    bool reflect;          // padding of x, else zeros
    Tiling tiling;
    int splits;
};

// For kGroup outputs and as many inputs.
template <int kGroup, int kSide, int kPlanes>
struct WeightGradient {
    using Params = MapWeightGradient;
    static constexpr int kTaps = kSide * kSide, kEights = kGroup / 8;
    static constexpr int kRows = kSide == 3 ? 3 : 1, kStrips = kSide / kRows;  // of taps, a block's
    static constexpr int kTapsOfBlock = kRows * kSide;
    // A warp has all outputs, and of the kTapsOfBlock kGroup columns six or seven times eight.
    static constexpr int kColumns = kSide == 3 ? 6 : 7, kPairs = (kColumns + 1) / 2;
    static constexpr int kWarps = kTapsOfBlock * kEights / kColumns;
    static constexpr int kThreads = 32 * kWarps, kBlocksPerSm = 1;
    static constexpr int kMoreRows = kRows - 1, kMoreColumns = kSide - 1;  // around a tile
    static constexpr int kPixels = 2 * kMostColumns;
    static constexpr int kAround = (2 + kMoreRows) * (kMostColumns + kMoreColumns);
    static constexpr int kGrads = kPixels * kGroup * 2, kStage = kGrads + kAround * kGroup * 2;
    static constexpr int kSharedBytes = 2 * kStage;
    static_assert(kSharedBytes <= 99 * 1024, "what a block has on the smallest of the GPUs");
    static constexpr int kFragments = kGroup / 16;
    static constexpr uint32_t kOnes = 0x3f803f80;

    struct Sums {
        float weight[kFragments][kColumns][4];
        float bias[4];  // of fragment Work::bias, in every column
    };
    struct alignas(8) Pair {
        float value[2];
    };
    // What is this warp's.
    struct Work {
        int output, input;  // the first ones
        int strip;          // of taps
        int bias;           // fragment of outputs whose biases it sums, or -1
    };

    // Of round number `round`, those of all tiles counted: each product of planes is one.
    SIMT_DEVICE static char* stage(unsigned round) { return simt::shared() + round % 2 * kStage; }

    SIMT_DEVICE static void copy(const Params& p, unsigned round, const Work& work) {
        const Tiling& t = p.tiling;
        const int product = round % kProducts<kPlanes>;
        Place place = place_of(t, static_cast<int>(round / kProducts<kPlanes>));
        const Maps grad{p.grad, p.x.height, p.x.width, p.x.channels};
        copy_pixels<kPlanes, kEights, kThreads>(
            stage(round), grad, place, {0, t.rows}, t.columns, t.pitch,
            second_plane<kPlanes>(product) * p.x.channels + work.output, 0);
        place.row += work.strip * kRows - kSide / 2;
        place.column -= kSide / 2;
        copy_pixels<kPlanes, kEights, kThreads>(
            stage(round) + kGrads, p.x, place, {0, t.rows + kMoreRows}, t.columns + kMoreColumns,
            t.pitch + kMoreColumns, first_plane<kPlanes>(product) * p.x.channels + work.input,
            p.reflect ? kSide / 2 : 0);
        simt::cp_async_commit();
    }

    // Adds the products over `pixels` pixels, gradients of zero up to the next multiple of 16.
    SIMT_DEVICE static void multiply(const Params& p, int pixels, int bias, char* grads,
                                     Sums& sums) {
        const int lane = simt::lane(), pitch = p.tiling.pitch;
        char* maps = grads + kGrads;
        int moved[kPairs], eight[kPairs];  // window and channels of two columns of eight
#pragma unroll
        for (int j = 0; j < kPairs; ++j) {
            const bool alone = 2 * j + 1 == kColumns;  // and read twice
            const int column = simt::warp() * kColumns + 2 * j + (alone ? 0 : lane / 16);
            const int tap = column / kEights;
            moved[j] = tap / kSide * (pitch + kMoreColumns) + tap % kSide;
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
            for (int j = 0; j < kPairs; ++j) {
                simt::ldmatrix_x4_trans(
                    b,
                    at<kEights>(maps, row * (pitch + kMoreColumns) + column + moved[j], eight[j]));
#pragma unroll
                for (int i = 0; i < kFragments; ++i) {
                    multiply_add<kPlanes>(sums.weight[i][2 * j], a[i], b[0], b[1]);
                    if (2 * j + 1 < kColumns)
                        multiply_add<kPlanes>(sums.weight[i][2 * j + 1], a[i], b[2], b[3]);
                }
            }
#pragma unroll
            for (int i = 0; i < kFragments; ++i)
                if (i == bias) multiply_add<kPlanes>(sums.bias, a[i], kOnes, kOnes);
        }
    }

    SIMT_DEVICE static void leave(const Params& p, float* part, const Work& work,
                                  const Sums& sums) {
        const int64_t channels = p.x.channels;
        const int g = simt::lane() / 4, t = simt::lane() % 4 * 2;
#pragma unroll
        for (int i = 0; i < kFragments; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int row = work.output + i * 16 + half * 8 + g;
#pragma unroll
                for (int j = 0; j < kColumns; ++j) {
                    const int column = simt::warp() * kColumns + j;
                    const int tap = work.strip * kTapsOfBlock + column / kEights;
                    float* to = part + (int64_t{row} * kTaps + tap) * channels + work.input +
                                column % kEights * 8 + t;
                    const float* sum = sums.weight[i][j] + 2 * half;
                    simt::store(reinterpret_cast<Pair*>(to), Pair{{sum[0], sum[1]}});
                }
                if (i == work.bias && work.input == 0 && t == 0)
                    simt::store(part + kTaps * channels * channels + row, sums.bias[2 * half]);
            }
    }

    SIMT_DEVICE static void run(const Params& p) {
        const int groups = p.x.channels / kGroup;
        const int pair = simt::block() % (groups * groups);
        const int rest = simt::block() / (groups * groups), split = rest / kStrips;
        const int strip = rest % kStrips;
        const Work work{pair / groups * kGroup, pair % groups * kGroup, strip,
                        strip == 0 ? simt::warp() : -1};
        const int each = (p.tiling.tiles + p.splits - 1) / p.splits, begin = split * each;
        const int end = begin + each < p.tiling.tiles ? begin + each : p.tiling.tiles;
        Sums sums = {};
        constexpr unsigned kRounds = kProducts<kPlanes>;
        if (begin < end) copy(p, begin * kRounds, work);
        for (unsigned round = begin * kRounds; round < end * kRounds; ++round) {
            simt::cp_async_wait<0>();
            simt::sync();  // copied by all, and nobody reads the other stage any more
            if (round + 1 < end * kRounds) copy(p, round + 1, work);
            const int below =
                p.x.height - place_of(p.tiling, static_cast<int>(round / kRounds)).row;
            const int rows = p.tiling.rows < below ? p.tiling.rows : below;
            // Of the gradient each plane once.
            const bool counts = first_plane<kPlanes>(round % kRounds) == 0;
            multiply(p, rows * p.tiling.pitch, counts ? work.bias : -1, stage(round), sums);
        }
        const int64_t channels = p.x.channels, floats = kTaps * channels * channels + channels;
        leave(p, p.parts + split * floats, work, sums);
    }
};

}  // namespace
}  // namespace simgan_fast
