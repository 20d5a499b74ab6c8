#include "history_exchange.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/threads.h"
#include "random_ops.h"

namespace simgan_fast {
namespace {

constexpr int64_t kPageBytes = 4096;
constexpr int64_t kRowsAhead = 4;
constexpr int64_t kBytesOfAThread = 1 << 18;  // less is not worth waking one

using Slots = std::vector<int64_t>;

// The slots of rows first, first + 1, ... below `last` in this step and stream.
Slots slots_of(const HistoryExchange& p, uint32_t stream, int64_t first, int64_t last) {
    Slots slots(static_cast<size_t>(last - first));
    permutation_cpu({slots.data(), first, last - first, p.slots, static_cast<uint64_t>(*p.counter),
                     p.seed, stream});
    return slots;
}

// The rows are scattered over more pages than the TLB holds, so each is asked for ahead of time.
// What suits reading does not suit writing; streaming stores help neither (256 of 51,200 eyes take
// 155 us; without asking, 250).

// Copies a row and asks for the next meanwhile, line by line.
void draw(unsigned char* to, const unsigned char* row, const unsigned char* next, int64_t bytes) {
    constexpr int64_t kLine = 64, kStretch = 4 * kLine;
    int64_t i = 0;
    for (; i + kStretch <= bytes; i += kStretch) {
        for (int64_t line = 0; line < kStretch; line += kLine) __builtin_prefetch(next + i + line);
        std::memcpy(to + i, row + i, kStretch);
    }
    for (int64_t line = i; line < bytes + kLine; line += kLine) __builtin_prefetch(next + line);
    std::memcpy(to + i, row + i, bytes - i);
}

// Asks for one line of every page of a row: a long memcpy fetches no line that it overwrites.
// Inlined always: GCC drops calls of a function that does nothing but prefetch.
inline __attribute__((always_inline)) void approach(const unsigned char* row, int64_t bytes) {
    for (int64_t offset = 0; offset < bytes; offset += kPageBytes)
        __builtin_prefetch(row + offset, 1);
    __builtin_prefetch(row + bytes, 1);
}

// Calls copy(slots, which of them, row) for every row of this step and stream, rows shared out.
template <typename Copy>
void for_rows(const HistoryExchange& p, uint32_t stream, const Copy& copy) {
    const int64_t parts =
        std::max<int64_t>(1, std::min(p.threads, p.rows * p.row_bytes / kBytesOfAThread));
    parallel_for(parts, p.threads, [&](int64_t part, int64_t) {
        const int64_t first = p.rows * part / parts, last = p.rows * (part + 1) / parts;
        const Slots slots = slots_of(p, stream, first, last);
        for (size_t i = 0; i < slots.size(); ++i) copy(slots, i, first + static_cast<int64_t>(i));
    });
}

}  // namespace

void history_exchange_cpu(const HistoryExchange& p) {
    const auto place = [&](int64_t slot) { return p.buffer + slot * p.row_bytes; };
    if (p.rows > 0) {
        for_rows(p, 0, [&](const Slots& slots, size_t i, int64_t row) {
            const unsigned char* next = place(slots[std::min(i + 1, slots.size() - 1)]);
            draw(p.drawn + row * p.row_bytes, place(slots[i]), next, p.row_bytes);
        });
        for_rows(p, 1, [&](const Slots& slots, size_t i, int64_t row) {
            if (i + kRowsAhead < slots.size()) approach(place(slots[i + kRowsAhead]), p.row_bytes);
            std::memcpy(place(slots[i]), p.fresh + row * p.row_bytes, p.row_bytes);
        });
    }
    ++*p.counter;
}

}  // namespace simgan_fast
