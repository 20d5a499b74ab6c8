#include <cuda_runtime.h>

#include <cstdlib>
#include <stdexcept>

#include "cuda/runtime.h"

namespace simgan_fast {
namespace {

constexpr int kOldestMajor = 8;  // what the kernels need: cp.async, mma.sync of bf16

std::string what_to_do(cudaError_t status) {
    switch (status) {
        case cudaErrorMemoryAllocation:
            return "; the GPU is full, take smaller batches";
        case cudaErrorNoDevice:
        case cudaErrorInsufficientDriver:
            return "; install or update the NVIDIA driver, or use the CPU";
        case cudaErrorNoKernelImageForDevice:
        case cudaErrorUnsupportedPtxVersion:
            return "; the kernels were not built for this GPU, use impl='reference'";
        default:
            return "; run again with SIMGAN_FAST_SYNC=1 to see which op it was";
    }
}

void check(const char* op, cudaError_t status) {
    if (status == cudaSuccess) return;
    throw std::runtime_error(std::string(op) + ": CUDA says '" + cudaGetErrorString(status) + "'" +
                             what_to_do(status) + ".");
}

bool synchronous() {
    static const bool asked = [] {
        const char* value = std::getenv("SIMGAN_FAST_SYNC");
        return value != nullptr && std::string(value) == "1";
    }();
    return asked;
}

bool is_captured(cudaStream_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(stream, &status) == cudaSuccess &&
           status != cudaStreamCaptureStatusNone;
}

}  // namespace

std::string cuda_obstacle(int device) {
    int devices = 0, major = 0;
    cudaError_t status = cudaGetDeviceCount(&devices);
    if (status == cudaSuccess && device >= devices)
        return "there is no CUDA device " + std::to_string(device);
    if (status == cudaSuccess)
        status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (status != cudaSuccess) {
        cudaGetLastError();  // or the next launch would report it
        return std::string("CUDA says '") + cudaGetErrorString(status) + "'";
    }
    if (major < kOldestMajor)
        return "the GPU is of compute capability " + std::to_string(major) +
               ".x, and the kernels need 8.0 or later";
    return "";
}

DeviceGuard::DeviceGuard(const char* op, int device) {
    int current = 0;
    check(op, cudaGetDevice(&current));
    if (current == device) return;
    check(op, cudaSetDevice(device));
    before_ = current;
}

DeviceGuard::~DeviceGuard() {
    if (before_ >= 0) cudaSetDevice(before_);
}

unsigned grid_size(const char* op, int64_t blocks) {
    if (blocks < 0 || blocks > 0x7fffffff)
        throw std::runtime_error(std::string(op) + ": " + std::to_string(blocks) +
                                 " blocks are more than CUDA has; take smaller batches.");
    return static_cast<unsigned>(blocks);
}

void allow_shared_memory(const char* op, const void* kernel, int bytes,
                         std::atomic<uint64_t>& devices) {
    int device = 0;
    check(op, cudaGetDevice(&device));
    const uint64_t bit = uint64_t{1} << (device & 63);
    if (device < 64 && (devices.load() & bit) != 0) return;
    check(op, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    devices.fetch_or(bit);
}

int multiprocessors(const char* op) {
    int device = 0, count = 0;
    check(op, cudaGetDevice(&device));
    check(op, cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
    return count;
}

void check_launch(const char* op, void* stream) {
    check(op, cudaGetLastError());
    const auto on = static_cast<cudaStream_t>(stream);
    if (synchronous() && !is_captured(on)) check(op, cudaStreamSynchronize(on));
}

}  // namespace simgan_fast
