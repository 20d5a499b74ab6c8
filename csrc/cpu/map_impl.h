// Plain passes over padded maps, compiled once for every CPU level.
#pragma once

#include "cpu/vector.h"
#include "cpu/winograd.h"

namespace simgan_fast {
namespace {

SIMGAN_FAST_INLINE float* pixel(const PaddedMap& map, float* data, int64_t row, int64_t column) {
    return data + ((row + map.margin) * map.columns + column + map.margin) * map.channels;
}

SIMGAN_FAST_INLINE const float* pixel(const PaddedMap& map, const float* data, int64_t row,
                                      int64_t column) {
    return data + ((row + map.margin) * map.columns + column + map.margin) * map.channels;
}

// Pixels of `channels` floats to pixels of `padded` ones, the rest zero.
SIMGAN_FAST_INLINE void copy_pixels(const float* from, int64_t channels, float* to, int64_t padded,
                                    int64_t count) {
    if (channels == padded) {
        std::memcpy(to, from, count * channels * sizeof(float));
        return;
    }
    for (int64_t i = 0; i < count; ++i) {
        std::memcpy(to + i * padded, from + i * channels, channels * sizeof(float));
        std::memset(to + i * padded + channels, 0, (padded - channels) * sizeof(float));
    }
}

void read_map(const PaddedMap& map, const float* x, int64_t channels, int64_t first, int64_t last,
              float* to) {
    for (int64_t row = first; row < last; ++row)
        copy_pixels(x + row * map.width * channels, channels, pixel(map, to, row, 0), map.channels,
                    map.width);
}

void write_map(const PaddedMap& map, const float* from, int64_t channels, int64_t first,
               int64_t last, float* y) {
    for (int64_t row = first; row < last; ++row) {
        float* to = y + row * map.width * channels;
        const float* in = pixel(map, from, row, 0);
        if (channels == map.channels) {
            std::memcpy(to, in, map.width * channels * sizeof(float));
            continue;
        }
        for (int64_t i = 0; i < map.width; ++i)
            std::memcpy(to + i * channels, in + i * map.channels, channels * sizeof(float));
    }
}

void read_masked_map(const PaddedMap& map, const float* gradient, const float* y, int64_t channels,
                     float* to) {
    for (int64_t row = 0; row < map.height; ++row)
        for (int64_t column = 0; column < map.width; ++column) {
            const int64_t at = (row * map.width + column) * channels;
            float* out = pixel(map, to, row, column);
            for (int64_t c = 0; c < channels; ++c) out[c] = y[at + c] > 0 ? gradient[at + c] : 0;
            for (int64_t c = channels; c < map.channels; ++c) out[c] = 0;
        }
}

SIMGAN_FAST_INLINE void add_pixels(const PaddedMap& map, float* to, const float* from,
                                   int64_t count) {
    for (int64_t i = 0; i < count * map.channels; i += kLanes)
        store(to + i, load(to + i) + load(from + i));
}

// Reflection put row 1 above row 0 and row h - 2 below row h - 1, columns alike: their gradients go
// back, first the columns' of every row of the margin too, then the rows'.
SIMGAN_FAST_INLINE void fold_margin(const PaddedMap& map, float* gradient) {
    for (int64_t row = -1; row <= map.height; ++row) {
        add_pixels(map, pixel(map, gradient, row, 1), pixel(map, gradient, row, -1), 1);
        add_pixels(map, pixel(map, gradient, row, map.width - 2),
                   pixel(map, gradient, row, map.width), 1);
    }
    add_pixels(map, pixel(map, gradient, 1, 0), pixel(map, gradient, -1, 0), map.width);
    add_pixels(map, pixel(map, gradient, map.height - 2, 0), pixel(map, gradient, map.height, 0),
               map.width);
}

void fold_masked_map(const PaddedMap& map, bool reflect, float* gradient, const float* skip,
                     const float* value, float* to) {
    if (reflect) fold_margin(map, gradient);
    for (int64_t row = 0; row < map.height; ++row) {
        const int64_t begin = ((row + 1) * map.columns + 1) * map.channels;
        for (int64_t i = begin; i < begin + map.width * map.channels; i += kLanes) {
            Floats sum = load(gradient + i);
            if (skip != nullptr) sum += load(skip + i);
            if (value != nullptr) sum = load(value + i) > 0 ? sum : splat(0);
            store(to + i, sum);
        }
    }
}

constexpr MapKernels map_kernels() {
    return {read_map, write_map, read_masked_map, fold_masked_map};
}

}  // namespace
}  // namespace simgan_fast
