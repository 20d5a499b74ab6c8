// The refiner: its two ends, and the blocks between them.
#include "cuda/first_convolution.h"
#include "cuda/first_gradients.h"
#include "cuda/last_convolution.h"
#include "cuda/parts.h"
#include "residual_network.h"

namespace simgan_fast {
namespace {

constexpr char kNetwork[] = "residual_network", kNetworkBackward[] = "residual_network_backward";

// The splits of a sum over `rounds` rounds of a block: as many as a large GPU takes at once, but
// none of a single round, as each leaves a part to be added. The same on every GPU.
constexpr int64_t kMostSplits = 256;
int64_t splits_of(int64_t rounds) {
    return std::min(kMostSplits, (rounds + 1) / 2);
}

int height_of(const ResidualNetworkCuda& p) {
    return static_cast<int>(p.blocks.height);
}
int width_of(const ResidualNetworkCuda& p) {
    return static_cast<int>(p.blocks.width);
}
int channels_of(const ResidualNetworkCuda& p) {
    return static_cast<int>(p.blocks.channels);
}
int64_t pixels_of(const ResidualNetworkCuda& p) {
    return p.blocks.images * p.blocks.height * p.blocks.width;
}
int64_t values_of_map(const ResidualNetworkCuda& p) {
    return pixels_of(p) * p.blocks.planes * p.blocks.channels;
}
int64_t first_weights(const ResidualNetworkCuda& p) {
    return p.blocks.channels * p.in_channels * kTaps;
}
int64_t last_weights(const ResidualNetworkCuda& p) {
    return p.blocks.channels * p.out_channels;
}

Images images_of(const ResidualNetworkCuda& p, const void* images) {
    return {images, p.bf16_images, height_of(p), width_of(p), p.blocks.reflect};
}

template <typename Kernel>
Tiling tiling_of(const ResidualNetworkCuda& p) {
    return tiling_of(p.blocks.images, height_of(p), width_of(p),
                     {Kernel::kPixels, Kernel::kAround, 2, 2});
}

// Calls what(kernel) with Kernel<1 or 3 images' channels, group of the map's channels, planes>.
template <template <int, int, int> class Kernel, typename What>
void choose(int64_t ends, const ResidualNetworkCuda& p, const What& what) {
    const auto of_planes = [&](auto planes) {
        constexpr int kPlanes = planes();
        if (p.blocks.channels % kLarge == 0)
            ends == 1 ? what(Kernel<1, kLarge, kPlanes>()) : what(Kernel<3, kLarge, kPlanes>());
        else
            ends == 1 ? what(Kernel<1, kSmall, kPlanes>()) : what(Kernel<3, kSmall, kPlanes>());
    };
    p.blocks.planes == 1 ? of_planes(std::integral_constant<int, 1>())
                         : of_planes(std::integral_constant<int, 3>());
}

// Blocks of a kernel that has enough with those that are resident at once.
template <typename Kernel>
int64_t resident(int64_t most) {
    return std::min<int64_t>(most, int64_t{multiprocessors(kNetwork)} * Kernel::kBlocksPerSm);
}

void first(const ResidualNetworkCuda& p, const void* images, uint16_t* y, void* stream) {
    choose<First>(p.in_channels, p, [&](auto kernel) {
        using Kernel = decltype(kernel);
        const Tiling tiling = tiling_of<Kernel>(p);
        const int64_t groups = p.blocks.channels / (8 * Kernel::kEights);
        simt::launch<Kernel>(
            kNetwork, resident<Kernel>(tiling.tiles) * groups,
            {images_of(p, images), p.first, p.first_bias, y, channels_of(p), tiling}, stream);
    });
}

void last(const ResidualNetworkCuda& p, const uint16_t* x, void* y, void* stream) {
    choose<Last>(p.out_channels, p, [&](auto kernel) {
        using Kernel = decltype(kernel);
        const int64_t pixels = pixels_of(p);
        simt::launch<Kernel>(kNetwork,
                             resident<Kernel>((pixels + Kernel::kThreads - 1) / Kernel::kThreads),
                             {x, p.last, p.last_bias, p.tanh, y, pixels,
                              p.blocks.height * p.blocks.width, channels_of(p)},
                             stream);
    });
}

template <typename T>
void sum_parts(const float* parts, int64_t splits, int64_t weights, int64_t biases, void* weight,
               void* bias, void* stream) {
    launch_for_each<SumParts<T>>(
        kNetworkBackward, weights + biases,
        {parts, splits, weights, biases, static_cast<T*>(weight), static_cast<T*>(bias)}, stream);
}

void last_backward(const ResidualNetworkCuda& p, const void* grad, const void* y, const uint16_t* x,
                   const ResidualNetworkCudaGradients& to, void* stream) {
    const int64_t pixels = pixels_of(p);
    int64_t splits = 0;
    choose<LastBackward>(p.out_channels, p, [&](auto kernel) {
        using Kernel = decltype(kernel);
        splits = splits_of((pixels + Kernel::kThreads - 1) / Kernel::kThreads);
        const int64_t groups = p.blocks.channels / (8 * Kernel::kEights);
        simt::launch<Kernel>(
            kNetworkBackward, splits * groups,
            {grad, p.tanh ? y : nullptr, x, p.last, to.blocks.map, to.blocks.parts, pixels,
             p.blocks.height * p.blocks.width, channels_of(p), static_cast<int>(splits)},
            stream);
    });
    const auto sum = p.blocks.bf16_weights ? sum_parts<uint16_t> : sum_parts<float>;
    sum(to.blocks.parts, splits, last_weights(p), p.out_channels, to.last_weight, to.last_bias,
        stream);
}

void first_backward(const ResidualNetworkCuda& p, const void* images, const uint16_t* grad,
                    const ResidualNetworkCudaGradients& to, void* stream) {
    int64_t splits = 0;
    choose<FirstWeights>(p.in_channels, p, [&](auto kernel) {
        using Kernel = decltype(kernel);
        const Tiling tiling = tiling_of<Kernel>(p);
        splits = splits_of(tiling.tiles);
        const int64_t groups = p.blocks.channels / (8 * Kernel::kEights);
        simt::launch<Kernel>(kNetworkBackward, splits * groups,
                             {images_of(p, images), grad, to.blocks.parts, channels_of(p), tiling,
                              static_cast<int>(splits)},
                             stream);
    });
    const auto sum = p.blocks.bf16_weights ? sum_parts<uint16_t> : sum_parts<float>;
    sum(to.blocks.parts, splits, first_weights(p), p.blocks.channels, to.first_weight,
        to.first_bias, stream);
    if (to.images == nullptr) return;
    choose<FirstInput>(p.in_channels, p, [&](auto kernel) {
        using Kernel = decltype(kernel);
        // Its rows are as many as pixels allow: there is always room for what is around them.
        const Tiling tiling =
            tiling_of(p.blocks.images, height_of(p), width_of(p), {Kernel::kPixels, 1 << 20, 2, 2});
        simt::launch<Kernel>(
            kNetworkBackward, tiling.tiles,
            {images_of(p, images), grad, p.first, to.images, channels_of(p), tiling}, stream);
    });
}

}  // namespace

void residual_network_cuda(const ResidualNetworkCuda& p, const void* images, uint16_t* maps,
                           bool keep, void* y, void* stream) {
    const int64_t map = values_of_map(p);
    // Without `keep` what the last convolution reads is where the first one's output was.
    uint16_t* read_last = keep ? maps + 2 * p.blocks.blocks * map : maps;
    first(p, images, maps, stream);
    residual_blocks_of_map_cuda(p.blocks, maps, maps + map, keep, read_last, stream);
    last(p, read_last, y, stream);
}

int64_t residual_network_cuda_parts(const ResidualNetworkCuda& p) {
    return std::max({residual_blocks_cuda_parts(p.blocks),
                     kMostSplits * (first_weights(p) + p.blocks.channels),
                     kMostSplits * (last_weights(p) + p.out_channels)});
}

void residual_network_backward_cuda(const ResidualNetworkCuda& p, const void* grad,
                                    const void* images, const void* y, const uint16_t* maps,
                                    const ResidualNetworkCudaGradients& to, void* stream) {
    const int64_t map = values_of_map(p);
    const uint16_t* read_last = maps + 2 * p.blocks.blocks * map;
    last_backward(p, grad, y, read_last, to, stream);
    residual_blocks_of_map_backward_cuda(p.blocks, maps, true, maps + map, to.blocks, stream);
    first_backward(p, images, to.blocks.map, to, stream);
}

}  // namespace simgan_fast
