// What every CPU of this architecture runs (SSE2 on x86-64, NEON on arm64); no flags of its own.
#include "cpu/direct_impl.h"
#include "cpu/dispatch.h"
#include "cpu/ends_impl.h"
#include "cpu/fourier_impl.h"
#include "cpu/gather_normalize_impl.h"
#include "cpu/map_impl.h"
#include "cpu/patch_cross_entropy_impl.h"
#include "cpu/random_impl.h"
#include "cpu/winograd_impl.h"

namespace simgan_fast {

const CpuKernels baseline_kernels = {
    patch_cross_entropy,
    patch_cross_entropy_backward,
    permute,
    gather_normalize,
    {winograd_kernels<4>(), winograd_kernels<5>(), winograd_kernels<6>()},
    map_kernels(),
    end_kernels(),
    direct_kernels(),
    fourier_kernels()};

}  // namespace simgan_fast
