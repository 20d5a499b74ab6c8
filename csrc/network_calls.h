// From torch's tensors to what the kernels of whole networks take, and whether they take them.
#pragma once

#include <deque>
#include <stdexcept>
#include <vector>

#include "patch_network.h"
#include "residual_blocks.h"
#include "tensors.h"

namespace simgan_fast {

// Weight and bias in turn. The kernels read any layout of weights, but biases only in a row: others
// are copied.
class Convolutions {
  public:
    explicit Convolutions(const py::list& weights) {
        if (weights.size() < 2 || weights.size() % 2 != 0)
            throw std::invalid_argument("weights and biases must come in pairs.");
        for (size_t i = 0; i < weights.size(); i += 2) {
            const Floats weight(weights[i]), bias(weights[i + 1]);
            if (!weight.has_dimensions(4) || !bias.is(weight.size(0)))
                throw std::invalid_argument("a weight must be [co, ci, k, k], its bias [co].");
            weights_.push_back(weight);
            convolutions_.push_back(
                {weight.data(),
                 {weight.stride(0), weight.stride(1), weight.stride(2), weight.stride(3)},
                 in_a_row(bias)});
        }
    }
    Convolutions(const Convolutions&) = delete;

    int64_t count() const { return static_cast<int64_t>(convolutions_.size()); }
    const Convolution* data() const { return convolutions_.data(); }
    const Convolution& operator[](int64_t i) const { return convolutions_[i]; }
    const Floats& weight(int64_t i) const { return weights_[i]; }

  private:
    const float* in_a_row(const Floats& bias) {
        const int64_t count = bias.size(0), stride = bias.stride(0);
        if (stride == 1 || count <= 1) return bias.data();
        auto& copy = copies_.emplace_back(count);
        for (int64_t i = 0; i < count; ++i) copy[i] = bias.data()[i * stride];
        return copy.data();
    }

    std::vector<Floats> weights_;
    std::vector<Convolution> convolutions_;
    std::deque<std::vector<float>> copies_;
};

// `ends`: the last two convolutions are the refiner's first and last one. images: [n, ., h, w].
class BlocksCall {
  public:
    BlocksCall(const Floats& images, const py::list& weights, bool ends, bool reflect, int64_t tile,
               int64_t threads)
        : convolutions_(weights) {
        const int64_t inner = convolutions_.count() - (ends ? 2 : 0);
        if (inner < 2 || inner % 2 != 0)
            throw std::invalid_argument("residual_blocks: the number of weights does not fit.");
        const Floats& weight = convolutions_.weight(0);
        if (ends)
            ends_ = {convolutions_.weight(inner).size(1), convolutions_.weight(inner + 1).size(0),
                     convolutions_[inner], convolutions_[inner + 1]};
        call = {images.size(0), images.size(2),          images.size(3), weight.size(0),
                inner / 2,      convolutions_.data(),    reflect,        tile,
                threads,        ends ? &ends_ : nullptr, weight.size(3)};
    }
    BlocksCall(const BlocksCall&) = delete;
    ResidualBlocks call{};

  private:
    Convolutions convolutions_;
    RefinerEnds ends_{};
};

// Whether the kernels of residual_blocks, or residual_network with `ends`, take these as they are.
inline bool residual_blocks_fit(py::handle images, const py::list& weights, bool ends,
                                bool reflect) {
    constexpr int64_t kMostEnds = 8, kChannels = 8;  // _winograd.CHANNELS, residual_network's most
    const auto found = Floats::if_plain(images, weights);
    const int64_t count = static_cast<int64_t>(found.size()) - 1, inner = count - (ends ? 4 : 0);
    if (inner < 4 || inner % 4 != 0) return false;
    const Floats &x = found[0], *w = &found[1];
    if (!x.has_dimensions(4) || !w[0].has_dimensions(4)) return false;
    const int64_t c = w[0].size(0), k = w[0].size(3), least = reflect ? k / 2 + 1 : 1;
    if (c == 0 || c % kChannels != 0 || (k != 3 && k != 7)) return false;
    for (int64_t i = 0; i < inner; i += 2)
        if (!w[i].is(c, c, k, k) || !w[i + 1].is(c)) return false;
    if (ends) {
        const Floats *first = w + inner, *last = first + 2;
        if (!first[1].is(c) || !last[1].has_dimensions(1)) return false;
        const int64_t in = x.size(1), out = last[1].size(0);
        if (in < 1 || in > kMostEnds || out < 1 || out > kMostEnds) return false;
        if (!first[0].is(c, in, k, k) || !last[0].is(out, c, 1, 1)) return false;
    } else if (x.size(1) != c) {
        return false;
    }
    return x.size(0) > 0 && x.size(2) >= least && x.size(3) >= least;
}

inline PatchNetwork patch_network_call(const Floats& images, const Convolutions& convolutions,
                                       bool reflect, int64_t threads) {
    if (convolutions.count() != kPatchConvolutions)
        throw std::invalid_argument("patch_network: the number of weights does not fit.");
    PatchNetwork call{images.size(0), images.size(1), images.size(2), images.size(3), {}, {},
                      reflect,        threads};
    for (int i = 0; i < kPatchConvolutions; ++i) {
        call.channels[i] = convolutions.weight(i).size(0);
        call.convolutions[i] = convolutions[i];
    }
    return call;
}

// Whether the kernel of patch_network takes these as they are.
inline bool patch_network_fits(py::handle images, const py::list& weights, bool reflect) {
    constexpr int64_t kGroup = 16, kSizes[kPatchConvolutions] = {3, 3, 3, 1, 1};
    const auto found = Floats::if_plain(images, weights);
    if (found.size() != 1 + 2 * kPatchConvolutions || !found[0].has_dimensions(4)) return false;
    int64_t before = found[0].size(1);
    for (int i = 0; i < kPatchConvolutions; ++i) {
        const Floats &weight = found[1 + 2 * i], &bias = found[2 + 2 * i];
        if (!bias.has_dimensions(1)) return false;
        const int64_t c = bias.size(0), k = kSizes[i];
        const bool last = i + 1 == kPatchConvolutions;
        if (c == 0 || (!last && c % kGroup != 0) || !weight.is(c, before, k, k)) return false;
        before = c;
    }
    const int64_t least = reflect ? 5 : 1;
    return found[0].size(0) > 0 && found[0].size(1) > 0 && found[0].size(2) >= least &&
           found[0].size(3) >= least;
}

}  // namespace simgan_fast
