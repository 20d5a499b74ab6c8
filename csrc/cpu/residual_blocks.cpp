// A row of residual blocks on the CPU. A thread takes an image through all of them while it is in
// cache; where there are fewer images than threads, the threads share an image's tiles.
#include "residual_blocks.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "cpu/winograd.h"

namespace simgan_fast {
namespace {

constexpr int64_t kChannelGroup = 16;
constexpr int64_t kWeightRowsAtOnce = 16;  // of a convolution, to share the transforms out
// Images are dealt to so many sums of weight gradients, each added up in order and then together in
// order: the result does not depend on the number of threads. More slots than threads cost time.
int64_t slots_of(int64_t images) {
    return images < 64 ? std::min<int64_t>(images, 8) : 16;
}
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

// The blocks' weights, transformed; for the forward pass or its adjoint.
class Panels {
  public:
    Panels(const ResidualBlocks& p, const WinogradKernels& kernels, bool adjoint)
        : channels_(up_to(p.channels, kChannelGroup)),
          floats_(kernels.points * kernels.points * panel_floats(channels_)),
          scratch_(2 * p.blocks * floats_) {
        const int64_t parts = channels_ / kWeightRowsAtOnce;
        parallel_for(2 * p.blocks * parts, p.threads, [&](int64_t index, int64_t) {
            const Convolution& from = p.convolutions[index / parts];
            const int64_t first = index % parts * kWeightRowsAtOnce, *s = from.strides;
            WeightView view{from.weight, p.channels, s[1], s[0], s[2], s[3]};
            if (adjoint) std::swap(view.row, view.column);
            kernels.transform_weights(view, channels_, first, first + kWeightRowsAtOnce,
                                      scratch_.data() + index / parts * floats_);
        });
    }
    const float* of(int64_t convolution) const { return scratch_.data() + convolution * floats_; }

  private:
    int64_t channels_, floats_;
    Scratch scratch_;
};

// The panels of the forward pass that were made last, with the weights they were made of: a user
// who refines one image after the other would spend a fifth of the time on transforming the same
// weights. Weights are compared, not their addresses: nobody has to say that they have changed.
class PanelCache {
  public:
    std::shared_ptr<const Panels> get(const ResidualBlocks& p, const WinogradKernels& kernels,
                                      bool keep) {
        for (const auto& entry : entries())
            if (entry->is_of(p)) return entry->panels;
        auto panels = std::make_shared<const Panels>(p, kernels, false);
        if (keep && dense(p)) {
            auto entry = std::make_shared<const Entry>(p, panels);
            const std::lock_guard<std::mutex> lock(mutex_);
            entries_.insert(entries_.begin(), std::move(entry));
            if (entries_.size() > kEntries) entries_.pop_back();
        }
        return panels;
    }
    void clear() {
        const std::lock_guard<std::mutex> lock(mutex_);
        entries_.clear();
    }

  private:
    static constexpr size_t kEntries = 2;

    struct Entry {
        Entry(const ResidualBlocks& p, std::shared_ptr<const Panels> made)
            : tile(p.tile), channels(p.channels), panels(std::move(made)) {
            for (int64_t i = 0; i < 2 * p.blocks; ++i) {
                const Convolution& from = p.convolutions[i];
                strides.insert(strides.end(), from.strides, from.strides + 4);
                weights.insert(weights.end(), from.weight, from.weight + floats(p));
            }
        }
        bool is_of(const ResidualBlocks& p) const {
            if (p.tile != tile || p.channels != channels ||
                8 * p.blocks != static_cast<int64_t>(strides.size()))
                return false;
            for (int64_t i = 0; i < 2 * p.blocks; ++i) {
                const Convolution& from = p.convolutions[i];
                if (!std::equal(from.strides, from.strides + 4, &strides[4 * i]) ||
                    std::memcmp(from.weight, &weights[i * floats(p)], floats(p) * sizeof(float)))
                    return false;
            }
            return true;
        }
        int64_t tile, channels;
        std::vector<int64_t> strides;
        std::vector<float> weights;
        std::shared_ptr<const Panels> panels;
    };

    static int64_t floats(const ResidualBlocks& p) { return 9 * p.channels * p.channels; }

    // Whether every weight fills one stretch of memory: contiguous or channels last.
    static bool dense(const ResidualBlocks& p) {
        const int64_t c = p.channels, plain[] = {9 * c, 9, 3, 1}, last[] = {9 * c, 1, 3 * c, c};
        return std::all_of(p.convolutions, p.convolutions + 2 * p.blocks, [&](const auto& from) {
            return std::equal(plain, plain + 4, from.strides) ||
                   std::equal(last, last + 4, from.strides);
        });
    }

    std::vector<std::shared_ptr<const Entry>> entries() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return entries_;
    }

    std::mutex mutex_;
    std::vector<std::shared_ptr<const Entry>> entries_;
};

PanelCache& panel_cache() {
    static auto* const cache =
        new PanelCache;  // never destroyed: nothing at exit may come after it
    return *cache;
}

// Small weights in the order that the loops read them, zeros for padding channels.
struct SmallWeights {
    SmallWeights(const ResidualBlocks& p, int64_t channels)
        : biases(2 * p.blocks * channels), channels_(channels) {
        for (int64_t i = 0; i < 2 * p.blocks; ++i)
            std::copy_n(p.convolutions[i].bias, p.channels, &biases[i * channels]);
        if (p.ends == nullptr) return;
        const RefinerEnds& e = *p.ends;
        first.resize(9 * e.in_channels * channels);
        first_bias.resize(channels);
        last.resize(e.out_channels * channels);
        std::copy_n(e.first.bias, p.channels, first_bias.data());
        for (int64_t co = 0; co < p.channels; ++co) {
            for (int64_t ci = 0; ci < e.in_channels; ++ci)
                for (int64_t tap = 0; tap < 9; ++tap)
                    first[(ci * 9 + tap) * channels + co] =
                        e.first.weight[co * e.first.strides[0] + ci * e.first.strides[1] +
                                       tap / 3 * e.first.strides[2] + tap % 3 * e.first.strides[3]];
            for (int64_t out = 0; out < e.out_channels; ++out)
                last[out * channels + co] =
                    e.last.weight[out * e.last.strides[0] + co * e.last.strides[1]];
        }
    }
    const float* bias(int64_t convolution) const { return &biases[convolution * channels_]; }
    std::vector<float> biases, first, first_bias, last;

  private:
    int64_t channels_;
};

int64_t bordered_floats(const ResidualBlocks& p) {
    return p.ends == nullptr ? 0 : p.ends->in_channels * (p.height + 2) * (p.width + 2);
}

// An image [in_channels, height, width] with one pixel around it, as the first convolution reads
// it.
void add_border(const ResidualBlocks& p, const float* image, float* to) {
    const auto inside = [&](int64_t i, int64_t size) {
        return !p.reflect ? i : i < 0 ? -i : i >= size ? 2 * size - 2 - i : i;
    };
    for (int64_t channel = 0; channel < p.ends->in_channels; ++channel)
        for (int64_t y = -1; y <= p.height; ++y)
            for (int64_t x = -1; x <= p.width; ++x) {
                const int64_t row = inside(y, p.height), column = inside(x, p.width);
                const bool outside = row < 0 || row >= p.height || column < 0 || column >= p.width;
                *to++ = outside ? 0 : image[(channel * p.height + row) * p.width + column];
            }
}

// What is common to both passes: how many maps an image has, and where they lie in `maps`.
struct Layout {
    explicit Layout(const ResidualBlocks& p)
        : map(padded_map(p)),
          floats(map_floats(map)),
          kept(2 * p.blocks + (p.ends ? 1 : 0)),
          x_floats(p.height * p.width * (p.ends ? p.ends->in_channels : p.channels)),
          y_floats(p.height * p.width * (p.ends ? p.ends->out_channels : p.channels)) {}
    int64_t tiles() const { return map.tile_rows * map.tile_columns; }
    PaddedMap map;
    int64_t floats;              // of a map
    int64_t kept;                // maps of an image that the backward pass wants
    int64_t x_floats, y_floats;  // of an image
};

// Forward pass. Map 0 is what the first convolution of the blocks reads, map 2 * blocks the output
// of the last.
class Forward {
  public:
    Forward(const ResidualBlocks& p, const float* x, float* y, float* maps)
        : p_(p),
          kernels_(kernels_of(p)),
          at_(p),
          panels_(panel_cache().get(p, kernels_, maps == nullptr)),
          small_(p, at_.map.channels),
          x_(x),
          y_(y),
          maps_(maps),
          own_floats_(3 * at_.floats + 2 * scratch_floats(kernels_, at_.map.channels) +
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
        add_border(p_, x_ + image * at_.x_floats, bordered(owner));
        // Nobody reads this margin, but what is handed out has no bits left to chance.
        if (maps_ != nullptr) fill_margin(at_.map, false, map(image, owner, 2 * p_.blocks));
    }
    void read(int64_t image, int64_t owner, int64_t first, int64_t last) const {
        float* to = map(image, owner, 0);
        if (p_.ends == nullptr)
            return cpu_kernels().maps.read(at_.map, x_ + image * at_.x_floats, p_.channels, first,
                                           last, to);
        cpu_kernels().ends.first(at_.map, bordered(owner), p_.ends->in_channels,
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
          sum_(p, at_.map.channels),
          product_floats_(kernels_.points * kernels_.points * panel_floats(at_.map.channels)),
          own_floats_((1 + 2 * kImagesAtOnce) * at_.floats + product_floats_ +
                      2 * scratch_floats(kernels_, at_.map.channels) + bordered_floats(p)),
          sums_(slots_ * sum_.floats),
          own_(std::min(p.threads, slots_) * own_floats_) {}

    void run(const ResidualBlocksGradients& to) const {
        parallel_for(slots_, p_.threads, [&](int64_t slot, int64_t worker) {
            std::fill(sums(slot) + sum_.biases, sums(slot) + sum_.floats, 0.0f);
            for (int64_t i = 0; i < 2 * kImagesAtOnce; ++i)
                fill_margin(at_.map, false, gradient(worker, i));
            const int64_t end = start(slot + 1);
            for (int64_t first = start(slot); first < end; first += kImagesAtOnce)
                run_images(slot, worker, first, std::min(end, first + kImagesAtOnce), to.x);
        });
        parallel_for(kParts, p_.threads, [&](int64_t part, int64_t) {
            const int64_t begin = sum_.floats * part / kParts;
            const int64_t count = sum_.floats * (part + 1) / kParts - begin;
            for (int64_t slot = 1; slot < slots_; ++slot)
                add(sums(slot) + begin, count, sums(0) + begin);
        });
        parallel_for(2 * p_.blocks * 9, p_.threads, [&](int64_t index, int64_t) {
            write_weight(index / 9, index % 9, to.weight);
        });
        for (int64_t i = 0; i < 2 * p_.blocks; ++i)
            std::copy_n(sums(0) + sum_.bias(i), p_.channels, to.bias + i * p_.channels);
        if (p_.ends != nullptr) write_ends(to);
    }

  private:
    static constexpr int64_t kParts = 64;  // of the sums, to add them up

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
        add_border(p_, x_ + image * at_.x_floats, bordered);
        cpu_kernels().ends.first_backward(at_.map, bordered, gradient(worker, i),
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
            kernels_.backward(at_.map, panels_.of(i), gradient(worker, from + at), in, in_gradient,
                              at > 0, products, sums(slot) + sum_.bias(i), scratch);
            const float* skip = first_of_block ? gradient(worker, at) : nullptr;
            float* to = gradient(worker, first_of_block ? at : kImagesAtOnce + at);
            cpu_kernels().maps.fold_masked(at_.map, p_.reflect, in_gradient, skip,
                                           before_relu ? in : nullptr, to);
        }
        kernels_.weight_gradient(at_.map.channels, products, first > start(slot),
                                 sums(slot) + sum_.weight(i));
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

    static void add(const float* from, int64_t count, float* to) {
        for (int64_t i = 0; i < count; ++i) to[i] += from[i];
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
    const int64_t slots_;
    const Sums sum_;
    const int64_t product_floats_, own_floats_;
    const Scratch sums_;  // of each slot
    // Of each worker: products, one map not yet folded, the convolution's working memory, two maps
    // of each of kImagesAtOnce images, an image with its border.
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

void residual_blocks_backward_cpu(const ResidualBlocks& p, const float* grad, const float* x,
                                  const float* y, const float* maps,
                                  const ResidualBlocksGradients& to) {
    Backward(p, grad, x, y, maps).run(to);
}

void forget_weights() {
    panel_cache().clear();
}

}  // namespace simgan_fast
