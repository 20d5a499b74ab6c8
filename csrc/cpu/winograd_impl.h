// Winograd's convolution F(m, 3) of one image, compiled once for every CPU level. All channels of a
// block of tiles are transformed, multiplied point by point with the transformed weights, and
// transformed back, while they are in the second-level cache.
#pragma once

#include "cpu/winograd.h"
#include "cpu/winograd_transforms.h"

namespace simgan_fast {
namespace {

// Registers of the inner product: kMostRows x kStrip sums, kStrip weights, one pixel.
constexpr int kStrip = 2;
#if defined(__AVX512F__)
constexpr int kMostRows = 14;
#else
constexpr int kMostRows = 6;
#endif
constexpr int kSumRows = kLanes == 16 ? 8 : 4;  // of the sums over tiles; divides 16
constexpr int64_t kBlockTiles = 28;
static_assert(kBlockTiles <= kMostBlockTiles);

// Tile t's values at point p, channel c: values + t * stride + p * channels + c.
template <class W>
int64_t tile_stride(int64_t channels) {
    return W::kPoints * W::kPoints * channels + kPanelGap;
}

// c [rows][kVectors registers] = a [rows][depth] * b [depth][kVectors registers].
template <int kRows, int kVectors>
SIMGAN_FAST_INLINE void multiply_rows(const float* a, int64_t stride, const float* b, int64_t depth,
                                      float* c) {
    Floats sum[kRows][kVectors] = {};
    const float* rows[(kRows + 3) / 4];  // one address for four rows: more would not fit registers
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kRows; i += 4) rows[i / 4] = a + i * stride;
#pragma GCC unroll 2
    for (int64_t k = 0; k < depth; ++k) {
        Floats weight[kVectors];
        SIMGAN_FAST_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            weight[v] = load(b + (k * kVectors + v) * kLanes);
            __builtin_prefetch(b + ((depth + k) * kVectors + v) * kLanes);  // the next strip
        }
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < kRows; ++i) {
            const Floats value = splat(rows[i / 4][(i % 4) * stride + k]);
            SIMGAN_FAST_UNROLL
            for (int v = 0; v < kVectors; ++v) sum[i][v] += value * weight[v];
        }
    }
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kRows; ++i) SIMGAN_FAST_UNROLL
    for (int v = 0; v < kVectors; ++v) store(c + i * stride + v * kLanes, sum[i][v]);
}

template <int kVectors, int kRows = kMostRows>
void multiply_some(int64_t rows, const float* a, int64_t stride, const float* b, int64_t depth,
                   float* c) {
    if (rows == kRows) return multiply_rows<kRows, kVectors>(a, stride, b, depth, c);
    if constexpr (kRows > 1) multiply_some<kVectors, kRows - 1>(rows, a, stride, b, depth, c);
}

// out [tiles][channels] = in [tiles][channels] * panel [channels][channels in strips], at one
// point.
SIMGAN_FAST_INLINE void multiply(int64_t tiles, const float* in, int64_t stride, const float* panel,
                                 int64_t channels, float* out) {
    const int64_t groups = (tiles + kMostRows - 1) / kMostRows;
    for (int64_t c = 0; c < channels; c += kStrip * kLanes) {
        const bool whole = channels - c >= kStrip * kLanes;
        for (int64_t group = 0; group < groups; ++group) {
            const int64_t first = tiles * group / groups, last = tiles * (group + 1) / groups;
            const auto run = whole ? multiply_some<kStrip> : multiply_some<1>;
            run(last - first, in + first * stride, stride, panel + c * channels, channels,
                out + first * stride + c);
        }
    }
}

// sums [rows][kVectors registers] = a^T b over the tiles, added to what is there if `add`.
template <int kVectors>
SIMGAN_FAST_INLINE void add_products(int64_t tiles, const float* a, const float* b, int64_t stride,
                                     bool add, float* sums, int64_t sums_stride) {
    Floats sum[kSumRows][kVectors] = {};
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kSumRows && add; ++i) SIMGAN_FAST_UNROLL
    for (int v = 0; v < kVectors; ++v) sum[i][v] = load(sums + i * sums_stride + v * kLanes);
    for (int64_t t = 0; t < tiles; ++t) {
        Floats right[kVectors];
        SIMGAN_FAST_UNROLL
        for (int v = 0; v < kVectors; ++v) right[v] = load(b + t * stride + v * kLanes);
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < kSumRows; ++i) {
            const Floats left = splat(a[t * stride + i]);
            SIMGAN_FAST_UNROLL
            for (int v = 0; v < kVectors; ++v) sum[i][v] += left * right[v];
        }
    }
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kSumRows; ++i) SIMGAN_FAST_UNROLL
    for (int v = 0; v < kVectors; ++v) store(sums + i * sums_stride + v * kLanes, sum[i][v]);
}

// panel [channels][channels] = in^T gradient over the tiles, at one point, added to what is there
// if `add`.
SIMGAN_FAST_INLINE void accumulate(int64_t tiles, const float* in, const float* gradient,
                                   int64_t stride, int64_t channels, bool add, float* panel) {
    for (int64_t c = 0; c < channels; c += kStrip * kLanes) {
        const bool whole = channels - c >= kStrip * kLanes;
        for (int64_t r = 0; r < channels; r += kSumRows) {
            float* sums = panel + r * channels + c;
            if (whole)
                add_products<kStrip>(tiles, in + r, gradient + c, stride, add, sums, channels);
            else
                add_products<1>(tiles, in + r, gradient + c, stride, add, sums, channels);
        }
    }
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
    float* products = scratch + kMostBlockTiles * stride;
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

template <class W>
void backward(const PaddedMap& map, const float* adjoint, const float* gradient, const float* in,
              float* in_gradient, bool add, float* products, float* bias_gradient, float* scratch) {
    const int64_t channels = map.channels, stride = tile_stride<W>(channels);
    const int64_t tiles = map.tile_rows * map.tile_columns;
    const int64_t blocks = (tiles + kBlockTiles - 1) / kBlockTiles;
    float* inputs = scratch + kMostBlockTiles * stride;  // later their gradients
    for (int64_t block = 0; block < blocks; ++block) {
        const int64_t begin = tiles * block / blocks, end = tiles * (block + 1) / blocks;
        for (int64_t t = begin; t < end; ++t) {
            const int64_t offset = place<W>(map, t).offset, to = (t - begin) * stride;
            transform_gradient<W>(map, gradient + offset, scratch + to, bias_gradient);
            transform_input<W>(map, in + offset, inputs + to);
        }
        for (int64_t p = 0; p < W::kPoints * W::kPoints; ++p) {
            const int64_t at = p * channels, panel = p * panel_floats(channels);
            accumulate(end - begin, inputs + at, scratch + at, stride, channels, add || block > 0,
                       products + panel);
            multiply(end - begin, scratch + at, stride, adjoint + panel, channels, inputs + at);
        }
        for (int64_t t = begin; t < end; ++t)
            transform_input_gradient<W>(map, place<W>(map, t), inputs + (t - begin) * stride,
                                        in_gradient);
    }
}

// Where panel [row][column] lies: strips of columns, each contiguous, as multiply_rows reads them.
SIMGAN_FAST_INLINE int64_t in_strips(int64_t channels, int64_t row, int64_t column) {
    const int64_t strip = column / (kStrip * kLanes) * (kStrip * kLanes);
    const int64_t left = channels - strip;
    const int64_t width = left < kStrip * kLanes ? left : kStrip * kLanes;
    return strip * channels + row * width + column - strip;
}

// One row and sixteen columns of the weights, zero where there is none.
SIMGAN_FAST_INLINE void gather_kernels(const WeightView& from, int64_t row, int64_t column,
                                       double kernels[3][3][kGroup]) {
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j)
            for (int64_t lane = 0; lane < kGroup; ++lane) {
                const bool inside = row < from.channels && column + lane < from.channels;
                kernels[i][j][lane] =
                    inside ? from.weight[row * from.row + (column + lane) * from.column +
                                         i * from.kernel_row + j * from.kernel_column]
                           : 0;
            }
}

// G g G^T in double, rounded once.
template <class W>
void transform_weights(const WeightView& from, int64_t channels, int64_t first, int64_t last,
                       float* panels) {
    constexpr int kPoints = W::kPoints;
    for (int64_t row = first; row < last; ++row) {
        for (int64_t column = 0; column < channels; column += kGroup) {
            double kernels[3][3][kGroup], half[kPoints][3][kGroup];
            gather_kernels(from, row, column, kernels);
            for (int p = 0; p < kPoints; ++p)
                for (int j = 0; j < 3; ++j)
                    for (int lane = 0; lane < kGroup; ++lane)
                        half[p][j][lane] = W::kKernel[p][0] * kernels[0][j][lane] +
                                           W::kKernel[p][1] * kernels[1][j][lane] +
                                           W::kKernel[p][2] * kernels[2][j][lane];
            for (int p = 0; p < kPoints; ++p) {
                for (int q = 0; q < kPoints; ++q) {
                    float values[kGroup];
                    for (int lane = 0; lane < kGroup; ++lane)
                        values[lane] = static_cast<float>(W::kKernel[q][0] * half[p][0][lane] +
                                                          W::kKernel[q][1] * half[p][1][lane] +
                                                          W::kKernel[q][2] * half[p][2][lane]);
                    float* panel = panels + (p * kPoints + q) * panel_floats(channels);
                    for (int lane = 0; lane < kGroup; lane += kLanes)
                        store(panel + in_strips(channels, row, column + lane), load(values + lane));
                }
            }
        }
    }
}

// G^T (products) G.
template <class W>
void weight_gradient(int64_t channels, const float* products, bool add, float* gradient) {
    constexpr int kPoints = W::kPoints;
    const int64_t panel = panel_floats(channels), size = channels * channels;
    for (int64_t e = 0; e < size; e += kLanes) {
        Floats half[3][kPoints] = {};
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < kPoints; ++i) SIMGAN_FAST_UNROLL
        for (int j = 0; j < kPoints; ++j) {
            const Floats value = load(products + (i * kPoints + j) * panel + e);
            SIMGAN_FAST_UNROLL
            for (int a = 0; a < 3; ++a) half[a][j] += value * static_cast<float>(W::kKernel[i][a]);
        }
        SIMGAN_FAST_UNROLL
        for (int a = 0; a < 3; ++a) SIMGAN_FAST_UNROLL
        for (int b = 0; b < 3; ++b) {
            float* to = gradient + (a * 3 + b) * size + e;
            Floats sum = add ? load(to) : splat(0);
            SIMGAN_FAST_UNROLL
            for (int j = 0; j < kPoints; ++j)
                sum += half[a][j] * static_cast<float>(W::kKernel[j][b]);
            store(to, sum);
        }
    }
}

template <int tile>
constexpr WinogradKernels winograd_kernels() {
    using W = Winograd<tile>;
    return {W::kTile,    W::kPoints,  transform_weights<W>,
            convolve<W>, backward<W>, weight_gradient<W>};
}

}  // namespace
}  // namespace simgan_fast
