// The loops of patch_cross_entropy, compiled once for every CPU level.
#pragma once

#include "cpu/vector.h"
#include "patch_cross_entropy.h"

namespace simgan_fast {
namespace {

// Float sums over this many patches at most go into a double: the error of a sum does not grow with
// the size of the map.
constexpr int64_t kPatchesPerPartialSum = 64 * kGroup;

struct PatchLoss {
    Floats loss, slope;
};

// Cross-entropy softplus(u), u = logit of the wrong class - logit of the right one, and its slope
// in (logit 1 - logit 0). `sign` is +1 where class 0 is right and -1 where class 1 is.
SIMGAN_FAST_INLINE PatchLoss patch_loss(Floats logit0, Floats logit1, float sign) {
    // Less the larger one first, as log_softmax does: two infinities of one sign give NaN, and so
    // does +infinity beside anything.
    const Floats larger = logit1 > logit0 ? logit1 : logit0;
    const Floats u = ((logit1 - larger) - (logit0 - larger)) * sign;
    const Floats e = exp_nonpositive(u > 0 ? -u : u);
    // softplus(u) = max(u, 0) + log(1 + e), log(1 + e) = 2 artanh(s), s = e / (2 + e). One division
    // serves s and the sigmoid 1 / (1 + e).
    const Floats one_plus = e + 1.0f, two_plus = e + 2.0f;
    const Floats inverse = 1.0f / (one_plus * two_plus);
    const Floats s = e * one_plus * inverse, share = two_plus * inverse;
    const Floats log_term = (s + s * artanh_tail(s * s)) * 2.0f;
    return {(u > 0 ? u : splat(0)) + log_term, (u > 0 ? share : e * share) * sign};
}

inline int64_t first_bad_target(const PatchCrossEntropy& p) {
    if (p.target == nullptr) return p.label == 0 || p.label == 1 ? -1 : 0;
    for (int64_t i = 0; i < p.images; ++i)
        if (p.target[i] != 0 && p.target[i] != 1) return i;
    return -1;
}

// A group of patches; loss and slope may be null. Lane by lane, `total` gathers the losses.
SIMGAN_FAST_INLINE void add_group(const float* logit0, const float* logit1, float sign, float* loss,
                                  float* slope, Floats total[kParts]) {
    for (int part = 0; part < kParts; ++part) {
        const int at = part * kLanes;
        const PatchLoss patch = patch_loss(load(logit0 + at), load(logit1 + at), sign);
        if (loss != nullptr) store(loss + at, patch.loss);
        if (slope != nullptr) store(slope + at, patch.slope);
        total[part] += patch.loss;
    }
}

// The last, incomplete group: padded with patches that lose nothing, so they leave the sum alone.
SIMGAN_FAST_INLINE void add_rest(const float* logit0, const float* logit1, float sign, float* loss,
                                 float* slope, int64_t count, Floats total[kParts]) {
    float padded0[kGroup], padded1[kGroup], losses[kGroup], slopes[kGroup];
    for (int i = 0; i < kGroup; ++i) {
        padded0[i] = sign > 0 ? 0.0f : -__builtin_inff();
        padded1[i] = sign > 0 ? -__builtin_inff() : 0.0f;
    }
    std::memcpy(padded0, logit0, count * sizeof(float));
    std::memcpy(padded1, logit1, count * sizeof(float));
    add_group(padded0, padded1, sign, losses, slopes, total);
    if (loss != nullptr) std::memcpy(loss, losses, count * sizeof(float));
    if (slope != nullptr) std::memcpy(slope, slopes, count * sizeof(float));
}

// The sum over `count` <= kPatchesPerPartialSum patches.
SIMGAN_FAST_INLINE double partial_sum(const float* logit0, const float* logit1, float sign,
                                      float* loss, float* slope, int64_t count) {
    Floats total[kParts] = {};
    int64_t i = 0;
    for (; i + kGroup <= count; i += kGroup)
        add_group(logit0 + i, logit1 + i, sign, loss ? loss + i : loss, slope ? slope + i : slope,
                  total);
    if (i < count)
        add_rest(logit0 + i, logit1 + i, sign, loss ? loss + i : loss, slope ? slope + i : slope,
                 count - i, total);
    double sum = 0;
    for (int lane = 0; lane < kGroup; ++lane) sum += total[lane / kLanes][lane % kLanes];
    return sum;
}

inline double image_sum(const PatchCrossEntropy& p, int64_t image) {
    const float* logit0 = p.logits + image * 2 * p.patches;
    const float* logit1 = logit0 + p.patches;
    const int64_t label = p.target != nullptr ? p.target[image] : p.label;
    const float sign = label == 1 ? -1.0f : 1.0f;
    float* loss = p.reduction == PatchReduction::kNone ? p.loss + image * p.patches : nullptr;
    float* slope = p.slope != nullptr ? p.slope + image * p.patches : nullptr;
    double total = 0;
    for (int64_t i = 0; i < p.patches; i += kPatchesPerPartialSum) {
        const int64_t left = p.patches - i;
        total += partial_sum(logit0 + i, logit1 + i, sign, loss ? loss + i : loss,
                             slope ? slope + i : slope,
                             left < kPatchesPerPartialSum ? left : kPatchesPerPartialSum);
    }
    return total;
}

int64_t patch_cross_entropy(const PatchCrossEntropy& p) {
    const int64_t bad = first_bad_target(p);
    if (bad >= 0) return bad;
    double total = 0;
    for (int64_t image = 0; image < p.images; ++image) {
        const double loss = image_sum(p, image);
        if (p.reduction == PatchReduction::kImage) p.loss[image] = static_cast<float>(loss);
        total += loss;
    }
    if (p.reduction == PatchReduction::kMean) total /= static_cast<double>(p.images);
    if (p.reduction == PatchReduction::kMean || p.reduction == PatchReduction::kSum)
        p.loss[0] = static_cast<float>(total);
    return -1;
}

// Plain loops: memory is the limit, and the compiler vectorises them.
void patch_cross_entropy_backward(const PatchCrossEntropyBackward& p) {
    const bool each_patch = p.reduction == PatchReduction::kNone;
    const bool each_image = p.reduction == PatchReduction::kImage;
    const float share =
        p.reduction == PatchReduction::kMean ? 1.0f / static_cast<float>(p.images) : 1.0f;
    for (int64_t image = 0; image < p.images; ++image) {
        const float* slope = p.slope + image * p.patches;
        const float* grad = p.grad + (each_patch ? image * p.patches : each_image ? image : 0);
        float* grad0 = p.grad_logits + image * 2 * p.patches;
        float* grad1 = grad0 + p.patches;
        if (each_patch)
            for (int64_t i = 0; i < p.patches; ++i) grad1[i] = slope[i] * grad[i];
        else
            for (int64_t i = 0; i < p.patches; ++i) grad1[i] = slope[i] * (grad[0] * share);
        for (int64_t i = 0; i < p.patches; ++i) grad0[i] = -grad1[i];
    }
}

}  // namespace
}  // namespace simgan_fast
