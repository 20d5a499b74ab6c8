// What the host asks of CUDA. Free of CUDA's headers, so that the emulator can stand in for it.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace simgan_fast {

// Why no kernel can run on this device, for the end of a sentence, or "".
std::string cuda_obstacle(int device);

// Makes `device` the current one while it lives.
class DeviceGuard {
  public:
    DeviceGuard(const char* op, int device);
    ~DeviceGuard();
    DeviceGuard(const DeviceGuard&) = delete;

  private:
    int before_ = -1;  // -1: it was current already
};

// Each of these throws std::runtime_error, one sentence that begins with `op`.
unsigned grid_size(const char* op, int64_t blocks);
void allow_shared_memory(const char* op, const void* kernel, int bytes,
                         std::atomic<uint64_t>& devices);
int multiprocessors(const char* op);  // of the current device
// After a launch; with SIMGAN_FAST_SYNC=1 waits for the kernel, unless the stream is captured.
void check_launch(const char* op, void* stream);

}  // namespace simgan_fast
