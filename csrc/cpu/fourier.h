// What residual_blocks_fourier.cpp asks of a CPU level: convolution of maps with 7x7 filters by
// Fourier transforms of tiles of 16x16 pixels, of which 10x10 come out (overlap-save).
//
// A tile's transform is 256 real numbers, the values of 126 complex and 4 real frequencies, the
// others being conjugates of these. At a complex frequency the channels' products are complex ones
// of matrices, as three real ones: (a + ib)(c + id) = k - b(c + d) + i(k + a(d - c)), k = (a + b)c.
#pragma once

#include <cstdint>

#include "cpu/winograd.h"

namespace simgan_fast {

constexpr int64_t kFilter = 7;                  // pixels of a filter's side
constexpr int64_t kSide = 16;                   // of a tile's
constexpr int64_t kStep = kSide - kFilter + 1;  // of what comes out
constexpr int64_t kValues = kSide * kSide;
constexpr int64_t kComplex = 126, kReal = 4;  // frequencies; the complex ones come first
constexpr int64_t kPanels = 3 * kComplex + kReal;
// Multiplied at once: their values at a frequency, and its panels, are in the second-level cache.
constexpr int64_t kTilesTogether = 24;

// Floats of the values of a tile: value v of channel c lies at v * channels + c. The gap keeps the
// tiles' values at one frequency from falling on one set of a cache.
inline int64_t tile_floats(int64_t channels) {
    return kValues * channels + kPanelGap;
}

// Floats of working memory of `multiply` and `accumulate`.
inline int64_t product_floats(int64_t channels) {
    return 6 * kTilesTogether * channels;
}

// Where a tile's outputs go: pixel (i, j) at (i * pitch + j) * channels.
struct TileOutput {
    int64_t rows, columns, pitch;
    float* to;
    const float* bias;  // null: neither bias nor ReLU
    const float* skip;  // null: none; else like `to`
};

struct FourierKernels {
    // Rows [first, last) of kPanels panels of `channels` rows and columns: of complex frequencies
    // c, -(c + d), d - c, then of the real ones.
    void (*transform_weights)(const WeightView& from, int64_t channels, int64_t first, int64_t last,
                              float* panels);
    // The values of a tile from its pixels [kSide][kSide], of which rows from `rows` on are zero.
    void (*transform)(const float* const* pixels, int64_t rows, int64_t channels, float* values);
    // In place, the values of up to kTilesTogether tiles at one frequency times its panels.
    void (*multiply)(int64_t tiles, int64_t frequency, int64_t channels, const float* panels,
                     float* values, float* scratch);
    // relu(the inverse transform + bias + skip).
    void (*invert)(const float* values, int64_t channels, const TileOutput& to);
    // sums [kPanels][ci][co] += products over up to kTilesTogether tiles, at one frequency, of the
    // values of what was read and of gradients.
    void (*accumulate)(int64_t tiles, int64_t frequency, int64_t channels, const float* inputs,
                       const float* gradients, float* sums, float* scratch);
    // Weight gradients [kFilter][kFilter][ci][co] from those sums: elements [first, last) of each
    // [ci][co].
    void (*weight_gradient)(int64_t channels, int64_t first, int64_t last, const float* sums,
                            float* gradient);
};

}  // namespace simgan_fast
