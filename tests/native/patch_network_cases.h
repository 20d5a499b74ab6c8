// patch_network and plain loops in double beside it, for programs that are built without Python.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "cpu/dispatch.h"
#include "patch_network.h"

namespace simgan_fast::patches {

using Doubles = std::vector<double>;
using Floats32 = std::vector<float>;

constexpr int kSizes[] = {3, 3, 3, 1, 1}, kStrides[] = {2, 2, 1, 1, 1};

// A map of one image, [channels, height, width].
struct Map {
    int64_t channels, height, width;
    Doubles values;
    double& at(int64_t c, int64_t y, int64_t x) { return values[(c * height + y) * width + x]; }
};

inline Map zeros(int64_t channels, int64_t height, int64_t width) {
    return {channels, height, width, Doubles(channels * height * width)};
}

// Calls visit(output row, output column, tap, input row, input column).
template <typename Visit>
void taps(const Map& in, const Map& out, int i, bool reflect, const Visit& visit) {
    const int64_t size = kSizes[i], margin = size / 2;
    const auto inside = [&](int64_t at, int64_t count) {
        return !reflect ? at : at < 0 ? -at : at >= count ? 2 * count - 2 - at : at;
    };
    for (int64_t y = 0; y < out.height; ++y)
        for (int64_t x = 0; x < out.width; ++x)
            for (int64_t tap = 0; tap < size * size; ++tap) {
                const int64_t row = inside(kStrides[i] * y + tap / size - margin, in.height);
                const int64_t column = inside(kStrides[i] * x + tap % size - margin, in.width);
                if (row < 0 || row >= in.height || column < 0 || column >= in.width) continue;
                visit(y, x, tap, row, column);
            }
}

// weight [co][ci][tap].
inline Map convolved(Map in, int i, bool reflect, const Floats32& weight, const Floats32& bias) {
    Map out = zeros(static_cast<int64_t>(bias.size()), (in.height + kStrides[i] - 1) / kStrides[i],
                    (in.width + kStrides[i] - 1) / kStrides[i]);
    const int64_t all = kSizes[i] * kSizes[i];
    for (int64_t co = 0; co < out.channels; ++co)
        for (int64_t j = 0; j < out.height * out.width; ++j)
            out.values[co * out.height * out.width + j] = bias[co];
    taps(in, out, i, reflect, [&](int64_t y, int64_t x, int64_t tap, int64_t row, int64_t column) {
        for (int64_t co = 0; co < out.channels; ++co)
            for (int64_t ci = 0; ci < in.channels; ++ci)
                out.at(co, y, x) +=
                    in.at(ci, row, column) * weight[(co * in.channels + ci) * all + tap];
    });
    return out;
}

// Gradient of the input; adds to those of weight [co][tap][ci] and bias.
inline Map adjoint(Map in, Map gradient, int i, bool reflect, const Floats32& weight,
                   Doubles& grad_weight, Doubles& grad_bias) {
    Map back = zeros(in.channels, in.height, in.width);
    const int64_t all = kSizes[i] * kSizes[i];
    const int64_t pixels = gradient.height * gradient.width;
    for (size_t j = 0; j < gradient.values.size(); ++j) grad_bias[j / pixels] += gradient.values[j];
    taps(in, gradient, i, reflect,
         [&](int64_t y, int64_t x, int64_t tap, int64_t row, int64_t column) {
             for (int64_t co = 0; co < gradient.channels; ++co)
                 for (int64_t ci = 0; ci < in.channels; ++ci) {
                     const double g = gradient.at(co, y, x);
                     back.at(ci, row, column) += g * weight[(co * in.channels + ci) * all + tap];
                     grad_weight[(co * all + tap) * in.channels + ci] += g * in.at(ci, row, column);
                 }
         });
    return back;
}

// Of each pixel, the pixel around it that is largest, the first of them.
template <typename Visit>
void pooled(Map& in, const Visit& visit) {
    for (int64_t c = 0; c < in.channels; ++c)
        for (int64_t y = 0; y < in.height; ++y)
            for (int64_t x = 0; x < in.width; ++x) {
                int64_t row = -1, column = -1;
                for (int64_t i = y - 1; i <= y + 1; ++i)
                    for (int64_t j = x - 1; j <= x + 1; ++j)
                        if (i >= 0 && i < in.height && j >= 0 && j < in.width &&
                            (row < 0 || in.at(c, i, j) > in.at(c, row, column)))
                            row = i, column = j;
                visit(c, y, x, row, column);
            }
}

// The smallest difference of the two largest values that the pooling compares, where they are
// positive: beyond a ReLU it makes no difference which of two zeros is taken.
inline double nearest_tie(Map& in) {
    double nearest = INFINITY;
    pooled(in, [&](int64_t c, int64_t y, int64_t x, int64_t row, int64_t column) {
        const double largest = in.at(c, row, column);
        for (int64_t i = std::max<int64_t>(y - 1, 0); i <= std::min(y + 1, in.height - 1); ++i)
            for (int64_t j = std::max<int64_t>(x - 1, 0); j <= std::min(x + 1, in.width - 1); ++j)
                if (largest > 0 && (i != row || j != column))
                    nearest = std::fmin(nearest, largest - in.at(c, i, j));
    });
    return nearest;
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

struct Case {
    int64_t images, channels, height, width, hidden, threads;
    bool reflect;
};

// The largest error of logits and gradients, in units of the largest value; infinity where those
// that were asked for alone are others; NaN where rounding may decide about a ReLU or the pooling.
inline double largest_error(const Case& c, std::mt19937& random) {
    std::normal_distribution<float> normal;
    const auto numbers = [&](int64_t count, float scale) {
        Floats32 values(count);
        for (float& value : values) value = normal(random) * scale;
        return values;
    };
    PatchNetwork p{c.images, c.channels, c.height, c.width, {c.hidden, 32, 16, 16, 2},
                   {},       c.reflect,  c.threads};
    Floats32 weights[kPatchConvolutions], biases[kPatchConvolutions];
    Doubles grad_weights[kPatchConvolutions], grad_biases[kPatchConvolutions];
    int64_t before = c.channels;
    for (int i = 0; i < kPatchConvolutions; ++i) {
        const int64_t all = kSizes[i] * kSizes[i];
        weights[i] = numbers(p.channels[i] * before * all,
                             0.5f / std::sqrt(static_cast<float>(before * all)));
        // Far from zero: no ReLU stands on its edge, where rounding decides about a gradient.
        biases[i] = numbers(p.channels[i], 0.1f);
        for (int64_t j = 0; j < p.channels[i]; ++j) biases[i][j] += j % 3 == 0 ? -9.0f : 9.0f;
        p.convolutions[i] = {
            weights[i].data(), {before * all, all, kSizes[i], 1}, biases[i].data()};
        grad_weights[i].resize(weights[i].size());
        grad_biases[i].resize(biases[i].size());
        before = p.channels[i];
    }
    const int64_t h1 = (c.height + 1) / 2, w1 = (c.width + 1) / 2;
    const int64_t h2 = (h1 + 1) / 2, w2 = (w1 + 1) / 2;
    const int64_t pixels = c.channels * c.height * c.width, patches = 2 * h2 * w2;
    const Floats32 images = numbers(c.images * pixels, 1), grad = numbers(c.images * patches, 1);

    Doubles logits, grad_images;
    double nearest = INFINITY;
    for (int64_t image = 0; image < c.images; ++image) {
        Map x = zeros(c.channels, c.height, c.width);
        std::copy_n(&images[image * pixels], pixels, x.values.begin());
        std::vector<Map> read, made;
        for (int i = 0; i < kPatchConvolutions; ++i) {
            read.push_back(x);
            x = convolved(x, i, c.reflect, weights[i], biases[i]);
            if (i < 4)
                for (double& value : x.values) {
                    nearest = std::fmin(nearest, std::fabs(value));
                    value = std::fmax(0, value);
                }
            made.push_back(x);
            if (i != 1) continue;
            Map in = x;
            nearest = std::fmin(nearest, nearest_tie(in));
            pooled(in, [&](int64_t channel, int64_t y, int64_t column_out, int64_t row,
                           int64_t column) {
                x.at(channel, y, column_out) = in.at(channel, row, column);
            });
        }
        logits.insert(logits.end(), x.values.begin(), x.values.end());
        std::copy_n(&grad[image * patches], patches, x.values.begin());
        for (int i = kPatchConvolutions - 1; i >= 0; --i) {
            if (i == 1) {
                Map to = zeros(x.channels, x.height, x.width);
                pooled(made[1], [&](int64_t channel, int64_t y, int64_t column_out, int64_t row,
                                    int64_t column) {
                    to.at(channel, row, column) += x.at(channel, y, column_out);
                });
                x = to;
            }
            if (i < 4)
                for (size_t j = 0; j < x.values.size(); ++j)
                    x.values[j] = made[i].values[j] > 0 ? x.values[j] : 0;
            x = adjoint(read[i], x, i, c.reflect, weights[i], grad_weights[i], grad_biases[i]);
        }
        grad_images.insert(grad_images.end(), x.values.begin(), x.values.end());
    }

    if (nearest < 2e-5) return NAN;

    Floats32 y(logits.size()), inferred(logits.size()), grad_x(grad_images.size()),
        grad_alone(grad_images.size());
    Floats32 maps(c.images * ((h1 + 2) * (w1 + 2) * c.hidden + (h2 + 2) * (w2 + 2) * 96), NAN);
    patch_network_cpu(p, images.data(), y.data(), maps.data());
    patch_network_cpu(p, images.data(), inferred.data(), nullptr);
    Floats32 of_weights[kPatchConvolutions], of_biases[kPatchConvolutions];
    PatchNetworkGradients to{grad_x.data(), {}, {}};
    for (int i = 0; i < kPatchConvolutions; ++i) {
        of_weights[i].assign(weights[i].size(), NAN);
        of_biases[i].assign(biases[i].size(), NAN);
        to.weights[i] = of_weights[i].data();
        to.biases[i] = of_biases[i].data();
    }
    patch_network_backward_cpu(p, grad.data(), images.data(), maps.data(), to);
    patch_network_backward_cpu(p, grad.data(), images.data(), maps.data(),
                               {grad_alone.data(), {}, {}});
    double largest = std::fmax(error(y, logits), error(grad_x, grad_images));
    if (y != inferred || grad_x != grad_alone) return INFINITY;
    for (int i = 0; i < kPatchConvolutions; ++i)
        largest = std::fmax(largest, std::fmax(error(of_weights[i], grad_weights[i]),
                                               error(of_biases[i], grad_biases[i])));
    return largest;
}

}  // namespace simgan_fast::patches
