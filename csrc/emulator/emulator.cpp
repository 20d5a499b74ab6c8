#include "emulator/emulator.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "cuda/runtime.h"
#include "emulator/fiber.h"

namespace simgan_fast {
namespace emulator {

Schedule schedule;
Counters counters;

namespace {

constexpr size_t kGuard = 1024;  // bytes before and after shared memory that nobody may touch
constexpr unsigned char kNaN = 0xff, kGuarded = 0xa5;

struct Copy {
    void* to;
    const void* from;  // null: zeros
};

enum class State { kReady, kInCollective, kAtBarrier, kDone };

struct Thread {
    Fiber fiber;
    State state;
    Collective what;
    Lane lane;
    std::vector<Copy> open;                 // copies not yet in a group
    std::vector<std::vector<Copy>> groups;  // oldest first
};

// Shared memory between two guards.
class Shared {
  public:
    explicit Shared(size_t bytes)
        : bytes_(bytes), whole_(static_cast<char*>(std::aligned_alloc(kGuard, size()))) {}
    ~Shared() {
        guard(false);
        std::free(whole_);
    }
    Shared(const Shared&) = delete;
    char* begin() const { return whole_ + kGuard; }
    char* end() const { return begin() + bytes_; }
    void fill() {
        guard(false);
        std::memset(whole_, kGuarded, size());
        std::memset(begin(), kNaN, bytes_);
        guard(true);
    }
    bool overrun() {
        guard(false);
        const auto touched = [](char c) { return static_cast<unsigned char>(c) != kGuarded; };
        const bool result =
            std::any_of(whole_, begin(), touched) || std::any_of(end(), whole_ + size(), touched);
        guard(true);
        return result;
    }

  private:
    size_t size() const { return (bytes_ + 3 * kGuard - 1) / kGuard * kGuard; }
    void guard([[maybe_unused]] bool on) {
#if defined(__SANITIZE_ADDRESS__)
        if (!on) return __asan_unpoison_memory_region(whole_, size());
        __asan_poison_memory_region(whole_, kGuard);
        __asan_poison_memory_region(end(), whole_ + size() - end());
#endif
    }
    size_t bytes_;
    char* whole_;
};

struct Grid {
    Grid(int64_t number, int of_threads, size_t shared_bytes)
        : blocks(number), threads(of_threads), shared(shared_bytes) {}
    int64_t blocks, block = 0;
    std::vector<Thread> threads;
    Thread* current = nullptr;
    Shared shared;
    void (*body)(const void*) = nullptr;
    const void* params = nullptr;
    std::string error;
    int index(const Thread* t) const { return static_cast<int>(t - threads.data()); }
};

Grid* grid = nullptr;  // the one that runs

void pause(State state) {
    Thread& me = *grid->current;
    me.state = state;
    me.fiber.pause(state == State::kDone);
}

void thread_main() {
    Thread& me = *grid->current;
    me.fiber.arrived();
    grid->body(grid->params);
    if (!me.open.empty() || !me.groups.empty()) fail("it ended before its cp_async_wait");
    pause(State::kDone);
}

void resume(Thread& t) {
    grid->current = &t;
    t.fiber.resume();
    if (grid->error.empty() && t.fiber.overflowed()) grid->error = "its stack is too small";
    if (!grid->error.empty())
        throw std::runtime_error("block " + std::to_string(grid->block) + ", thread " +
                                 std::to_string(grid->index(&t)) + ": " + grid->error + ".");
}

// Runs it to where it must wait, if it need not wait now.
bool advance(Thread& t) {
    if (t.state != State::kReady) return false;
    resume(t);
    return true;
}

bool advance_warp(int warp, const std::vector<int>& lanes) {
    bool any = false;
    for (bool again = true; again; any = any || again) {
        again = false;
        for (int lane : lanes) again = advance(grid->threads[warp * kWarp + lane]) || again;
    }
    return any;
}

bool open_barrier() {
    const auto waits = [](const Thread& t) { return t.state == State::kAtBarrier; };
    if (!std::all_of(grid->threads.begin(), grid->threads.end(), waits)) return false;
    for (Thread& t : grid->threads) t.state = State::kReady;
    ++counters.barriers;
    return true;
}

// A number of things in the order of the schedule, another one on each call if that is random.
class Turns {
  public:
    explicit Turns(int64_t count) : turns_(count), random_(schedule.seed) {
        std::iota(turns_.begin(), turns_.end(), 0);
        if (schedule.order == Order::kReverse) std::reverse(turns_.begin(), turns_.end());
    }
    const std::vector<int>& next() {
        if (schedule.order == Order::kRandom) std::shuffle(turns_.begin(), turns_.end(), random_);
        return turns_;
    }

  private:
    std::vector<int> turns_;
    std::mt19937 random_;
};

void run_block(Turns& threads, Turns& warps, Turns& lanes) {
    grid->shared.fill();
    for (Thread& t : grid->threads) {
        t.fiber.start(thread_main);
        t.state = State::kReady;
    }
    const auto done = [](const Thread& t) { return t.state == State::kDone; };
    while (!std::all_of(grid->threads.begin(), grid->threads.end(), done)) {
        bool any = false;
        if (schedule.greedy)
            for (int warp : warps.next()) any = advance_warp(warp, lanes.next()) || any;
        else
            for (int i : threads.next()) any = advance(grid->threads[i]) || any;
        if (!open_barrier() && !any)
            throw std::runtime_error(
                "block " + std::to_string(grid->block) +
                ": threads wait at a barrier or collective that others never reach.");
    }
    if (grid->shared.overrun())
        throw std::runtime_error("block " + std::to_string(grid->block) +
                                 ": it wrote outside of its shared memory.");
}

}  // namespace

void run(const char* op, int64_t blocks, int threads, size_t shared_bytes,
         void (*body)(const void* params), const void* params) {
    Grid now(blocks, threads, shared_bytes);
    now.body = body;
    now.params = params;
    grid = &now;
    Turns of_blocks(blocks), of_threads(threads), of_warps(threads / kWarp), of_lanes(kWarp);
    try {
        for (int64_t block : of_blocks.next()) {
            now.block = block;
            run_block(of_threads, of_warps, of_lanes);
        }
    } catch (const std::runtime_error& error) {
        grid = nullptr;
        throw std::runtime_error(std::string(op) + ": " + error.what());
    }
    grid = nullptr;
    ++counters.launches;
}

int thread() {
    return grid->index(grid->current);
}
int block() {
    return static_cast<int>(grid->block);
}
int blocks() {
    return static_cast<int>(grid->blocks);
}
char* shared() {
    return grid->shared.begin();
}
void barrier() {
    pause(State::kAtBarrier);
}

void collective(Collective what, const Lane& mine) {
    Thread& me = *grid->current;
    me.what = what;
    me.lane = mine;
    me.state = State::kInCollective;
    Thread* warp = &me - thread() % kWarp;
    Lane lanes[kWarp];
    for (int i = 0; i < kWarp; ++i) {
        if (warp[i].state != State::kInCollective) return pause(State::kInCollective);
        if (warp[i].what != what) fail("lanes of its warp are at different collectives");
        lanes[i] = warp[i].lane;
    }
    what(lanes);
    for (int i = 0; i < kWarp; ++i) warp[i].state = State::kReady;
}

void copy_later(void* to_shared, const void* from) {
    check_shared(to_shared, 16);
    check_aligned(from, 16, "a cp_async");
    std::memset(to_shared, kNaN, 16);  // whoever reads too early sees it
    grid->current->open.push_back({to_shared, from});
    counters.bytes_read += from != nullptr ? 16 : 0;
}

void close_copies() {
    Thread& me = *grid->current;
    me.groups.push_back(std::move(me.open));
    me.open.clear();
}

void finish_copies(int open_groups) {
    auto& groups = grid->current->groups;
    while (static_cast<int>(groups.size()) > open_groups) {
        for (const Copy& copy : groups.front())
            if (copy.from != nullptr)
                std::memcpy(copy.to, copy.from, 16);
            else
                std::memset(copy.to, 0, 16);
        groups.erase(groups.begin());
    }
}

void check_aligned(const void* p, size_t alignment, const char* what) {
    if (reinterpret_cast<uintptr_t>(p) % alignment != 0)
        fail(std::string(what) + " of " + std::to_string(alignment) +
             " bytes is not aligned to them");
}

void check_shared(const void* p, size_t bytes) {
    check_aligned(p, bytes, "an access to shared memory");
    const char* at = static_cast<const char*>(p);
    if (at < shared() || at + bytes > grid->shared.end())
        fail("it reaches outside of its shared memory");
}

// By value: the stack of this thread is left as it is, and must own nothing.
void fail(std::string what) {
    grid->error = std::move(what);
    grid->current->fiber.pause(true);
    std::abort();
}

}  // namespace emulator

std::string cuda_obstacle(int) {
    return "";
}
DeviceGuard::DeviceGuard(const char*, int) {}
DeviceGuard::~DeviceGuard() = default;

unsigned grid_size(const char* op, int64_t blocks) {
    if (blocks < 0 || blocks > 0x7fffffff)
        throw std::runtime_error(std::string(op) + ": too many blocks.");
    return static_cast<unsigned>(blocks);
}

// Few, so that blocks have more than one thing to do.
int multiprocessors(const char*) {
    return 2;
}

void check_launch(const char*, void*) {}

}  // namespace simgan_fast
