// Runs one native op once, for benchmarks/instructions.py to count its instructions: those of
// `measured`. Sizes are small, as callgrind is slow, but fill every loop.
#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cpu/dispatch.h"
#include "history_exchange.h"
#include "patch_cross_entropy.h"
#include "patch_network.h"
#include "residual_blocks.h"

using namespace simgan_fast;
using Floats32 = std::vector<float>;

extern "C" __attribute__((noinline)) void measured(const std::function<void()>& run) {
    run();
}

namespace {

Floats32 numbers(int64_t count, float scale) {
    Floats32 values(count);
    for (int64_t i = 0; i < count; ++i)
        values[i] = scale * static_cast<float>((i * 7919 + 13) % 997 - 498) / 498;
    return values;
}

// One block of the paper's eyes, on four images; with 7x7 filters that of its hands, on few pixels.
void blocks(bool backward, int64_t size) {
    constexpr int64_t n = 4, height = 35, width = 55, channels = 64;
    const Floats32 weight = numbers(channels * channels * size * size, 0.05f),
                   bias = numbers(channels, 0.1f);
    const std::vector<Convolution> both(
        2, {weight.data(), {channels * size * size, 1, channels * size, channels}, bias.data()});
    const ResidualBlocks p{n, height, width, channels, 1, both.data(), true, 5, 1, nullptr, size};
    const PaddedMap map = padded_map(p);
    const Floats32 x = numbers(n * height * width * channels, 1);
    Floats32 y(x.size()), grad_x(x.size()), grad_weight(2 * weight.size()), grad_bias(2 * channels);
    Floats32 maps(n * 2 * map.rows * map.columns * map.channels);
    const auto forward = [&] { residual_blocks_cpu(p, x.data(), y.data(), maps.data()); };
    if (!backward) return measured(forward);
    forward();
    measured([&] {
        residual_blocks_backward_cpu(p, x.data(), nullptr, y.data(), maps.data(),
                                     {grad_x.data(), grad_weight.data(), grad_bias.data(), nullptr,
                                      nullptr, nullptr, nullptr});
    });
}

void discriminator(bool backward) {
    constexpr int64_t n = 4, height = 35, width = 55;
    PatchNetwork p{n, 1, height, width, {96, 64, 32, 32, 2}, {}, true, 1};
    constexpr int64_t sizes[] = {3, 3, 3, 1, 1};
    Floats32 weights[5], biases[5], grad_weights[5], grad_biases[5];
    PatchNetworkGradients to{};
    int64_t before = 1;
    for (int i = 0; i < 5; ++i) {
        const int64_t taps = sizes[i] * sizes[i];
        weights[i] = numbers(p.channels[i] * before * taps, 0.1f);
        biases[i] = numbers(p.channels[i], 0.1f);
        p.convolutions[i] = {
            weights[i].data(), {before * taps, 1, sizes[i] * before, before}, biases[i].data()};
        grad_weights[i].resize(weights[i].size());
        grad_biases[i].resize(biases[i].size());
        to.weights[i] = grad_weights[i].data();
        to.biases[i] = grad_biases[i].data();
        before = p.channels[i];
    }
    const Floats32 images = numbers(n * height * width, 1), grad = numbers(n * 2 * 9 * 14, 1);
    Floats32 logits(grad.size()), maps(n * (20 * 30 * 96 + 11 * 16 * 192));
    const auto forward = [&] { patch_network_cpu(p, images.data(), logits.data(), maps.data()); };
    if (!backward) return measured(forward);
    forward();
    measured([&] { patch_network_backward_cpu(p, grad.data(), images.data(), maps.data(), to); });
}

void cross_entropy() {
    constexpr int64_t n = 32, patches = 9 * 14;
    const Floats32 logits = numbers(n * 2 * patches, 3);
    Floats32 gradient(logits.size());
    float loss = 0;
    const PatchCrossEntropy p{logits.data(), nullptr, 1, n, patches, PatchReduction::kMean};
    measured([&] { patch_cross_entropy_cpu(p, &loss, gradient.data()); });
}

void history() {
    constexpr int64_t slots = 512, rows = 32, bytes = 35 * 55 * 4;
    std::vector<unsigned char> buffer(slots * bytes), fresh(rows * bytes), drawn(rows * bytes);
    int64_t counter = 0;
    measured([&] {
        history_exchange_cpu(
            {buffer.data(), fresh.data(), drawn.data(), &counter, slots, rows, bytes, 0, 1});
    });
}

}  // namespace

int main(int count, char** arguments) {
    const std::map<std::string, std::function<void()>> cases{
        {"residual_blocks", [] { blocks(false, 3); }},
        {"residual_blocks_backward", [] { blocks(true, 3); }},
        {"residual_blocks_7x7", [] { blocks(false, 7); }},
        {"residual_blocks_7x7_backward", [] { blocks(true, 7); }},
        {"patch_network", [] { discriminator(false); }},
        {"patch_network_backward", [] { discriminator(true); }},
        {"patch_cross_entropy", cross_entropy},
        {"history_exchange", history}};
    if (count == 2 && cases.count(arguments[1])) {
        cases.at(arguments[1])();
        return 0;
    }
    for (const auto& entry : cases) std::printf("%s\n", entry.first.c_str());
    return 0;
}
