// The loops of patch_cross_entropy, compiled once for every CPU level.
#pragma once

#include "cpu/vector.h"
#include "patch_cross_entropy.h"

namespace simgan_fast {
namespace {

// Float sums over this many patches at most go into a double: the error of a sum does not grow with
// the size of the map.
constexpr int64_t kPatchesPerPartialSum = 64 * kGroup;

// Logit of the wrong class less logit of the right one; `sign` is +1 where class 0 is right and -1
// where class 1 is. The larger one goes first, as in log_softmax: two infinities of one sign give
// NaN, and so does +infinity beside anything.
SIMGAN_FAST_INLINE Floats difference(Floats logit0, Floats logit1, float sign) {
    const Floats larger = logit1 > logit0 ? logit1 : logit0;
    return ((logit1 - larger) - (logit0 - larger)) * sign;
}

// Cross-entropy softplus(u) = max(u, 0) + log(1 + e), e = exp(-|u|), and log(1 + e) is
// 2 artanh(e / (2 + e)). Relative error at most 2.1e-7.
SIMGAN_FAST_INLINE Floats loss_of(Floats u, Floats e) {
    const Floats s = e / (e + 2.0f), twice = s + s;
    return (u > 0 ? u : splat(0)) + (twice + twice * artanh_tail(s * s));
}

// Its slope in (logit 1 - logit 0): a sigmoid of u. Relative error at most 1.8e-7.
SIMGAN_FAST_INLINE Floats slope_of(Floats u, Floats e, float sign) {
    return (u > 0 ? splat(sign) : e * sign) / (e + 1.0f);
}

// Where the gradients of patches go, [0] for logit 0, and the factor all of them have; null:
// nowhere.
struct Slopes {
    float* grad[2];
    float scale;
    Slopes operator+(int64_t patches) const {
        return grad[0] ? Slopes{{grad[0] + patches, grad[1] + patches}, scale} : *this;
    }
};

inline int64_t first_bad_target(const PatchCrossEntropy& p) {
    if (p.target == nullptr) return p.label == 0 || p.label == 1 ? -1 : 0;
    for (int64_t i = 0; i < p.images; ++i)
        if (p.target[i] != 0 && p.target[i] != 1) return i;
    return -1;
}

inline float sign_of(const PatchCrossEntropy& p, int64_t image) {
    return (p.target != nullptr ? p.target[image] : p.label) == 1 ? -1.0f : 1.0f;
}

// Sixteen patches; `loss` may be null. Lane by lane, `total` gathers the losses but for the first
// `counted` lanes, which are in it already.
SIMGAN_FAST_INLINE void add_group(const float* logit0, const float* logit1, float sign, int counted,
                                  float* loss, const Slopes& slopes, Floats total[kParts]) {
    for (int part = 0; part < kParts; ++part) {
        const int at = part * kLanes;
        const Floats u = difference(load(logit0 + at), load(logit1 + at), sign);
        const Floats e = exp_nonpositive(minus_abs(u));
        const Floats patch = loss_of(u, e);
        if (loss != nullptr) store(loss + at, patch);
        if (slopes.grad[0] != nullptr) {
            const Floats g = slope_of(u, e, sign) * slopes.scale;
            store(slopes.grad[0] + at, -g);
            store(slopes.grad[1] + at, g);
        }
        total[part] += lane_numbers() + at >= counted ? patch : splat(0);
    }
}

// The sum over 16 <= count <= kPatchesPerPartialSum patches.
inline double partial_sum(const float* logit0, const float* logit1, float sign, int64_t count,
                          float* loss, const Slopes& slopes) {
    Floats total[kParts] = {};
    for (int64_t i = 0; i + kGroup <= count; i += kGroup)
        add_group(logit0 + i, logit1 + i, sign, 0, loss ? loss + i : loss, slopes + i, total);
    const int rest = static_cast<int>(count % kGroup);
    if (rest > 0) {
        // The last sixteen once more: some lanes come out the same again, quicker than padding a
        // copy.
        const int64_t i = count - kGroup;
        add_group(logit0 + i, logit1 + i, sign, kGroup - rest, loss ? loss + i : loss, slopes + i,
                  total);
    }
    double sum = 0;
    for (int lane = 0; lane < kGroup; ++lane) sum += total[lane / kLanes][lane % kLanes];
    return sum;
}

// The sum over fewer patches than a group, padded with patches that lose nothing.
inline double small_sum(const float* logit0, const float* logit1, float sign, int64_t count,
                        float* loss, const Slopes& slopes) {
    float padded0[kGroup], padded1[kGroup], losses[kGroup], grad[2][kGroup];
    for (int i = 0; i < kGroup; ++i) {
        padded0[i] = sign > 0 ? 0.0f : -__builtin_inff();
        padded1[i] = sign > 0 ? -__builtin_inff() : 0.0f;
    }
    const size_t bytes = static_cast<size_t>(count) * sizeof(float);
    std::memcpy(padded0, logit0, bytes);
    std::memcpy(padded1, logit1, bytes);
    const Slopes padded{{grad[0], grad[1]}, slopes.scale};
    const double sum = partial_sum(padded0, padded1, sign, kGroup, losses, padded);
    if (loss != nullptr) std::memcpy(loss, losses, bytes);
    if (slopes.grad[0] != nullptr)
        for (int logit = 0; logit < 2; ++logit) std::memcpy(slopes.grad[logit], grad[logit], bytes);
    return sum;
}

inline double image_sum(const PatchCrossEntropy& p, int64_t image, float* loss,
                        const Slopes& slopes) {
    const float* logit0 = p.logits + image * 2 * p.patches;
    const float* logit1 = logit0 + p.patches;
    const float sign = sign_of(p, image);
    double total = 0;
    for (int64_t i = 0; i < p.patches; i += kPatchesPerPartialSum) {
        const int64_t left = p.patches - i;
        const auto sum = left < kGroup ? small_sum : partial_sum;
        total += sum(logit0 + i, logit1 + i, sign,
                     left < kPatchesPerPartialSum ? left : kPatchesPerPartialSum,
                     loss ? loss + i : loss, slopes + i);
    }
    return total;
}

inline float share_of_image(const PatchCrossEntropy& p) {
    return p.reduction == PatchReduction::kMean ? 1.0f / static_cast<float>(p.images) : 1.0f;
}

int64_t patch_cross_entropy(const PatchCrossEntropy& p, float* loss, float* grad_logits) {
    const int64_t bad = first_bad_target(p);
    if (bad >= 0) return bad;
    double total = 0;
    for (int64_t image = 0; image < p.images; ++image) {
        float* map = p.reduction == PatchReduction::kNone ? loss + image * p.patches : nullptr;
        float* grad = grad_logits ? grad_logits + image * 2 * p.patches : nullptr;
        const Slopes slopes{{grad, grad ? grad + p.patches : grad}, share_of_image(p)};
        const double sum = image_sum(p, image, map, slopes);
        if (p.reduction == PatchReduction::kImage) loss[image] = static_cast<float>(sum);
        total += sum;
    }
    if (p.reduction == PatchReduction::kMean) total /= static_cast<double>(p.images);
    if (p.reduction == PatchReduction::kMean || p.reduction == PatchReduction::kSum)
        loss[0] = static_cast<float>(total);
    return -1;
}

// Gradients of sixteen patches: `grad` has one for each, or is null and `scale` serves them all.
SIMGAN_FAST_INLINE void group_gradients(const float* logit0, const float* logit1, float sign,
                                        const float* grad, float scale, float* grad0,
                                        float* grad1) {
    for (int at = 0; at < kGroup; at += kLanes) {
        const Floats u = difference(load(logit0 + at), load(logit1 + at), sign);
        const Floats slope = slope_of(u, exp_nonpositive(minus_abs(u)), sign);
        const Floats g = slope * (grad != nullptr ? load(grad + at) : splat(scale));
        store(grad0 + at, -g);
        store(grad1 + at, g);
    }
}

inline void small_gradients(const float* logit0, const float* logit1, float sign, const float* grad,
                            float scale, int64_t count, float* grad0, float* grad1) {
    float in[3][kGroup] = {}, out[2][kGroup];
    std::memcpy(in[0], logit0, count * sizeof(float));
    std::memcpy(in[1], logit1, count * sizeof(float));
    if (grad != nullptr) std::memcpy(in[2], grad, count * sizeof(float));
    group_gradients(in[0], in[1], sign, grad ? in[2] : grad, scale, out[0], out[1]);
    std::memcpy(grad0, out[0], count * sizeof(float));
    std::memcpy(grad1, out[1], count * sizeof(float));
}

inline void image_gradients(const PatchCrossEntropy& p, int64_t image, const float* grad,
                            float scale, float* grad0) {
    if (p.patches == 0) return;  // there may be no memory at all, which memcpy must not be given
    const float* logit0 = p.logits + image * 2 * p.patches;
    const float* logit1 = logit0 + p.patches;
    float* grad1 = grad0 + p.patches;
    const float sign = sign_of(p, image);
    if (p.patches < kGroup)
        return small_gradients(logit0, logit1, sign, grad, scale, p.patches, grad0, grad1);
    for (int64_t next = 0; next < p.patches; next += kGroup) {
        const int64_t i = next + kGroup <= p.patches ? next : p.patches - kGroup;
        group_gradients(logit0 + i, logit1 + i, sign, grad ? grad + i : grad, scale, grad0 + i,
                        grad1 + i);
    }
}

void patch_cross_entropy_backward(const PatchCrossEntropy& p, const float* grad,
                                  float* grad_logits) {
    const float share = share_of_image(p);
    for (int64_t image = 0; image < p.images; ++image) {
        float* grad0 = grad_logits + image * 2 * p.patches;
        if (p.reduction == PatchReduction::kNone)
            image_gradients(p, image, grad + image * p.patches, 0, grad0);
        else if (p.reduction == PatchReduction::kImage)
            image_gradients(p, image, nullptr, grad[image], grad0);
        else
            image_gradients(p, image, nullptr, grad[0] * share, grad0);
    }
}

}  // namespace
}  // namespace simgan_fast
