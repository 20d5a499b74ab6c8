#include "history_exchange.h"

#include <cstring>
#include <vector>

#include "random.h"

namespace simgan_fast {
namespace {

std::vector<int64_t> offsets(const HistoryExchange& p, uint32_t stream) {
    const Permutation permutation = make_permutation(
        static_cast<uint64_t>(p.slots), static_cast<uint64_t>(*p.counter), stream, p.seed);
    std::vector<int64_t> out(static_cast<size_t>(p.rows));
    for (int64_t i = 0; i < p.rows; ++i)
        out[i] =
            static_cast<int64_t>(permuted(permutation, static_cast<uint64_t>(i))) * p.row_bytes;
    return out;
}

}  // namespace

void history_exchange_cpu(const HistoryExchange& p) {
    const std::vector<int64_t> from = offsets(p, 0), to = offsets(p, 1);
    for (int64_t i = 0; i < p.rows; ++i)
        std::memcpy(p.drawn + i * p.row_bytes, p.buffer + from[i], p.row_bytes);
    for (int64_t i = 0; i < p.rows; ++i)
        std::memcpy(p.buffer + to[i], p.fresh + i * p.row_bytes, p.row_bytes);
    ++*p.counter;
}

}  // namespace simgan_fast
