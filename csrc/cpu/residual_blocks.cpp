// A row of residual blocks on the CPU. A thread takes an image through all of them while it is in
// cache; where there are fewer images than threads, the threads share an image's tiles.
#include "residual_blocks.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "cpu/dispatch.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "cpu/winograd.h"

namespace simgan_fast {
namespace {

constexpr int64_t kChannelGroup = 16;
constexpr int64_t kWeightRowsAtOnce = 16;  // of a convolution, to share the transforms out
// Images are dealt to this many sums of weight gradients, each added up in order and then together
// in order: the result does not depend on the number of threads.
constexpr int64_t kSlots = 16;
constexpr int64_t kImagesAtOnce = 4;  // of a slot, before their products are turned into weights

int64_t up_to(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

int64_t map_floats(const PaddedMap& map) {
    return map.rows * map.columns * map.channels;
}

const WinogradKernels& kernels_of(const ResidualBlocks& p) {
    for (const WinogradKernels& kernels : cpu_kernels().winograd)
        if (kernels.tile == p.tile) return kernels;
    throw std::invalid_argument("residual_blocks: tile is " + std::to_string(p.tile) +
                                "; it must be 4, 5 or 6.");
}

float* pixel_at(const PaddedMap& map, float* data, int64_t row, int64_t column) {
    return data + ((row + 1) * map.columns + column + 1) * map.channels;
}

// Fills what surrounds the pixels: one pixel of reflection or zeros, and zeros beyond it.
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

// The transformed weights of all convolutions, and their biases with zeros for padding channels.
class Weights {
  public:
    Weights(const ResidualBlocks& p, const WinogradKernels& kernels, int64_t channels, bool adjoint)
        : floats_(kernels.points * kernels.points * panel_floats(channels) + channels),
          channels_(channels),
          scratch_(2 * p.blocks * floats_) {
        const int64_t parts = channels / kWeightRowsAtOnce;
        parallel_for(2 * p.blocks * parts, p.threads, [&](int64_t index, int64_t) {
            const Convolution& from = p.convolutions[index / parts];
            const int64_t first = index % parts * kWeightRowsAtOnce, *s = from.strides;
            WeightView view{from.weight, p.channels, s[1], s[0], s[2], s[3]};
            if (adjoint) std::swap(view.row, view.column);
            kernels.transform_weights(view, channels, first, first + kWeightRowsAtOnce,
                                      panels(index / parts));
        });
        for (int64_t i = 0; i < 2 * p.blocks && !adjoint; ++i) {
            std::fill_n(bias(i), channels, 0.0f);
            std::copy_n(p.convolutions[i].bias, p.channels, bias(i));
        }
    }
    float* panels(int64_t convolution) const { return scratch_.data() + convolution * floats_; }
    float* bias(int64_t convolution) const { return panels(convolution) + floats_ - channels_; }

  private:
    int64_t floats_, channels_;
    Scratch scratch_;
};

// Forward pass. Map 0 is what the first convolution reads, map 2 * blocks the output of the last.
class Forward {
  public:
    Forward(const ResidualBlocks& p, const float* x, float* y, float* maps)
        : p_(p),
          kernels_(kernels_of(p)),
          map_(padded_map(p)),
          weights_(p, kernels_, map_.channels, false),
          x_(x),
          y_(y),
          maps_(maps),
          own_floats_(3 * map_floats(map_) + 2 * scratch_floats(kernels_, map_.channels)),
          own_(std::min(p.threads, std::max(p.images, tiles())) * own_floats_) {}

    void run() const {
        const int64_t whole = p_.images / p_.threads * p_.threads;
        parallel_for(whole, p_.threads, [&](int64_t image, int64_t worker) {
            read(image, worker, 0, map_.height);
            for (int64_t i = 0; i < 2 * p_.blocks; ++i) {
                fill_margin(map_, p_.reflect, map(image, worker, i));
                convolve(image, i, worker, worker, 0, tiles());
            }
            write(image, worker, 0, map_.height);
        });
        for (int64_t image = whole; image < p_.images; ++image) run_together(image);
    }

  private:
    int64_t tiles() const { return map_.tile_rows * map_.tile_columns; }

    // The maps of worker 0, the tiles shared out.
    void run_together(int64_t image) const {
        const int64_t parts = std::min(2 * p_.threads, tiles());
        const int64_t bands = std::min(p_.threads, map_.height);
        parallel_for(bands, p_.threads, [&](int64_t band, int64_t) {
            read(image, 0, map_.height * band / bands, map_.height * (band + 1) / bands);
        });
        for (int64_t i = 0; i < 2 * p_.blocks; ++i) {
            fill_margin(map_, p_.reflect, map(image, 0, i));
            parallel_for(parts, p_.threads, [&](int64_t part, int64_t worker) {
                convolve(image, i, 0, worker, tiles() * part / parts, tiles() * (part + 1) / parts);
            });
        }
        parallel_for(bands, p_.threads, [&](int64_t band, int64_t) {
            write(image, 0, map_.height * band / bands, map_.height * (band + 1) / bands);
        });
    }

    // Map i of an image that `owner` works on: kept for the backward pass, or one of three in turn.
    float* map(int64_t image, int64_t owner, int64_t i) const {
        const int64_t size = map_floats(map_);
        if (maps_ != nullptr && i < 2 * p_.blocks)
            return maps_ + (image * 2 * p_.blocks + i) * size;
        return own_.data() + owner * own_floats_ + (i % 2 == 1 ? 2 : i / 2 % 2) * size;
    }

    void read(int64_t image, int64_t owner, int64_t first, int64_t last) const {
        cpu_kernels().maps.read(map_, x_ + image * image_floats(), p_.channels, first, last,
                                map(image, owner, 0));
    }

    void write(int64_t image, int64_t owner, int64_t first, int64_t last) const {
        cpu_kernels().maps.write(map_, map(image, owner, 2 * p_.blocks), p_.channels, first, last,
                                 y_ + image * image_floats());
    }

    void convolve(int64_t image, int64_t i, int64_t owner, int64_t worker, int64_t first,
                  int64_t last) const {
        const float* skip = i % 2 == 1 ? map(image, owner, i - 1) : nullptr;
        kernels_.convolve(map_, weights_.panels(i), weights_.bias(i), map(image, owner, i), skip,
                          map(image, owner, i + 1), first, last,
                          own_.data() + worker * own_floats_ + 3 * map_floats(map_));
    }

    int64_t image_floats() const { return p_.height * p_.width * p_.channels; }

    const ResidualBlocks& p_;
    const WinogradKernels& kernels_;
    const PaddedMap map_;
    const Weights weights_;
    const float* x_;
    float* y_;
    float* maps_;
    const int64_t own_floats_;
    const Scratch own_;  // of each worker: three maps, and the convolution's working memory
};

class Backward {
  public:
    Backward(const ResidualBlocks& p, const float* grad, const float* y, const float* maps,
             float* grad_x)
        : p_(p),
          kernels_(kernels_of(p)),
          map_(padded_map(p)),
          weights_(p, kernels_, map_.channels, true),
          grad_(grad),
          y_(y),
          maps_(maps),
          grad_x_(grad_x),
          slots_(std::min(p.images, kSlots)),
          sum_floats_(9 * map_.channels * map_.channels + map_.channels),
          product_floats_(kernels_.points * kernels_.points * panel_floats(map_.channels)),
          own_floats_((1 + 2 * kImagesAtOnce) * map_floats(map_) + product_floats_ +
                      2 * scratch_floats(kernels_, map_.channels)),
          sums_(slots_ * 2 * p.blocks * sum_floats_),
          own_(std::min(p.threads, slots_) * own_floats_) {}

    void run(float* grad_weight, float* grad_bias) const {
        parallel_for(slots_, p_.threads, [&](int64_t slot, int64_t worker) {
            std::memset(sums(slot, 0), 0, 2 * p_.blocks * sum_floats_ * sizeof(float));
            for (int64_t i = 0; i < 2 * kImagesAtOnce; ++i)
                fill_margin(map_, false, gradient(worker, i));
            const int64_t end = p_.images * (slot + 1) / slots_;
            for (int64_t first = p_.images * slot / slots_; first < end; first += kImagesAtOnce)
                run_images(slot, worker, first, std::min(end, first + kImagesAtOnce));
        });
        add_up(grad_weight, grad_bias);
    }

  private:
    // Images [first, last), block by block from the last.
    void run_images(int64_t slot, int64_t worker, int64_t first, int64_t last) const {
        const MapKernels& pass = cpu_kernels().maps;
        const int64_t image_floats = p_.height * p_.width * p_.channels;
        for (int64_t i = first; i < last; ++i)
            pass.read_masked(map_, grad_ + i * image_floats, y_ + i * image_floats, p_.channels,
                             gradient(worker, i - first));
        for (int64_t block = p_.blocks - 1; block >= 0; --block) {
            convolution(slot, worker, 2 * block + 1, first, last, 0);
            convolution(slot, worker, 2 * block, first, last, kImagesAtOnce);
        }
        for (int64_t i = first; i < last; ++i)
            pass.write(map_, gradient(worker, i - first), p_.channels, 0, map_.height,
                       grad_x_ + i * image_floats);
    }

    // Convolution i of some images: their gradients are read at `from`, and those of what it read
    // are written to the other half, or, for the first of a block, with the skip connection's to
    // the skip connection's place.
    void convolution(int64_t slot, int64_t worker, int64_t i, int64_t first, int64_t last,
                     int64_t from) const {
        float* products = own(worker);
        float* in_gradient = products + product_floats_;
        float* scratch = in_gradient + map_floats(map_);
        const bool first_of_block = i % 2 == 0;
        for (int64_t image = first; image < last; ++image) {
            const int64_t at = image - first;
            const float* in = maps_ + (image * 2 * p_.blocks + i) * map_floats(map_);
            kernels_.backward(map_, weights_.panels(i), gradient(worker, from + at), in,
                              in_gradient, at > 0, products, bias_sums(slot, i), scratch);
            const float* skip = first_of_block ? gradient(worker, at) : nullptr;
            float* to = gradient(worker, first_of_block ? at : kImagesAtOnce + at);
            cpu_kernels().maps.fold_masked(map_, p_.reflect, in_gradient, skip,
                                           i == 0 ? nullptr : in, to);
        }
        kernels_.weight_gradient(map_.channels, products, sums(slot, i));
    }

    // The slots' sums in their order, from [3, 3, ci, co] to [co, 3, 3, ci].
    void add_up(float* grad_weight, float* grad_bias) const {
        const int64_t c = p_.channels, padded = map_.channels;
        parallel_for(2 * p_.blocks * 9, p_.threads, [&](int64_t index, int64_t) {
            const int64_t convolution = index / 9, tap = index % 9;
            float* total = sums(0, convolution) + tap * padded * padded;
            for (int64_t slot = 1; slot < slots_; ++slot)
                add(sums(slot, convolution) + tap * padded * padded, padded * padded, total);
            for (int64_t co = 0; co < c; ++co) {
                float* to = grad_weight + ((convolution * c + co) * 9 + tap) * c;
                for (int64_t ci = 0; ci < c; ++ci) to[ci] = total[ci * padded + co];
            }
        });
        for (int64_t i = 0; i < 2 * p_.blocks; ++i) {
            for (int64_t slot = 1; slot < slots_; ++slot)
                add(bias_sums(slot, i), c, bias_sums(0, i));
            std::copy_n(bias_sums(0, i), c, grad_bias + i * c);
        }
    }

    static void add(const float* from, int64_t count, float* to) {
        for (int64_t i = 0; i < count; ++i) to[i] += from[i];
    }

    float* own(int64_t worker) const { return own_.data() + worker * own_floats_; }
    float* gradient(int64_t worker, int64_t i) const {
        return own(worker) + own_floats_ - (i + 1) * map_floats(map_);
    }
    float* sums(int64_t slot, int64_t convolution) const {
        return sums_.data() + (slot * 2 * p_.blocks + convolution) * sum_floats_;
    }
    float* bias_sums(int64_t slot, int64_t convolution) const {
        return sums(slot, convolution) + sum_floats_ - map_.channels;
    }

    const ResidualBlocks& p_;
    const WinogradKernels& kernels_;
    const PaddedMap map_;
    const Weights weights_;
    const float *grad_, *y_, *maps_;
    float* grad_x_;
    const int64_t slots_, sum_floats_, product_floats_, own_floats_;
    const Scratch sums_;  // of each slot and convolution: weight gradients, then the bias's
    // Of each worker: products, one map not yet folded, the convolution's working memory, and two
    // maps of each of kImagesAtOnce images.
    const Scratch own_;
};

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

void residual_blocks_cpu(const ResidualBlocks& p, const float* x, float* y, float* maps) {
    Forward(p, x, y, maps).run();
}

void residual_blocks_backward_cpu(const ResidualBlocks& p, const float* grad, const float* y,
                                  const float* maps, float* grad_x, float* grad_weight,
                                  float* grad_bias) {
    Backward(p, grad, y, maps, grad_x).run(grad_weight, grad_bias);
}

}  // namespace simgan_fast
