#include "emulator/fiber.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace simgan_fast {
namespace emulator {
namespace {

constexpr uint64_t kCanary = 0x5afe57ac5afe57ac;  // at the far end of a stack

}  // namespace

#if defined(__x86_64__)
// Saves what a call must not change, swaps stacks, and returns on the other one. swapcontext would
// do, but asks the system about signals each time: ten times as slow.
extern "C" void simgan_fast_switch(void** from, void* to);
__asm__(
    ".text\n"
    ".type simgan_fast_switch,@function\n"
    "simgan_fast_switch:\n"
    "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  mov %rsp,(%rdi)\n"
    "  mov %rsi,%rsp\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n"
    "  ret\n"
    ".size simgan_fast_switch,.-simgan_fast_switch\n");
#endif

Fiber::Fiber() : stack_(new char[kStackBytes]) {}

void Fiber::start(void (*entry)()) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack_.get(), kStackBytes);
    fake_stack_ = nullptr;
#endif
    std::memcpy(stack_.get(), &kCanary, sizeof kCanary);
#if defined(__x86_64__)
    // As if entry had just been called: the stack is 8 off a multiple of 16.
    auto end = reinterpret_cast<uintptr_t>(stack_.get() + kStackBytes) & ~uintptr_t{15};
    void** top = reinterpret_cast<void**>(end);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    top_ = top;
#else
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack_.get();
    context_.uc_stack.ss_size = kStackBytes;
    makecontext(&context_, entry, 0);
#endif
}

void Fiber::resume() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake_stack_, stack_.get(), kStackBytes);
#endif
#if defined(__x86_64__)
    simgan_fast_switch(&scheduler_top_, top_);
#else
    swapcontext(&scheduler_, &context_);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::pause(bool last) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(last ? nullptr : &fake_stack_, scheduler_stack_,
                                   scheduler_stack_bytes_);
#endif
#if defined(__x86_64__)
    simgan_fast_switch(&top_, scheduler_top_);
#else
    swapcontext(&context_, &scheduler_);
#endif
    if (last) std::abort();  // nobody resumes it
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack_, &scheduler_stack_, &scheduler_stack_bytes_);
#endif
}

void Fiber::arrived() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack_, &scheduler_stack_bytes_);
#endif
}

bool Fiber::overflowed() const {
    return std::memcmp(stack_.get(), &kCanary, sizeof kCanary) != 0;
}

}  // namespace emulator
}  // namespace simgan_fast
