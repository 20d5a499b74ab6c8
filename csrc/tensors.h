// Torch's tensors as the native part sees them, without torch's headers: by the table of functions
// that torch.Tensor carries for extension modules (DLPack's C exchange API, of version 1.3,
// https://dmlc.github.io/dlpack). It takes 70 ns a tensor; to ask for type, shape, strides and
// address in Python takes 1 us. Only with the GIL; nothing is owned.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

namespace simgan_fast {

namespace py = pybind11;

// DLPack's structs, fixed by the standard. `shape` and `strides` (in values) are the tensor's own.
struct DLTensor {
    char* data;
    int32_t device_type, device_id;
    int32_t ndim;
    uint8_t type_code, type_bits;
    uint16_t type_lanes;
    const int64_t *shape, *strides;
    uint64_t byte_offset;
};
struct DLPackExchangeAPI {
    uint32_t major, minor;
    void* previous;
    void *allocate, *managed_from_object, *managed_to_object;
    int (*view)(void* object, DLTensor* out);  // not 0: failed, with a Python exception
    void* current_work_stream;
};

class Torch {
  public:
    // Imports torch, which whoever imports simgan_fast has done before.
    static const Torch& get() {
        static const Torch* torch = new Torch;  // Python objects outlive static ones
        return *torch;
    }

    // A tensor or parameter itself, no subclass, which may mean something else.
    bool plain(PyObject* object) const {
        return Py_TYPE(object) == tensor_ || Py_TYPE(object) == parameter_;
    }
    bool is_tensor(PyObject* object) const {
        return PyType_IsSubtype(Py_TYPE(object), tensor_) != 0;
    }

    // Whether it is float32 in memory of the CPU; then `out` says where. False too, with nothing
    // raised, of whatever has no memory of its own: fake, sparse and the like.
    bool view(PyObject* object, DLTensor* out) const {
        constexpr int32_t kCpu = 1;
        constexpr uint8_t kFloat = 2;
        if (api_->view(object, out) != 0) {
            PyErr_Clear();
            return false;
        }
        return out->device_type == kCpu && out->type_code == kFloat && out->type_bits == 32 &&
               out->type_lanes == 1 && (out->ndim == 0 || out->strides != nullptr);
    }

  private:
    Torch() {
        const py::module_ torch = py::module_::import("torch");
        const py::object tensor = torch.attr("Tensor");
        tensor_ = reinterpret_cast<PyTypeObject*>(tensor.inc_ref().ptr());
        const py::object parameter = torch.attr("nn").attr("Parameter");
        parameter_ = reinterpret_cast<PyTypeObject*>(parameter.inc_ref().ptr());
        const py::object capsule = tensor.attr("__dlpack_c_exchange_api__");
        api_ = static_cast<const DLPackExchangeAPI*>(
            PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
        if (api_ == nullptr) throw py::error_already_set();
        if (api_->major != 1 || api_->view == nullptr)
            throw py::import_error("torch speaks another DLPack, " + std::to_string(api_->major) +
                                   "." + std::to_string(api_->minor));
    }

    PyTypeObject *tensor_, *parameter_;
    const DLPackExchangeAPI* api_;
};

// A float32 tensor of the CPU; TypeError of anything else.
class Floats {
  public:
    explicit Floats(py::handle object) {
        if (!Torch::get().is_tensor(object.ptr()) || !Torch::get().view(object.ptr(), &view_))
            throw py::type_error("the native part takes float32 tensors of the CPU.");
    }
    float* data() const { return reinterpret_cast<float*>(view_.data + view_.byte_offset); }
    int64_t size(int i) const { return view_.shape[i]; }
    int64_t stride(int i) const { return view_.strides[i]; }

    // Whether these are its sizes.
    template <typename... Sizes>
    bool is(Sizes... sizes) const {
        if (view_.ndim != static_cast<int32_t>(sizeof...(sizes))) return false;
        int i = 0;
        return ((view_.shape[i++] == sizes) && ...);
    }
    bool has_dimensions(int32_t count) const { return view_.ndim == count; }

    // Of x and a list; empty unless all are plain (above) and float32 of the CPU.
    static std::vector<Floats> if_plain(py::handle x, const py::list& list) {
        std::vector<Floats> found;
        found.reserve(1 + list.size());
        found.push_back(Floats());
        if (!found[0].read(x)) return {};
        for (const py::handle item : list) {
            found.push_back(Floats());
            if (!found.back().read(item)) return {};
        }
        return found;
    }

  private:
    Floats() = default;
    bool read(py::handle object) {
        return Torch::get().plain(object.ptr()) && Torch::get().view(object.ptr(), &view_);
    }

    DLTensor view_{};
};

// Where the values are; null of None.
inline float* address(py::handle object) {
    return object.is_none() ? nullptr : Floats(object).data();
}

}  // namespace simgan_fast
