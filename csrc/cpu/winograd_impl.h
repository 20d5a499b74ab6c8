// Winograd's convolution F(m, 3) of one image, compiled once for every CPU level. All channels of a
// block of tiles are transformed, multiplied point by point with the transformed weights, and
// transformed back, while they are in the second-level cache.
#pragma once

#include "cpu/winograd_products_impl.h"
#include "cpu/winograd_weights_impl.h"

namespace simgan_fast {
namespace {

// One register of channels of one tile: T in T^T, from kIn x kIn to kOut x kOut values.
// read_column(j, column) gives column j of `in`, write_row(i, row) takes row i of what comes out.
// The loops stay loops: of all values at once compilers make more moves than sums.
template <int kIn, int kOut, class Transform, class ReadColumn, class WriteRow>
SIMGAN_FAST_INLINE void transform_2d(Transform transform, ReadColumn read_column,
                                     WriteRow write_row) {
    Floats half[kOut][kIn];
#pragma GCC unroll 1
    for (int j = 0; j < kIn; ++j) {
        Floats column[kIn], result[kOut];
        read_column(j, column);
        transform(column, result);
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < kOut; ++i) half[i][j] = result[i];
    }
#pragma GCC unroll 1
    for (int i = 0; i < kOut; ++i) {
        Floats row[kOut];
        transform(half[i], row);
        write_row(i, row);
    }
}

// Registers that lie `apart` floats from one another.
template <int kCount>
SIMGAN_FAST_INLINE void load_every(const float* from, int64_t apart, Floats* values) {
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] = load(from + i * apart);
}
template <int kCount>
SIMGAN_FAST_INLINE void store_every(const Floats* values, int64_t apart, float* to) {
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kCount; ++i) store(to + i * apart, values[i]);
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

template <class W>
void transform_input(const PaddedMap& map, const float* in, float* points) {
    constexpr int kPoints = W::kPoints;
    const int64_t channels = map.channels, pitch = map.columns * channels;
    for (int64_t c = 0; c < channels; c += kLanes) {
        transform_2d<kPoints, kPoints>(
            W::input,
            [&](int j, Floats* column) {
                const float* from = in + j * channels + c;
                load_every<kPoints>(from, pitch, column);
                // A column that the next tile to the right has and this one has not: by the time
                // it is needed it has come from the third-level cache.
                if (c % kGroup != 0 || j >= W::kTile) return;
                SIMGAN_FAST_UNROLL
                for (int i = 0; i < kPoints; ++i)
                    __builtin_prefetch(from + i * pitch + kPoints * channels);
            },
            [&](int i, const Floats* row) {
                store_every<kPoints>(row, channels, points + i * kPoints * channels + c);
            });
    }
}

template <class W>
void transform_output(const PaddedMap& map, TilePlace at, const float* points, const float* bias,
                      const float* skip, float* out) {
    constexpr int kPoints = W::kPoints;
    const int64_t channels = map.channels, pitch = map.columns * channels;
    const int64_t offset = at.offset + pitch + channels;  // from input to output pixels
    const int64_t rows = map.height - at.row, columns = map.width - at.column;
    for (int64_t c = 0; c < channels; c += kLanes) {
        const Floats shift = load(bias + c);
        transform_2d<kPoints, W::kTile>(
            W::output,
            [&](int j, Floats* column) {
                load_every<kPoints>(points + j * channels + c, kPoints * channels, column);
            },
            [&](int i, const Floats* row) {
                if (i >= rows) return;
                SIMGAN_FAST_UNROLL
                for (int j = 0; j < W::kTile; ++j) {
                    if (j >= columns) break;
                    const int64_t pixel = offset + i * pitch + j * channels + c;
                    Floats value = row[j] + shift;
                    if (skip != nullptr) value += load(skip + pixel);
                    store(out + pixel, value < 0 ? splat(0) : value);  // NaN stays
                    // The next tile's pixels: they are in memory, or in the third-level cache.
                    __builtin_prefetch(out + pixel + W::kTile * channels, 1);
                    if (skip != nullptr) __builtin_prefetch(skip + pixel + W::kTile * channels);
                }
            });
    }
}

template <class W>
void convolve(const PaddedMap& map, const float* weights, const float* bias, const float* in,
              const float* skip, float* out, int64_t first, int64_t last, float* scratch) {
    const int64_t channels = map.channels, stride = tile_floats(W::kPoints, channels);
    const TileBlocks blocks(kMostRows, first, last);
    float *products = scratch, *inputs = scratch + channels;
    for (int64_t block = 0; block < blocks.count(); ++block) {
        const int64_t begin = blocks.begin(block), end = blocks.end(block);
        for (int64_t t = begin; t < end; ++t)
            transform_input<W>(map, in + place<W>(map, t).offset, inputs + (t - begin) * stride);
        for (int64_t p = 0; p < W::kPoints * W::kPoints; ++p)
            multiply(end - begin, inputs + p * channels, stride,
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
    constexpr int kPoints = W::kPoints, kTile = W::kTile;
    const int64_t channels = map.channels, pitch = map.columns * channels;
    for (int64_t c = 0; c < channels; c += kLanes) {
        Floats sum = load(bias_gradient + c);
        transform_2d<kTile, kPoints>(
            W::output_adjoint,
            [&](int j, Floats* column) {
                load_every<kTile>(gradient + pitch + (j + 1) * channels + c, pitch, column);
                Floats part = {};
                SIMGAN_FAST_UNROLL
                for (int i = 0; i < kTile; ++i) part += column[i];
                sum += part;
            },
            [&](int i, const Floats* row) {
                store_every<kPoints>(row, channels, points + i * kPoints * channels + c);
            });
        store(bias_gradient + c, sum);
    }
}

// The points' gradient to the pixels that the tile read. Tiles overlap by two pixels and come row
// by row: what an earlier one has written is added to.
template <class W>
void transform_input_gradient(const PaddedMap& map, TilePlace at, const float* points,
                              float* in_gradient) {
    constexpr int kPoints = W::kPoints;
    const int64_t channels = map.channels, pitch = map.columns * channels;
    const bool above = at.row > 0, before = at.column > 0;
    for (int64_t c = 0; c < channels; c += kLanes)
        transform_2d<kPoints, kPoints>(
            W::input_adjoint,
            [&](int j, Floats* column) {
                load_every<kPoints>(points + j * channels + c, kPoints * channels, column);
            },
            [&](int i, const Floats* row) {
                float* to = in_gradient + at.offset + i * pitch + c;
                SIMGAN_FAST_UNROLL
                for (int j = 0; j < kPoints; ++j, to += channels) {
                    const bool written = (i < 2 && above) || (j < 2 && before);
                    store(to, written ? load(to) + row[j] : row[j]);
                }
            });
}

// The adjoint of a convolution, a block of tiles at a time: `scratch` holds the points of their
// gradients, `inputs` those of what they read and, after the products, the gradients of these.
template <class W>
void backward_points(const PaddedMap& map, const float* gradient, const float* in, int64_t first,
                     int64_t last, float* bias_gradient, float* scratch) {
    const int64_t stride = tile_floats(W::kPoints, map.channels);
    float* inputs = scratch + kBlockTiles * stride;
    for (int64_t t = first; t < last; ++t) {
        const int64_t offset = place<W>(map, t).offset, to = (t - first) * stride;
        transform_gradient<W>(map, gradient + offset, scratch + to, bias_gradient);
        transform_input<W>(map, in + offset, inputs + to);
    }
}

template <class W>
void backward_products(const PaddedMap& map, const float* adjoint, int64_t tiles, int64_t first,
                       int64_t last, bool add, float* products, float* scratch,
                       const Stretch& ahead) {
    constexpr int64_t kCount = W::kPoints * W::kPoints;
    const int64_t channels = map.channels, stride = tile_floats(W::kPoints, channels);
    float* inputs = scratch + kBlockTiles * stride;
    for (int64_t p = first; p < last; ++p) {
        for (int64_t i = ahead.floats * p / kCount; i < ahead.floats * (p + 1) / kCount;
             i += kGroup)
            __builtin_prefetch(ahead.from + i);
        const int64_t at = p * channels, panel = p * panel_floats(channels);
        accumulate(tiles, inputs + at, scratch + at, stride, channels, add, products + panel);
        multiply(tiles, scratch + at, stride, adjoint + panel, channels, inputs + at);
    }
}

template <class W>
void backward_pixels(const PaddedMap& map, int64_t first, int64_t last, const float* scratch,
                     float* in_gradient) {
    const int64_t stride = tile_floats(W::kPoints, map.channels);
    const float* inputs = scratch + kBlockTiles * stride;
    for (int64_t t = first; t < last; ++t)
        transform_input_gradient<W>(map, place<W>(map, t), inputs + (t - first) * stride,
                                    in_gradient);
}

template <int tile>
constexpr WinogradKernels winograd_kernels() {
    using W = Winograd<tile>;
    return {W::kTile,
            W::kPoints,
            kMostRows,
            transform_weights<W>,
            convolve<W>,
            backward_points<W>,
            backward_products<W>,
            backward_pixels<W>,
            weight_gradient<W>};
}

}  // namespace
}  // namespace simgan_fast
