// Draws distinct rows from a buffer, then overwrites as many distinct random slots with fresh rows.
#pragma once

#include <cstdint>

namespace simgan_fast {

struct HistoryExchange {
    unsigned char* buffer;       // [slots, row_bytes]
    const unsigned char* fresh;  // [rows, row_bytes], no byte shared with the buffer
    unsigned char* drawn;        // [rows, row_bytes]
    int64_t* counter;            // [1]: the step; one more on return
    int64_t slots, rows;         // 0 <= rows <= slots
    int64_t row_bytes;
    uint64_t seed;
    int64_t threads;  // at most
};

// drawn[i] = buffer[P(i)], then buffer[Q(i)] = fresh[i], for the permutations P (stream 0) and Q
// (stream 1) of this step.
void history_exchange_cpu(const HistoryExchange& p);

// The same on the current CUDA device, where all of it lies. `replaced` [rows]: working memory.
void history_exchange_cuda(const HistoryExchange& p, int64_t* replaced, void* stream);

}  // namespace simgan_fast
