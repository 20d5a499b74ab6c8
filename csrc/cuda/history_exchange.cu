// One block copies one row. Two launches, so that every row is drawn before any is replaced; the
// step is read and counted on the device, so that a captured graph goes on by itself.
#include <algorithm>

#include "cuda/simt.h"
#include "history_exchange.h"
#include "random.h"

namespace simgan_fast {
namespace {

constexpr uint32_t kDrawn = 0, kReplaced = 1;  // streams of the permutation

struct Exchange {
    HistoryExchange p;
    int64_t* replaced;
    int word_bytes;  // 1, 2, 4 or 16: what all rows are aligned to
};

struct Rows {
    using Params = Exchange;
    static constexpr int kThreads = 256, kBlocksPerSm = 6, kSharedBytes = 0;

    // Several words under way in each thread: one at a time would leave the memory idle.
    template <typename Word>
    SIMT_DEVICE static void copy_words(unsigned char* to, const unsigned char* from,
                                       int64_t bytes) {
        constexpr int kWords = sizeof(Word) < 4 ? 8 : 32 / sizeof(Word);
        const auto* source = reinterpret_cast<const Word*>(from);
        auto* target = reinterpret_cast<Word*>(to);
        const int64_t words = bytes / static_cast<int64_t>(sizeof(Word));
        for (int64_t first = simt::thread(); first < words; first += kWords * kThreads) {
            Word word[kWords];
#pragma unroll
            for (int i = 0; i < kWords; ++i)
                if (first + i * kThreads < words)
                    word[i] = simt::load(source + first + i * kThreads);
#pragma unroll
            for (int i = 0; i < kWords; ++i)
                if (first + i * kThreads < words)
                    simt::store(target + first + i * kThreads, word[i]);
        }
    }

    SIMT_DEVICE static void copy(const Exchange& e, unsigned char* to, const unsigned char* from) {
        switch (e.word_bytes) {
            case 16:
                return copy_words<simt::Words16>(to, from, e.p.row_bytes);
            case 4:
                return copy_words<uint32_t>(to, from, e.p.row_bytes);
            case 2:
                return copy_words<uint16_t>(to, from, e.p.row_bytes);
            default:
                return copy_words<uint8_t>(to, from, e.p.row_bytes);
        }
    }
};

struct Draw : Rows {
    SIMT_DEVICE static int64_t slot_of(const HistoryExchange& p, uint32_t stream, int64_t row) {
        const auto permutation =
            make_permutation(static_cast<uint64_t>(p.slots),
                             static_cast<uint64_t>(simt::load(p.counter)), stream, p.seed);
        return static_cast<int64_t>(permuted(permutation, static_cast<uint64_t>(row)));
    }

    SIMT_DEVICE static void run(const Exchange& e) {
        const HistoryExchange& p = e.p;
        const int64_t row = simt::block();
        // The next launch counts the step, so it is told what this one knows.
        if (simt::thread() == 0) simt::store(e.replaced + row, slot_of(p, kReplaced, row));
        copy(e, p.drawn + row * p.row_bytes, p.buffer + slot_of(p, kDrawn, row) * p.row_bytes);
    }
};

struct Replace : Rows {
    SIMT_DEVICE static void run(const Exchange& e) {
        const HistoryExchange& p = e.p;
        const int64_t row = simt::block();
        if (row == 0 && simt::thread() == 0) simt::store(p.counter, simt::load(p.counter) + 1);
        if (row < p.rows)  // without rows there is one block, to count
            copy(e, p.buffer + simt::load(e.replaced + row) * p.row_bytes,
                 p.fresh + row * p.row_bytes);
    }
};

}  // namespace

// In the widest words that fit: rows of 35 x 55 floats are aligned to 4 bytes, of bfloat16 to 2.
void history_exchange_cuda(const HistoryExchange& p, int64_t* replaced, void* stream) {
    const auto address = [](const void* at) { return reinterpret_cast<uintptr_t>(at); };
    const uintptr_t bits = address(p.buffer) | address(p.fresh) | address(p.drawn) |
                           static_cast<uintptr_t>(p.row_bytes);
    const int word_bytes = bits % 16 == 0 ? 16 : bits % 4 == 0 ? 4 : bits % 2 == 0 ? 2 : 1;
    const Exchange e{p, replaced, word_bytes};
    simt::launch<Draw>("history_exchange", p.rows, e, stream);
    simt::launch<Replace>("history_exchange", std::max<int64_t>(1, p.rows), e, stream);
}

}  // namespace simgan_fast
