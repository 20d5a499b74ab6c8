// The weights of residual_blocks, transformed for Winograd's convolution.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu/scratch.h"
#include "cpu/winograd.h"
#include "residual_blocks.h"

namespace simgan_fast {

// Those of all convolutions of the blocks; for the forward pass or its adjoint.
class Panels {
  public:
    Panels(const ResidualBlocks& p, const WinogradKernels& kernels, bool adjoint);

    const float* of(int64_t convolution) const { return scratch_.data() + convolution * floats_; }

  private:
    int64_t channels_, floats_;
    Scratch scratch_;
};

// Panels for the forward pass, those of an earlier call if it had the same weights. They are kept
// for a later one if `keep`.
std::shared_ptr<const Panels> forward_panels(const ResidualBlocks& p,
                                             const WinogradKernels& kernels, bool keep);

}  // namespace simgan_fast
