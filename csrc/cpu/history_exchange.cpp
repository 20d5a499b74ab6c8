#include "history_exchange.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/threads.h"
#include "random.h"

namespace simgan_fast {
namespace {

constexpr int64_t kPageBytes = 4096;
constexpr int64_t kRowsAhead = 4;
constexpr int64_t kBytesOfAThread = 1 << 17;  // less is not worth waking one

using Rows = std::vector<unsigned char*>;

// Where in the buffer rows first, first + 1, ... below `last` of this step and stream lie.
Rows rows_of(const HistoryExchange& p, uint32_t stream, int64_t first, int64_t last) {
    const Permutation permutation = make_permutation(
        static_cast<uint64_t>(p.slots), static_cast<uint64_t>(*p.counter), stream, p.seed);
    Rows rows(static_cast<size_t>(last - first));
    for (int64_t i = first; i < last; ++i)
        rows[i - first] = p.buffer + static_cast<int64_t>(permuted(permutation, i)) * p.row_bytes;
    return rows;
}

// Asks for one line of every page of a row to come: the rows are scattered over more pages than the
// TLB holds, and the walks then overlap with the copies. The two loops take 200 instead of 266 us
// for 256 of 51,200 eyes; asking for more lines at once and streaming stores were no better.
// Inlined always: GCC drops calls of a function that does nothing but prefetch.
inline __attribute__((always_inline)) void approach(const Rows& rows, size_t i, int64_t row_bytes) {
    if (i + kRowsAhead >= rows.size()) return;
    const unsigned char* row = rows[i + kRowsAhead];
    for (int64_t offset = 0; offset < row_bytes; offset += kPageBytes)
        __builtin_prefetch(row + offset);
    __builtin_prefetch(row + row_bytes);
}

// Calls copy(place in the buffer, row) for every row of this step and stream, rows shared out.
template <typename Copy>
void for_rows(const HistoryExchange& p, uint32_t stream, const Copy& copy) {
    const int64_t parts =
        std::max<int64_t>(1, std::min(p.threads, p.rows * p.row_bytes / kBytesOfAThread));
    parallel_for(parts, p.threads, [&](int64_t part, int64_t) {
        const int64_t first = p.rows * part / parts, last = p.rows * (part + 1) / parts;
        const Rows rows = rows_of(p, stream, first, last);
        for (size_t i = 0; i < rows.size(); ++i) {
            approach(rows, i, p.row_bytes);
            copy(rows[i], first + static_cast<int64_t>(i));
        }
    });
}

}  // namespace

void history_exchange_cpu(const HistoryExchange& p) {
    if (p.rows > 0) {
        for_rows(p, 0, [&](const unsigned char* place, int64_t row) {
            std::memcpy(p.drawn + row * p.row_bytes, place, p.row_bytes);
        });
        for_rows(p, 1, [&](unsigned char* place, int64_t row) {
            std::memcpy(place, p.fresh + row * p.row_bytes, p.row_bytes);
        });
    }
    ++*p.counter;
}

}  // namespace simgan_fast
