// Forward pass. A thread takes an image through all blocks while it is in cache; where there are
// fewer images than threads, the threads share an image's tiles.
#include <algorithm>

#include "cpu/dispatch.h"
#include "cpu/residual_blocks_layout.h"
#include "cpu/residual_blocks_panels.h"
#include "cpu/threads.h"

namespace simgan_fast {
namespace {

// Map 0 is what the first convolution of the blocks reads, map 2 * blocks the output
// of the last.
class Forward {
  public:
    Forward(const ResidualBlocks& p, const float* x, float* y, float* maps)
        : p_(p),
          kernels_(kernels_of(p)),
          at_(p),
          panels_(forward_panels(p, kernels_, maps == nullptr)),
          small_(p, at_.map.channels),
          x_(x),
          y_(y),
          maps_(maps),
          own_floats_(3 * at_.floats + scratch_floats(kernels_, at_.map.channels) +
                      bordered_floats(p)),
          own_(p.threads * own_floats_) {}

    void run() const {
        const int64_t whole = p_.images / p_.threads * p_.threads;
        parallel_for(whole, p_.threads, [&](int64_t image, int64_t worker) {
            prepare(image, worker);
            read(image, worker, 0, p_.height);
            for (int64_t i = 0; i < 2 * p_.blocks; ++i) {
                fill_margin(at_.map, p_.reflect, map(image, worker, i));
                convolve(image, i, worker, worker, 0, at_.tiles());
            }
            write(image, worker, 0, p_.height);
        });
        for (int64_t image = whole; image < p_.images; ++image) run_together(image);
    }

  private:
    // The maps of worker 0, the tiles shared out.
    void run_together(int64_t image) const {
        const int64_t tiles = at_.tiles(), parts = std::min(2 * p_.threads, tiles);
        const int64_t bands = std::min(p_.threads, p_.height);
        prepare(image, 0);
        parallel_for(bands, p_.threads, [&](int64_t band, int64_t) {
            read(image, 0, p_.height * band / bands, p_.height * (band + 1) / bands);
        });
        for (int64_t i = 0; i < 2 * p_.blocks; ++i) {
            fill_margin(at_.map, p_.reflect, map(image, 0, i));
            parallel_for(parts, p_.threads, [&](int64_t part, int64_t worker) {
                convolve(image, i, 0, worker, tiles * part / parts, tiles * (part + 1) / parts);
            });
        }
        parallel_for(bands, p_.threads, [&](int64_t band, int64_t) {
            write(image, 0, p_.height * band / bands, p_.height * (band + 1) / bands);
        });
    }

    // Map i of an image that `owner` works on: kept for the backward pass, or one of three in turn.
    float* map(int64_t image, int64_t owner, int64_t i) const {
        if (maps_ != nullptr && i < at_.kept) return maps_ + (image * at_.kept + i) * at_.floats;
        return own_.data() + owner * own_floats_ + (i % 2 == 1 ? 2 : i / 2 % 2) * at_.floats;
    }
    float* bordered(int64_t owner) const {
        return own_.data() + (owner + 1) * own_floats_ - bordered_floats(p_);
    }

    void prepare(int64_t image, int64_t owner) const {
        if (p_.ends == nullptr) return;
        add_border(image_size(p_), p_.reflect, x_ + image * at_.x_floats, bordered(owner));
        // Nobody reads this margin, but what is handed out has no bits left to chance.
        if (maps_ != nullptr) fill_margin(at_.map, false, map(image, owner, 2 * p_.blocks));
    }
    void read(int64_t image, int64_t owner, int64_t first, int64_t last) const {
        float* to = map(image, owner, 0);
        if (p_.ends == nullptr)
            return cpu_kernels().maps.read(at_.map, x_ + image * at_.x_floats, p_.channels, first,
                                           last, to);
        cpu_kernels().ends.first(at_.map, p_.size, bordered(owner), p_.ends->in_channels,
                                 small_.first.data(), small_.first_bias.data(), first, last, to);
    }
    void write(int64_t image, int64_t owner, int64_t first, int64_t last) const {
        const float* from = map(image, owner, 2 * p_.blocks);
        float* to = y_ + image * at_.y_floats;
        if (p_.ends == nullptr)
            return cpu_kernels().maps.write(at_.map, from, p_.channels, first, last, to);
        cpu_kernels().ends.last(at_.map, from, p_.ends->out_channels, small_.last.data(),
                                p_.ends->last.bias, first, last, to);
    }
    void convolve(int64_t image, int64_t i, int64_t owner, int64_t worker, int64_t first,
                  int64_t last) const {
        const float* skip = i % 2 == 1 ? map(image, owner, i - 1) : nullptr;
        kernels_.convolve(at_.map, panels_->of(i), small_.bias(i), map(image, owner, i), skip,
                          map(image, owner, i + 1), first, last,
                          own_.data() + worker * own_floats_ + 3 * at_.floats);
    }

    const ResidualBlocks& p_;
    const WinogradKernels& kernels_;
    const Layout at_;
    const std::shared_ptr<const Panels> panels_;
    const SmallWeights small_;
    const float* x_;
    float* y_;
    float* maps_;
    const int64_t own_floats_;
    // Of each worker: three maps, the convolution's working memory, an image with its border.
    const Scratch own_;
};

}  // namespace

void residual_blocks_cpu(const ResidualBlocks& p, const float* x, float* y, float* maps) {
    if (p.size != 3) return residual_blocks_fourier(p, x, y, maps);
    Forward(p, x, y, maps).run();
}

}  // namespace simgan_fast
