#include "cpu/residual_blocks_layout.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "cpu/dispatch.h"

namespace simgan_fast {

PaddedMap padded_map(const ResidualBlocks& p) {
    if (p.size != 3)
        return {p.height, p.width, up_to(p.channels, kChannelGroup), 0, 0, p.height, p.width, 0};
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

ImageSize image_size(const ResidualBlocks& p) {
    return {p.ends->in_channels, p.height, p.width, p.size / 2};
}

int64_t bordered_floats(const ResidualBlocks& p) {
    return p.ends == nullptr
               ? 0
               : p.ends->in_channels * (p.height + p.size - 1) * (p.width + p.size - 1);
}

SmallWeights::SmallWeights(const ResidualBlocks& p, int64_t channels)
    : biases(2 * p.blocks * channels), channels_(channels) {
    for (int64_t i = 0; i < 2 * p.blocks; ++i)
        std::copy_n(p.convolutions[i].bias, p.channels, &biases[i * channels]);
    if (p.ends == nullptr) return;
    const RefinerEnds& e = *p.ends;
    const int64_t size = p.size, taps = size * size;
    first.resize(taps * e.in_channels * channels);
    first_bias.resize(channels);
    last.resize(e.out_channels * channels);
    std::copy_n(e.first.bias, p.channels, first_bias.data());
    for (int64_t co = 0; co < p.channels; ++co) {
        for (int64_t ci = 0; ci < e.in_channels; ++ci)
            for (int64_t tap = 0; tap < taps; ++tap)
                first[(ci * taps + tap) * channels + co] =
                    e.first
                        .weight[co * e.first.strides[0] + ci * e.first.strides[1] +
                                tap / size * e.first.strides[2] + tap % size * e.first.strides[3]];
        for (int64_t out = 0; out < e.out_channels; ++out)
            last[out * channels + co] =
                e.last.weight[out * e.last.strides[0] + co * e.last.strides[1]];
    }
}

}  // namespace simgan_fast
