// A row of residual blocks: a launch for each convolution, forward and backward.
#include "cuda/convolution.h"
#include "cuda/parts.h"
#include "cuda/weight_gradient.h"
#include "residual_blocks.h"

namespace simgan_fast {
namespace {

constexpr char kForward[] = "residual_blocks", kBackward[] = "residual_blocks_backward";

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// Calls what(channels that a block works on, side of the filters, planes of the maps).
template <typename What>
void choose(const ResidualBlocksCuda& p, const What& what) {
    const auto of_side = [&](auto group, auto side) {
        p.planes == 1 ? what(group, side, Constant<1>()) : what(group, side, Constant<3>());
    };
    const auto of_group = [&](auto group) {
        p.size == 3 ? of_side(group, Constant<3>()) : of_side(group, Constant<7>());
    };
    p.channels % kLarge == 0 ? of_group(Constant<kLarge>()) : of_group(Constant<kSmall>());
}

int64_t floats_of_weight(const ResidualBlocksCuda& p) {
    return p.size * p.size * p.channels * p.channels;
}

int64_t values_of_map(const ResidualBlocksCuda& p) {
    return p.images * p.height * p.width * p.planes * p.channels;
}

// What is left to do to a map where no convolution does it: the gradients of what padding by
// reflection made of a pixel come together there, `skip` is added, and a ReLU is passed.
struct Folding {
    const void* from;  // [images, height + 2 margin, width + 2 margin, channels]
    int margin;        // 0, or half a filter
    const void* skip;  // [images, height, width, channels], or null
    const void* gate;  // the same
    void* to;          // the same; may be `skip`
    int64_t images;
    int height, width, channels;
};

// Planes or Floats are `from`, `skip` and `gate`, and what is made of them.
template <typename From, typename To>
struct Fold {
    using Params = Folding;
    static constexpr int kThreads = 256, kBlocksPerSm = 4, kSharedBytes = 0;

    // In a padded side: the reflection of row or column `i` at the first end or the last, or -1.
    SIMT_DEVICE static int reflection(int i, int side, int margin, bool first) {
        const int distance = first ? i : side - 1 - i;  // from the pixel that is not reflected
        if (distance < 1 || distance > margin) return -1;
        return first ? margin - distance : margin + side - 1 + distance;
    }

    SIMT_DEVICE static void add(const Params& p, int64_t image, int y, int x, int channel,
                                float (&sum)[2]) {
        if (y < 0 || x < 0) return;
        const int64_t height = p.height + 2 * p.margin, width = p.width + 2 * p.margin;
        float two[2];
        From::load(p.from, (image * height + y) * width + x, p.channels, channel, two);
        sum[0] += two[0];
        sum[1] += two[1];
    }

    SIMT_DEVICE static void run(const Params& p) {
        int64_t i = static_cast<int64_t>(simt::block()) * kThreads + simt::thread();
        if (i >= p.images * p.height * p.width * (p.channels / 2)) return;
        const int channel = static_cast<int>(i % (p.channels / 2)) * 2;
        const int64_t pixel = i /= p.channels / 2;
        const int x = static_cast<int>(i % p.width);
        const int y = static_cast<int>((i /= p.width) % p.height);
        const int64_t image = i / p.height;
        float sum[2] = {};
        if (p.margin == 0) {
            add(p, image, y, x, channel, sum);
        } else {
            const int ys[3] = {y + p.margin, reflection(y, p.height, p.margin, true),
                               reflection(y, p.height, p.margin, false)};
            const int xs[3] = {x + p.margin, reflection(x, p.width, p.margin, true),
                               reflection(x, p.width, p.margin, false)};
            for (int from_y : ys)
                for (int from_x : xs) add(p, image, from_y, from_x, channel, sum);
        }
        float two[2];
        if (p.skip != nullptr) {
            From::load(p.skip, pixel, p.channels, channel, two);
            sum[0] += two[0];
            sum[1] += two[1];
        }
        if (p.gate != nullptr) {
            From::load(p.gate, pixel, p.channels, channel, two);
            if (two[0] <= 0) sum[0] = 0;
            if (two[1] <= 0) sum[1] = 0;
        }
        To::store(p.to, pixel, p.channels, channel, sum);
    }
};

template <typename From, typename To>
void fold(const char* op, const ResidualBlocksCuda& p, const void* from, int margin,
          const void* skip, const void* gate, void* to, void* stream) {
    launch_for_each<Fold<From, To>>(
        op, p.images * p.height * p.width * p.channels / 2,
        {from, margin, skip, gate, to, p.images, static_cast<int>(p.height),
         static_cast<int>(p.width), static_cast<int>(p.channels)},
        stream);
}

void convolve(const char* op, const ResidualBlocksCuda& p, MapConvolution c, void* stream) {
    choose(p, [&](auto outputs, auto side, auto planes) {
        using Kernel = Convolve<outputs(), side(), planes()>;
        // Sums of 7x7 filters take so long that full tiles count for more than wide ones.
        c.tiling = (side == 3 ? tiling_of : fewest_tiles)(
            p.images, c.height, c.width,
            {Kernel::kPixels, Kernel::kAround, Kernel::kMore, Kernel::kMore});
        const int64_t groups = p.channels / outputs;
        const int64_t resident = int64_t{multiprocessors(op)} * Kernel::kBlocksPerSm;
        const int64_t blocks =
            std::min<int64_t>(c.tiling.tiles, std::max<int64_t>(1, resident / groups));
        simt::launch<Kernel>(op, blocks * groups, c, stream);
    });
}

template <typename T>
void arrange(const char* op, const ResidualBlocksCuda& p, const T* from, bool gradient,
             void* stream) {
    const Weights<T> all{from, p.arranged, 2 * p.blocks, static_cast<int>(p.channels), gradient};
    choose(p, [&](auto outputs, auto side, auto planes) {
        if constexpr (planes() == 1 || std::is_same_v<T, float>)
            launch_for_each<Arrange<T, outputs(), side(), planes()>>(
                op, all.count * floats_of_weight(p), all, stream);
    });
}

void arrange(const char* op, const ResidualBlocksCuda& p, bool gradient, void* stream) {
    if (p.bf16_weights)
        arrange(op, p, static_cast<const uint16_t*>(p.weights), gradient, stream);
    else
        arrange(op, p, static_cast<const float*>(p.weights), gradient, stream);
}

// A convolution of x that keeps its size, and does nothing else.
MapConvolution plain(const ResidualBlocksCuda& p, const uint16_t* x, int64_t number, uint16_t* y) {
    const int height = static_cast<int>(p.height), width = static_cast<int>(p.width);
    MapConvolution c{};
    c.x = {x, height, width, static_cast<int>(p.channels)};
    c.weight = p.arranged + number * p.planes * floats_of_weight(p);
    c.y = y;
    c.height = height;
    c.width = width;
    c.margin = static_cast<int>(p.size / 2);
    return c;
}

}  // namespace

void residual_blocks_of_map_cuda(const ResidualBlocksCuda& p, const uint16_t* x, uint16_t* maps,
                                 bool keep, uint16_t* y, void* stream) {
    arrange(kForward, p, false, stream);
    const int64_t map = values_of_map(p);
    const auto convolution = [&](int64_t number, const uint16_t* from, const uint16_t* skip,
                                 uint16_t* to) {
        MapConvolution c = plain(p, from, number, to);
        c.bias = p.biases + number * p.channels;
        c.skip = skip;
        c.relu = true;
        c.reflect = p.reflect;
        convolve(kForward, p, c, stream);
    };
    // Without `keep` there is room for one hidden map, and each block's output is in y.
    const uint16_t* read = x;
    for (int64_t block = 0; block < p.blocks; ++block) {
        const int64_t first = 2 * block, second = first + 1;
        uint16_t* hidden = keep ? maps + first * map : maps;
        uint16_t* to = keep && block + 1 < p.blocks ? maps + second * map : y;
        convolution(first, read, nullptr, hidden);
        convolution(second, hidden, read, to);
        read = to;
    }
}

void residual_blocks_cuda(const ResidualBlocksCuda& p, const void* x, uint16_t* map, uint16_t* maps,
                          bool keep, void* y, void* stream) {
    if (p.planes == 1)
        return residual_blocks_of_map_cuda(p, static_cast<const uint16_t*>(x), maps, keep,
                                           static_cast<uint16_t*>(y), stream);
    fold<Floats, Planes<3>>(kForward, p, x, 0, nullptr, nullptr, map, stream);
    residual_blocks_of_map_cuda(p, map, maps, keep, map, stream);
    fold<Planes<3>, Floats>(kForward, p, map, 0, nullptr, nullptr, y, stream);
}

namespace {

// Calls what(kernel, its tiling, its splits, its blocks of a split). The splits: such that there
// are as many blocks as a large GPU takes at once, or as there are tiles. The same on every GPU.
template <typename What>
void choose_gradient(const ResidualBlocksCuda& p, const What& what) {
    choose(p, [&](auto group, auto side, auto planes) {
        using Kernel = WeightGradient<group(), side(), planes()>;
        const Tiling tiling = tiling_of(
            p.images, static_cast<int>(p.height), static_cast<int>(p.width),
            {Kernel::kPixels, Kernel::kAround, Kernel::kMoreRows, Kernel::kMoreColumns, true});
        const int groups = static_cast<int>(p.channels / group);
        const int blocks = groups * groups * Kernel::kStrips;
        what(Kernel(), tiling, std::min(tiling.tiles, std::max(8, 128 / blocks)), blocks);
    });
}

template <typename T>
void weight_gradient(const ResidualBlocksCuda& p, const uint16_t* x, const uint16_t* grad,
                     int64_t number, const ResidualBlocksCudaGradients& to, void* stream) {
    const Maps maps{x, static_cast<int>(p.height), static_cast<int>(p.width),
                    static_cast<int>(p.channels)};
    T* weight = static_cast<T*>(to.weight) + number * floats_of_weight(p);
    T* bias = static_cast<T*>(to.bias) + number * p.channels;
    choose_gradient(p, [&](auto kernel, const Tiling& tiling, int splits, int blocks) {
        simt::launch<decltype(kernel)>(kBackward, int64_t{splits} * blocks,
                                       {maps, grad, to.parts, p.reflect, tiling, splits}, stream);
        launch_for_each<SumParts<T>>(
            kBackward, floats_of_weight(p) + p.channels,
            {to.parts, splits, floats_of_weight(p), p.channels, weight, bias}, stream);
    });
}

// The gradient of what convolution `number` read, plus `skip`, where `gate` is positive.
void gradient_of_input(const ResidualBlocksCuda& p, const uint16_t* grad, int64_t number,
                       const uint16_t* skip, const uint16_t* gate,
                       const ResidualBlocksCudaGradients& scratch, uint16_t* to, void* stream) {
    MapConvolution c = plain(p, grad, number, to);
    c.skip = skip;
    c.gate = gate;
    if (!p.reflect) return convolve(kBackward, p, c, stream);
    c.skip = c.gate = nullptr;
    c.y = scratch.padded;
    const int margin = c.margin;
    c.height += 2 * margin;
    c.width += 2 * margin;
    c.margin = 2 * margin;
    convolve(kBackward, p, c, stream);
    const auto fold_map = p.planes == 1 ? fold<Planes<1>, Planes<1>> : fold<Planes<3>, Planes<3>>;
    fold_map(kBackward, p, scratch.padded, margin, skip, gate, to, stream);
}

}  // namespace

int64_t residual_blocks_cuda_parts(const ResidualBlocksCuda& p) {
    int64_t floats = 0;
    choose_gradient(p, [&](auto, const Tiling&, int splits, int) {
        floats = splits * (floats_of_weight(p) + p.channels);
    });
    return floats;
}

void residual_blocks_of_map_backward_cuda(const ResidualBlocksCuda& p, const uint16_t* x, bool relu,
                                          const uint16_t* maps,
                                          const ResidualBlocksCudaGradients& to, void* stream) {
    arrange(kBackward, p, true, stream);
    const int64_t map = values_of_map(p);
    const auto weights_of = p.bf16_weights ? weight_gradient<uint16_t> : weight_gradient<float>;
    // to.map is the gradient of the second sum of a block before its ReLU, from block to block.
    for (int64_t block = p.blocks - 1; block >= 0; --block) {
        const int64_t first = 2 * block, second = first + 1;
        const uint16_t* hidden = maps + first * map;
        const uint16_t* read = block == 0 ? x : maps + (first - 1) * map;
        weights_of(p, hidden, to.map, second, to, stream);
        gradient_of_input(p, to.map, second, nullptr, hidden, to, to.hidden, stream);
        weights_of(p, read, to.hidden, first, to, stream);
        const uint16_t* gate = block > 0 || relu ? read : nullptr;
        gradient_of_input(p, to.hidden, first, to.map, gate, to, to.map, stream);
    }
}

void residual_blocks_backward_cuda(const ResidualBlocksCuda& p, const void* grad, const void* x,
                                   const void* y, uint16_t* map, const uint16_t* maps,
                                   const ResidualBlocksCudaGradients& to, void* stream) {
    if (p.planes == 1) {
        fold<Planes<1>, Planes<1>>(kBackward, p, grad, 0, nullptr, y, to.map, stream);
        return residual_blocks_of_map_backward_cuda(p, static_cast<const uint16_t*>(x), false, maps,
                                                    to, stream);
    }
    fold<Floats, Planes<3>>(kBackward, p, grad, 0, nullptr, y, to.map, stream);
    fold<Floats, Planes<3>>(kBackward, p, x, 0, nullptr, nullptr, map, stream);
    residual_blocks_of_map_backward_cuda(p, map, false, maps, to, stream);
    fold<Planes<3>, Floats>(kBackward, p, to.map, 0, nullptr, nullptr, to.x, stream);
}

}  // namespace simgan_fast
