// What every CPU of this architecture runs (SSE2 on x86-64, NEON on arm64); no flags of its own.
#include "cpu/dispatch.h"
#include "cpu/patch_cross_entropy_impl.h"

namespace simgan_fast {

const CpuKernels baseline_kernels = {patch_cross_entropy, patch_cross_entropy_backward};

}  // namespace simgan_fast
