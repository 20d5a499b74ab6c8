// Does the emulator catch what it is for? A product of matrices by the book (cp.async in two
// stages, swizzled shared memory, ldmatrix, mma.sync, a sum over warps), and the same with one
// mistake in it.
//
//     planted_bugs MISTAKE ORDER GREEDY
//
// prints "right", "wrong" or what the emulator threw, and the counters.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/simt.h"

using namespace simgan_fast;

namespace {

enum Mistake {
    kNone,
    kNoWait,          // reads the stage before it has arrived
    kNoCommit,        // waits for a group that it never closed
    kNoFirstBarrier,  // reads what other threads copy, without waiting for them
    kNoLastBarrier,   // copies over what other warps may still read
    kFragmentOrder,   // the two halves of b swapped
    kNoSwizzle,       // right, but every row in the same banks
    kSharedOverrun,   // copies one row to where there is no shared memory
    kPlainOverrun,    // the same with a plain store, which nothing checks at once
    kGlobalOverrun,   // one value too many
    kNoSyncWarp,      // lanes exchange values through memory without waiting
    kSomeLanes,       // a collective around which some lanes go
    kSomeThreads,     // a barrier that one warp goes around
    kMisaligned,      // copies from 2 bytes further
    kMistakes
};
const char* const kNames[kMistakes] = {
    "none",         "no_wait",    "no_commit",      "no_first_barrier", "no_last_barrier",
    "order",        "no_swizzle", "shared_overrun", "plain_overrun",    "global_overrun",
    "no_sync_warp", "some_lanes", "some_threads",   "misaligned"};

// y [64, 64] = a [64, 16 steps] b [64, 16 steps]^T, bf16; sum: of all y in rows g and g + 8.
struct Product {
    const uint16_t *a, *b;
    float *y, *sums;  // sums [4], of each warp
    int steps;
};

template <int kMistake>
struct Kernel {
    using Params = Product;
    static constexpr int kThreads = 128, kBlocksPerSm = 1;
    static constexpr int kStage = 2 * 64 * 32, kSharedBytes = 2 * kStage + 4 * 32 * 4;

    // Rows of 32 bytes: 16 values of one step. Four rows fill the banks once.
    SIMT_DEVICE static char* place(char* stage, int row, int half) {
        const int swizzled = kMistake == kNoSwizzle ? half : half ^ (row >> 2 & 1);
        return stage + row * 32 + swizzled * 16;
    }

    SIMT_DEVICE static void copy(const Params& p, char* stage, int step) {
        for (int i = simt::thread(); i < 2 * 64 * 2; i += kThreads) {
            const int row = i / 2 % 64, half = i % 2;
            const uint16_t* from = (i < 128 ? p.a : p.b) + (row * p.steps + step) * 16 + half * 8;
            char* to = place(stage + i / 128 * 64 * 32, row, half);
            if (kMistake == kSharedOverrun && row == 63 && step == 1) to += kStage;
            simt::cp_async_16(to, from + (kMistake == kMisaligned), true);
        }
        if (kMistake != kNoCommit) simt::cp_async_commit();
    }

    SIMT_DEVICE static void multiply(char* stage, float (&d)[8][4]) {
        const int lane = simt::lane();
        uint32_t a[4], b[4];
        simt::ldmatrix_x4(a, place(stage, simt::warp() * 16 + lane % 16, lane / 16));
        for (int j = 0; j < 4; ++j) {
            const int row = j * 16 + lane % 8 + lane / 16 * 8;
            simt::ldmatrix_x4(b, place(stage + 64 * 32, row, lane / 8 % 2));
            const int swap = kMistake == kFragmentOrder;
            for (int n = 0; n < 2; ++n)
                simt::mma_16x8x16(d[j * 2 + n], a, b[n * 2 + swap], b[n * 2 + 1 - swap]);
        }
    }

    // The sum over the lanes, through shared memory and back by shuffles.
    SIMT_DEVICE static float sum(float mine) {
        auto* memory = reinterpret_cast<float*>(simt::shared() + 2 * kStage) + simt::warp() * 32;
        memory[simt::lane()] = mine;
        if (kMistake == kPlainOverrun && simt::warp() == 3) memory[32 + simt::lane()] = mine;
        if (kMistake != kNoSyncWarp) simt::sync_warp();
        float total = memory[(simt::lane() + 1) % 32];
        if (kMistake == kSomeLanes && simt::lane() == 7) return total;
        for (int step = 16; step > 0; step /= 2) total += simt::shuffle_xor(total, step);
        return total;
    }

    SIMT_DEVICE static void run(const Params& p) {
        char* const stages[2] = {simt::shared(), simt::shared() + kStage};
        float d[8][4] = {}, mine = 0;
        copy(p, stages[0], 0);
        for (int step = 0; step < p.steps; ++step) {
            const bool more = step + 1 < p.steps;
            if (more) copy(p, stages[(step + 1) % 2], step + 1);
            if (more && kMistake != kNoWait)
                simt::cp_async_wait<1>();
            else if (!more)
                simt::cp_async_wait<0>();
            if (kMistake == kSomeThreads && simt::warp() == 2) continue;
            if (kMistake != kNoFirstBarrier) simt::sync();
            multiply(stages[step % 2], d);
            if (kMistake != kNoLastBarrier) simt::sync();
        }
        const int g = simt::warp() * 16 + simt::lane() / 4, t = simt::lane() % 4 * 2;
        for (int j = 0; j < 8; ++j)
            for (int q = 0; q < 4; ++q) {
                simt::store(p.y + (g + q / 2 * 8) * 64 + j * 8 + t + q % 2, d[j][q]);
                mine += d[j][q];
            }
        if (kMistake == kGlobalOverrun && simt::thread() == 0) simt::store(p.y + 64 * 64, 1.0f);
        const float total = sum(mine);
        if (simt::lane() == 0) simt::store(p.sums + simt::warp(), total);
    }
};

float value_at(int i) {
    return static_cast<float>(i * 37 % 101 - 50) / 64;
}  // bf16 has them all

std::string outcome(void (*launch)(const Product&)) {
    constexpr int kSteps = 5, kRow = kSteps * 16;
    std::vector<uint16_t> a(64 * kRow + 16), b(64 * kRow + 16);
    for (int i = 0; i < 64 * kRow; ++i) {
        a[i] = static_cast<uint16_t>(simt::bf16_bits(value_at(i)));
        b[i] = static_cast<uint16_t>(simt::bf16_bits(value_at(3 * i + 1)));
    }
    // On the heap by itself: AddressSanitizer watches its end.
    std::vector<float> y(64 * 64, NAN), sums(4, NAN);
    try {
        launch({a.data(), b.data(), y.data(), sums.data(), kSteps});
    } catch (const std::runtime_error& error) {
        return error.what();
    }
    double expected_sums[4] = {};
    for (int i = 0; i < 64; ++i)
        for (int j = 0; j < 64; ++j) {
            double expected = 0;
            for (int k = 0; k < kRow; ++k)
                expected += double{value_at(i * kRow + k)} * value_at(3 * (j * kRow + k) + 1);
            if (!(std::fabs(y[i * 64 + j] - expected) < 1e-5)) return "wrong";
            expected_sums[i / 16] += expected;
        }
    for (int i = 0; i < 4; ++i)
        if (!(std::fabs(sums[i] - expected_sums[i]) < 1e-3)) return "wrong sum";
    return "right";
}

template <int kMistake>
void launch(const Product& p) {
    simt::launch<Kernel<kMistake>>(kNames[kMistake], 1, p, nullptr);
}

template <int kMistake = 0>
std::string run(const std::string& name) {
    if constexpr (kMistake < kMistakes) {
        if (name == kNames[kMistake]) return outcome(launch<kMistake>);
        return run<kMistake + 1>(name);
    }
    std::fprintf(stderr, "there is no mistake '%s'\n", name.c_str());
    std::exit(2);
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 4) return 2;
    emulator::schedule.order = static_cast<emulator::Order>(std::atoi(arguments[2]));
    emulator::schedule.greedy = std::atoi(arguments[3]) != 0;
    emulator::schedule.seed = 7;
    const std::string result = run(arguments[1]);
    const auto& c = emulator::counters;
    std::printf("%s\n", result.c_str());
    std::printf("mma %d ldmatrix %d wavefronts %d barriers %d read %d written %d\n",
                static_cast<int>(c.mma), static_cast<int>(c.ldmatrix),
                static_cast<int>(c.ldmatrix_wavefronts), static_cast<int>(c.barriers),
                static_cast<int>(c.bytes_read), static_cast<int>(c.bytes_written));
}
