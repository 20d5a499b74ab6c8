// A thread of the emulator: a stack of its own, and a switch to and fro.
#pragma once

#include <cstddef>
#include <memory>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace simgan_fast {
namespace emulator {

class Fiber {
  public:
    Fiber();
    // Makes it begin with entry() at the next resume(), whatever it was doing.
    void start(void (*entry)());
    // From the scheduler: runs it until it pauses.
    void resume();
    // From within: back to the scheduler, for ever if `last`.
    void pause(bool last);
    // First of all within entry().
    void arrived();
    bool overflowed() const;

  private:
#if defined(__SANITIZE_ADDRESS__)
    static constexpr size_t kStackBytes = 256 << 10;  // with its red zones
    void* fake_stack_ = nullptr;
    static inline void* scheduler_fake_stack_ = nullptr;
    static inline const void* scheduler_stack_ = nullptr;
    static inline size_t scheduler_stack_bytes_ = 0;
#else
    static constexpr size_t kStackBytes = 64 << 10;
#endif
#if defined(__x86_64__)
    void* top_ = nullptr;
    static inline void* scheduler_top_ = nullptr;
#else
    ucontext_t context_;
    static inline ucontext_t scheduler_;
#endif
    std::unique_ptr<char[]> stack_;
};

}  // namespace emulator
}  // namespace simgan_fast
