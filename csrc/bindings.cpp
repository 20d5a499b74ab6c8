// The only file that knows pybind11: addresses in, a struct, one call. Shapes, types and devices
// are checked in simgan_fast/ops; the GIL is released around the work.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <vector>

#include "cpu/dispatch.h"
#include "cpu/scratch.h"
#include "gather_normalize.h"
#include "history_exchange.h"
#include "patch_cross_entropy.h"
#include "patch_network.h"
#include "random_ops.h"
#include "residual_blocks.h"

namespace py = pybind11;
using namespace simgan_fast;

namespace {

// The data_ptr() of a torch tensor; 0 is null.
template <typename T>
T* at(uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

PatchCrossEntropy patches_of(uintptr_t logits, uintptr_t target, int64_t label, int64_t images,
                             int64_t patches, int64_t reduction) {
    return {at<float>(logits),
            at<int64_t>(target),
            label,
            images,
            patches,
            static_cast<PatchReduction>(reduction)};
}

int64_t patch_cross_entropy(uintptr_t logits, uintptr_t target, int64_t label, int64_t images,
                            int64_t patches, int64_t reduction, uintptr_t loss,
                            uintptr_t grad_logits) {
    return patch_cross_entropy_cpu(patches_of(logits, target, label, images, patches, reduction),
                                   at<float>(loss), at<float>(grad_logits));
}

void patch_cross_entropy_backward(uintptr_t logits, uintptr_t target, int64_t label, int64_t images,
                                  int64_t patches, int64_t reduction, uintptr_t grad,
                                  uintptr_t grad_logits) {
    patch_cross_entropy_backward_cpu(patches_of(logits, target, label, images, patches, reduction),
                                     at<float>(grad), at<float>(grad_logits));
}

// In place; nothing to do where the factor is 1, as it is for a loss that is differentiated itself.
void scale(uintptr_t x, uintptr_t factor, int64_t count) {
    const float by = *at<float>(factor);
    if (by == 1.0f) return;
    for (int64_t i = 0; i < count; ++i) at<float>(x)[i] *= by;
}

void history_exchange(uintptr_t buffer, uintptr_t fresh, uintptr_t drawn, uintptr_t counter,
                      int64_t slots, int64_t rows, int64_t row_bytes, uint64_t seed,
                      int64_t threads) {
    if (*at<int64_t>(counter) < 0)
        throw std::invalid_argument("history_exchange: counter is negative; it must count from 0.");
    history_exchange_cpu({at<unsigned char>(buffer), at<unsigned char>(fresh),
                          at<unsigned char>(drawn), at<int64_t>(counter), slots, rows, row_bytes,
                          seed, threads});
}

void gather_normalize(uintptr_t images, uintptr_t indices, uintptr_t flips, uintptr_t out,
                      int64_t count, int64_t lines, int64_t width, int64_t bytes, int64_t threads) {
    gather_normalize_cpu({at<void>(images), at<int64_t>(indices), at<bool>(flips), at<float>(out),
                          count, lines, width, bytes, threads});
}

// Images, height, width, channels, blocks, reflect, tile, threads, of the ends in and out channels,
// 0 where there are none, and the size of the filters.
using Sizes = std::array<int64_t, 11>;
// Address of a weight, its four strides, address of its bias.
using Addresses = std::vector<std::array<uintptr_t, 6>>;

Convolution convolution_at(const Addresses::value_type& a) {
    return {at<float>(a[0]),
            {static_cast<int64_t>(a[1]), static_cast<int64_t>(a[2]), static_cast<int64_t>(a[3]),
             static_cast<int64_t>(a[4])},
            at<float>(a[5])};
}

// The struct and what it points to. Weights: those of the ends last, if there are any.
class BlocksCall {
  public:
    BlocksCall(const Sizes& s, const Addresses& addresses) {
        for (const auto& address : addresses) convolutions_.push_back(convolution_at(address));
        const size_t ends = s[8] > 0 ? 2 : 0;
        if (convolutions_.size() != static_cast<size_t>(2 * s[4]) + ends)
            throw std::invalid_argument("residual_blocks: the number of weights does not fit.");
        if (ends > 0) ends_ = {s[8], s[9], convolutions_[2 * s[4]], convolutions_[2 * s[4] + 1]};
        call = {s[0],      s[1],
                s[2],      s[3],
                s[4],      convolutions_.data(),
                s[5] != 0, s[6],
                s[7],      ends > 0 ? &ends_ : nullptr,
                s[10]};
    }
    BlocksCall(const BlocksCall&) = delete;
    ResidualBlocks call{};

  private:
    std::vector<Convolution> convolutions_;
    RefinerEnds ends_{};
};

void residual_blocks(const Sizes& sizes, const Addresses& weights, uintptr_t x, uintptr_t y,
                     uintptr_t maps) {
    residual_blocks_cpu(BlocksCall(sizes, weights).call, at<float>(x), at<float>(y),
                        at<float>(maps));
}

// gradients: of x, weight, bias, and of the ends' weight, bias, weight, bias.
void residual_blocks_backward(const Sizes& sizes, const Addresses& weights, uintptr_t grad,
                              uintptr_t x, uintptr_t y, uintptr_t maps,
                              const std::array<uintptr_t, 7>& gradients) {
    const auto& g = gradients;
    residual_blocks_backward_cpu(
        BlocksCall(sizes, weights).call, at<float>(grad), at<float>(x), at<float>(y),
        at<float>(maps),
        {at<float>(g[0]), at<float>(g[1]), at<float>(g[2]), at<float>(g[3]), at<float>(g[4]),
         at<float>(g[5]), at<float>(g[6])});
}

// Images, in_channels, height, width, channels of the five convolutions, reflect, threads.
using PatchSizes = std::array<int64_t, 11>;

PatchNetwork patch_network_of(const PatchSizes& s, const Addresses& weights) {
    PatchNetwork call{s[0], s[1], s[2], s[3], {}, {}, s[9] != 0, s[10]};
    if (weights.size() != kPatchConvolutions)
        throw std::invalid_argument("patch_network: the number of weights does not fit.");
    for (int i = 0; i < kPatchConvolutions; ++i) {
        call.channels[i] = s[4 + i];
        call.convolutions[i] = convolution_at(weights[i]);
    }
    return call;
}

void patch_network(const PatchSizes& sizes, const Addresses& weights, uintptr_t images,
                   uintptr_t logits, uintptr_t maps) {
    patch_network_cpu(patch_network_of(sizes, weights), at<float>(images), at<float>(logits),
                      at<float>(maps));
}

// gradients: of the images, or 0; of each weight and bias, or none at all.
void patch_network_backward(const PatchSizes& sizes, const Addresses& weights, uintptr_t grad,
                            uintptr_t images, uintptr_t maps, uintptr_t grad_images,
                            const std::vector<std::array<uintptr_t, 2>>& gradients) {
    PatchNetworkGradients to{at<float>(grad_images), {}, {}};
    for (size_t i = 0; i < gradients.size() && i < kPatchConvolutions; ++i) {
        to.weights[i] = at<float>(gradients[i][0]);
        to.biases[i] = at<float>(gradients[i][1]);
    }
    patch_network_backward_cpu(patch_network_of(sizes, weights), at<float>(grad), at<float>(images),
                               at<float>(maps), to);
}

int64_t release_memory() {
    forget_weights();
    return release_scratch();
}

void permutation(uintptr_t out, int64_t start, int64_t count, int64_t size, uint64_t step,
                 uint32_t stream, uint64_t seed) {
    permutation_cpu({at<int64_t>(out), start, count, size, step, seed, stream});
}

void philox4x32(uintptr_t counters, uintptr_t out, int64_t count, uint64_t key) {
    philox4x32_cpu(at<int64_t>(counters), at<int64_t>(out), count, key);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
    m.doc() = "The native part of simgan_fast: raw addresses in, no checks. Use simgan_fast.ops.";
    m.def("cpu_level", &cpu_level);
    m.def("cpu_levels", &cpu_levels);

    const py::call_guard<py::gil_scoped_release> no_gil;
    m.def("patch_cross_entropy", &patch_cross_entropy, no_gil);
    m.def("patch_cross_entropy_backward", &patch_cross_entropy_backward, no_gil);
    m.def("scale", &scale, no_gil);
    m.def("history_exchange", &history_exchange, no_gil);
    m.def("gather_normalize", &gather_normalize, no_gil);
    m.def("residual_blocks", &residual_blocks, no_gil);
    m.def("residual_blocks_backward", &residual_blocks_backward, no_gil);
    m.def("patch_network", &patch_network, no_gil);
    m.def("patch_network_backward", &patch_network_backward, no_gil);
    // Floats that are kept for the next of about this size when the last who looks at them is gone.
    py::class_<Scratch>(m, "Scratch", py::buffer_protocol())
        .def(py::init<int64_t>())
        .def_buffer([](Scratch& s) { return py::buffer_info(s.data(), s.floats()); });
    m.def("release_memory", &release_memory, no_gil);
    m.def("permutation", &permutation, no_gil);
    m.def("philox4x32", &philox4x32, no_gil);
}
