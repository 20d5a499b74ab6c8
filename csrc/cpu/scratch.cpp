#include "cpu/scratch.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace simgan_fast {
namespace {

constexpr int64_t kHugePage = int64_t{1} << 21;
constexpr size_t kKept = 8;  // pieces; more are freed at once

struct Piece {
    float* data;
    int64_t bytes;
};

std::mutex mutex;

// Never destroyed: a tensor that dies while the process ends still gives its memory back.
std::vector<Piece>& kept_pieces() {
    static auto* const pieces = new std::vector<Piece>;
    return *pieces;
}

Piece take(int64_t bytes) {
    {
        const std::lock_guard<std::mutex> lock(mutex);
        std::vector<Piece>& kept = kept_pieces();
        // The smallest that will do; not one of more than twice the size.
        auto best = kept.end();
        for (auto piece = kept.begin(); piece != kept.end(); ++piece)
            if (piece->bytes >= bytes && piece->bytes / 2 <= bytes &&
                (best == kept.end() || piece->bytes < best->bytes))
                best = piece;
        if (best != kept.end()) {
            const Piece found = *best;
            kept.erase(best);
            return found;
        }
    }
    void* data = std::aligned_alloc(kHugePage, bytes);
    if (data == nullptr) throw std::bad_alloc();
    madvise(data, bytes, MADV_HUGEPAGE);  // only advice
    return {static_cast<float*>(data), bytes};
}

}  // namespace

Scratch::Scratch(int64_t floats) {
    const int64_t bytes = std::max<int64_t>(floats, 1) * static_cast<int64_t>(sizeof(float));
    const Piece piece = take((bytes + kHugePage - 1) / kHugePage * kHugePage);
    data_ = piece.data;
    bytes_ = piece.bytes;
}

Scratch::~Scratch() {
    const std::lock_guard<std::mutex> lock(mutex);
    std::vector<Piece>& kept = kept_pieces();
    kept.push_back({data_, bytes_});
    if (kept.size() <= kKept) return;
    std::free(kept.front().data);  // the one that was not asked for longest
    kept.erase(kept.begin());
}

int64_t release_scratch() {
    const std::lock_guard<std::mutex> lock(mutex);
    std::vector<Piece>& kept = kept_pieces();
    int64_t bytes = 0;
    for (const Piece& piece : kept) {
        bytes += piece.bytes;
        std::free(piece.data);
    }
    kept.clear();
    return bytes;
}

}  // namespace simgan_fast
