// A refiner's first and last convolution, of few channels to many and of many to few, compiled once
// for every CPU level.
#pragma once

#include "cpu/vector.h"
#include "cpu/winograd.h"

namespace simgan_fast {
namespace {

constexpr int kPixels = 8;  // at once

SIMGAN_FAST_INLINE int64_t map_offset(const PaddedMap& map, int64_t row, int64_t column) {
    return ((row + map.margin) * map.columns + column + map.margin) * map.channels;
}

// One register of channels of kCount pixels in a row. image: of the first tap of the first pixel.
template <int kSize, int kCount>
SIMGAN_FAST_INLINE void first_pixels(const PaddedMap& map, const float* image, int64_t in_channels,
                                     const float* weight, Floats bias, float* to) {
    const int64_t pitch = map.width + kSize - 1, plane = (map.height + kSize - 1) * pitch;
    Floats sum[kCount];
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kCount; ++i) sum[i] = bias;
    for (int64_t channel = 0; channel < in_channels; ++channel) SIMGAN_FAST_UNROLL
    for (int y = 0; y < kSize; ++y) SIMGAN_FAST_UNROLL
    for (int x = 0; x < kSize; ++x) {
        const float* values = image + channel * plane + y * pitch + x;
        const Floats w = load(weight + ((channel * kSize + y) * kSize + x) * map.channels);
        SIMGAN_FAST_UNROLL
        for (int i = 0; i < kCount; ++i) sum[i] += splat(values[i]) * w;
    }
    SIMGAN_FAST_UNROLL
    for (int i = 0; i < kCount; ++i)
        store(to + i * map.channels, sum[i] < 0 ? splat(0) : sum[i]);  // NaN stays
}

template <int kSize>
void first_rows(const PaddedMap& map, const float* image, int64_t in_channels, const float* weight,
                const float* bias, int64_t first, int64_t last, float* to) {
    for (int64_t row = first; row < last; ++row)
        for (int64_t c = 0; c < map.channels; c += kLanes) {
            const float* values = image + row * (map.width + kSize - 1);
            float* out = to + map_offset(map, row, 0) + c;
            const Floats shift = load(bias + c);
            int64_t column = 0;
            for (; column + kPixels <= map.width; column += kPixels)
                first_pixels<kSize, kPixels>(map, values + column, in_channels, weight + c, shift,
                                             out + column * map.channels);
            for (; column < map.width; ++column)
                first_pixels<kSize, 1>(map, values + column, in_channels, weight + c, shift,
                                       out + column * map.channels);
        }
}

void first_convolution(const PaddedMap& map, int64_t size, const float* image, int64_t in_channels,
                       const float* weight, const float* bias, int64_t first, int64_t last,
                       float* to) {
    const auto run = size == 3 ? first_rows<3> : first_rows<7>;
    run(map, image, in_channels, weight, bias, first, last, to);
}

SIMGAN_FAST_INLINE float sum_of_lanes(Floats values) {
    float lanes[kLanes];
    store(lanes, values);
    for (int width = kLanes / 2; width > 0; width /= 2)
        for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
    return lanes[0];
}

void last_convolution(const PaddedMap& map, const float* from, int64_t out_channels,
                      const float* weight, const float* bias, int64_t first, int64_t last,
                      float* to) {
    for (int64_t channel = 0; channel < out_channels; ++channel)
        for (int64_t row = first; row < last; ++row)
            for (int64_t column = 0; column < map.width; ++column) {
                const float* values = from + map_offset(map, row, column);
                Floats sum = {};
                for (int64_t c = 0; c < map.channels; c += kLanes)
                    sum += load(values + c) * load(weight + channel * map.channels + c);
                to[(channel * map.height + row) * map.width + column] =
                    sum_of_lanes(sum) + bias[channel];
            }
}

void last_convolution_backward(const PaddedMap& map, const float* from, const float* gradient,
                               int64_t out_channels, const float* weight, float* to,
                               float* grad_weight, float* grad_bias) {
    const int64_t plane = map.height * map.width;
    for (int64_t channel = 0; channel < out_channels; ++channel) {
        double sum = 0;
        for (int64_t i = 0; i < plane; ++i) sum += gradient[channel * plane + i];
        grad_bias[channel] += static_cast<float>(sum);
    }
    for (int64_t c = 0; c < map.channels; c += kLanes)
        for (int64_t channel = 0; channel < out_channels; ++channel) {
            const Floats w = load(weight + channel * map.channels + c);
            Floats total = load(grad_weight + channel * map.channels + c);
            for (int64_t row = 0; row < map.height; ++row) {
                Floats sum = {};  // of a row first: shorter sums round less
                for (int64_t column = 0; column < map.width; ++column) {
                    const int64_t at = map_offset(map, row, column) + c;
                    const Floats value = load(from + at);
                    const Floats g = splat(gradient[channel * plane + row * map.width + column]);
                    sum += g * value;
                    const Floats back = value > 0 ? g * w : splat(0);
                    store(to + at, channel == 0 ? back : load(to + at) + back);
                }
                total += sum;
            }
            store(grad_weight + channel * map.channels + c, total);
        }
}

// The gradients of all taps of one row of pixels, kTaps at a time: as many as registers hold.
template <int kSize, int kTaps>
SIMGAN_FAST_INLINE void first_row_backward(const PaddedMap& map, const float* image,
                                           const float* gradient, float* grad_weight,
                                           float* grad_bias) {
    const int64_t pitch = map.width + kSize - 1;
    for (int first = 0; first < kSize * kSize; first += kTaps) {
        Floats sums[kTaps] = {}, shift = {};
        const float* values = image + first / kSize * pitch;
        for (int64_t column = 0; column < map.width; ++column, ++values) {
            const Floats g = load(gradient + column * map.channels);
            shift += g;
            SIMGAN_FAST_UNROLL
            for (int tap = 0; tap < kTaps; ++tap)
                sums[tap] += g * splat(values[tap / kSize * pitch + tap % kSize]);
        }
        SIMGAN_FAST_UNROLL
        for (int tap = 0; tap < kTaps; ++tap) {
            float* to = grad_weight + (first + tap) * map.channels;
            store(to, load(to) + sums[tap]);
        }
        if (first == 0 && grad_bias != nullptr) store(grad_bias, load(grad_bias) + shift);
    }
}

template <int kSize, int kTaps>
void first_map_backward(const PaddedMap& map, const float* image, const float* gradient,
                        int64_t in_channels, float* grad_weight, float* grad_bias) {
    const int64_t pitch = map.width + kSize - 1, plane = (map.height + kSize - 1) * pitch;
    for (int64_t c = 0; c < map.channels; c += kLanes)
        for (int64_t channel = 0; channel < in_channels; ++channel)
            for (int64_t row = 0; row < map.height; ++row)
                first_row_backward<kSize, kTaps>(
                    map, image + channel * plane + row * pitch,
                    gradient + map_offset(map, row, 0) + c,
                    grad_weight + channel * kSize * kSize * map.channels + c,
                    channel == 0 ? grad_bias + c : nullptr);
}

void first_convolution_backward(const PaddedMap& map, int64_t size, const float* image,
                                const float* gradient, int64_t in_channels, float* grad_weight,
                                float* grad_bias) {
    const auto run = size == 3 ? first_map_backward<3, 9> : first_map_backward<7, 7>;
    run(map, image, gradient, in_channels, grad_weight, grad_bias);
}

constexpr EndKernels end_kernels() {
    return {first_convolution, last_convolution, last_convolution_backward,
            first_convolution_backward};
}

}  // namespace
}  // namespace simgan_fast
