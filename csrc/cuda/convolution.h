// A 3x3 or 7x7 convolution with all that comes before and after it in a residual block, forward or
// backward, in one pass over memory.
//
// It is a product of matrices, [pixels, taps c] times [taps c, outputs]: a block has the weights of
// kOutputs outputs in shared memory and goes from tile to tile of the maps. Of a tile and what is
// around it 16 channels at a time, a slab, are copied while the slab before is multiplied: ldmatrix
// reads it once for each tap, through a window that has moved. The weights of a slab come in
// portions: those of 3x3 filters are one, which may stay; of 7x7 filters, of which a slab has 100
// KB, each row of taps is one, and is copied while the row before is multiplied. Float32 is six
// times as many slabs: those of each product of planes (maps.h).
#pragma once

#include <type_traits>

#include "cuda/maps.h"

namespace simgan_fast {
namespace {

constexpr int kSlab = 16;  // channels that one mma sums over

struct MapConvolution {
    Maps x;
    const uint16_t* weight;  // as Arrange leaves it
    const float* bias;       // [channels], or null
    const uint16_t* skip;    // like y, added; or null
    bool relu;               // of the sum
    const uint16_t* gate;    // like y: where it is not positive the result is 0; or null
    uint16_t* y;             // [images, height, width, kPlanes channels]; may be `skip`
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

template <int kOutputs, int kSide, int kPlanes>
struct Convolve {
    using Params = MapConvolution;
    static constexpr int kMore = kSide - 1;  // rows and columns around a tile
    static constexpr int kWarps = 6, kPixelsOfWarp = 48;
    static constexpr int kPixels = kWarps * kPixelsOfWarp;
    static constexpr int kAround = (5 + kMore) * (kMostColumns + kMore);
    static constexpr int kThreads = 32 * kWarps;
    static constexpr int kBlocksPerSm = 2;  // where there is shared memory for two
    static constexpr int kPortions = kSide == 3 && kPlanes == 1 ? 1 : kSide;  // of a slab's weights
    static constexpr int kRows = kSide / kPortions;  // of taps, in a portion
    // Portions that are held; of 3x3 filters they stay for all tiles if there are no more slabs.
    static constexpr int kHeld = kPortions == 1 ? 4 : 2;
    static constexpr int kWeights = kRows * kSide * kOutputs * kSlab * 2;  // bytes of a portion
    static constexpr int kStage = kAround * kSlab * 2;
    static constexpr int kSharedBytes = kHeld * kWeights + 2 * kStage + kOutputs * 4;
    static_assert(kSharedBytes <= 99 * 1024, "what a block has on the smallest of the GPUs");
    static constexpr int kUnrolled = kPlanes == 1 ? 4 : 1;  // taps: more would spill registers
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

    // Of slab number `slab`, those of all tiles counted.
    SIMT_DEVICE static char* stage(int slab) {
        return simt::shared() + kHeld * kWeights + slab % 2 * kStage;
    }
    SIMT_DEVICE static char* biases() { return simt::shared() + kHeld * kWeights + 2 * kStage; }

    SIMT_DEVICE static unsigned slabs_of_plane(const Params& p) {
        return static_cast<unsigned>(p.x.channels) / kSlab;
    }
    // Whose slab this is.
    SIMT_DEVICE static int product_of(const Params& p, int slab) {
        return kPlanes == 1 ? 0 : static_cast<unsigned>(slab) / slabs_of_plane(p);
    }

    SIMT_DEVICE static void copy_weights(const Params& p, int outputs, int slab, int portion,
                                         char* to) {
        const int64_t slabs = slabs_of_plane(p);
        const int product = product_of(p, slab);
        const int64_t plane = outputs * kPlanes + second_plane<kPlanes>(product);
        slab -= static_cast<int>(product * slabs);
        const uint16_t* from =
            p.weight + ((plane * slabs + slab) * kPortions + portion) * (kWeights / 2);
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

    // first[i]: where the window of this lane's pixel of fragment i begins; top: the portion's
    // first row of taps.
    SIMT_DEVICE static void multiply(const Params& p, const int (&first)[kFragments], char* maps,
                                     char* weight, int top, Sums& sums) {
        const int lane = simt::lane();
        char* of_lane = at<2>(weight, lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll 1
        for (int down = 0; down < kRows; ++down)
#pragma unroll kUnrolled
            for (int across = 0; across < kSide; ++across) {
                const int moved = (top + down) * (p.tiling.pitch + kMore) + across;
                const char* outputs = of_lane + (down * kSide + across) * kOutputs * kSlab * 2;
                uint32_t a[kFragments][4], b[4];
#pragma unroll
                for (int i = 0; i < kFragments; ++i)
                    simt::ldmatrix_x4(a[i], at<2>(maps, first[i] + moved, lane / 16));
#pragma unroll
                for (int j = 0; j < kWords; j += 2) {
                    simt::ldmatrix_x4(b, outputs + j * 8 * kSlab * 2);
#pragma unroll
                    for (int i = 0; i < kFragments; ++i) {
                        multiply_add<kPlanes>(sums[i][j], a[i], b[0], b[1]);
                        multiply_add<kPlanes>(sums[i][j + 1], a[i], b[2], b[3]);
                    }
                }
            }
    }

    SIMT_DEVICE static float finished(const Params& p, float sum, float skip, float gate) {
        sum += skip;
        if (p.relu) sum = sum < 0 ? 0.0f : sum;
        return gate <= 0 ? 0.0f : sum;
    }

    SIMT_DEVICE static const Piece* piece(const uint16_t* p) {
        return reinterpret_cast<const Piece*>(p);
    }
    SIMT_DEVICE static Piece* piece(uint16_t* p) { return reinterpret_cast<Piece*>(p); }

    // `sums` of this lane's pixel to y, from `offset` on.
    SIMT_DEVICE static void finish(const Params& p, const float* bias, int64_t offset,
                                   const Sums& sums, int fragment, int half) {
#pragma unroll
        for (int j = 0; j < kWords; j += kPiece) {
            Piece skip[kPlanes] = {}, gate, y[kPlanes];
            for (uint32_t& word : gate.word) word = 0x3f803f80;  // ones
            if (p.skip != nullptr)
#pragma unroll
                for (int plane = 0; plane < kPlanes; ++plane)
                    skip[plane] = simt::load(piece(p.skip + plane * p.x.channels + offset + 2 * j));
            if (p.gate != nullptr)  // its first plane has its sign
                gate = simt::load(piece(p.gate + offset + 2 * j));
#pragma unroll
            for (int k = 0; k < kPiece; ++k) {
                const float* two = bias + 2 * (j + k);
                const float low = sums[fragment][j + k][2 * half] + two[0];
                const float high = sums[fragment][j + k][2 * half + 1] + two[1];
                uint32_t words[kPlanes];
#pragma unroll
                for (int plane = 0; plane < kPlanes; ++plane) words[plane] = skip[plane].word[k];
                float skip_low, skip_high;
                from_planes(words, skip_low, skip_high);
                to_planes(finished(p, low, skip_low, simt::low_bf16(gate.word[k])),
                          finished(p, high, skip_high, simt::high_bf16(gate.word[k])), words);
#pragma unroll
                for (int plane = 0; plane < kPlanes; ++plane) y[plane].word[k] = words[plane];
            }
#pragma unroll
            for (int plane = 0; plane < kPlanes; ++plane)
                simt::store(piece(p.y + plane * p.x.channels + offset + 2 * j), y[plane]);
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
                           ((int64_t{tile.image} * p.height + y) * p.width + x) * kPlanes *
                                   p.x.channels +
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

    SIMT_DEVICE static bool weights_stay(const Params& p) {
        return kPortions == 1 && p.x.channels <= kHeld * kSlab;
    }

    // Where the weights of a step lie: those of a slab always, or in turn.
    SIMT_DEVICE static char* weights(const Params& p, int step, int slab) {
        return simt::shared() + (weights_stay(p) ? slab : step % kHeld) * kWeights;
    }

    // Starts to copy, to the stage of slab number `number`, rows of a tile and what is around it.
    SIMT_DEVICE static void copy_rows(const Params& p, int number, int tile, int slab, Rows rows) {
        const Tiling& t = p.tiling;
        Place around = place_of(t, tile);
        around.row -= p.margin;
        around.column -= p.margin;
        const int product = product_of(p, slab);
        slab += (first_plane<kPlanes>(product) - product) * slabs_of_plane(p);  // of all planes
        copy_pixels<kPlanes, 2, kThreads>(stage(number), p.x, around, rows, t.columns + kMore,
                                          t.pitch + kMore, slab * kSlab, p.reflect ? kSide / 2 : 0);
    }

    // The rows that are copied in one of the kPortions steps of the slab before.
    SIMT_DEVICE static Rows part_of_rows(const Tiling& t, int portion) {
        const int rows = t.rows + kMore, each = (rows + kPortions - 1) / kPortions;
        const int begin = portion * each, end = begin + each;
        return {begin, end < rows ? end : rows};
    }

    SIMT_DEVICE static void run(const Params& p) {
        const int slabs = kProducts<kPlanes> * slabs_of_plane(p);
        const int groups = p.x.channels / kOutputs, outputs = simt::block() % groups;
        const int start = simt::block() / groups, stride = simt::blocks() / groups;
        const Tiling& t = p.tiling;
        int first[kFragments];
        for (int i = 0; i < kFragments; ++i) {
            const int pixel = simt::warp() * kPixelsOfWarp + i * 16 + simt::lane() % 16;
            const int row = pixel / t.pitch;
            first[i] = row < t.rows ? row * (t.pitch + kMore) + pixel % t.pitch : 0;
        }
        Sums sums = {};
        copy_biases(p, outputs);
        copy_rows(p, 0, start, 0, {0, t.rows + kMore});
        copy_weights(p, outputs, 0, 0, weights(p, 0, 0));
        simt::cp_async_commit();
        int step = 0;  // those of all tiles counted
        for (int tile = start; tile < t.tiles; tile += stride) {
            const int below = p.height - place_of(t, tile).row;
            const bool works =
                simt::warp() * kPixelsOfWarp < (t.rows < below ? t.rows : below) * t.pitch;
            for (int i = 0; i < slabs * kPortions; ++i, ++step) {
                const int slab = i / kPortions, portion = i % kPortions;
                simt::cp_async_wait<0>();
                simt::sync();  // copied by all, and nobody reads what is copied over any more
                const bool more = slab + 1 < slabs, is_last = portion + 1 == kPortions;
                const int next = more ? tile : tile + stride, next_slab = more ? slab + 1 : 0;
                const bool has_next = next < t.tiles;
                if (has_next)
                    copy_rows(p, step / kPortions + 1, next, next_slab, part_of_rows(t, portion));
                if (!is_last)
                    copy_weights(p, outputs, slab, portion + 1, weights(p, step + 1, slab));
                else if (has_next && (next == start || !weights_stay(p)))
                    copy_weights(p, outputs, next_slab, 0, weights(p, step + 1, next_slab));
                if (has_next || !is_last) simt::cp_async_commit();
                if (works)
                    multiply(p, first, stage(step / kPortions), weights(p, step, slab),
                             portion * kRows, sums);
            }
            finish_tile(p, place_of(t, tile), outputs, sums);
        }
    }
};

// The weights [count, channels, channels, taps] of `count` convolutions in the order in which
// Convolve copies them: [count, groups of outputs, planes, slabs, taps, kOutputs, kSlab].
// Transposed and rotated: those of the gradient of x.
template <typename T>
struct Weights {
    const T* from;
    uint16_t* to;
    int64_t count;
    int channels;
    bool gradient;
};

template <typename T, int kOutputs, int kSide, int kPlanes>
struct Arrange {
    using Params = Weights<T>;
    static constexpr int kTaps = kSide * kSide;
    static constexpr int kThreads = 256, kBlocksPerSm = 4, kSharedBytes = 0;

    SIMT_DEVICE static void run(const Params& p) {
        const int64_t i = static_cast<int64_t>(simt::block()) * kThreads + simt::thread();
        const int64_t of_one = int64_t{kTaps} * p.channels * p.channels;
        if (i >= p.count * of_one) return;
        const int slabs = p.channels / kSlab;
        const int of_group = kTaps * p.channels * kOutputs;
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
        uint32_t planes[kPlanes];
        to_planes(simt::to_float(value), 0.0f, planes);
#pragma unroll
        for (int plane = 0; plane < kPlanes; ++plane)
            simt::store(p.to + (i / of_group * kPlanes + plane) * of_group + i % of_group,
                        static_cast<uint16_t>(planes[plane]));
    }
};

}  // namespace
}  // namespace simgan_fast
