// One table of functions for each CPU level, and which one this process uses.
#pragma once

#include <string>
#include <vector>

#include "cpu/direct.h"
#include "cpu/fourier.h"
#include "cpu/winograd.h"
#include "gather_normalize.h"
#include "patch_cross_entropy.h"
#include "random_ops.h"

namespace simgan_fast {

struct CpuKernels {
    int64_t (*patch_cross_entropy)(const PatchCrossEntropy&, float*, float*);
    void (*patch_cross_entropy_backward)(const PatchCrossEntropy&, const float*, float*);
    void (*permute)(const PermutationSlice&);
    void (*gather_normalize)(const GatherNormalize&, int64_t first, int64_t last);
    WinogradKernels winograd[3];
    MapKernels maps;
    EndKernels ends;
    DirectKernels direct;
    FourierKernels fourier;
};

extern const CpuKernels baseline_kernels, avx2_kernels, avx512_kernels;

// The table in use: that of the highest level that was built, that this CPU and its system run, and
// that SIMGAN_FAST_CPU allows. Chosen at the first call; throws std::invalid_argument if
// SIMGAN_FAST_CPU is no level.
const CpuKernels& cpu_kernels();

std::string cpu_level();                // the name of the level in use
std::vector<std::string> cpu_levels();  // those that can run here, lowest first

}  // namespace simgan_fast
