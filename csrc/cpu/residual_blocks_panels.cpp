#include "cpu/residual_blocks_panels.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "cpu/residual_blocks_layout.h"
#include "cpu/threads.h"

namespace simgan_fast {
namespace {

constexpr int64_t kRowsAtOnce = 16;  // of a convolution's weights, to share the transforms out

// The panels of the forward pass that were made last, with the weights they were made of: a user
// who refines one image after the other would spend a fifth of the time on transforming the same
// weights. Weights are compared, not their addresses: nobody has to say that they have changed.
class PanelCache {
  public:
    std::shared_ptr<const Panels> get(const ResidualBlocks& p, const WinogradKernels& kernels,
                                      bool keep) {
        for (const auto& entry : entries())
            if (entry->is_of(p)) return entry->panels;
        auto panels = std::make_shared<const Panels>(p, kernels, false);
        if (keep && dense(p)) {
            auto entry = std::make_shared<const Entry>(p, panels);
            const std::lock_guard<std::mutex> lock(mutex_);
            entries_.insert(entries_.begin(), std::move(entry));
            if (entries_.size() > kEntries) entries_.pop_back();
        }
        return panels;
    }
    void clear() {
        const std::lock_guard<std::mutex> lock(mutex_);
        entries_.clear();
    }

  private:
    static constexpr size_t kEntries = 2;

    struct Entry {
        Entry(const ResidualBlocks& p, std::shared_ptr<const Panels> made)
            : tile(p.tile), channels(p.channels), panels(std::move(made)) {
            for (int64_t i = 0; i < 2 * p.blocks; ++i) {
                const Convolution& from = p.convolutions[i];
                strides.insert(strides.end(), from.strides, from.strides + 4);
                weights.insert(weights.end(), from.weight, from.weight + floats(p));
            }
        }
        bool is_of(const ResidualBlocks& p) const {
            if (p.tile != tile || p.channels != channels ||
                8 * p.blocks != static_cast<int64_t>(strides.size()))
                return false;
            for (int64_t i = 0; i < 2 * p.blocks; ++i) {
                const Convolution& from = p.convolutions[i];
                if (!std::equal(from.strides, from.strides + 4, &strides[4 * i]) ||
                    std::memcmp(from.weight, &weights[i * floats(p)], floats(p) * sizeof(float)))
                    return false;
            }
            return true;
        }
        int64_t tile, channels;
        std::vector<int64_t> strides;
        std::vector<float> weights;
        std::shared_ptr<const Panels> panels;
    };

    static int64_t floats(const ResidualBlocks& p) { return 9 * p.channels * p.channels; }

    // Whether every weight fills one stretch of memory: contiguous or channels last.
    static bool dense(const ResidualBlocks& p) {
        const int64_t c = p.channels, plain[] = {9 * c, 9, 3, 1}, last[] = {9 * c, 1, 3 * c, c};
        return std::all_of(p.convolutions, p.convolutions + 2 * p.blocks, [&](const auto& from) {
            return std::equal(plain, plain + 4, from.strides) ||
                   std::equal(last, last + 4, from.strides);
        });
    }

    std::vector<std::shared_ptr<const Entry>> entries() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return entries_;
    }

    std::mutex mutex_;
    std::vector<std::shared_ptr<const Entry>> entries_;
};

PanelCache& panel_cache() {
    static auto* const cache =
        new PanelCache;  // never destroyed: nothing at exit may come after it
    return *cache;
}

}  // namespace

Panels::Panels(const ResidualBlocks& p, const WinogradKernels& kernels, bool adjoint)
    : channels_(up_to(p.channels, kChannelGroup)),
      floats_(kernels.points * kernels.points * panel_floats(channels_)),
      scratch_(2 * p.blocks * floats_) {
    const int64_t parts = channels_ / kRowsAtOnce;
    parallel_for(2 * p.blocks * parts, p.threads, [&](int64_t index, int64_t) {
        const Convolution& from = p.convolutions[index / parts];
        const int64_t first = index % parts * kRowsAtOnce, *s = from.strides;
        WeightView view{from.weight, p.channels, s[1], s[0], s[2], s[3]};
        if (adjoint) std::swap(view.row, view.column);
        kernels.transform_weights(view, channels_, first, first + kRowsAtOnce,
                                  scratch_.data() + index / parts * floats_);
    });
}

std::shared_ptr<const Panels> forward_panels(const ResidualBlocks& p,
                                             const WinogradKernels& kernels, bool keep) {
    return panel_cache().get(p, kernels, keep);
}

void forget_weights() {
    panel_cache().clear();
}

}  // namespace simgan_fast
