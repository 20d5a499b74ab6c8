// Two-class cross-entropy of every patch of a discriminator's map. Class 1 is synthetic or refined,
// class 0 is real.
#pragma once

#include <cstdint>

namespace simgan_fast {

// What is summed over what; the order is that of simgan_fast/ops/patch_cross_entropy.py.
enum class PatchReduction : int64_t { kMean = 0, kSum = 1, kImage = 2, kNone = 3 };

struct PatchCrossEntropy {
    const float* logits;       // [images, 2, patches]
    const int64_t* target;     // [images], each 0 or 1; or null: `label` for every image
    int64_t label;             // 0 or 1
    int64_t images, patches;   // images >= 0, patches >= 0
    PatchReduction reduction;  // mean is over images, of the sum over patches
};

// loss: [1] for mean and sum, [images] for image, [images, patches] for none.
// grad_logits: null, or [images, 2, patches] for the gradient of a mean or sum on the way.
// Returns the first image whose target is neither 0 nor 1 (then nothing is written), or -1.
int64_t patch_cross_entropy_cpu(const PatchCrossEntropy& p, float* loss, float* grad_logits);

// grad: of the loss, in its shape. grad_logits: [images, 2, patches].
void patch_cross_entropy_backward_cpu(const PatchCrossEntropy& p, const float* grad,
                                      float* grad_logits);

// Of one launch on CUDA. Targets other than 1 count as 0: the host does not wait to find out.
struct PatchCrossEntropyCuda {
    PatchCrossEntropy p;
    const uint16_t* bf16_logits;  // in place of p.logits, or null
    // For a mean or a sum, else not looked at: working memory [images], and a zero [1] that is zero
    // again afterwards, of no other launch at the same time.
    double* sums;
    uint32_t* ticket;
};

void patch_cross_entropy_cuda(const PatchCrossEntropyCuda& c, float* loss, void* stream);

// grad_logits: float, or bfloat16 where the logits are.
void patch_cross_entropy_backward_cuda(const PatchCrossEntropyCuda& c, const float* grad,
                                       void* grad_logits, void* stream);

}  // namespace simgan_fast
