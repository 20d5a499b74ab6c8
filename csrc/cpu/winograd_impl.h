// Winograd's convolution F(m, 3) of one image, compiled once for every CPU level. All channels of a
// block of tiles are transformed, multiplied point by point with the transformed weights, and
// transformed back, while they are in the second-level cache.
#pragma once

#include "cpu/winograd_products_impl.h"
#include "cpu/winograd_weights_impl.h"

namespace simgan_fast {
namespace {

// Tile t's values at point p, channel c: values + t * stride + p * channels + c.
template <class W>
int64_t tile_stride(int64_t channels) {
    return W::kPoints * W::kPoints * channels + kPanelGap;
}

// One register of channels of one tile: `out` = T `in` T^T, from kIn x kIn to kOut x kOut values.
#define SIMGAN_FAST_TRANSFORM_2D(name, transform, kIn, kOut)                   \
    template <class W>                                                         \
    SIMGAN_FAST_INLINE void name(const Floats(*in)[kIn], Floats(*out)[kOut]) { \
        Floats half[kOut][kIn];                                                \
        SIMGAN_FAST_UNROLL                                                     \
        for (int j = 0; j < kIn; ++j) {                                        \
            Floats column[kIn], result[kOut];                                  \
            SIMGAN_FAST_UNROLL                                                 \
            for (int i = 0; i < kIn; ++i) column[i] = in[i][j];                \
            W::transform(column, result);                                      \
            SIMGAN_FAST_UNROLL                                                 \
            for (int i = 0; i < kOut; ++i) half[i][j] = result[i];             \
        }                                                                      \
        SIMGAN_FAST_UNROLL                                                     \
        for (int i = 0; i < kOut; ++i) W::transform(half[i], out[i]);          \
    }
SIMGAN_FAST_TRANSFORM_2D(input_2d, input, W::kPoints, W::kPoints)
SIMGAN_FAST_TRANSFORM_2D(input_adjoint_2d, input_adjoint, W::kPoints, W::kPoints)
SIMGAN_FAST_TRANSFORM_2D(output_2d, output, W::kPoints, W::kTile)
SIMGAN_FAST_TRANSFORM_2D(output_adjoint_2d, output_adjoint, W::kTile, W::kPoints)
#undef SIMGAN_FAST_TRANSFORM_2D

template <class W>
SIMGAN_FAST_INLINE void store_points(const Floats (*values)[W::kPoints], int64_t channels,
                                     float* to) {
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < W::kPoints; ++i) SIMGAN_FAST_UNROLL
    for (int j = 0; j < W::kPoints; ++j) store(to + (i * W::kPoints + j) * channels, values[i][j]);
}

template <class W>
SIMGAN_FAST_INLINE void load_points(const float* from, int64_t channels,
                                    Floats (*values)[W::kPoints]) {
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < W::kPoints; ++i) SIMGAN_FAST_UNROLL
    for (int j = 0; j < W::kPoints; ++j)
        values[i][j] = load(from + (i * W::kPoints + j) * channels);
}

// Where in a map tile t begins: its first input pixel, which is one up and one left of its first
// output pixel.
struct TilePlace {
    int64_t row, column, offset;
};

template <class W>
SIMGAN_FAST_INLINE TilePlace place(const PaddedMap& map, int64_t tile) {
    const int64_t row = tile / map.tile_columns * W::kTile;
    const int64_t column = tile % map.tile_columns * W::kTile;
    return {row, column, (row * map.columns + column) * map.channels};
}

// Asks for channels c to c + 15 of the pixels that the next tile to the right has and this one has
// not: by the time they are needed they have come from the third-level cache.
template <class W>
SIMGAN_FAST_INLINE void approach(const PaddedMap& map, const float* tile, int64_t c) {
    if (c % kGroup != 0) return;
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < W::kPoints; ++i) SIMGAN_FAST_UNROLL
    for (int j = 0; j < W::kTile; ++j)
        __builtin_prefetch(tile + (i * map.columns + W::kPoints + j) * map.channels + c);
}

template <class W>
void transform_input(const PaddedMap& map, const float* in, float* points) {
    const int64_t pitch = map.columns * map.channels;
    for (int64_t c = 0; c < map.channels; c += kLanes) {
        approach<W>(map, in, c);
        Floats pixels[W::kPoints][W::kPoints], values[W::kPoints][W::kPoints];
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < W::kPoints; ++i) SIMGAN_FAST_UNROLL
        for (int j = 0; j < W::kPoints; ++j)
            pixels[i][j] = load(in + i * pitch + j * map.channels + c);
        input_2d<W>(pixels, values);
        store_points<W>(values, map.channels, points + c);
    }
}

template <class W>
void transform_output(const PaddedMap& map, TilePlace at, const float* points, const float* bias,
                      const float* skip, float* out) {
    const int64_t pitch = map.columns * map.channels;
    const int64_t offset = at.offset + pitch + map.channels;  // from input to output pixels
    const int64_t rows = map.height - at.row, columns = map.width - at.column;
    for (int64_t c = 0; c < map.channels; c += kLanes) {
        Floats values[W::kPoints][W::kPoints], pixels[W::kTile][W::kTile];
        load_points<W>(points + c, map.channels, values);
        output_2d<W>(values, pixels);
        const Floats shift = load(bias + c);
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < W::kTile; ++i) {
            if (i >= rows) break;
            SIMGAN_FAST_UNROLL
            for (int j = 0; j < W::kTile; ++j) {
                if (j >= columns) break;
                const int64_t pixel = offset + i * pitch + j * map.channels + c;
                Floats value = pixels[i][j] + shift;
                if (skip != nullptr) value += load(skip + pixel);
                store(out + pixel, value < 0 ? splat(0) : value);  // NaN stays
            }
        }
    }
}

template <class W>
void convolve(const PaddedMap& map, const float* weights, const float* bias, const float* in,
              const float* skip, float* out, int64_t first, int64_t last, float* scratch) {
    const int64_t channels = map.channels, stride = tile_stride<W>(channels);
    const int64_t blocks = (last - first + kBlockTiles - 1) / kBlockTiles;
    float* products = scratch + kBlockTiles * stride;
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t begin = first + (last - first) * block / blocks;
        const int64_t end = first + (last - first) * (block + 1) / blocks;
        for (int64_t t = begin; t < end; ++t)
            transform_input<W>(map, in + place<W>(map, t).offset, scratch + (t - begin) * stride);
        for (int64_t p = 0; p < W::kPoints * W::kPoints; ++p)
            multiply(end - begin, scratch + p * channels, stride,
                     weights + p * panel_floats(channels), channels, products + p * channels);
        for (int64_t t = begin; t < end; ++t)
            transform_output<W>(map, place<W>(map, t), products + (t - begin) * stride, bias, skip,
                                out);
    }
}

// The gradient of a tile's outputs to the points, and its sum over pixels to bias_gradient.
template <class W>
void transform_gradient(const PaddedMap& map, const float* gradient, float* points,
                        float* bias_gradient) {
    const int64_t pitch = map.columns * map.channels;
    for (int64_t c = 0; c < map.channels; c += kLanes) {
        Floats pixels[W::kTile][W::kTile], values[W::kPoints][W::kPoints];
        Floats sum = load(bias_gradient + c);
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < W::kTile; ++i) {
            Floats row = {};
            SIMGAN_FAST_UNROLL
            for (int j = 0; j < W::kTile; ++j) {
                pixels[i][j] = load(gradient + (i + 1) * pitch + (j + 1) * map.channels + c);
                row += pixels[i][j];
            }
            sum += row;
        }
        store(bias_gradient + c, sum);
        output_adjoint_2d<W>(pixels, values);
        store_points<W>(values, map.channels, points + c);
    }
}

// The points' gradient to the pixels that the tile read. Tiles overlap by two pixels and come row
// by row: what an earlier one has written is added to.
template <class W>
void transform_input_gradient(const PaddedMap& map, TilePlace at, const float* points,
                              float* in_gradient) {
    const int64_t pitch = map.columns * map.channels;
    const bool above = at.row > 0, before = at.column > 0;
    for (int64_t c = 0; c < map.channels; c += kLanes) {
        Floats values[W::kPoints][W::kPoints], pixels[W::kPoints][W::kPoints];
        load_points<W>(points + c, map.channels, values);
        input_adjoint_2d<W>(values, pixels);
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < W::kPoints; ++i) {
            SIMGAN_FAST_UNROLL
            for (int j = 0; j < W::kPoints; ++j) {
                float* to = in_gradient + at.offset + i * pitch + j * map.channels + c;
                const bool written = (i < 2 && above) || (j < 2 && before);
                store(to, written ? load(to) + pixels[i][j] : pixels[i][j]);
            }
        }
    }
}

// The adjoint of a convolution, a block of tiles at a time: `scratch` holds the points of their
// gradients, `inputs` those of what they read and, after the products, the gradients of these.
template <class W>
void backward_points(const PaddedMap& map, const float* gradient, const float* in, int64_t first,
                     int64_t last, float* bias_gradient, float* scratch) {
    const int64_t stride = tile_stride<W>(map.channels);
    float* inputs = scratch + kBlockTiles * stride;
    for (int64_t t = first; t < last; ++t) {
        const int64_t offset = place<W>(map, t).offset, to = (t - first) * stride;
        transform_gradient<W>(map, gradient + offset, scratch + to, bias_gradient);
        transform_input<W>(map, in + offset, inputs + to);
    }
}

template <class W>
void backward_products(const PaddedMap& map, const float* adjoint, int64_t tiles, int64_t first,
                       int64_t last, bool add, float* products, float* scratch) {
    const int64_t channels = map.channels, stride = tile_stride<W>(channels);
    float* inputs = scratch + kBlockTiles * stride;
    for (int64_t p = first; p < last; ++p) {
        const int64_t at = p * channels, panel = p * panel_floats(channels);
        accumulate(tiles, inputs + at, scratch + at, stride, channels, add, products + panel);
        multiply(tiles, scratch + at, stride, adjoint + panel, channels, inputs + at);
    }
}

template <class W>
void backward_pixels(const PaddedMap& map, int64_t first, int64_t last, const float* scratch,
                     float* in_gradient) {
    const int64_t stride = tile_stride<W>(map.channels);
    const float* inputs = scratch + kBlockTiles * stride;
    for (int64_t t = first; t < last; ++t)
        transform_input_gradient<W>(map, place<W>(map, t), inputs + (t - first) * stride,
                                    in_gradient);
}

template <int tile>
constexpr WinogradKernels winograd_kernels() {
    using W = Winograd<tile>;
    return {W::kTile,           W::kPoints,           transform_weights<W>, convolve<W>,
            backward_points<W>, backward_products<W>, backward_pixels<W>,   weight_gradient<W>};
}

}  // namespace
}  // namespace simgan_fast
