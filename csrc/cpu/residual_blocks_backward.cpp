// Backward pass. A thread takes a few images through all blocks, the last first.
#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/residual_blocks_layout.h"
#include "cpu/residual_blocks_panels.h"
#include "cpu/slots.h"
#include "cpu/threads.h"

namespace simgan_fast {
namespace {

constexpr int64_t kImagesAtOnce = 2;  // of a slot, before their products are turned into weights

// Sums over images, of one slot: where in them each gradient lies, in floats. Those of the blocks'
// weights come first; the rest is small.
class Sums {
  public:
    Sums(const ResidualBlocks& p, int64_t channels)
        : biases(2 * p.blocks * 9 * channels * channels),
          first_weight(biases + 2 * p.blocks * channels),
          first_bias(first_weight + (p.ends ? 9 * p.ends->in_channels * channels : 0)),
          last_weight(first_bias + (p.ends ? channels : 0)),
          last_bias(last_weight + (p.ends ? p.ends->out_channels * channels : 0)),
          floats(up_to(last_bias + (p.ends ? p.ends->out_channels : 0), kChannelGroup)),
          channels_(channels) {}
    int64_t weight(int64_t convolution) const {  // [3, 3, ci, co]
        return convolution * 9 * channels_ * channels_;
    }
    int64_t bias(int64_t convolution) const { return biases + convolution * channels_; }
    const int64_t biases, first_weight, first_bias, last_weight, last_bias, floats;

  private:
    int64_t channels_;
};

class Backward {
  public:
    Backward(const ResidualBlocks& p, const float* grad, const float* x, const float* y,
             const float* maps)
        : p_(p),
          kernels_(kernels_of(p)),
          at_(p),
          panels_(p, kernels_, true),
          small_(p, at_.map.channels),
          grad_(grad),
          x_(x),
          y_(y),
          maps_(maps),
          slots_(slots_of(p.images)),
          threads_of_an_image_(2 * slots_ <= p.threads ? p.threads : 1),
          tile_blocks_(kernels_.rows, 0, at_.tiles()),
          sum_(p, at_.map.channels),
          product_floats_(kernels_.points * kernels_.points * panel_floats(at_.map.channels)),
          own_floats_((1 + 2 * kImagesAtOnce) * at_.floats + product_floats_ +
                      2 * scratch_floats(kernels_, at_.map.channels) + bordered_floats(p)),
          sums_(slots_ * sum_.floats),
          own_(std::min(p.threads, slots_) * own_floats_) {}

    void run(const ResidualBlocksGradients& to) const {
        parallel_for(slots_, p_.threads / threads_of_an_image_, [&](int64_t slot, int64_t worker) {
            std::fill(sums(slot) + sum_.biases, sums(slot) + sum_.floats, 0.0f);
            for (int64_t i = 0; i < 2 * kImagesAtOnce; ++i)
                fill_margin(at_.map, false, gradient(worker, i));
            const int64_t end = start(slot + 1);
            for (int64_t first = start(slot); first < end; first += kImagesAtOnce)
                run_images(slot, worker, first, std::min(end, first + kImagesAtOnce), to.x);
        });
        add_slots(sums(0), slots_, sum_.floats, p_.threads);
        parallel_for(2 * p_.blocks * 9, p_.threads, [&](int64_t index, int64_t) {
            write_weight(index / 9, index % 9, to.weight);
        });
        for (int64_t i = 0; i < 2 * p_.blocks; ++i)
            std::copy_n(sums(0) + sum_.bias(i), p_.channels, to.bias + i * p_.channels);
        if (p_.ends != nullptr) write_ends(to);
    }

  private:
    // Images [first, last), block by block from the last.
    void run_images(int64_t slot, int64_t worker, int64_t first, int64_t last,
                    float* grad_x) const {
        for (int64_t image = first; image < last; ++image)
            begin(slot, worker, image, image - first);
        for (int64_t block = p_.blocks - 1; block >= 0; --block) {
            convolution(slot, worker, 2 * block + 1, first, last, 0);
            convolution(slot, worker, 2 * block, first, last, kImagesAtOnce);
        }
        for (int64_t image = first; image < last; ++image)
            finish(slot, worker, image, image - first, grad_x);
    }

    // The gradient of the last block's output before its ReLU.
    void begin(int64_t slot, int64_t worker, int64_t image, int64_t i) const {
        const float* grad = grad_ + image * at_.y_floats;
        float* to = gradient(worker, i);
        if (p_.ends == nullptr)
            return cpu_kernels().maps.read_masked(at_.map, grad, y_ + image * at_.y_floats,
                                                  p_.channels, to);
        cpu_kernels().ends.last_backward(
            at_.map, map(image, 2 * p_.blocks), grad, p_.ends->out_channels, small_.last.data(), to,
            sums(slot) + sum_.last_weight, sums(slot) + sum_.last_bias);
    }

    void finish(int64_t slot, int64_t worker, int64_t image, int64_t i, float* grad_x) const {
        if (p_.ends == nullptr)
            return cpu_kernels().maps.write(at_.map, gradient(worker, i), p_.channels, 0, p_.height,
                                            grad_x + image * at_.x_floats);
        float* bordered = own(worker) + own_floats_ - bordered_floats(p_);
        add_border(image_size(p_), p_.reflect, x_ + image * at_.x_floats, bordered);
        cpu_kernels().ends.first_backward(at_.map, p_.size, bordered, gradient(worker, i),
                                          p_.ends->in_channels, sums(slot) + sum_.first_weight,
                                          sums(slot) + sum_.first_bias);
    }

    // Convolution i of some images: their gradients are read at `from`, and those of what it read
    // are written to the other half, or, for the first of a block, with the skip connection's to
    // the skip connection's place.
    void convolution(int64_t slot, int64_t worker, int64_t i, int64_t first, int64_t last,
                     int64_t from) const {
        float* products = own(worker);
        float* in_gradient = products + product_floats_;
        float* scratch = in_gradient + at_.floats;
        const bool first_of_block = i % 2 == 0;
        const bool before_relu = i > 0 || p_.ends != nullptr;  // what it read came out of a ReLU
        for (int64_t image = first; image < last; ++image) {
            const int64_t at = image - first;
            const float* in = map(image, i);
            const float* next =
                image + 1 < last ? map(image + 1, i) : map(first, i > 0 ? i - 1 : i);
            for (int64_t block = 0; block < tile_blocks_.count(); ++block) {
                const int64_t tile = tile_blocks_.begin(block), end = tile_blocks_.end(block);
                kernels_.backward_points(at_.map, gradient(worker, from + at), in, tile, end,
                                         sums(slot) + sum_.bias(i), scratch);
                const bool at_end = block + 1 == tile_blocks_.count();
                multiply(panels_.of(i), end - tile, at > 0 || block > 0, products, scratch,
                         at_end ? rows(next, 0) : rows(in, block + 1));
                kernels_.backward_pixels(at_.map, tile, end, scratch, in_gradient);
            }
            const float* skip = first_of_block ? gradient(worker, at) : nullptr;
            float* to = gradient(worker, first_of_block ? at : kImagesAtOnce + at);
            cpu_kernels().maps.fold_masked(at_.map, p_.reflect, in_gradient, skip,
                                           before_relu ? in : nullptr, to);
        }
        kernels_.weight_gradient(at_.map.channels, products, first > start(slot),
                                 sums(slot) + sum_.weight(i));
    }

    // What a block of tiles reads of a map.
    Stretch rows(const float* in, int64_t block) const {
        const int64_t columns = at_.map.tile_columns, row = at_.map.columns * at_.map.channels;
        const int64_t first = tile_blocks_.begin(block) / columns * kernels_.tile;
        const int64_t last =
            (tile_blocks_.end(block) - 1) / columns * kernels_.tile + kernels_.points;
        return {in + first * row, (last - first) * row};
    }

    // The products at all points; where there are threads to spare, they share them.
    void multiply(const float* panels, int64_t tiles, bool add, float* products, float* scratch,
                  const Stretch& ahead) const {
        const int64_t points = kernels_.points * kernels_.points, parts = threads_of_an_image_;
        parallel_for(parts, parts, [&](int64_t part, int64_t) {
            kernels_.backward_products(at_.map, panels, tiles, points * part / parts,
                                       points * (part + 1) / parts, add, products, scratch, ahead);
        });
    }

    // One tap, from [ci, co] to [co, ., ., ci].
    void write_weight(int64_t convolution, int64_t tap, float* to) const {
        const int64_t c = p_.channels, padded = at_.map.channels;
        const float* from = sums(0) + sum_.weight(convolution) + tap * padded * padded;
        for (int64_t co = 0; co < c; ++co)
            for (int64_t ci = 0; ci < c; ++ci)
                to[((convolution * c + co) * 9 + tap) * c + ci] = from[ci * padded + co];
    }

    void write_ends(const ResidualBlocksGradients& to) const {
        const int64_t c = p_.channels, padded = at_.map.channels, in = p_.ends->in_channels;
        const float* first = sums(0) + sum_.first_weight;
        for (int64_t co = 0; co < c; ++co)
            for (int64_t tap = 0; tap < 9; ++tap)
                for (int64_t ci = 0; ci < in; ++ci)
                    to.first_weight[(co * 9 + tap) * in + ci] = first[(ci * 9 + tap) * padded + co];
        std::copy_n(sums(0) + sum_.first_bias, c, to.first_bias);
        for (int64_t out = 0; out < p_.ends->out_channels; ++out)
            std::copy_n(sums(0) + sum_.last_weight + out * padded, c, to.last_weight + out * c);
        std::copy_n(sums(0) + sum_.last_bias, p_.ends->out_channels, to.last_bias);
    }

    int64_t start(int64_t slot) const { return p_.images * slot / slots_; }
    const float* map(int64_t image, int64_t i) const {
        return maps_ + (image * at_.kept + i) * at_.floats;
    }
    float* own(int64_t worker) const { return own_.data() + worker * own_floats_; }
    float* gradient(int64_t worker, int64_t i) const {
        return own(worker) + own_floats_ - bordered_floats(p_) - (i + 1) * at_.floats;
    }
    float* sums(int64_t slot) const { return sums_.data() + slot * sum_.floats; }

    const ResidualBlocks& p_;
    const WinogradKernels& kernels_;
    const Layout at_;
    const Panels panels_;
    const SmallWeights small_;
    const float *grad_, *x_, *y_, *maps_;
    const int64_t slots_, threads_of_an_image_;
    const TileBlocks tile_blocks_;
    const Sums sum_;
    const int64_t product_floats_, own_floats_;
    const Scratch sums_;  // of each slot
    // Of each worker: products, one map not yet folded, the convolution's working memory, two maps
    // of each of kImagesAtOnce images, an image with its border.
    const Scratch own_;
};

}  // namespace

void residual_blocks_backward_cpu(const ResidualBlocks& p, const float* grad, const float* x,
                                  const float* y, const float* maps,
                                  const ResidualBlocksGradients& to) {
    if (p.size != 3) return residual_blocks_fourier_backward(p, grad, x, y, maps, to);
    Backward(p, grad, x, y, maps).run(to);
}

}  // namespace simgan_fast
