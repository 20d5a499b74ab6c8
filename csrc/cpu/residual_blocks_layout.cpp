#include "cpu/residual_blocks_layout.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu/dispatch.h"

namespace simgan_fast {
namespace {

float* pixel_at(const PaddedMap& map, float* data, int64_t row, int64_t column) {
    return data + ((row + 1) * map.columns + column + 1) * map.channels;
}

}  // namespace

PaddedMap padded_map(const ResidualBlocks& p) {
    const int64_t rows = (p.height + p.tile - 1) / p.tile,
                  columns = (p.width + p.tile - 1) / p.tile;
    return {p.height,
            p.width,
            up_to(p.channels, kChannelGroup),
            rows,
            columns,
            rows * p.tile + 2,
            columns * p.tile + 2};
}

const WinogradKernels& kernels_of(const ResidualBlocks& p) {
    for (const WinogradKernels& kernels : cpu_kernels().winograd)
        if (kernels.tile == p.tile) return kernels;
    throw std::invalid_argument("residual_blocks: tile is " + std::to_string(p.tile) +
                                "; it must be 4, 5 or 6.");
}

void fill_margin(const PaddedMap& map, bool reflect, float* data) {
    const size_t pixel = map.channels * sizeof(float), row_bytes = map.columns * pixel;
    for (int64_t row = 0; row < map.height; ++row) {
        float* left = pixel_at(map, data, row, -1);
        float* right = pixel_at(map, data, row, map.width);
        std::memset(left, 0, pixel);
        std::memset(right, 0, (map.columns - map.width - 1) * pixel);
        if (reflect) {
            std::memcpy(left, pixel_at(map, data, row, 1), pixel);
            std::memcpy(right, pixel_at(map, data, row, map.width - 2), pixel);
        }
    }
    float* top = pixel_at(map, data, -1, -1);
    float* bottom = pixel_at(map, data, map.height, -1);
    std::memset(top, 0, row_bytes);
    std::memset(bottom, 0, (map.rows - map.height - 1) * row_bytes);
    if (reflect) {
        std::memcpy(top, pixel_at(map, data, 1, -1), row_bytes);
        std::memcpy(bottom, pixel_at(map, data, map.height - 2, -1), row_bytes);
    }
}

int64_t bordered_floats(const ResidualBlocks& p) {
    return p.ends == nullptr ? 0 : p.ends->in_channels * (p.height + 2) * (p.width + 2);
}

// it.
void add_border(const ResidualBlocks& p, const float* image, float* to) {
    const auto inside = [&](int64_t i, int64_t size) {
        return !p.reflect ? i : i < 0 ? -i : i >= size ? 2 * size - 2 - i : i;
    };
    for (int64_t channel = 0; channel < p.ends->in_channels; ++channel)
        for (int64_t y = -1; y <= p.height; ++y)
            for (int64_t x = -1; x <= p.width; ++x) {
                const int64_t row = inside(y, p.height), column = inside(x, p.width);
                const bool outside = row < 0 || row >= p.height || column < 0 || column >= p.width;
                *to++ = outside ? 0 : image[(channel * p.height + row) * p.width + column];
            }
}

SmallWeights::SmallWeights(const ResidualBlocks& p, int64_t channels)
    : biases(2 * p.blocks * channels), channels_(channels) {
    for (int64_t i = 0; i < 2 * p.blocks; ++i)
        std::copy_n(p.convolutions[i].bias, p.channels, &biases[i * channels]);
    if (p.ends == nullptr) return;
    const RefinerEnds& e = *p.ends;
    first.resize(9 * e.in_channels * channels);
    first_bias.resize(channels);
    last.resize(e.out_channels * channels);
    std::copy_n(e.first.bias, p.channels, first_bias.data());
    for (int64_t co = 0; co < p.channels; ++co) {
        for (int64_t ci = 0; ci < e.in_channels; ++ci)
            for (int64_t tap = 0; tap < 9; ++tap)
                first[(ci * 9 + tap) * channels + co] =
                    e.first.weight[co * e.first.strides[0] + ci * e.first.strides[1] +
                                   tap / 3 * e.first.strides[2] + tap % 3 * e.first.strides[3]];
        for (int64_t out = 0; out < e.out_channels; ++out)
            last[out * channels + co] =
                e.last.weight[out * e.last.strides[0] + co * e.last.strides[1]];
    }
}

}  // namespace simgan_fast
