// residual_blocks and plain loops in double beside it, for programs that are built without Python.
#pragma once

#include <array>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/scratch.h"
#include "residual_blocks.h"

namespace simgan_fast::blocks {

using Doubles = std::vector<double>;
using Floats32 = std::vector<float>;

struct Case {
    int64_t images, height, width, channels, blocks, tile, threads;
    bool reflect;
    int64_t size = 3;  // of the filters
};

inline int64_t reflected(int64_t i, int64_t size) {
    return i < 0 ? -i : i >= size ? 2 * size - 2 - i : i;
}

// For each output pixel and tap, the input pixel it reads, or -1.
template <typename Visit>
void taps(const Case& c, const Visit& visit) {
    for (int64_t n = 0; n < c.images; ++n)
        for (int64_t y = 0; y < c.height; ++y)
            for (int64_t x = 0; x < c.width; ++x)
                for (int64_t tap = 0; tap < c.size * c.size; ++tap) {
                    int64_t row = y + tap / c.size - c.size / 2;
                    int64_t column = x + tap % c.size - c.size / 2;
                    if (c.reflect) {
                        row = reflected(row, c.height);
                        column = reflected(column, c.width);
                    }
                    if (row < 0 || row >= c.height || column < 0 || column >= c.width) continue;
                    visit((n * c.height + y) * c.width + x, (n * c.height + row) * c.width + column,
                          tap);
                }
}

// weight [co][ci][taps], maps [pixels][channels].
inline Doubles convolved(const Case& c, const Doubles& in, const Floats32& weight,
                         const Floats32& bias) {
    Doubles out(in.size());
    const int64_t all = c.size * c.size;
    for (size_t i = 0; i < out.size(); ++i) out[i] = bias[i % c.channels];
    taps(c, [&](int64_t to, int64_t from, int64_t tap) {
        for (int64_t co = 0; co < c.channels; ++co)
            for (int64_t ci = 0; ci < c.channels; ++ci)
                out[to * c.channels + co] += static_cast<double>(in[from * c.channels + ci]) *
                                             weight[(co * c.channels + ci) * all + tap];
    });
    return out;
}

// Gradient of the input; adds to those of weight [co][taps][ci] and bias.
inline Doubles adjoint(const Case& c, const Doubles& in, const Doubles& gradient,
                       const Floats32& weight, double* grad_weight, double* grad_bias) {
    Doubles grad_in(in.size());
    const int64_t all = c.size * c.size;
    for (size_t i = 0; i < gradient.size(); ++i) grad_bias[i % c.channels] += gradient[i];
    taps(c, [&](int64_t to, int64_t from, int64_t tap) {
        for (int64_t co = 0; co < c.channels; ++co)
            for (int64_t ci = 0; ci < c.channels; ++ci) {
                const double g = gradient[to * c.channels + co];
                grad_in[from * c.channels + ci] += g * weight[(co * c.channels + ci) * all + tap];
                grad_weight[(co * all + tap) * c.channels + ci] += g * in[from * c.channels + ci];
            }
    });
    return grad_in;
}

inline double error(const Floats32& actual, const Doubles& expected) {
    double largest = 0, scale = 1e-30;
    for (size_t i = 0; i < expected.size(); ++i) {
        largest = std::fmax(largest, std::fabs(actual[i] - expected[i]));
        scale = std::fmax(scale, std::fabs(expected[i]));
        if (!std::isfinite(actual[i])) return INFINITY;
    }
    return largest / scale;
}

// Largest errors, in units of the largest value, of what comes out, the same without kept maps, and
// the gradients of images, weights and biases.
inline std::array<double, 5> errors_of(const Case& c, std::mt19937& random) {
    std::normal_distribution<float> normal;
    const auto numbers = [&](int64_t count, float scale) {
        Floats32 values(count);
        for (float& value : values) value = normal(random) * scale;
        return values;
    };
    const int64_t convolutions = 2 * c.blocks, taps = c.size * c.size,
                  size = c.channels * c.channels * taps;
    const int64_t pixels = c.images * c.height * c.width * c.channels;
    std::vector<Floats32> weights, biases;
    std::vector<Convolution> views;
    for (int64_t i = 0; i < convolutions; ++i) {
        weights.push_back(numbers(size, 0.9f / std::sqrt(static_cast<float>(c.channels * taps))));
        // Far from zero: no ReLU stands on its edge, where rounding decides about a gradient.
        biases.push_back(numbers(c.channels, 0.1f));
        for (int64_t j = 0; j < c.channels; ++j) biases[i][j] += j % 3 == 0 ? -30.0f : 30.0f;
    }
    for (int64_t i = 0; i < convolutions; ++i)
        views.push_back(
            {weights[i].data(), {c.channels * taps, taps, c.size, 1}, biases[i].data()});
    const ResidualBlocks p{c.images,  c.height, c.width,   c.channels, c.blocks, views.data(),
                           c.reflect, c.tile,   c.threads, nullptr,    c.size};
    const Floats32 x = numbers(pixels, 1), grad = numbers(pixels, 1);

    std::vector<Doubles> read;
    Doubles value(x.begin(), x.end());
    for (int64_t i = 0; i < convolutions; ++i) {
        read.push_back(value);
        Doubles next = convolved(c, value, weights[i], biases[i]);
        for (int64_t j = 0; j < pixels; ++j)
            next[j] = std::fmax(0, next[j] + (i % 2 == 1 ? read[i - 1][j] : 0));
        value = next;
    }
    Doubles gradient(grad.begin(), grad.end()), grad_weight(convolutions * size),
        grad_bias(convolutions * c.channels), skipped;
    for (int64_t i = convolutions - 1; i >= 0; --i) {
        const Doubles& out = i + 1 < convolutions ? read[i + 1] : value;
        for (int64_t j = 0; j < pixels; ++j) gradient[j] = out[j] > 0 ? gradient[j] : 0;
        if (i % 2 == 1) skipped = gradient;
        gradient = adjoint(c, read[i], gradient, weights[i], &grad_weight[i * size],
                           &grad_bias[i * c.channels]);
        if (i % 2 == 0)
            for (int64_t j = 0; j < pixels; ++j) gradient[j] += skipped[j];
    }

    const PaddedMap map = padded_map(p);
    Floats32 y(pixels), inferred(pixels), grad_x(pixels), grad_w(convolutions * size),
        grad_b(convolutions * c.channels);
    Floats32 maps(c.images * convolutions * map.rows * map.columns * map.channels, NAN);
    residual_blocks_cpu(p, x.data(), y.data(), maps.data());
    residual_blocks_cpu(p, x.data(), inferred.data(), nullptr);
    residual_blocks_backward_cpu(
        p, grad.data(), nullptr, y.data(), maps.data(),
        {grad_x.data(), grad_w.data(), grad_b.data(), nullptr, nullptr, nullptr, nullptr});
    forget_weights();
    return {error(y, value), error(inferred, value), error(grad_x, gradient),
            error(grad_w, grad_weight), error(grad_b, grad_bias)};
}

// With ends, whose values and gradients the Python tests check: here only that all is written, and
// nothing beside it.
inline bool ends_are_written(const Case& c, int64_t in, int64_t out) {
    const int64_t taps = c.size * c.size;
    const Floats32 weight(taps * c.channels * c.channels, 0.01f), bias(c.channels, 0.1f);
    const Floats32 first(c.channels * in * taps, 0.1f), last(out * c.channels, 0.1f),
        shift(out, 1.0f);
    const std::vector<Convolution> views(
        2 * c.blocks, {weight.data(), {c.channels * taps, taps, c.size, 1}, bias.data()});
    const RefinerEnds ends{in,
                           out,
                           {first.data(), {in * taps, taps, c.size, 1}, bias.data()},
                           {last.data(), {c.channels, 1, 1, 1}, shift.data()}};
    const ResidualBlocks p{c.images,  c.height, c.width,   c.channels, c.blocks, views.data(),
                           c.reflect, c.tile,   c.threads, &ends,      c.size};
    const int64_t pixels = c.images * c.height * c.width;
    const PaddedMap map = padded_map(p);
    const Floats32 x(pixels * in, 0.5f), grad(pixels * out, 1.0f);
    Floats32 y(pixels * out, NAN), weights(2 * c.blocks * weight.size(), NAN),
        biases(2 * c.blocks * c.channels, NAN), grad_first(first.size(), NAN),
        grad_bias(bias.size(), NAN), grad_last(last.size(), NAN), grad_shift(out, NAN);
    Floats32 maps(c.images * (2 * c.blocks + 1) * map.rows * map.columns * map.channels, NAN);
    residual_blocks_cpu(p, x.data(), y.data(), maps.data());
    residual_blocks_backward_cpu(p, grad.data(), x.data(), nullptr, maps.data(),
                                 {nullptr, weights.data(), biases.data(), grad_first.data(),
                                  grad_bias.data(), grad_last.data(), grad_shift.data()});
    bool good = std::fabs(grad_shift[0] / static_cast<float>(pixels) - 1) < 1e-5f;
    for (const Floats32* values :
         {&y, &weights, &biases, &grad_first, &grad_bias, &grad_last, &grad_shift})
        for (const float value : *values) good = good && std::isfinite(value);
    return good;
}

}  // namespace simgan_fast::blocks
