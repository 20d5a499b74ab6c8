#include "cpu/threads.h"

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

namespace simgan_fast {
namespace {

struct Job {
    const std::function<void(int64_t, int64_t)>& work;
    int64_t count, threads;
    std::atomic<int64_t> workers{0}, next{0};
};

// In no order with anything else: all that a worker reads was there before it began. An order would
// hide most races from ThreadSanitizer.
int64_t take(std::atomic<int64_t>& counter) {
    return counter.fetch_add(1, std::memory_order_relaxed);
}

void run(void* data) {
    Job& job = *static_cast<Job*>(data);
    const int64_t worker = take(job.workers);
    if (worker >= job.threads) return;
    for (int64_t index = take(job.next); index < job.count; index = take(job.next))
        job.work(index, worker);
}

using GompParallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

// The OpenMP runtime that torch has loaded for everybody (libgomp, or LLVM's and Intel's, which
// offer the same entry). Linking one would bring a second pool of threads that fight with torch's.
GompParallel torch_parallel() {
    static const auto found = reinterpret_cast<GompParallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    return found;
}

}  // namespace

void parallel_for(int64_t count, int64_t threads,
                  const std::function<void(int64_t index, int64_t worker)>& work) {
    threads = std::min(threads, count);
    if (threads <= 1) {
        for (int64_t index = 0; index < count; ++index) work(index, 0);
        return;
    }
    Job job{work, count, threads};
    if (const GompParallel parallel = torch_parallel()) {
        parallel(&run, &job, static_cast<unsigned>(threads), 0);
        return;
    }
    std::vector<std::thread> others;
    for (int64_t i = 1; i < threads; ++i) others.emplace_back(run, &job);
    run(&job);
    for (std::thread& other : others) other.join();
}

}  // namespace simgan_fast
