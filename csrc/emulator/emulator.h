// Runs kernels on the CPU, one thread at a time, to prove their arithmetic, indices and
// synchronisation. Tests only. README.md says what it cannot show.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace simgan_fast {
namespace emulator {

// In which order the threads, warps and blocks come that could all run now.
enum class Order : int { kForward = 0, kReverse = 1, kRandom = 2 };

struct Schedule {
    Order order = Order::kForward;
    // false, lockstep: every thread goes to its next collective or barrier, in turn. true, greedy:
    // a warp goes on to its next barrier while the others rest, which shows barriers that are
    // missing before memory is written again.
    bool greedy = false;
    uint32_t seed = 0;  // of kRandom
};

// Of all launches since they were last set to zero.
struct Counters {
    uint64_t mma = 0;
    uint64_t ldmatrix = 0;             // of four matrices each
    uint64_t ldmatrix_wavefronts = 0;  // 4 for each where no two rows share a bank
    uint64_t barriers = 0;             // of a block
    uint64_t bytes_read = 0;           // of global memory, as asked for: caches are not modelled
    uint64_t bytes_written = 0;
    uint64_t launches = 0;
};

extern Schedule schedule;
extern Counters counters;

constexpr int kWarp = 32;

// What a lane hands to a collective: `in` and `out` are of its own stack.
struct Lane {
    const void* in;
    void* out;
    int argument;
};
using Collective = void (*)(const Lane (&lanes)[kWarp]);

// Runs `body` for every thread of every block, blocks one after another. Throws
// std::runtime_error on what fail() says, and where threads wait for ever.
void run(const char* op, int64_t blocks, int threads, size_t shared_bytes,
         void (*body)(const void* params), const void* params);

// From here on: called by a running thread.
int thread();
int block();
int blocks();
char* shared();
void barrier();
// Waits for all lanes of the warp, then does it for all of them.
void collective(Collective what, const Lane& mine);
// A deferred copy of 16 bytes; `from` null: zeros.
void copy_later(void* to_shared, const void* from);
void close_copies();
void finish_copies(int open_groups);
void check_aligned(const void* p, size_t alignment, const char* what);
void check_shared(const void* p, size_t bytes);
[[noreturn]] void fail(std::string what);

}  // namespace emulator
}  // namespace simgan_fast
