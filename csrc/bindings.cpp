// The module simgan_fast._C: tensors (tensors.h), or addresses where there are few, in, a struct,
// one call. Shapes, types and devices are checked in simgan_fast/ops; the GIL is released around
// the work.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>

#include "cpu/dispatch.h"
#include "cpu/scratch.h"
#include "gather_normalize.h"
#include "history_exchange.h"
#include "network_calls.h"
#include "patch_cross_entropy.h"
#include "random_ops.h"

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

bool gather_normalize(uintptr_t images, uintptr_t indices, uintptr_t flips, uintptr_t out,
                      int64_t available, int64_t count, int64_t lines, int64_t width, int64_t bytes,
                      int64_t threads) {
    return gather_normalize_cpu({at<void>(images), at<int64_t>(indices), at<bool>(flips),
                                 at<float>(out), count, lines, width, bytes, threads},
                                available);
}

void residual_blocks(py::handle x, py::handle y, py::handle maps, const py::list& weights,
                     bool ends, bool reflect, int64_t tile, int64_t threads) {
    const Floats images(x);
    float *to = address(y), *kept = address(maps);
    const BlocksCall call(images, weights, ends, reflect, tile, threads);
    const py::gil_scoped_release no_gil;
    residual_blocks_cpu(call.call, images.data(), to, kept);
}

// gradients: of x (None with ends), weight, bias, and of the ends' weight, bias, weight, bias.
void residual_blocks_backward(py::handle grad, py::handle x, py::handle y, py::handle maps,
                              const py::list& weights, bool ends, bool reflect, int64_t tile,
                              int64_t threads, const py::list& gradients) {
    const Floats of_y(grad);
    const float *from_x = address(x), *from_y = address(y), *kept = address(maps);
    const auto to_address = [&](size_t i) {
        return i < gradients.size() ? address(gradients[i]) : nullptr;
    };
    const ResidualBlocksGradients to{to_address(0), to_address(1), to_address(2), to_address(3),
                                     to_address(4), to_address(5), to_address(6)};
    const BlocksCall call(of_y, weights, ends, reflect, tile, threads);
    const py::gil_scoped_release no_gil;
    residual_blocks_backward_cpu(call.call, of_y.data(), from_x, from_y, kept, to);
}

void patch_network(py::handle images, py::handle logits, py::handle maps, const py::list& weights,
                   bool reflect, int64_t threads) {
    const Floats x(images);
    float *to = address(logits), *kept = address(maps);
    const Convolutions convolutions(weights);
    const PatchNetwork call = patch_network_call(x, convolutions, reflect, threads);
    const py::gil_scoped_release no_gil;
    patch_network_cpu(call, x.data(), to, kept);
}

// gradients: of each weight and bias in turn, or none at all.
void patch_network_backward(py::handle grad, py::handle images, py::handle maps,
                            const py::list& weights, bool reflect, int64_t threads,
                            py::handle grad_images, const py::list& gradients) {
    const Floats x(images);
    const float *of_logits = address(grad), *kept = address(maps);
    PatchNetworkGradients to{address(grad_images), {}, {}};
    for (size_t i = 0; i < gradients.size() / 2 && i < kPatchConvolutions; ++i) {
        to.weights[i] = address(gradients[2 * i]);
        to.biases[i] = address(gradients[2 * i + 1]);
    }
    const Convolutions convolutions(weights);
    const PatchNetwork call = patch_network_call(x, convolutions, reflect, threads);
    const py::gil_scoped_release no_gil;
    patch_network_backward_cpu(call, of_logits, x.data(), kept, to);
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
    m.doc() = "The native part of simgan_fast: no checks. Use simgan_fast.ops.";
    Torch::get();  // here, so that a torch that it cannot speak to is an ImportError
    m.def("cpu_level", &cpu_level);
    m.def("cpu_levels", &cpu_levels);

    const py::call_guard<py::gil_scoped_release> no_gil;
    m.def("patch_cross_entropy", &patch_cross_entropy, no_gil);
    m.def("patch_cross_entropy_backward", &patch_cross_entropy_backward, no_gil);
    m.def("scale", &scale, no_gil);
    m.def("history_exchange", &history_exchange, no_gil);
    m.def("gather_normalize", &gather_normalize, no_gil);
    m.def("residual_blocks_fit", &residual_blocks_fit);
    m.def("residual_blocks", &residual_blocks);
    m.def("residual_blocks_backward", &residual_blocks_backward);
    m.def("patch_network_fits", &patch_network_fits);
    m.def("patch_network", &patch_network);
    m.def("patch_network_backward", &patch_network_backward);
    // Floats that are kept for the next of about this size when the last who looks at them is gone.
    py::class_<Scratch>(m, "Scratch", py::buffer_protocol())
        .def(py::init<int64_t>())
        .def_buffer([](Scratch& s) { return py::buffer_info(s.data(), s.floats()); });
    m.def("release_memory", &release_memory, no_gil);
    m.def("permutation", &permutation, no_gil);
    m.def("philox4x32", &philox4x32, no_gil);
}
