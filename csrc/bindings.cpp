// The only file that knows pybind11: addresses in, a struct, one call. Shapes, types and devices
// are checked in simgan_fast/ops; the GIL is released around the work.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <stdexcept>

#include "cpu/dispatch.h"
#include "history_exchange.h"
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
                            int64_t patches, int64_t reduction, uintptr_t loss) {
    return patch_cross_entropy_cpu(patches_of(logits, target, label, images, patches, reduction),
                                   at<float>(loss));
}

void patch_cross_entropy_backward(uintptr_t logits, uintptr_t target, int64_t label, int64_t images,
                                  int64_t patches, int64_t reduction, uintptr_t grad,
                                  uintptr_t grad_logits) {
    patch_cross_entropy_backward_cpu(patches_of(logits, target, label, images, patches, reduction),
                                     at<float>(grad), at<float>(grad_logits));
}

void history_exchange(uintptr_t buffer, uintptr_t fresh, uintptr_t drawn, uintptr_t counter,
                      int64_t slots, int64_t rows, int64_t row_bytes, uint64_t seed) {
    if (*at<int64_t>(counter) < 0)
        throw std::invalid_argument("history_exchange: counter is negative; it must count from 0.");
    history_exchange_cpu({at<unsigned char>(buffer), at<unsigned char>(fresh),
                          at<unsigned char>(drawn), at<int64_t>(counter), slots, rows, row_bytes,
                          seed});
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
    m.def("has_cuda", [] { return false; });

    const py::call_guard<py::gil_scoped_release> no_gil;
    m.def("patch_cross_entropy", &patch_cross_entropy, no_gil);
    m.def("patch_cross_entropy_backward", &patch_cross_entropy_backward, no_gil);
    m.def("history_exchange", &history_exchange, no_gil);
    m.def("permutation", &permutation, no_gil);
    m.def("philox4x32", &philox4x32, no_gil);
}
