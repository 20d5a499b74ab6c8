// The schedule and the counters of the emulator, for tests/emulated.py. Linked into one library
// with csrc/cuda/bindings.cpp: the same state.
#include <pybind11/pybind11.h>

#include "emulator/emulator.h"

namespace py = pybind11;
using namespace simgan_fast::emulator;

PYBIND11_MODULE(_emulator, m) {
    m.def("set_schedule", [](int order, bool greedy, uint32_t seed) {
        schedule = {static_cast<Order>(order), greedy, seed};
    });
    m.def("reset_counters", [] { counters = {}; });
    m.def("counters", [] {
        py::dict all;
        all["mma"] = counters.mma;
        all["ldmatrix"] = counters.ldmatrix;
        all["ldmatrix_wavefronts"] = counters.ldmatrix_wavefronts;
        all["barriers"] = counters.barriers;
        all["bytes_read"] = counters.bytes_read;
        all["bytes_written"] = counters.bytes_written;
        all["launches"] = counters.launches;
        return all;
    });
}
