// A 3x3 convolution with all that comes before and after it in a residual block, forward or
// backward, in one pass over memory.
//
// It is a product of matrices, [pixels, 9 c] times [9 c, outputs]: a block has the weights of
// kOutputs outputs in shared memory and goes from tile to tile of the maps. Of a tile and what is
// around it 16 channels at a time are copied while the 16 before are multiplied: ldmatrix reads
// them nine times, each tap through a window that has moved.
#pragma once

#include <type_traits>

#include "cuda/maps.h"

namespace simgan_fast {
namespace {

constexpr int kSlab = 16;  // channels that one mma sums over

struct Convolution3x3 {
    Maps x;
    const uint16_t* weight;  // as Arrange leaves it
    const float* bias;       // [channels], or null
    const uint16_t* skip;    // like y, added; or null
    bool relu;               // of the sum
    const uint16_t* gate;    // like y: where it is not positive the result is 0; or null
    uint16_t* y;             // [images, height, width, channels]; may be `skip`
    int height, width;
    int margin;    // output (0, 0) is of the window whose corner is at (-margin, -margin)
    bool reflect;  // else zeros around x
    Tiling tiling;
};

// The channel, of kOutputs, that is column `column` of the product. A lane of mma holds columns 2 t
// and 2 t + 1 of each eight: in this order they are a row of channels.
template <int kOutputs>
SIMT_DEVICE int channel_of(int column) {
    return column % 8 / 2 * (kOutputs / 4) + column / 8 * 2 + column % 2;
}

template <int kOutputs>
struct Convolve {
    using Params = Convolution3x3;
    static constexpr int kWarps = 6, kPixelsOfWarp = 48;
    static constexpr int kPixels = kWarps * kPixelsOfWarp, kAround = 7 * 58;
    static constexpr int kThreads = 32 * kWarps;
    static constexpr int kBlocksPerSm = 2;  // where there is shared memory for two
    // Weights of four slabs stay for all tiles if there are no more.
    static constexpr int kHeld = 4, kWeights = kTaps * kOutputs * kSlab * 2;
    static constexpr int kStage = kAround * kSlab * 2;
    static constexpr int kSharedBytes = kHeld * kWeights + 2 * kStage + kOutputs * 4;
    static_assert(kSharedBytes <= 99 * 1024, "what a block has on the smallest of the GPUs");
    static constexpr int kFragments = kPixelsOfWarp / 16;
    static constexpr int kWords = kOutputs / 8;  // two channels each, of a lane and a pixel

    using Sums = float[kFragments][kWords][4];
    struct alignas(16) Words4 {
        uint32_t word[4];
    };
    struct alignas(8) Words2 {
        uint32_t word[2];
    };
    static constexpr int kPiece = kWords < 4 ? 2 : 4;
    using Piece = std::conditional_t<kPiece == 4, Words4, Words2>;

    SIMT_DEVICE static char* stage(int step) {
        return simt::shared() + kHeld * kWeights + step % 2 * kStage;
    }
    SIMT_DEVICE static char* biases() { return simt::shared() + kHeld * kWeights + 2 * kStage; }

    SIMT_DEVICE static void copy_weights(const Params& p, int outputs, int slab, char* to) {
        const int64_t slabs = p.x.channels / kSlab;
        const uint16_t* from = p.weight + (outputs * slabs + slab) * (kWeights / 2);
        for (int i = simt::thread(); i < kWeights / 16; i += kThreads)
            simt::cp_async_16(at<2>(to, i / 2, i % 2), from + i * 8, true);
    }

    SIMT_DEVICE static void copy_biases(const Params& p, int outputs) {
        const int i = simt::thread();
        const bool real = p.bias != nullptr;
        if (i < kOutputs / 4)
            simt::cp_async_16(biases() + i * 16,
                              real ? p.bias + outputs * kOutputs + i * 4 : p.bias, real);
    }

    // first[i]: where the window of this lane's pixel of fragment i begins.
    SIMT_DEVICE static void multiply(const Params& p, const int (&first)[kFragments], char* maps,
                                     char* weight, Sums& sums) {
        const int lane = simt::lane();
        char* of_lane = at<2>(weight, lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll 1
        for (int down = 0; down < 3; ++down)
#pragma unroll
            for (int across = 0; across < 3; ++across) {
                const int moved = down * (p.tiling.pitch + 2) + across;
                const char* outputs = of_lane + (down * 3 + across) * kOutputs * kSlab * 2;
                uint32_t a[kFragments][4], b[4];
#pragma unroll
                for (int i = 0; i < kFragments; ++i)
                    simt::ldmatrix_x4(a[i], at<2>(maps, first[i] + moved, lane / 16));
#pragma unroll
                for (int j = 0; j < kWords; j += 2) {
                    simt::ldmatrix_x4(b, outputs + j * 8 * kSlab * 2);
#pragma unroll
                    for (int i = 0; i < kFragments; ++i) {
                        simt::mma_16x8x16(sums[i][j], a[i], b[0], b[1]);
                        simt::mma_16x8x16(sums[i][j + 1], a[i], b[2], b[3]);
                    }
                }
            }
    }

    SIMT_DEVICE static float finished(const Params& p, float sum, float skip, float gate) {
        sum += skip;
        if (p.relu) sum = sum < 0 ? 0.0f : sum;
        return gate <= 0 ? 0.0f : sum;
    }

    // `sums` of this lane's pixel to y, from `offset` on.
    SIMT_DEVICE static void finish(const Params& p, const float* bias, int64_t offset,
                                   const Sums& sums, int fragment, int half) {
#pragma unroll
        for (int j = 0; j < kWords; j += kPiece) {
            Piece skip{}, gate, y;
            for (uint32_t& word : gate.word) word = 0x3f803f80;  // ones
            if (p.skip != nullptr)
                skip = simt::load(reinterpret_cast<const Piece*>(p.skip + offset + 2 * j));
            if (p.gate != nullptr)
                gate = simt::load(reinterpret_cast<const Piece*>(p.gate + offset + 2 * j));
#pragma unroll
            for (int k = 0; k < kPiece; ++k) {
                const float* two = bias + 2 * (j + k);
                const float low = sums[fragment][j + k][2 * half] + two[0];
                const float high = sums[fragment][j + k][2 * half + 1] + two[1];
                y.word[k] = simt::pack_bf16(
                    finished(p, low, simt::low_bf16(skip.word[k]), simt::low_bf16(gate.word[k])),
                    finished(p, high, simt::high_bf16(skip.word[k]),
                             simt::high_bf16(gate.word[k])));
            }
            simt::store(reinterpret_cast<Piece*>(p.y + offset + 2 * j), y);
        }
    }

    SIMT_DEVICE static void finish_tile(const Params& p, Place tile, int outputs, Sums& sums) {
        const int channel = simt::lane() % 4 * (kOutputs / 4);
        const float* bias = reinterpret_cast<const float*>(biases()) + channel;
#pragma unroll
        for (int i = 0; i < kFragments; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int pixel =
                    simt::warp() * kPixelsOfWarp + i * 16 + half * 8 + simt::lane() / 4;
                const int row = pixel / p.tiling.pitch, column = pixel % p.tiling.pitch;
                const int y = tile.row + row, x = tile.column + column;
                if (row < p.tiling.rows && column < p.tiling.columns && y < p.height && x < p.width)
                    finish(p, bias,
                           ((int64_t{tile.image} * p.height + y) * p.width + x) * p.x.channels +
                               outputs * kOutputs + channel,
                           sums, i, half);
            }
#pragma unroll
        for (auto& fragment : sums)
#pragma unroll
            for (auto& word : fragment)
#pragma unroll
                for (float& sum : word) sum = 0;
    }

    // Where the weights of a step lie: those of a slab always, or in turn.
    SIMT_DEVICE static char* weights(const Params& p, int step, int slab) {
        const bool stays = p.x.channels <= kHeld * kSlab;
        return simt::shared() + (stays ? slab : step % kHeld) * kWeights;
    }

    // Starts the copies of a step.
    SIMT_DEVICE static void copy(const Params& p, int outputs, int step, int tile, int slab,
                                 bool is_first_tile) {
        const Tiling& t = p.tiling;
        Place around = place_of(t, tile);
        around.row -= p.margin;
        around.column -= p.margin;
        copy_pixels<2, kThreads>(stage(step), p.x, around, t.rows + 2, t.columns + 2, t.pitch + 2,
                                 slab * kSlab, p.reflect);
        if (is_first_tile || p.x.channels > kHeld * kSlab)
            copy_weights(p, outputs, slab, weights(p, step, slab));
        simt::cp_async_commit();
    }

    SIMT_DEVICE static void run(const Params& p) {
        const int slabs = p.x.channels / kSlab, groups = p.x.channels / kOutputs;
        const int outputs = simt::block() % groups;
        const int start = simt::block() / groups, stride = simt::blocks() / groups;
        const Tiling& t = p.tiling;
        int first[kFragments];
        for (int i = 0; i < kFragments; ++i) {
            const int pixel = simt::warp() * kPixelsOfWarp + i * 16 + simt::lane() % 16;
            const int row = pixel / t.pitch;
            first[i] = row < t.rows ? row * (t.pitch + 2) + pixel % t.pitch : 0;
        }
        Sums sums = {};
        copy_biases(p, outputs);
        copy(p, outputs, 0, start, 0, true);
        int step = 0;
        for (int tile = start; tile < t.tiles; tile += stride) {
            const int below = p.height - place_of(t, tile).row;
            const bool works =
                simt::warp() * kPixelsOfWarp < (t.rows < below ? t.rows : below) * t.pitch;
            for (int slab = 0; slab < slabs; ++slab, ++step) {
                const bool more = slab + 1 < slabs;
                const int next = more ? tile : tile + stride;
                simt::cp_async_wait<0>();
                simt::sync();  // copied by all, and nobody reads the other stage any more
                if (next < t.tiles)
                    copy(p, outputs, step + 1, next, more ? slab + 1 : 0, next == start);
                if (works) multiply(p, first, stage(step), weights(p, step, slab), sums);
            }
            finish_tile(p, place_of(t, tile), outputs, sums);
        }
    }
};

// The weights [count, channels, channels, 3, 3] of `count` convolutions in the order in which
// Convolve<kOutputs> copies them: [count, groups of outputs, slabs, taps, kOutputs, kSlab].
// Transposed and rotated: those of the gradient of x.
template <typename T>
struct Weights {
    const T* from;
    uint16_t* to;
    int64_t count;
    int channels;
    bool gradient;
};

template <typename T, int kOutputs>
struct Arrange {
    using Params = Weights<T>;
    static constexpr int kThreads = 256, kBlocksPerSm = 4, kSharedBytes = 0;

    SIMT_DEVICE static void run(const Params& p) {
        const int64_t i = static_cast<int64_t>(simt::block()) * kThreads + simt::thread();
        const int64_t of_one = int64_t{kTaps} * p.channels * p.channels;
        if (i >= p.count * of_one) return;
        const int slabs = p.channels / kSlab;
        int rest = static_cast<int>(i % of_one);
        const int in_slab = rest % kSlab;
        const int column = (rest /= kSlab) % kOutputs;
        const int tap = (rest /= kOutputs) % kTaps;
        const int slab = (rest /= kTaps) % slabs;
        const int output = rest / slabs * kOutputs + channel_of<kOutputs>(column);
        const int input = slab * kSlab + in_slab;
        const int64_t from = p.gradient
                                 ? (int64_t{input} * p.channels + output) * kTaps + kTaps - 1 - tap
                                 : (int64_t{output} * p.channels + input) * kTaps + tap;
        const T value = simt::load(p.from + i / of_one * of_one + from);
        simt::store(p.to + i, simt::from_float<uint16_t>(simt::to_float(value)));
    }
};

}  // namespace
}  // namespace simgan_fast
