// Written by winograd_transforms.py, which says what it is; change that and run it again.
// clang-format off
#pragma once

#include "cpu/vector.h"

namespace simgan_fast {
namespace {

// One dimension of F(kTile, 3) on kPoints = kTile + 2 points: input is B^T, output A^T, kKernel G.
template <int tile>
struct Winograd;

// F(4, 3) at the points 0, 3/4, -3/4, 3/2, -3/2 and infinity.
template <>
struct Winograd<4> {
    static constexpr int kTile = 4, kPoints = 6;
    static constexpr double kKernel[6][3] = {
        {64.0 / 81.0, 0.0, 0.0},
        {-128.0 / 243.0, -32.0 / 81.0, -8.0 / 27.0},
        {-128.0 / 243.0, 32.0 / 81.0, -8.0 / 27.0},
        {32.0 / 243.0, 16.0 / 81.0, 8.0 / 27.0},
        {32.0 / 243.0, -16.0 / 81.0, 8.0 / 27.0},
        {0.0, 0.0, 1.0},
    };
    static SIMGAN_FAST_INLINE void input(const Floats d[6], Floats v[6]) {
        v[0] = d[4] + d[0] * 1.265625f - d[2] * 2.8125f;
        v[5] = d[5] + d[1] * 1.265625f - d[3] * 2.8125f;
        const Floats same1 = d[4] - d[2] * 2.25f;
        const Floats other1 = d[3] - d[1] * 2.25f;
        v[1] = same1 + other1 * 0.75f;
        v[2] = same1 - other1 * 0.75f;
        const Floats same3 = d[4] - d[2] * 0.5625f;
        const Floats other3 = d[3] - d[1] * 0.5625f;
        v[3] = same3 + other3 * 1.5f;
        v[4] = same3 - other3 * 1.5f;
    }
    static SIMGAN_FAST_INLINE void input_adjoint(const Floats v[6], Floats d[6]) {
        const Floats same1 = v[1] + v[2];
        const Floats other1 = (v[1] - v[2]) * 0.75f;
        const Floats same3 = v[3] + v[4];
        const Floats other3 = (v[3] - v[4]) * 1.5f;
        d[0] = v[0] * 1.265625f;
        d[1] = v[5] * 1.265625f - other1 * 2.25f - other3 * 0.5625f;
        d[2] = -v[0] * 2.8125f - same1 * 2.25f - same3 * 0.5625f;
        d[3] = other1 + other3 - v[5] * 2.8125f;
        d[4] = v[0] + same1 + same3;
        d[5] = v[5];
    }
    static SIMGAN_FAST_INLINE void output(const Floats m[6], Floats y[4]) {
        const Floats sum1 = m[1] + m[2], diff1 = m[1] - m[2];
        const Floats sum3 = m[3] + m[4], diff3 = m[3] - m[4];
        y[0] = m[0] + sum1 + sum3;
        y[1] = diff1 * 0.75f + diff3 * 1.5f;
        y[2] = sum1 * 0.5625f + sum3 * 2.25f;
        y[3] = m[5] + diff1 * 0.421875f + diff3 * 3.375f;
    }
    static SIMGAN_FAST_INLINE void output_adjoint(const Floats y[4], Floats m[6]) {
        m[0] = y[0];
        const Floats even1 = y[0] + y[2] * 0.5625f;
        const Floats odd1 = y[1] * 0.75f + y[3] * 0.421875f;
        m[1] = even1 + odd1;
        m[2] = even1 - odd1;
        const Floats even3 = y[0] + y[2] * 2.25f;
        const Floats odd3 = y[1] * 1.5f + y[3] * 3.375f;
        m[3] = even3 + odd3;
        m[4] = even3 - odd3;
        m[5] = y[3];
    }
};

// F(5, 3) at the points 1/4, -1/4, 7/8, -7/8, 7/4, -7/4 and infinity.
template <>
struct Winograd<5> {
    static constexpr int kTile = 5, kPoints = 7;
    static constexpr double kKernel[7][3] = {
        {128.0 / 135.0, 32.0 / 135.0, 8.0 / 135.0},
        {-128.0 / 135.0, 32.0 / 135.0, -8.0 / 135.0},
        {-16384.0 / 46305.0, -2048.0 / 6615.0, -256.0 / 945.0},
        {16384.0 / 46305.0, -2048.0 / 6615.0, 256.0 / 945.0},
        {128.0 / 3087.0, 32.0 / 441.0, 8.0 / 63.0},
        {-128.0 / 3087.0, 32.0 / 441.0, -8.0 / 63.0},
        {0.0, 0.0, 1.0},
    };
    static SIMGAN_FAST_INLINE void input(const Floats d[7], Floats v[7]) {
        v[6] = d[6] - d[0] * 0.14654541015625f + d[2] * 2.583984375f - d[4] * 3.890625f;
        const Floats same0 = d[5] + d[1] * 2.3447265625f - d[3] * 3.828125f;
        const Floats other0 = d[4] + d[0] * 2.3447265625f - d[2] * 3.828125f;
        v[0] = same0 + other0 * 0.25f;
        v[1] = same0 - other0 * 0.25f;
        const Floats same2 = d[5] + d[1] * 0.19140625f - d[3] * 3.125f;
        const Floats other2 = d[4] + d[0] * 0.19140625f - d[2] * 3.125f;
        v[2] = same2 + other2 * 0.875f;
        v[3] = same2 - other2 * 0.875f;
        const Floats same4 = d[5] + d[1] * 0.0478515625f - d[3] * 0.828125f;
        const Floats other4 = d[4] + d[0] * 0.0478515625f - d[2] * 0.828125f;
        v[4] = same4 + other4 * 1.75f;
        v[5] = same4 - other4 * 1.75f;
    }
    static SIMGAN_FAST_INLINE void input_adjoint(const Floats v[7], Floats d[7]) {
        const Floats same0 = v[0] + v[1];
        const Floats other0 = (v[0] - v[1]) * 0.25f;
        const Floats same2 = v[2] + v[3];
        const Floats other2 = (v[2] - v[3]) * 0.875f;
        const Floats same4 = v[4] + v[5];
        const Floats other4 = (v[4] - v[5]) * 1.75f;
        d[0] = -v[6] * 0.14654541015625f + other0 * 2.3447265625f + other2 * 0.19140625f + other4 * 0.0478515625f;
        d[1] = same0 * 2.3447265625f + same2 * 0.19140625f + same4 * 0.0478515625f;
        d[2] = v[6] * 2.583984375f - other0 * 3.828125f - other2 * 3.125f - other4 * 0.828125f;
        d[3] = -same0 * 3.828125f - same2 * 3.125f - same4 * 0.828125f;
        d[4] = other0 + other2 + other4 - v[6] * 3.890625f;
        d[5] = same0 + same2 + same4;
        d[6] = v[6];
    }
    static SIMGAN_FAST_INLINE void output(const Floats m[7], Floats y[5]) {
        const Floats sum0 = m[0] + m[1], diff0 = m[0] - m[1];
        const Floats sum2 = m[2] + m[3], diff2 = m[2] - m[3];
        const Floats sum4 = m[4] + m[5], diff4 = m[4] - m[5];
        y[0] = sum0 + sum2 + sum4;
        y[1] = diff0 * 0.25f + diff2 * 0.875f + diff4 * 1.75f;
        y[2] = sum0 * 0.0625f + sum2 * 0.765625f + sum4 * 3.0625f;
        y[3] = diff0 * 0.015625f + diff2 * 0.669921875f + diff4 * 5.359375f;
        y[4] = m[6] + sum0 * 0.00390625f + sum2 * 0.586181640625f + sum4 * 9.37890625f;
    }
    static SIMGAN_FAST_INLINE void output_adjoint(const Floats y[5], Floats m[7]) {
        const Floats even0 = y[0] + y[2] * 0.0625f + y[4] * 0.00390625f;
        const Floats odd0 = y[1] * 0.25f + y[3] * 0.015625f;
        m[0] = even0 + odd0;
        m[1] = even0 - odd0;
        const Floats even2 = y[0] + y[2] * 0.765625f + y[4] * 0.586181640625f;
        const Floats odd2 = y[1] * 0.875f + y[3] * 0.669921875f;
        m[2] = even2 + odd2;
        m[3] = even2 - odd2;
        const Floats even4 = y[0] + y[2] * 3.0625f + y[4] * 9.37890625f;
        const Floats odd4 = y[1] * 1.75f + y[3] * 5.359375f;
        m[4] = even4 + odd4;
        m[5] = even4 - odd4;
        m[6] = y[4];
    }
};

// F(6, 3) at the points 0, 1/2, -1/2, 1, -1, 2, -2 and infinity.
template <>
struct Winograd<6> {
    static constexpr int kTile = 6, kPoints = 8;
    static constexpr double kKernel[8][3] = {
        {-1.0, 0.0, 0.0},
        {32.0 / 45.0, 16.0 / 45.0, 8.0 / 45.0},
        {32.0 / 45.0, -16.0 / 45.0, 8.0 / 45.0},
        {-2.0 / 9.0, -2.0 / 9.0, -2.0 / 9.0},
        {-2.0 / 9.0, 2.0 / 9.0, -2.0 / 9.0},
        {1.0 / 90.0, 1.0 / 45.0, 2.0 / 45.0},
        {1.0 / 90.0, -1.0 / 45.0, 2.0 / 45.0},
        {0.0, 0.0, 1.0},
    };
    static SIMGAN_FAST_INLINE void input(const Floats d[8], Floats v[8]) {
        v[0] = -d[0] + d[6] + d[2] * 5.25f - d[4] * 5.25f;
        v[7] = -d[1] + d[7] + d[3] * 5.25f - d[5] * 5.25f;
        const Floats same1 = d[6] + d[2] * 4.0f - d[4] * 5.0f;
        const Floats other1 = d[5] + d[1] * 4.0f - d[3] * 5.0f;
        v[1] = same1 + other1 * 0.5f;
        v[2] = same1 - other1 * 0.5f;
        const Floats same3 = d[2] + d[6] - d[4] * 4.25f;
        const Floats other3 = d[1] + d[5] - d[3] * 4.25f;
        v[3] = same3 + other3;
        v[4] = same3 - other3;
        const Floats same5 = d[6] + d[2] * 0.25f - d[4] * 1.25f;
        const Floats other5 = d[5] + d[1] * 0.25f - d[3] * 1.25f;
        v[5] = same5 + other5 * 2.0f;
        v[6] = same5 - other5 * 2.0f;
    }
    static SIMGAN_FAST_INLINE void input_adjoint(const Floats v[8], Floats d[8]) {
        const Floats same1 = v[1] + v[2];
        const Floats other1 = (v[1] - v[2]) * 0.5f;
        const Floats same3 = v[3] + v[4];
        const Floats other3 = (v[3] - v[4]);
        const Floats same5 = v[5] + v[6];
        const Floats other5 = (v[5] - v[6]) * 2.0f;
        d[0] = -v[0];
        d[1] = -v[7] + other3 + other1 * 4.0f + other5 * 0.25f;
        d[2] = same3 + v[0] * 5.25f + same1 * 4.0f + same5 * 0.25f;
        d[3] = v[7] * 5.25f - other1 * 5.0f - other3 * 4.25f - other5 * 1.25f;
        d[4] = -v[0] * 5.25f - same1 * 5.0f - same3 * 4.25f - same5 * 1.25f;
        d[5] = other1 + other3 + other5 - v[7] * 5.25f;
        d[6] = v[0] + same1 + same3 + same5;
        d[7] = v[7];
    }
    static SIMGAN_FAST_INLINE void output(const Floats m[8], Floats y[6]) {
        const Floats sum1 = m[1] + m[2], diff1 = m[1] - m[2];
        const Floats sum3 = m[3] + m[4], diff3 = m[3] - m[4];
        const Floats sum5 = m[5] + m[6], diff5 = m[5] - m[6];
        y[0] = m[0] + sum1 + sum3 + sum5;
        y[1] = diff3 + diff1 * 0.5f + diff5 * 2.0f;
        y[2] = sum3 + sum1 * 0.25f + sum5 * 4.0f;
        y[3] = diff3 + diff1 * 0.125f + diff5 * 8.0f;
        y[4] = sum3 + sum1 * 0.0625f + sum5 * 16.0f;
        y[5] = diff3 + m[7] + diff1 * 0.03125f + diff5 * 32.0f;
    }
    static SIMGAN_FAST_INLINE void output_adjoint(const Floats y[6], Floats m[8]) {
        m[0] = y[0];
        const Floats even1 = y[0] + y[2] * 0.25f + y[4] * 0.0625f;
        const Floats odd1 = y[1] * 0.5f + y[3] * 0.125f + y[5] * 0.03125f;
        m[1] = even1 + odd1;
        m[2] = even1 - odd1;
        const Floats even3 = y[0] + y[2] + y[4];
        const Floats odd3 = y[1] + y[3] + y[5];
        m[3] = even3 + odd3;
        m[4] = even3 - odd3;
        const Floats even5 = y[0] + y[2] * 4.0f + y[4] * 16.0f;
        const Floats odd5 = y[1] * 2.0f + y[3] * 8.0f + y[5] * 32.0f;
        m[5] = even5 + odd5;
        m[6] = even5 - odd5;
        m[7] = y[5];
    }
};

}  // namespace
}  // namespace simgan_fast
