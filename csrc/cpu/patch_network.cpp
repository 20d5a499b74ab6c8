// The patch discriminator, an image at a time: its maps stay in cache from the first convolution to
// the logits and, in the backward pass, on the way back.
#include "patch_network.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/maps.h"
#include "cpu/scratch.h"
#include "cpu/slots.h"
#include "cpu/threads.h"

namespace simgan_fast {
namespace {

constexpr int64_t kSizes[kPatchConvolutions] = {3, 3, 3, 1, 1};
constexpr int64_t kStrides[kPatchConvolutions] = {2, 2, 1, 1, 1};
constexpr int kLast = kPatchConvolutions - 1;
// The maps of an image: the outputs of convolutions 0, 1, 2 and 3, and what convolution 2 reads,
// the pooled output of 1.
constexpr int kMaps = 5, kPooled = 4;

// Sizes, and where things lie.
struct PatchLayout {
    explicit PatchLayout(const PatchNetwork& p)
        : column_floats(up_to(9 * p.in_channels, kChannelGroup)),
          border_floats(p.in_channels * (p.height + 2) * (p.width + 2)) {
        int64_t height = p.height, width = p.width;
        for (int i = 0; i < kLast; ++i) {
            height = (height + kStrides[i] - 1) / kStrides[i];
            width = (width + kStrides[i] - 1) / kStrides[i];
            maps[i] = {height, width, p.channels[i], 0, 0, height + 2, width + 2};
        }
        maps[kPooled] = maps[1];
        for (int i = 0; i < kMaps; ++i) starts[i + 1] = starts[i] + floats_of(maps[i]);
    }
    // What convolution i > 0 reads.
    static int read_by(int i) { return i == 2 ? kPooled : i - 1; }
    int64_t rows(int i) const {  // of the weights of convolution i, as a matrix
        return i == 0 ? column_floats : kSizes[i] * kSizes[i] * maps[read_by(i)].channels;
    }
    int64_t patches() const { return maps[3].height * maps[3].width; }

    PaddedMap maps[kMaps];
    int64_t starts[kMaps + 1] = {};
    // Convolution 0 reads columns: for each of its pixels the 9 * in_channels numbers that it sees,
    // the channels of a tap together, and zeros up to column_floats.
    int64_t column_floats;
    int64_t border_floats;  // of an image with one pixel around it
};

// The weights in the order that the products read them: for the forward pass rows are what a
// convolution reads and columns what it writes, and for the adjoint the other way round, one matrix
// a tap.
class Weights {
  public:
    Weights(const PatchNetwork& p, const PatchLayout& at, bool adjoint)
        : zeros(at.column_floats), last(p.channels[kLast] * p.channels[kLast - 1]) {
        for (int i = 0; i < kLast; ++i) {
            panels_[i].resize(at.rows(i) * p.channels[i]);
            if (adjoint && i == 0)
                pack_first_adjoint(p, at);
            else
                pack(p.convolutions[i], i, in_channels(p, i), p.channels[i], adjoint);
        }
        const Convolution& from = p.convolutions[kLast];
        for (int64_t co = 0; co < p.channels[kLast]; ++co)
            for (int64_t ci = 0; ci < p.channels[kLast - 1]; ++ci)
                last[co * p.channels[kLast - 1] + ci] =
                    from.weight[co * from.strides[0] + ci * from.strides[1]];
    }
    const float* of(int i) const { return panels_[i].data(); }
    std::vector<float> zeros, last;

  private:
    static int64_t in_channels(const PatchNetwork& p, int i) {
        return i == 0 ? p.in_channels : p.channels[i - 1];
    }
    static const float* tap_of(const Convolution& from, int i, int64_t tap) {
        return from.weight + tap / kSizes[i] * from.strides[2] + tap % kSizes[i] * from.strides[3];
    }

    void pack(const Convolution& from, int i, int64_t in, int64_t out, bool adjoint) {
        const int64_t strip = cpu_kernels().direct.strip, taps = kSizes[i] * kSizes[i];
        const int64_t rows = adjoint ? out : in, columns = adjoint ? in : out;
        const int64_t row_stride = from.strides[adjoint ? 0 : 1];
        const int64_t column_stride = from.strides[adjoint ? 1 : 0];
        // All taps are rows of one matrix, or each tap is a matrix.
        const int64_t matrix_rows = adjoint ? rows : taps * rows;
        for (int64_t tap = 0; tap < taps; ++tap)
            for (int64_t c = 0; c < columns; c += strip) {
                const int64_t width = std::min(strip, columns - c);
                float* to = panels_[i].data() + c * matrix_rows +
                            (adjoint ? tap * rows * columns : tap * rows * width);
                const float* at = tap_of(from, i, tap) + c * column_stride;
                for (int64_t row = 0; row < rows; ++row, at += row_stride)
                    for (int64_t k = 0; k < width; ++k) *to++ = at[k * column_stride];
            }
    }

    // Its columns are those of read_columns.
    void pack_first_adjoint(const PatchNetwork& p, const PatchLayout& at) {
        const Convolution& from = p.convolutions[0];
        const int64_t strip = cpu_kernels().direct.strip, columns = at.column_floats;
        for (int64_t column = 0; column < 9 * p.in_channels; ++column) {
            const float* weight =
                tap_of(from, 0, column / p.in_channels) + column % p.in_channels * from.strides[1];
            const int64_t first = column / strip * strip, width = std::min(strip, columns - first);
            float* to = panels_[0].data() + first * p.channels[0] + column - first;
            for (int64_t co = 0; co < p.channels[0]; ++co)
                to[co * width] = weight[co * from.strides[0]];
        }
    }

    std::vector<float> panels_[kLast];
};

// What convolution 0 reads at output row `row`: width * column_floats.
void read_columns(const PatchNetwork& p, const PatchLayout& at, const float* bordered, int64_t row,
                  float* to) {
    const int64_t pitch = p.width + 2, plane = (p.height + 2) * pitch;
    std::memset(to, 0, at.maps[0].width * at.column_floats * sizeof(float));
    for (int64_t x = 0; x < at.maps[0].width; ++x, to += at.column_floats) {
        const float* from = bordered + kStrides[0] * (row * pitch + x);
        for (int64_t tap = 0; tap < 9; ++tap)
            for (int64_t c = 0; c < p.in_channels; ++c)
                to[tap * p.in_channels + c] = from[c * plane + tap / 3 * pitch + tap % 3];
    }
}

class Forward {
  public:
    Forward(const PatchNetwork& p, const float* images, float* logits, float* maps)
        : p_(p),
          at_(p),
          weights_(p, at_, false),
          images_(images),
          logits_(logits),
          kept_(maps),
          own_floats_(at_.border_floats + at_.maps[0].width * at_.column_floats +
                      (maps ? 0 : at_.starts[kMaps])),
          own_(std::min(p.threads, p.images) * own_floats_) {}

    void run() const {
        parallel_for(p_.images, p_.threads, [&](int64_t image, int64_t worker) {
            float* own = own_.data() + worker * own_floats_;
            run_image(
                image, own,
                kept_ ? kept_ + image * at_.starts[kMaps] : own + own_floats_ - at_.starts[kMaps]);
        });
    }

  private:
    void run_image(int64_t image, float* own, float* maps) const {
        const CpuKernels& kernels = cpu_kernels();
        first(image, own, own + at_.border_floats, maps);
        fill_margin(at_.maps[0], p_.reflect, maps);
        convolve(1, maps);
        fill_margin(at_.maps[1], false, maps + at_.starts[1]);
        kernels.direct.pool(at_.maps[1], maps + at_.starts[1], maps + at_.starts[kPooled]);
        fill_margin(at_.maps[kPooled], p_.reflect, maps + at_.starts[kPooled]);
        for (int i = 2; i < kLast; ++i) {
            convolve(i, maps);
            // Nobody reads it, but what is handed out has no bits left to chance.
            fill_margin(at_.maps[i], false, maps + at_.starts[i]);
        }
        const PaddedMap& map = at_.maps[kLast - 1];
        kernels.ends.last(map, maps + at_.starts[kLast - 1], p_.channels[kLast],
                          weights_.last.data(), p_.convolutions[kLast].bias, 0, map.height,
                          logits_ + image * p_.channels[kLast] * at_.patches());
    }

    void first(int64_t image, float* bordered, float* columns, float* to) const {
        add_border({p_.in_channels, p_.height, p_.width}, p_.reflect,
                   images_ + image * p_.in_channels * p_.height * p_.width, bordered);
        const PaddedMap& map = at_.maps[0];
        for (int64_t row = 0; row < map.height; ++row) {
            read_columns(p_, at_, bordered, row, columns);
            cpu_kernels().direct.multiply({columns, at_.column_floats, 0, 1, 9 * p_.in_channels,
                                           weights_.of(0), p_.convolutions[0].bias, 0,
                                           to + offset_in(map, row, 0), map.channels, map.width,
                                           map.channels, true});
        }
    }

    void convolve(int i, float* maps) const {
        const PaddedMap &in = at_.maps[PatchLayout::read_by(i)], &out = at_.maps[i];
        const float* from = maps + at_.starts[PatchLayout::read_by(i)];
        float* to = maps + at_.starts[i];
        const int64_t size = kSizes[i], stride = kStrides[i], margin = size / 2;
        for (int64_t row = 0; row < out.height; ++row)
            cpu_kernels().direct.multiply({from + offset_in(in, stride * row - margin, -margin),
                                           stride * in.channels, in.columns * in.channels, size,
                                           size * in.channels, weights_.of(i),
                                           p_.convolutions[i].bias, 0, to + offset_in(out, row, 0),
                                           out.channels, out.width, out.channels, true});
    }

    const PatchNetwork& p_;
    const PatchLayout at_;
    const Weights weights_;
    const float* images_;
    float *logits_, *kept_;
    const int64_t own_floats_;
    // Of each worker: an image with its border, columns of a row, and the maps if none are kept.
    const Scratch own_;
};

// Sums over images of the gradients of weights [rows, channels] and biases, of one slot.
struct Sums {
    Sums(const PatchNetwork& p, const PatchLayout& at) {
        for (int i = 0; i < kPatchConvolutions; ++i) {
            weights[i] = floats;
            biases[i] = floats + (i == kLast ? p.channels[i] * p.channels[i - 1]
                                             : at.rows(i) * p.channels[i]);
            floats = up_to(biases[i] + p.channels[i], kChannelGroup);
        }
    }
    int64_t weights[kPatchConvolutions], biases[kPatchConvolutions], floats = 0;
};

class Backward {
  public:
    Backward(const PatchNetwork& p, const float* grad, const float* images, const float* maps,
             const PatchNetworkGradients& to)
        : p_(p),
          at_(p),
          sum_(p, at_),
          weights_(p, at_, true),
          grad_(grad),
          images_(images),
          maps_(maps),
          to_(to),
          slots_(to.weights[0] ? slots_of(p.images) : p.images),
          columns_floats_(at_.maps[0].height * at_.maps[0].width * at_.column_floats),
          own_floats_(at_.starts[kMaps] + columns_floats_ + at_.border_floats + sum_.floats),
          own_(std::min(p.threads, slots_) * own_floats_),
          sums_(to.weights[0] ? slots_ * sum_.floats : 1) {}

    void run() const {
        parallel_for(slots_, p_.threads, [&](int64_t slot, int64_t worker) {
            float* own = own_.data() + worker * own_floats_;
            // Without gradients of weights the last layer's, which cost nothing, go nowhere.
            float* sums = to_.weights[0] ? sums_.data() + slot * sum_.floats
                                         : own + own_floats_ - sum_.floats;
            std::fill_n(sums, sum_.floats, 0.0f);
            for (int64_t i = start(slot); i < start(slot + 1); ++i) run_image(i, sums, own);
        });
        if (to_.weights[0] == nullptr) return;
        add_slots(sums_.data(), slots_, sum_.floats, p_.threads);
        for (int i = 0; i < kPatchConvolutions; ++i) write(i);
    }

  private:
    // grads: maps like those of the forward pass, each the gradient before the ReLU.
    void run_image(int64_t image, float* sums, float* grads) const {
        const CpuKernels& kernels = cpu_kernels();
        const float* maps = maps_ + image * at_.starts[kMaps];
        const PaddedMap& end = at_.maps[kLast - 1];
        kernels.ends.last_backward(
            end, maps + at_.starts[kLast - 1], grad_ + image * p_.channels[kLast] * at_.patches(),
            p_.channels[kLast], weights_.last.data(), grads + at_.starts[kLast - 1],
            sums + sum_.weights[kLast], sums + sum_.biases[kLast]);
        for (int i = kLast - 1; i > 0; --i) {
            add_weights(i, maps, grads, sums);
            adjoint(i, grads);
            const int in = PatchLayout::read_by(i);
            float* grad = grads + at_.starts[in];
            const float* value = in == kPooled ? nullptr : maps + at_.starts[in];
            kernels.maps.fold_masked(at_.maps[in], p_.reflect && kSizes[i] > 1, grad, nullptr,
                                     value, grad);
            if (in == kPooled)
                kernels.direct.pool_backward(at_.maps[1], maps + at_.starts[1],
                                             maps + at_.starts[kPooled], grad,
                                             grads + at_.starts[1]);
        }
        first(image, grads, sums);
    }

    void add_weights(int i, const float* maps, const float* grads, float* sums) const {
        if (to_.weights[0] == nullptr) return;
        const PaddedMap &in = at_.maps[PatchLayout::read_by(i)], &out = at_.maps[i];
        const float* from = maps + at_.starts[PatchLayout::read_by(i)];
        const float* grad = grads + at_.starts[i];
        const int64_t size = kSizes[i], stride = kStrides[i], margin = size / 2;
        for (int64_t row = 0; row < size; ++row)
            cpu_kernels().direct.accumulate(
                {from + offset_in(in, row - margin, -margin), grad + offset_in(out, 0, 0),
                 stride * in.columns * in.channels, stride * in.channels,
                 out.columns * out.channels, out.channels, out.height, out.width,
                 size * in.channels, out.channels,
                 sums + sum_.weights[i] + row * size * in.channels * out.channels});
        cpu_kernels().direct.add_pixels(out, grad, sums + sum_.biases[i]);
    }

    // To the gradient of the padded map that was read, not yet folded. A tap at a time: its weights
    // stay in the first-level cache, and pixels of a row do not overlap.
    void adjoint(int i, float* grads) const {
        const PaddedMap &in = at_.maps[PatchLayout::read_by(i)], &out = at_.maps[i];
        const float* grad = grads + at_.starts[i];
        float* to = grads + at_.starts[PatchLayout::read_by(i)];
        const int64_t size = kSizes[i], stride = kStrides[i], margin = size / 2;
        std::memset(to, 0, floats_of(in) * sizeof(float));
        for (int64_t tap = 0; tap < size * size; ++tap)
            for (int64_t row = 0; row < out.height; ++row) {
                float* c =
                    to + offset_in(in, stride * row + tap / size - margin, tap % size - margin);
                cpu_kernels().direct.multiply(
                    {grad + offset_in(out, row, 0), out.channels, 0, 1, out.channels,
                     weights_.of(i) + tap * in.channels * out.channels, c, stride * in.channels, c,
                     stride * in.channels, out.width, in.channels, false});
            }
    }

    void first(int64_t image, float* grads, float* sums) const {
        const PaddedMap& map = at_.maps[0];
        const int64_t pixels = p_.in_channels * p_.height * p_.width;
        float* columns = grads + at_.starts[kMaps];
        float* bordered = columns + columns_floats_;
        const int64_t row_floats = map.width * at_.column_floats;
        if (to_.weights[0] != nullptr) {
            add_border({p_.in_channels, p_.height, p_.width}, p_.reflect, images_ + image * pixels,
                       bordered);
            for (int64_t row = 0; row < map.height; ++row)
                read_columns(p_, at_, bordered, row, columns + row * row_floats);
            cpu_kernels().direct.accumulate({columns, grads + offset_in(map, 0, 0), row_floats,
                                             at_.column_floats, map.columns * map.channels,
                                             map.channels, map.height, map.width, at_.column_floats,
                                             map.channels, sums + sum_.weights[0]});
            cpu_kernels().direct.add_pixels(map, grads, sums + sum_.biases[0]);
        }
        if (to_.images == nullptr) return;
        std::fill_n(bordered, at_.border_floats, 0.0f);
        for (int64_t row = 0; row < map.height; ++row) {
            cpu_kernels().direct.multiply({grads + offset_in(map, row, 0), map.channels, 0, 1,
                                           map.channels, weights_.of(0), weights_.zeros.data(), 0,
                                           columns, at_.column_floats, map.width, at_.column_floats,
                                           false});
            add_columns(columns, row, bordered);
        }
        fold_border({p_.in_channels, p_.height, p_.width}, p_.reflect, bordered,
                    to_.images + image * pixels);
    }

    // The adjoint of read_columns.
    void add_columns(const float* from, int64_t row, float* bordered) const {
        const int64_t pitch = p_.width + 2, plane = (p_.height + 2) * pitch;
        for (int64_t x = 0; x < at_.maps[0].width; ++x, from += at_.column_floats) {
            float* to = bordered + kStrides[0] * (row * pitch + x);
            for (int64_t tap = 0; tap < 9; ++tap)
                for (int64_t c = 0; c < p_.in_channels; ++c)
                    to[c * plane + tap / 3 * pitch + tap % 3] += from[tap * p_.in_channels + c];
        }
    }

    // From [rows, co], rows tap by tap, to [co, tap, ci].
    void write(int i) const {
        const float* from = sums_.data() + sum_.weights[i];
        const int64_t channels = p_.channels[i];
        std::copy_n(sums_.data() + sum_.biases[i], channels, to_.biases[i]);
        if (i == kLast) {
            std::copy_n(from, channels * p_.channels[i - 1], to_.weights[i]);
            return;
        }
        const int64_t rows = i == 0 ? 9 * p_.in_channels : at_.rows(i);
        parallel_for(channels, p_.threads, [&](int64_t co, int64_t) {
            for (int64_t row = 0; row < rows; ++row)
                to_.weights[i][co * rows + row] = from[row * channels + co];
        });
    }

    int64_t start(int64_t slot) const { return p_.images * slot / slots_; }

    const PatchNetwork& p_;
    const PatchLayout at_;
    const Sums sum_;
    const Weights weights_;
    const float *grad_, *images_, *maps_;
    const PatchNetworkGradients& to_;
    const int64_t slots_, columns_floats_, own_floats_;
    // Of each worker: gradients of the maps, columns, an image with its border, sums nobody wants.
    const Scratch own_;
    const Scratch sums_;  // of each slot
};

}  // namespace

void patch_network_cpu(const PatchNetwork& p, const float* images, float* logits, float* maps) {
    Forward(p, images, logits, maps).run();
}

void patch_network_backward_cpu(const PatchNetwork& p, const float* grad, const float* images,
                                const float* maps, const PatchNetworkGradients& to) {
    Backward(p, grad, images, maps, to).run();
}

}  // namespace simgan_fast
