// The module simgan_fast._cuda: as csrc/bindings.cpp, but the addresses are of memory on a CUDA
// device, and with them come the device's number and a stream.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "cuda/runtime.h"
#include "gather_normalize.h"
#include "history_exchange.h"
#include "patch_cross_entropy.h"
#include "residual_blocks.h"
#include "residual_network.h"

namespace py = pybind11;
using namespace simgan_fast;

namespace {

template <typename T>
T* at(uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

void history_exchange(int device, uintptr_t stream, uintptr_t buffer, uintptr_t fresh,
                      uintptr_t drawn, uintptr_t counter, uintptr_t replaced, int64_t slots,
                      int64_t rows, int64_t row_bytes, uint64_t seed) {
    const DeviceGuard guard("history_exchange", device);
    history_exchange_cuda(
        {at<unsigned char>(buffer), at<unsigned char>(fresh), at<unsigned char>(drawn),
         at<int64_t>(counter), slots, rows, row_bytes, seed, 0},
        at<int64_t>(replaced), at<void>(stream));
}

void gather_normalize(int device, uintptr_t stream, uintptr_t images, uintptr_t indices,
                      uintptr_t flips, uintptr_t out, int64_t available, int64_t count,
                      int64_t lines, int64_t width, int64_t bytes, bool bf16) {
    const DeviceGuard guard("gather_normalize", device);
    gather_normalize_cuda({at<void>(images), at<int64_t>(indices), at<bool>(flips),
                           bf16 ? nullptr : at<float>(out), count, lines, width, bytes, 0},
                          available, bf16 ? at<uint16_t>(out) : nullptr, at<void>(stream));
}

PatchCrossEntropyCuda patches_of(uintptr_t logits, bool bf16, uintptr_t target, int64_t label,
                                 int64_t images, int64_t patches, int64_t reduction) {
    return {{bf16 ? nullptr : at<float>(logits), at<int64_t>(target), label, images, patches,
             static_cast<PatchReduction>(reduction)},
            bf16 ? at<uint16_t>(logits) : nullptr,
            nullptr,
            nullptr};
}

void patch_cross_entropy(int device, uintptr_t stream, uintptr_t logits, bool bf16,
                         uintptr_t target, int64_t label, int64_t images, int64_t patches,
                         int64_t reduction, uintptr_t loss, uintptr_t sums, uintptr_t ticket) {
    const DeviceGuard guard("patch_cross_entropy", device);
    auto call = patches_of(logits, bf16, target, label, images, patches, reduction);
    call.sums = at<double>(sums);
    call.ticket = at<uint32_t>(ticket);
    patch_cross_entropy_cuda(call, at<float>(loss), at<void>(stream));
}

void patch_cross_entropy_backward(int device, uintptr_t stream, uintptr_t logits, bool bf16,
                                  uintptr_t target, int64_t label, int64_t images, int64_t patches,
                                  int64_t reduction, uintptr_t grad, uintptr_t grad_logits) {
    const DeviceGuard guard("patch_cross_entropy_backward", device);
    patch_cross_entropy_backward_cuda(
        patches_of(logits, bf16, target, label, images, patches, reduction), at<float>(grad),
        at<void>(grad_logits), at<void>(stream));
}

// Images, height, width, channels, blocks, size of the filters, reflect, planes.
using BlockSizes = std::array<int64_t, 8>;

ResidualBlocksCuda blocks_of(const BlockSizes& s, uintptr_t weights = 0, bool bf16_weights = false,
                             uintptr_t arranged = 0) {
    return {s[0],         s[1], s[2],      s[3],
            s[4],         s[5], s[6] != 0, at<void>(weights),
            bf16_weights, s[7], nullptr,   at<uint16_t>(arranged)};
}

void residual_blocks(int device, uintptr_t stream, const BlockSizes& sizes, uintptr_t weights,
                     bool bf16_weights, uintptr_t arranged, uintptr_t biases, uintptr_t x,
                     uintptr_t map, uintptr_t maps, bool keep, uintptr_t y) {
    const DeviceGuard guard("residual_blocks", device);
    auto call = blocks_of(sizes, weights, bf16_weights, arranged);
    call.biases = at<float>(biases);
    residual_blocks_cuda(call, at<void>(x), at<uint16_t>(map), at<uint16_t>(maps), keep,
                         at<void>(y), at<void>(stream));
}

int64_t residual_blocks_parts(const BlockSizes& sizes) {
    return residual_blocks_cuda_parts(blocks_of(sizes));
}

// to: gradients of x, weights and biases, then working memory: map, hidden, padded, parts.
void residual_blocks_backward(int device, uintptr_t stream, const BlockSizes& sizes,
                              uintptr_t weights, bool bf16_weights, uintptr_t arranged,
                              uintptr_t grad, uintptr_t x, uintptr_t y, uintptr_t map,
                              uintptr_t maps, const std::array<uintptr_t, 7>& to) {
    const DeviceGuard guard("residual_blocks_backward", device);
    residual_blocks_backward_cuda(
        blocks_of(sizes, weights, bf16_weights, arranged), at<void>(grad), at<void>(x), at<void>(y),
        at<uint16_t>(map), at<uint16_t>(maps),
        {at<void>(to[0]), at<void>(to[1]), at<void>(to[2]), at<uint16_t>(to[3]),
         at<uint16_t>(to[4]), at<uint16_t>(to[5]), at<float>(to[6])},
        at<void>(stream));
}

// Channels of images in and out, whether images are bf16, whether there is a tanh.
using EndSizes = std::array<int64_t, 4>;
// Weight and bias of the first and the last convolution, floats.
using EndWeights = std::array<uintptr_t, 4>;

ResidualNetworkCuda network_of(const ResidualBlocksCuda& blocks, const EndSizes& s,
                               const EndWeights& w = {}) {
    return {blocks,          s[0],      s[1],     at<float>(w[0]), at<float>(w[1]), at<float>(w[2]),
            at<float>(w[3]), s[2] != 0, s[3] != 0};
}

void residual_network(int device, uintptr_t stream, const BlockSizes& sizes, uintptr_t weights,
                      bool bf16_weights, uintptr_t arranged, uintptr_t biases,
                      const EndSizes& end_sizes, const EndWeights& ends, uintptr_t images,
                      uintptr_t maps, bool keep, uintptr_t y) {
    const DeviceGuard guard("residual_network", device);
    auto blocks = blocks_of(sizes, weights, bf16_weights, arranged);
    blocks.biases = at<float>(biases);
    residual_network_cuda(network_of(blocks, end_sizes, ends), at<void>(images), at<uint16_t>(maps),
                          keep, at<void>(y), at<void>(stream));
}

int64_t residual_network_parts(const BlockSizes& sizes, const EndSizes& end_sizes) {
    return residual_network_cuda_parts(network_of(blocks_of(sizes), end_sizes));
}

// to: gradients of the images or 0, of weights and biases of the blocks, of the first
// convolution's, of the last one's; then working memory: map, hidden, padded, parts.
void residual_network_backward(int device, uintptr_t stream, const BlockSizes& sizes,
                               uintptr_t weights, bool bf16_weights, uintptr_t arranged,
                               const EndSizes& end_sizes, const EndWeights& ends, uintptr_t grad,
                               uintptr_t images, uintptr_t y, uintptr_t maps,
                               const std::array<uintptr_t, 11>& to) {
    const DeviceGuard guard("residual_network_backward", device);
    const auto blocks = blocks_of(sizes, weights, bf16_weights, arranged);
    const ResidualBlocksCudaGradients of_blocks{nullptr,
                                                at<void>(to[1]),
                                                at<void>(to[2]),
                                                at<uint16_t>(to[7]),
                                                at<uint16_t>(to[8]),
                                                at<uint16_t>(to[9]),
                                                at<float>(to[10])};
    residual_network_backward_cuda(network_of(blocks, end_sizes, ends), at<void>(grad),
                                   at<void>(images), at<void>(y), at<uint16_t>(maps),
                                   {of_blocks, at<void>(to[0]), at<void>(to[3]), at<void>(to[4]),
                                    at<void>(to[5]), at<void>(to[6])},
                                   at<void>(stream));
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
    m.doc() = "The CUDA kernels of simgan_fast: raw addresses in, no checks. Use simgan_fast.ops.";
    m.def("obstacle", &cuda_obstacle);
    const py::call_guard<py::gil_scoped_release> no_gil;  // a full launch queue blocks
    m.def("history_exchange", &history_exchange, no_gil);
    m.def("gather_normalize", &gather_normalize, no_gil);
    m.def("patch_cross_entropy", &patch_cross_entropy, no_gil);
    m.def("patch_cross_entropy_backward", &patch_cross_entropy_backward, no_gil);
    m.def("residual_blocks", &residual_blocks, no_gil);
    m.def("residual_blocks_parts", &residual_blocks_parts);
    m.def("residual_blocks_backward", &residual_blocks_backward, no_gil);
    m.def("residual_network", &residual_network, no_gil);
    m.def("residual_network_parts", &residual_network_parts);
    m.def("residual_network_backward", &residual_network_backward, no_gil);
}
