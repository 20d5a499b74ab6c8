// For tests/sanitize.py. `callers`: threads that call the ops at the same time, with the same
// weights, while a third forgets what is kept. `race`, `overrun`, `overflow`: mistakes that a
// sanitizer must find, or it is not at work.
#include <atomic>
#include <climits>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "cpu/threads.h"
#include "patch_network_cases.h"
#include "residual_blocks_cases.h"

using namespace simgan_fast;

namespace {

bool callers() {
    std::atomic<bool> good{true}, done{false};
    std::thread forgetter([&] {
        while (!done) {
            forget_weights();
            release_scratch();
            std::this_thread::yield();
        }
    });
    std::vector<std::thread> others;
    for (int i = 0; i < 2; ++i)
        others.emplace_back([&] {
            std::mt19937 random(1);  // the same numbers in both
            for (int round = 0; round < 4; ++round) {
                for (const double e : blocks::errors_of({3, 5, 7, 8, 1, 4, 2, true}, random))
                    if (!(e < 2e-5)) good = false;
                for (const double e : blocks::errors_of({2, 5, 7, 8, 1, 4, 2, true, 7}, random))
                    if (!(e < 2e-5)) good = false;
                if (patches::largest_error({3, 1, 7, 9, 16, 2, true}, random) >= 2e-5) good = false;
            }
        });
    for (std::thread& other : others) other.join();
    done = true;
    forgetter.join();
    return good;
}

int64_t race() {
    int64_t total = 0;
    std::atomic<int> arrived{0};  // relaxed: it orders nothing
    parallel_for(4, 4, [&](int64_t index, int64_t) {
        arrived.fetch_add(1, std::memory_order_relaxed);
        while (arrived.load(std::memory_order_relaxed) < 4) std::this_thread::yield();
        total += index;
    });
    return total;
}

float overrun(int count) {
    const std::unique_ptr<float[]> values(new float[count]);
    std::fill_n(values.get(), count + 1, 1.0f);
    return values[0];
}

int overflow(int count) {
    return INT_MAX - 3 + count;
}

}  // namespace

int main(int count, char** words) {
    const std::string name = count > 1 ? words[1] : "";
    if (name == "race") return race() < 0;
    if (name == "overrun") return overrun(count * 8) < 0;
    if (name == "overflow") return overflow(count * 8) < 0 ? 0 : 1;
    return name == "callers" && callers() ? 0 : 1;
}
