// Residual blocks with 7x7 filters, both passes. Their maps are large: one convolution is done for
// all images before the next begins (fourier_convolver.h).
#include <algorithm>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/fourier_convolver.h"
#include "cpu/residual_blocks_layout.h"
#include "cpu/scratch.h"
#include "cpu/slots.h"
#include "cpu/threads.h"

namespace simgan_fast {
namespace {

constexpr int64_t kBands = 16;  // of an image's rows, to share plain passes out
// The forward pass takes images together until they have so many tiles: then making the panels of a
// convolution costs little beside it.
constexpr int64_t kTilesOfAGroup = 1024;

// What the convolutions of the blocks read and write.
Plane plane_of(const ResidualBlocks& p) {
    return {p.height, p.width, p.height, p.width, kFilter / 2, p.reflect};
}

// Calls work(image, first, last) for bands of rows of all images.
template <typename Work>
void for_rows(const ResidualBlocks& p, int64_t images, const Work& work) {
    const int64_t bands = std::min(kBands, p.height);
    parallel_for(images * bands, p.threads, [&](int64_t i, int64_t) {
        const int64_t band = i % bands;
        work(i / bands, p.height * band / bands, p.height * (band + 1) / bands);
    });
}

class Forward {
  public:
    Forward(const ResidualBlocks& p, const float* x, float* y, float* maps)
        : p_(p),
          at_(p),
          plane_(plane_of(p)),
          group_(std::min(p.images, (kTilesOfAGroup - 1) / plane_.tiles() + 1)),
          small_(p, at_.map.channels),
          convolver_(p, at_.map.channels, group_ * plane_.tiles(), false),
          x_(x),
          y_(y),
          maps_(maps),
          own_(group_ * (3 * at_.floats + bordered_floats(p))) {}

    void run() const {
        for (int64_t first = 0; first < p_.images; first += group_)
            run_images(first, std::min(group_, p_.images - first));
    }

  private:
    void run_images(int64_t first, int64_t count) const {
        read(first, count);
        for (int64_t i = 0; i < 2 * p_.blocks; ++i) {
            std::vector<ConvolvedMaps> maps(count);
            for (int64_t n = 0; n < count; ++n)
                maps[n] = {map(first, n, i), i % 2 == 1 ? map(first, n, i - 1) : nullptr,
                           map(first, n, i + 1)};
            convolver_.set_filters(p_.convolutions[i], p_.channels, false);
            convolver_.convolve(plane_, maps, small_.bias(i));
        }
        for_rows(p_, count, [&](int64_t n, int64_t begin, int64_t end) {
            const float* from = map(first, n, 2 * p_.blocks);
            float* to = y_ + (first + n) * at_.y_floats;
            if (p_.ends == nullptr)
                return cpu_kernels().maps.write(at_.map, from, p_.channels, begin, end, to);
            cpu_kernels().ends.last(at_.map, from, p_.ends->out_channels, small_.last.data(),
                                    p_.ends->last.bias, begin, end, to);
        });
    }

    void read(int64_t first, int64_t count) const {
        if (p_.ends != nullptr)
            parallel_for(count, p_.threads, [&](int64_t n, int64_t) {
                add_border(image_size(p_), p_.reflect, x_ + (first + n) * at_.x_floats,
                           bordered(n));
            });
        for_rows(p_, count, [&](int64_t n, int64_t begin, int64_t end) {
            if (p_.ends == nullptr)
                return cpu_kernels().maps.read(at_.map, x_ + (first + n) * at_.x_floats,
                                               p_.channels, begin, end, map(first, n, 0));
            cpu_kernels().ends.first(at_.map, p_.size, bordered(n), p_.ends->in_channels,
                                     small_.first.data(), small_.first_bias.data(), begin, end,
                                     map(first, n, 0));
        });
    }

    // Map i of image first + n: kept for the backward pass, or one of three in turn.
    float* map(int64_t first, int64_t n, int64_t i) const {
        if (maps_ != nullptr && i < at_.kept)
            return maps_ + ((first + n) * at_.kept + i) * at_.floats;
        return own_.data() + (3 * n + (i % 2 == 1 ? 2 : i / 2 % 2)) * at_.floats;
    }
    float* bordered(int64_t n) const {
        return own_.data() + group_ * 3 * at_.floats + n * bordered_floats(p_);
    }

    const ResidualBlocks& p_;
    const Layout at_;
    const Plane plane_;
    const int64_t group_;  // images at once
    const SmallWeights small_;
    const FourierConvolver convolver_;
    const float* x_;
    float* y_;
    float* maps_;
    const Scratch own_;  // three maps of each image of a group, and its pixels with their border
};

// The one or more pixels of an unfolded gradient that padding made of pixel i of `count`.
struct Sources {
    Sources(int64_t i, int64_t count, int64_t margin) {
        at[number++] = i + margin;
        if (i > 0 && i <= margin) at[number++] = margin - i;
        const int64_t beyond = count - 1 - i;
        if (beyond > 0 && beyond <= margin) at[number++] = margin + count - 1 + beyond;
    }
    int64_t at[3], number = 0;
};

class Backward {
  public:
    Backward(const ResidualBlocks& p, const float* grad, const float* x, const float* y,
             const float* maps)
        : p_(p),
          at_(p),
          plane_(plane_of(p)),
          margin_(p.reflect ? kFilter / 2 : 0),
          unfolded_plane_{p.height,
                          p.width,
                          p.height + 2 * margin_,
                          p.width + 2 * margin_,
                          kFilter / 2 + margin_,
                          false},
          unfolded_floats_(unfolded_plane_.out_height * unfolded_plane_.out_width *
                           at_.map.channels),
          group_(std::min(p.images, 2 * p.threads * kTilesTogether / plane_.tiles() + 1)),
          small_(p, at_.map.channels),
          convolver_(p, at_.map.channels, p.images * unfolded_plane_.tiles(), true),
          grad_(grad),
          x_(x),
          y_(y),
          maps_(maps),
          gradients_(2 * p.images * at_.floats),
          unfolded_(group_ * unfolded_floats_),
          sums_((kPanels + kFilter * kFilter) * at_.map.channels * at_.map.channels) {}

    void run(const ResidualBlocksGradients& to) const {
        const Ends ends(*this);
        parallel_for(ends.slots, p_.threads, [&](int64_t slot, int64_t) {
            for (int64_t n = start(slot, ends); n < start(slot + 1, ends); ++n)
                begin(n, ends.of(slot), ends);
        });
        for (int64_t i = 2 * p_.blocks - 1; i >= 0; --i) convolution(i, to);
        if (p_.ends == nullptr)
            return for_rows(p_, p_.images, [&](int64_t n, int64_t begin, int64_t end) {
                cpu_kernels().maps.write(at_.map, gradient(n, 0), p_.channels, begin, end,
                                         to.x + n * at_.x_floats);
            });
        parallel_for(ends.slots, p_.threads, [&](int64_t slot, int64_t) {
            std::vector<float> bordered(bordered_floats(p_));
            for (int64_t n = start(slot, ends); n < start(slot + 1, ends); ++n) {
                add_border(image_size(p_), p_.reflect, x_ + n * at_.x_floats, bordered.data());
                cpu_kernels().ends.first_backward(at_.map, p_.size, bordered.data(), gradient(n, 0),
                                                  p_.ends->in_channels, ends.of(slot),
                                                  ends.of(slot) + ends.first_bias);
            }
        });
        ends.write(to);
    }

  private:
    // Sums over images of the gradients of the ends' weights: where in them each lies.
    struct Ends {
        explicit Ends(const Backward& backward)
            : p(backward.p_),
              channels(backward.at_.map.channels),
              taps(kFilter * kFilter),
              in(p.ends ? p.ends->in_channels : 0),
              out(p.ends ? p.ends->out_channels : 0),
              slots(slots_of(p.images)),
              first_bias(taps * in * channels),
              last_weight(first_bias + channels),
              last_bias(last_weight + out * channels),
              floats(up_to(last_bias + out, kChannelGroup)),
              sums(slots * floats) {
            std::fill_n(sums.data(), slots * floats, 0.0f);
        }
        float* of(int64_t slot) const { return sums.data() + slot * floats; }
        void write(const ResidualBlocksGradients& to) const {
            add_slots(of(0), slots, floats, p.threads);
            const int64_t c = p.channels;
            for (int64_t co = 0; co < c; ++co)
                for (int64_t tap = 0; tap < taps; ++tap)
                    for (int64_t ci = 0; ci < in; ++ci)
                        to.first_weight[(co * taps + tap) * in + ci] =
                            of(0)[(ci * taps + tap) * channels + co];
            std::copy_n(of(0) + first_bias, c, to.first_bias);
            for (int64_t co = 0; co < out; ++co)
                std::copy_n(of(0) + last_weight + co * channels, c, to.last_weight + co * c);
            std::copy_n(of(0) + last_bias, out, to.last_bias);
        }
        const ResidualBlocks& p;
        const int64_t channels, taps, in, out, slots, first_bias, last_weight, last_bias, floats;
        const Scratch sums;
    };

    int64_t start(int64_t slot, const Ends& ends) const { return p_.images * slot / ends.slots; }

    // The gradient of the last block's output before its ReLU.
    void begin(int64_t image, float* sums, const Ends& ends) const {
        const float* grad = grad_ + image * at_.y_floats;
        if (p_.ends == nullptr)
            return cpu_kernels().maps.read_masked(at_.map, grad, y_ + image * at_.y_floats,
                                                  p_.channels, gradient(image, 0));
        cpu_kernels().ends.last_backward(
            at_.map, map(image, 2 * p_.blocks), grad, p_.ends->out_channels, small_.last.data(),
            gradient(image, 0), sums + ends.last_weight, sums + ends.last_bias);
    }

    // Convolution i of all images. The gradient of what the second of a block writes is gradient 0,
    // of what it reads gradient 1; the first's goes back to the place of the skip connection's.
    void convolution(int64_t i, const ResidualBlocksGradients& to) const {
        const int64_t from = i % 2 == 1 ? 0 : 1;
        const int64_t c = at_.map.channels, size = c * c;
        std::vector<ConvolvedMaps> maps(p_.images);
        for (int64_t n = 0; n < p_.images; ++n) maps[n] = {map(n, i), gradient(n, from), nullptr};
        std::vector<double> bias(c);
        float* weight = sums_.data() + kPanels * size;
        convolver_.weight_gradient(plane_, maps, sums_.data(), weight, bias);
        std::copy_n(bias.begin(), p_.channels, to.bias + i * p_.channels);
        write_weight(i, weight, to.weight);

        convolver_.set_filters(p_.convolutions[i], p_.channels, true);
        for (int64_t first = 0; first < p_.images; first += group_) {
            maps.resize(std::min(group_, p_.images - first));
            for (int64_t n = 0; n < static_cast<int64_t>(maps.size()); ++n)
                maps[n] = {gradient(first + n, from), nullptr,
                           unfolded_.data() + n * unfolded_floats_};
            convolver_.convolve(unfolded_plane_, maps, nullptr);
            for_rows(p_, maps.size(), [&](int64_t n, int64_t begin, int64_t end) {
                for (int64_t row = begin; row < end; ++row)
                    fold_row(i, first + n, maps[n].out, row);
            });
        }
    }

    // From [tap, ci, co] to [co, tap, ci].
    void write_weight(int64_t i, const float* from, float* to) const {
        const int64_t c = p_.channels, padded = at_.map.channels, taps = kFilter * kFilter;
        parallel_for(c, p_.threads, [&](int64_t co, int64_t) {
            for (int64_t tap = 0; tap < taps; ++tap)
                for (int64_t ci = 0; ci < c; ++ci)
                    to[((i * c + co) * taps + tap) * c + ci] =
                        from[(tap * padded + ci) * padded + co];
        });
    }

    // A row of the gradient of what convolution i read: the pixels that padding took from it are
    // added, then the skip connection's gradient, and the ReLU that made it lets through.
    void fold_row(int64_t i, int64_t image, const float* unfolded, int64_t row) const {
        const int64_t c = at_.map.channels, offset = row * p_.width * c;
        const bool first_of_block = i % 2 == 0;
        const bool before_relu = i > 0 || p_.ends != nullptr;  // what it read came out of a ReLU
        const float* value = map(image, i) + offset;
        float* skip = gradient(image, 0) + offset;
        float* to = first_of_block ? skip : gradient(image, 1) + offset;
        const Sources rows(row, p_.height, margin_);
        std::vector<float> sum(c);
        for (int64_t column = 0; column < p_.width; ++column, value += c, skip += c, to += c) {
            const Sources columns(column, p_.width, margin_);
            std::fill(sum.begin(), sum.end(), 0.0f);
            for (int64_t y = 0; y < rows.number; ++y)
                for (int64_t x = 0; x < columns.number; ++x) {
                    const float* from =
                        unfolded + (rows.at[y] * unfolded_plane_.out_width + columns.at[x]) * c;
                    for (int64_t k = 0; k < c; ++k) sum[k] += from[k];
                }
            if (first_of_block)
                for (int64_t k = 0; k < c; ++k) sum[k] += skip[k];
            for (int64_t k = 0; k < c; ++k) to[k] = !before_relu || value[k] > 0 ? sum[k] : 0;
        }
    }

    const float* map(int64_t image, int64_t i) const {
        return maps_ + (image * at_.kept + i) * at_.floats;
    }
    float* gradient(int64_t image, int64_t i) const {
        return gradients_.data() + (2 * image + i) * at_.floats;
    }

    const ResidualBlocks& p_;
    const Layout at_;
    const Plane plane_;
    const int64_t margin_;  // of an unfolded gradient: what reflection made of the pixels
    const Plane unfolded_plane_;
    const int64_t unfolded_floats_, group_;  // group_: images whose gradients are unfolded at once
    const SmallWeights small_;
    const FourierConvolver convolver_;
    const float *grad_, *x_, *y_, *maps_;
    const Scratch gradients_;  // two maps of each image
    const Scratch unfolded_;
    const Scratch sums_;  // of a convolution's weights, by frequencies and then by taps
};

}  // namespace

void residual_blocks_fourier(const ResidualBlocks& p, const float* x, float* y, float* maps) {
    Forward(p, x, y, maps).run();
}

void residual_blocks_fourier_backward(const ResidualBlocks& p, const float* grad, const float* x,
                                      const float* y, const float* maps,
                                      const ResidualBlocksGradients& to) {
    Backward(p, grad, x, y, maps).run(to);
}

}  // namespace simgan_fast
