// A warp takes one image. A mean or a sum over all images is the work of the block that finishes
// last, in the order of the images: one launch, and the same bits every time.
#include <cmath>

#include "cuda/simt.h"
#include "patch_cross_entropy.h"

namespace simgan_fast {
namespace {

constexpr int kWarps = 8;

template <typename T>
struct Call {
    const T* logits;
    const int64_t* target;
    int64_t label, images, patches;
    PatchReduction reduction;
    double* sums;
    uint32_t* ticket;
    float* loss;
    const float* grad;
    T* grad_logits;
};

// As in csrc/cpu/patch_cross_entropy_impl.h.
SIMT_DEVICE float difference(float logit0, float logit1, float sign) {
    const float larger = logit1 > logit0 ? logit1 : logit0;
    return ((logit1 - larger) - (logit0 - larger)) * sign;
}

SIMT_DEVICE float loss_of(float u) {
    return (u > 0 ? u : 0.0f) + log1pf(expf(-fabsf(u)));
}

SIMT_DEVICE float slope_of(float u, float sign) {
    const float e = expf(-fabsf(u));
    return (u > 0 ? sign : e * sign) / (e + 1.0f);
}

struct OfImages {
    static constexpr int kThreads = 32 * kWarps, kBlocksPerSm = 4;
    SIMT_DEVICE static int64_t image() {
        return static_cast<int64_t>(simt::block()) * kWarps + simt::warp();
    }
    template <typename T>
    SIMT_DEVICE static float sign_of(const Call<T>& c, int64_t image) {
        return (c.target != nullptr ? simt::load(c.target + image) : c.label) == 1 ? -1.0f : 1.0f;
    }
    template <typename T>
    SIMT_DEVICE static float u_of(const Call<T>& c, int64_t image, int64_t patch, float sign) {
        const T* logits = c.logits + image * 2 * c.patches + patch;
        return difference(simt::to_float(simt::load(logits)),
                          simt::to_float(simt::load(logits + c.patches)), sign);
    }
};

// In double: the error of a sum does not grow with the size of the map.
SIMT_DEVICE double sum_of_warp(double value) {
    for (int step = 16; step > 0; step /= 2) value += simt::shuffle_xor(value, step);
    return value;
}

template <typename T>
struct Forward : OfImages {
    using Params = Call<T>;
    static constexpr int kSharedBytes = (kWarps + 1) * sizeof(double);

    SIMT_DEVICE static double sum_of_image(const Params& c, int64_t image) {
        const float sign = sign_of(c, image);
        double sum = 0;
#pragma unroll 4
        for (int64_t patch = simt::lane(); patch < c.patches; patch += 32) {
            const float loss = loss_of(u_of(c, image, patch, sign));
            if (c.reduction == PatchReduction::kNone)
                simt::store(c.loss + image * c.patches + patch, loss);
            sum += loss;
        }
        return sum;
    }

    // Whether all other blocks have left their sums.
    SIMT_DEVICE static bool is_last(const Params& c) {
        auto* last = reinterpret_cast<uint32_t*>(simt::shared());
        simt::fence();
        simt::sync();
        if (simt::thread() == 0)
            *last = simt::atomic_add(c.ticket, 1) + 1 == static_cast<uint32_t>(simt::blocks());
        simt::sync();
        return *last != 0;
    }

    SIMT_DEVICE static double sum_of_all(const Params& c) {
        auto* of_warps = reinterpret_cast<double*>(simt::shared()) + 1;
        double sum = 0;
        for (int64_t i = simt::thread(); i < c.images; i += kThreads)
            sum += simt::load_coherent(c.sums + i);
        sum = sum_of_warp(sum);
        if (simt::lane() == 0) of_warps[simt::warp()] = sum;
        simt::sync();
        sum = 0;
        for (int i = 0; i < kWarps; ++i) sum += of_warps[i];
        return sum;
    }

    SIMT_DEVICE static void run(const Params& c) {
        const int64_t image = OfImages::image();
        const bool exists = image < c.images;
        const double sum = sum_of_warp(exists ? sum_of_image(c, image) : 0);
        if (c.reduction == PatchReduction::kImage && exists && simt::lane() == 0)
            simt::store(c.loss + image, static_cast<float>(sum));
        if (c.reduction != PatchReduction::kMean && c.reduction != PatchReduction::kSum) return;
        if (exists && simt::lane() == 0) simt::store(c.sums + image, sum);
        if (!is_last(c)) return;
        double total = sum_of_all(c);
        if (c.reduction == PatchReduction::kMean) total /= static_cast<double>(c.images);
        if (simt::thread() == 0) {
            simt::store(c.loss, static_cast<float>(total));
            simt::store(c.ticket, uint32_t{0});
        }
    }
};

template <typename T>
struct Backward : OfImages {
    using Params = Call<T>;
    static constexpr int kSharedBytes = 0;

    // Of the loss that a patch went into.
    SIMT_DEVICE static float grad_of(const Params& c, int64_t image, int64_t patch) {
        if (c.reduction == PatchReduction::kNone)
            return simt::load(c.grad + image * c.patches + patch);
        if (c.reduction == PatchReduction::kImage) return simt::load(c.grad + image);
        const float grad = simt::load(c.grad);
        if (c.reduction == PatchReduction::kSum) return grad;
        return grad * (1.0f / static_cast<float>(c.images));
    }

    SIMT_DEVICE static void run(const Params& c) {
        const int64_t image = OfImages::image();
        if (image >= c.images) return;
        const float sign = sign_of(c, image);
#pragma unroll 4
        for (int64_t patch = simt::lane(); patch < c.patches; patch += 32) {
            const float slope =
                slope_of(u_of(c, image, patch, sign), sign) * grad_of(c, image, patch);
            T* to = c.grad_logits + image * 2 * c.patches + patch;
            simt::store(to, simt::from_float<T>(-slope));
            simt::store(to + c.patches, simt::from_float<T>(slope));
        }
    }
};

int64_t blocks_of(int64_t images) {
    return (images + kWarps - 1) / kWarps;
}

template <typename T>
Call<T> call_of(const PatchCrossEntropyCuda& c, const T* logits) {
    const PatchCrossEntropy& p = c.p;
    return {logits, p.target, p.label, p.images, p.patches, p.reduction,
            c.sums, c.ticket, nullptr, nullptr,  nullptr};
}

template <typename T>
void forward(const PatchCrossEntropyCuda& c, const T* logits, float* loss, void* stream) {
    Call<T> call = call_of(c, logits);
    call.loss = loss;
    // Without images the one block leaves the sum of none.
    const bool reduced =
        call.reduction == PatchReduction::kMean || call.reduction == PatchReduction::kSum;
    const int64_t blocks = blocks_of(c.p.images == 0 && reduced ? 1 : c.p.images);
    simt::launch<Forward<T>>("patch_cross_entropy", blocks, call, stream);
}

template <typename T>
void backward(const PatchCrossEntropyCuda& c, const T* logits, const float* grad, void* grad_logits,
              void* stream) {
    Call<T> call = call_of(c, logits);
    call.grad = grad;
    call.grad_logits = static_cast<T*>(grad_logits);
    simt::launch<Backward<T>>("patch_cross_entropy_backward", blocks_of(c.p.images), call, stream);
}

}  // namespace

void patch_cross_entropy_cuda(const PatchCrossEntropyCuda& c, float* loss, void* stream) {
    if (c.bf16_logits != nullptr)
        forward(c, c.bf16_logits, loss, stream);
    else
        forward(c, c.p.logits, loss, stream);
}

void patch_cross_entropy_backward_cuda(const PatchCrossEntropyCuda& c, const float* grad,
                                       void* grad_logits, void* stream) {
    if (c.bf16_logits != nullptr)
        backward(c, c.bf16_logits, grad, grad_logits, stream);
    else
        backward(c, c.p.logits, grad, grad_logits, stream);
}

}  // namespace simgan_fast
