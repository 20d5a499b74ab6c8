// 7x7 convolutions of large maps by Fourier transforms of tiles (fourier.h): threads share the
// tiles of all images.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/fourier.h"
#include "cpu/maps.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "residual_blocks.h"

namespace simgan_fast {

// Maps that are convolved, pixels beyond their border included, and how tiles cover the outputs.
struct Plane {
    int64_t height, width;          // of what is read
    int64_t out_height, out_width;  // of what is written
    int64_t offset;                 // output (0, 0) reads from (-offset, -offset) on
    bool reflect;

    int64_t tile_rows() const { return (out_height + kStep - 1) / kStep; }
    int64_t tile_columns() const { return (out_width + kStep - 1) / kStep; }
    int64_t tiles() const { return tile_rows() * tile_columns(); }
    int64_t row(int64_t tile) const { return tile / tile_columns() * kStep; }
    int64_t column(int64_t tile) const { return tile % tile_columns() * kStep; }
};

// Addresses of the pixels that a tile reads.
struct TilePixels {
    const float* at[kValues];

    void outputs_read(const Plane& p, const float* map, int64_t tile, int64_t channels,
                      const float* zero) {
        const int64_t top = p.row(tile) - p.offset, left = p.column(tile) - p.offset;
        for (int64_t i = 0; i < kValues; ++i) {
            const int64_t row = padded_index(top + i / kSide, p.height, p.reflect);
            const int64_t column = padded_index(left + i % kSide, p.width, p.reflect);
            at[i] = row < 0 || column < 0 ? zero : map + (row * p.width + column) * channels;
        }
    }
    // The outputs themselves, and nothing around them.
    void outputs(const Plane& p, const float* map, int64_t tile, int64_t channels,
                 const float* zero) {
        const int64_t top = p.row(tile), left = p.column(tile);
        for (int64_t i = 0; i < kValues; ++i) {
            const int64_t y = i / kSide, x = i % kSide;
            const bool inside =
                y < kStep && x < kStep && top + y < p.out_height && left + x < p.out_width;
            at[i] = inside ? map + ((top + y) * p.out_width + left + x) * channels : zero;
        }
    }
};

// Of one image.
struct ConvolvedMaps {
    const float *in, *skip;  // skip: null, or like out
    float* out;
};

// Convolutions one after the other, with the working memory that they share.
class FourierConvolver {
  public:
    FourierConvolver(const ResidualBlocks& p, int64_t channels, int64_t most_tiles, bool backward)
        : kernels_(cpu_kernels().fourier),
          channels_(channels),
          threads_(p.threads),
          block_floats_(std::min(2 * kTilesTogether, most_tiles) * tile_floats(channels)),
          gradient_floats_(backward
                               ? std::min(kPartsAtOnce * p.threads * kTilesTogether, most_tiles) *
                                     tile_floats(channels)
                               : 0),
          zero_(channels),
          panels_(kPanels * channels * channels),
          values_(std::max(p.threads * block_floats_, 2 * gradient_floats_)),
          own_(p.threads * product_floats(channels)) {}

    // The filters of the convolutions to come; for the gradient of what one reads its adjoint.
    void set_filters(const Convolution& from, int64_t channels, bool adjoint) const {
        const int64_t* s = from.strides;
        WeightView view{from.weight, channels, s[1], s[0], s[2], s[3]};
        if (adjoint)
            view = {
                from.weight + (kFilter - 1) * (s[2] + s[3]), channels, s[0], s[1], -s[2], -s[3]};
        parallel_for(channels_ / 4, threads_, [&](int64_t i, int64_t) {
            kernels_.transform_weights(view, channels_, 4 * i, 4 * i + 4, panels_.data());
        });
    }

    // out = conv(in), or relu(conv(in) + bias + skip) if there is a bias, of all `maps`.
    void convolve(const Plane& plane, const std::vector<ConvolvedMaps>& maps,
                  const float* bias) const {
        const int64_t tiles = plane.tiles() * static_cast<int64_t>(maps.size());
        const int64_t parts = parts_of(tiles);
        // Two at once read the panels half as often, where there are enough of them for all
        // threads.
        const int64_t blocks = parts < 8 * threads_ ? parts : (parts + 1) / 2;
        parallel_for(blocks, threads_, [&](int64_t block, int64_t worker) {
            convolve_block(plane, maps, bias,
                           {tiles, parts, parts * block / blocks, parts * (block + 1) / blocks},
                           worker);
        });
    }

    // Gradients of the filters [kFilter][kFilter][ci][co] and of the bias from what was read and
    // the gradient of what was written (ConvolvedMaps::skip).
    void weight_gradient(const Plane& plane, const std::vector<ConvolvedMaps>& maps, float* sums,
                         float* weight, std::vector<double>& bias) const {
        const int64_t tiles = plane.tiles(), stride = tile_floats(channels_);
        const int64_t size = channels_ * channels_;
        float* gradients = values_.data() + gradient_floats_;
        std::fill(bias.begin(), bias.end(), 0);
        parallel_for(kPanels, threads_,
                     [&](int64_t i, int64_t) { std::fill_n(sums + i * size, size, 0.0f); });
        const int64_t all = tiles * static_cast<int64_t>(maps.size()), parts = parts_of(all);
        const int64_t blocks = (parts - 1) / (kPartsAtOnce * threads_) + 1;
        for (int64_t b = 0; b < blocks; ++b) {
            const Block block{all, parts, parts * b / blocks, parts * (b + 1) / blocks};
            parallel_for(block.count(), threads_, [&](int64_t i, int64_t) {
                TilePixels pixels;
                const int64_t tile = (block.first() + i) % tiles;
                const ConvolvedMaps& of = maps[(block.first() + i) / tiles];
                pixels.outputs_read(plane, of.in, tile, channels_, zero_.data());
                kernels_.transform(pixels.at, kSide, channels_, values_.data() + i * stride);
                pixels.outputs(plane, of.skip, tile, channels_, zero_.data());
                kernels_.transform(pixels.at, kStep, channels_, gradients + i * stride);
            });
            for (int64_t i = 0; i < block.count(); ++i)  // frequency 0 is the sum over the pixels
                for (int64_t c = 0; c < channels_; ++c) bias[c] += gradients[i * stride + c];
            // Threads share the frequencies; the parts come in order.
            parallel_for(kComplex + kReal, threads_, [&](int64_t frequency, int64_t worker) {
                float* own = own_.data() + worker * product_floats(channels_);
                for (int64_t part = block.begin; part < block.end; ++part) {
                    const int64_t first = (block.start(part) - block.first()) * stride;
                    kernels_.accumulate(block.count(part), frequency, channels_,
                                        values_.data() + first, gradients + first, sums, own);
                }
            });
        }
        parallel_for(channels_, threads_, [&](int64_t row, int64_t) {
            kernels_.weight_gradient(channels_, row * channels_, (row + 1) * channels_, sums,
                                     weight);
        });
    }

  private:
    static constexpr int64_t kPartsAtOnce = 4;  // of a thread

    // Tiles are divided into so many parts whatever the number of threads.
    static int64_t parts_of(int64_t tiles) { return (tiles + kTilesTogether - 1) / kTilesTogether; }

    // Parts [begin, end) of `parts`.
    struct Block {
        int64_t tiles, parts, begin, end;
        int64_t start(int64_t part) const { return tiles * part / parts; }
        int64_t first() const { return start(begin); }
        int64_t count() const { return start(end) - start(begin); }
        int64_t count(int64_t part) const { return start(part + 1) - start(part); }
    };

    void convolve_block(const Plane& plane, const std::vector<ConvolvedMaps>& maps,
                        const float* bias, const Block& block, int64_t worker) const {
        const int64_t tiles = plane.tiles(), stride = tile_floats(channels_);
        float* values = values_.data() + worker * block_floats_;
        float* own = own_.data() + worker * product_floats(channels_);
        TilePixels pixels;
        for (int64_t i = 0; i < block.count(); ++i) {
            const int64_t tile = block.first() + i;
            pixels.outputs_read(plane, maps[tile / tiles].in, tile % tiles, channels_,
                                zero_.data());
            kernels_.transform(pixels.at, kSide, channels_, values + i * stride);
        }
        for (int64_t frequency = 0; frequency < kComplex + kReal; ++frequency)
            for (int64_t part = block.begin; part < block.end; ++part)
                kernels_.multiply(block.count(part), frequency, channels_, panels_.data(),
                                  values + (block.start(part) - block.first()) * stride, own);
        for (int64_t i = 0; i < block.count(); ++i) {
            const int64_t tile = (block.first() + i) % tiles, pitch = plane.out_width;
            const ConvolvedMaps& of = maps[(block.first() + i) / tiles];
            const int64_t row = plane.row(tile), column = plane.column(tile);
            const int64_t offset = (row * pitch + column) * channels_;
            kernels_.invert(
                values + i * stride, channels_,
                {std::min(kStep, plane.out_height - row), std::min(kStep, pitch - column), pitch,
                 of.out + offset, bias, of.skip ? of.skip + offset : nullptr});
        }
    }

    const FourierKernels& kernels_;
    const int64_t channels_, threads_, block_floats_, gradient_floats_;
    const std::vector<float> zero_;  // a pixel
    const Scratch panels_, values_, own_;
};

}  // namespace simgan_fast
