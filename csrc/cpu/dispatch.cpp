#include "cpu/dispatch.h"

#include <cstdlib>
#include <stdexcept>

namespace simgan_fast {
namespace {

struct Level {
    const char* name;
    const CpuKernels* kernels;  // null: not built, or not runnable here
};

std::vector<Level> all_levels() {
    std::vector<Level> levels{
        {"baseline", &baseline_kernels}, {"avx2", nullptr}, {"avx512", nullptr}};
    // __builtin_cpu_supports asks the operating system too, whether it saves the wide registers.
#ifdef SIMGAN_FAST_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        levels[1].kernels = &avx2_kernels;
#endif
#ifdef SIMGAN_FAST_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        levels[2].kernels = &avx512_kernels;
#endif
    return levels;
}

Level choose() {
    const char* wanted = std::getenv("SIMGAN_FAST_CPU");
    const bool any = wanted == nullptr || *wanted == '\0';
    Level best{};
    for (const Level& level : all_levels()) {
        if (level.kernels != nullptr) best = level;
        if (!any && std::string(wanted) == level.name) return best;
    }
    if (any) return best;
    throw std::invalid_argument("SIMGAN_FAST_CPU is '" + std::string(wanted) +
                                "'; it must be baseline, avx2 or avx512, or unset.");
}

const Level& chosen() {
    static const Level level = choose();
    return level;
}

}  // namespace

const CpuKernels& cpu_kernels() {
    return *chosen().kernels;
}

std::string cpu_level() {
    return chosen().name;
}

std::vector<std::string> cpu_levels() {
    std::vector<std::string> names;
    for (const Level& level : all_levels())
        if (level.kernels != nullptr) names.emplace_back(level.name);
    return names;
}

int64_t patch_cross_entropy_cpu(const PatchCrossEntropy& p, float* loss, float* grad_logits) {
    return cpu_kernels().patch_cross_entropy(p, loss, grad_logits);
}

void patch_cross_entropy_backward_cpu(const PatchCrossEntropy& p, const float* grad,
                                      float* grad_logits) {
    cpu_kernels().patch_cross_entropy_backward(p, grad, grad_logits);
}

void permutation_cpu(const PermutationSlice& p) {
    cpu_kernels().permute(p);
}

}  // namespace simgan_fast
